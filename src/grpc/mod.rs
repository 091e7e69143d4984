//! The gRPC front: the contract of `proto/` over the stream behind its `Gate`.
//!
//! Requests become vocabulary in `fields`, errors become statuses in `status`,
//! and nothing else happens here: no state, no SQL, no decisions about events.

mod admin_service;
mod codec;
mod fields;
mod gen_service;
mod identity;
mod malformed;
mod meter;
mod pages;
mod poll_service;
mod push_service;
mod status;
pub mod wire;

use axum::{
    BoxError, Router,
    extract::Request as HttpRequest,
    middleware::{from_fn, from_fn_with_state, map_request, map_response},
};
use tonic::{Request, Status, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{
    pages::Pages,
    server::{
        admin_service_server::AdminServiceServer, gen_service_server::GenServiceServer,
        poll_service_server::PollServiceServer, push_service_server::PushServiceServer,
    },
};
use crate::{
    auth::{Authority, Denied, Gate, Principal},
    bodies::{self, Shape},
    error::Error,
    limits,
    origins::Origins,
    proto,
};

/// The generated server traits.
pub mod server {
    #![allow(
        clippy::allow_attributes,
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/server/futoin.evt.v1.rs"));
}

/// Implements the services of the contract.
#[derive(Clone)]
pub struct Front {
    gate: Gate,
}

/// Who calls, as `identity` has found out.
fn caller<T>(request: &Request<T>) -> Result<Principal, Status> {
    let found = request.extensions().get::<Principal>().cloned();
    found.ok_or_else(|| {
        let unknown = Denied::Unauthenticated("the caller was not identified".into());
        Error::from(unknown).into()
    })
}

/// What the front serves beside the four services.
#[derive(Debug, Clone)]
pub struct Features {
    /// Server reflection, for grpcurl and the like.
    pub reflection: bool,
    /// gRPC-Web, for browsers.
    pub web: bool,
    /// Pages of other origins that may call by it.
    pub web_origins: Origins,
}

/// The routes of the front, and the reporter of `grpc.health.v1`, which knows
/// every service from the first call on: none serves yet.
///
/// # Errors
/// When the compiled-in descriptors are broken.
pub async fn routes(
    gate: Gate,
    authority: Authority,
    features: Features,
) -> anyhow::Result<(Router, HealthReporter)> {
    let front = Front { gate };
    let (reporter, health) = tonic_health::server::health_reporter();
    set_health(&reporter, false).await;
    let mut services = Routes::builder();
    services
        .add_service(health.max_decoding_message_size(limits::MAX_HEALTH_REQUEST_BYTES))
        .add_service(
            GenServiceServer::new(front.clone())
                .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(limits::MAX_MESSAGE_BYTES),
        )
        .add_service(
            PollServiceServer::new(front.clone())
                .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(limits::MAX_MESSAGE_BYTES),
        )
        .add_service(
            PushServiceServer::new(front.clone())
                .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(limits::MAX_MESSAGE_BYTES),
        )
        .add_service(
            AdminServiceServer::new(front)
                .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(limits::MAX_MESSAGE_BYTES),
        );
    if features.reflection {
        services
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
    }
    let mut router = services.routes().prepare().into_axum_router();
    router = router.layer(map_request(async |request| bound(request)));
    let pages = Pages {
        named: features.web_origins.clone(),
        open: authority.is_open(),
    };
    router = router.layer(from_fn_with_state(authority, identity::identify));
    router = router.layer(map_response(malformed::name_the_field));
    router = router.layer(from_fn(meter::measure));
    if features.web {
        router = router.layer(tonic_web::GrpcWebLayer::new());
        if !features.web_origins.is_empty() {
            router = router.layer(features.web_origins.layer());
        }
    }
    router = router.layer(from_fn_with_state(pages, pages::admit));
    Ok((router, reporter))
}

/// Calls whose caller sends more than one message.
const OF_MANY_MESSAGES: [&str; 2] = ["/ImportEvents", "/ServerReflectionInfo"];

/// The request, its body inside the bounds.
fn bound(request: HttpRequest) -> HttpRequest {
    let path = request.uri().path();
    let many = OF_MANY_MESSAGES.iter().any(|name| path.ends_with(name));
    let shape = if many {
        Shape::Messages
    } else {
        Shape::Message
    };
    let told = |error| -> BoxError { Status::from(error).into() };
    request.map(|body| bodies::bound(body, shape, told))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // The details of errors, so that tools can show them.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Names that `grpc.health.v1` knows; the empty one is the server as a whole.
pub const HEALTH_NAMES: [&str; 5] = [
    "",
    "futoin.evt.v1.GenService",
    "futoin.evt.v1.PollService",
    "futoin.evt.v1.PushService",
    "futoin.evt.v1.AdminService",
];

/// Sets the health of the server and of every service.
pub async fn set_health(reporter: &HealthReporter, serving: bool) {
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for name in HEALTH_NAMES {
        reporter.set_service_status(name, status).await;
    }
}
