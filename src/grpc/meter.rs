//! What is measured of every call: how often, how it ended, how long it took,
//! and the span that it is part of.
//!
//! It stands around all services, so that a call that is refused before its
//! handler counts too. Labels are of a fixed set: a caller cannot make series by
//! inventing methods.

use axum::{extract::Request, middleware::Next, response::Response};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::telemetry::{self, traces};

/// The methods of the contract. Health, reflection and what is none of ours are
/// one: their number shall not depend on a caller.
const METHODS: [&str; 12] = [
    "AdminService/GetStatus",
    "AdminService/ListConsumers",
    "AdminService/SeekConsumer",
    "AdminService/SkipFrontier",
    "AdminService/UnregisterConsumer",
    "GenService/AddEvent",
    "GenService/AddEvents",
    "GenService/ImportEvents",
    "PollService/PollEvents",
    "PollService/RegisterConsumer",
    "PushService/Ack",
    "PushService/ReadyToReceive",
];

const OTHER: &str = "other";

/// Measures a call. Of a stream that is its beginning; its end is counted where
/// it is made.
pub(super) async fn measure(request: Request, next: Next) -> Response {
    let method = method(request.uri().path());
    let begun = Instant::now();
    let headers = traces::headers(request.headers()).filter(|_| method != OTHER);
    let response = if headers.is_none() {
        next.run(request).await
    } else {
        traces::serve(method, headers.as_ref(), async {
            let response = next.run(request).await;
            let code = refused(&response);
            tracing::debug!(method, code = code.unwrap_or("OK"), "answered");
            if let Some(code) = code {
                traces::fail(code);
            }
            response
        })
        .await
    };
    let code = refused(&response).unwrap_or("OK");
    metrics::counter!(telemetry::GRPC_REQUESTS, "method" => method, "code" => code).increment(1);
    metrics::histogram!(telemetry::GRPC_REQUEST_SECONDS, "method" => method)
        .record(begun.elapsed().as_secs_f64());
    response
}

/// A push stream was ended by the service.
pub(super) fn stream_ended(status: &Status) {
    metrics::counter!(telemetry::STREAMS_ENDED, "code" => name(status.code())).increment(1);
}

fn method(path: &str) -> &'static str {
    let asked = path.strip_prefix("/futoin.evt.v1.").unwrap_or_default();
    METHODS
        .into_iter()
        .find(|known| *known == asked)
        .unwrap_or(OTHER)
}

/// An error comes without a body, so that its code is among the headers.
fn refused(response: &Response) -> Option<&'static str> {
    let code = response.headers().get("grpc-status")?;
    let code = Code::from_bytes(code.as_bytes());
    (code != Code::Ok).then(|| name(code))
}

/// As gRPC spells it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto;

    #[test]
    fn methods_are_those_of_the_contract() {
        let files = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let mut methods: Vec<_> = files
            .file
            .iter()
            .filter(|file| file.package() == "futoin.evt.v1")
            .flat_map(|file| &file.service)
            .flat_map(|service| {
                let name = |method: &prost_types::MethodDescriptorProto| {
                    format!("{}/{}", service.name(), method.name())
                };
                service.method.iter().map(name).collect::<Vec<_>>()
            })
            .collect();
        methods.sort();
        assert_eq!(methods, METHODS);
        assert_eq!(method("/futoin.evt.v1.PushService/Ack"), "PushService/Ack");
        for strange in ["/", "", "/futoin.evt.v1.", "/grpc.health.v1.Health/Check"] {
            assert_eq!(method(strange), OTHER);
        }
    }
}
