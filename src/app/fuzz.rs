//! gRPC calls as anybody may send them, thrown at the front as it is served:
//! the routes of `grpc`, behind which a real stream works on a real database.
//! Nothing may panic or hang, and what is refused is refused by a status of the
//! contract with its reason: no input is a fault of the service.
//!
//! `fuzz/` runs the same without end; the tests here are its bounded run with
//! every `cargo test`.

use std::{io::ErrorKind, iter::once, time::Duration};

use axum::{Router, body::Body, extract::Request};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use super::{open, settings};
use crate::{
    auth::{Authority, Gate},
    config::{self, serve_command},
    grpc::{self, Features},
    lifecycle::Lifecycle,
    origins::Origins,
    proto,
    quota::{Quota, Quotas},
    stream::EventStream,
};

/// An answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long is waited for what may rightly wait: then the caller goes away.
const WAIT: Duration = Duration::from_millis(10);

/// Frames that are read of an answer before the caller goes away.
const FRAMES: usize = 4;

/// A service with an empty database of its own.
pub struct Service {
    router: Router,
    /// Paths of all methods of the contract.
    methods: Vec<String>,
    runtime: Runtime,
    _life: Lifecycle,
    _dir: TempDir,
}

impl Service {
    /// Starts it.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let life = Lifecycle::new();
        let router = runtime.block_on(router(&dir, &life));
        Self {
            router: router.expect("the routes"),
            methods: methods(),
            runtime,
            _life: life,
            _dir: dir,
        }
    }

    /// Makes a call: by the first byte, which method and in pieces of which size;
    /// the rest is its message.
    ///
    /// # Panics
    /// When the answer is none that the contract knows, or does not come.
    pub fn call(&self, bytes: &[u8]) {
        let Some((choice, message)) = bytes.split_first() else {
            return;
        };
        let count = self.methods.len();
        let method = &self.methods[usize::from(*choice) % count];
        let piece = usize::from(*choice) / count + 1;
        // What a stream of messages is made of comes twice.
        let times = if method.ends_with("/ImportEvents") {
            2
        } else {
            1
        };
        let body = framed(message).repeat(times);
        let may_wait = ["/PollEvents", "/ReadyToReceive"]
            .iter()
            .any(|waits| method.ends_with(waits));
        let answered = self.answer(method, &body, piece);
        self.runtime.block_on(async {
            let patience = if may_wait { WAIT } else { PATIENCE };
            let in_time = timeout(patience, answered).await.is_ok();
            assert!(in_time || may_wait, "{method} does not answer");
        });
    }

    async fn answer(&self, method: &str, body: &[u8], piece: usize) {
        let pieces: Vec<_> = body.chunks(piece).map(Bytes::copy_from_slice).collect();
        let pieces = tokio_stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        let request = Request::post(method)
            .header("content-type", "application/grpc")
            .body(Body::from_stream(pieces))
            .expect("a request");
        let answer = self.router.clone().oneshot(request).await;
        let answer = answer.expect("the routes do not fail");
        assert_eq!(answer.status(), http::StatusCode::OK, "{method}");
        judge(method, answer.headers());
        let mut body = answer.into_body();
        for _ in 0..FRAMES {
            let Some(frame) = body.frame().await else {
                break;
            };
            if let Some(trailers) = frame.expect("a frame").trailers_ref() {
                judge(method, trailers);
            }
        }
    }
}

/// What the front is when nobody must identify itself.
async fn router(dir: &TempDir, life: &Lifecycle) -> anyhow::Result<Router> {
    let database = format!("sqlite:{}/db", dir.path().display());
    let args = ["serve", "--db-synchronous=normal", "--db", &database];
    let matches = serve_command().get_matches_from(args);
    let config = config::load(&matches, [], |_| Err(ErrorKind::NotFound.into()))?;
    let store = open(&config).await?;
    let draining = life.fronts.stopping();
    let stream = EventStream::start(store, None, settings(&config), &life.engine, draining).await?;
    let quotas = Quotas::new(Quota::default(), Duration::from_secs(1));
    let features = Features {
        reflection: false,
        web: false,
        web_origins: Origins::default(),
    };
    let gate = Gate::new(stream, quotas);
    let (router, _health) = grpc::routes(gate, Authority::open(), features).await?;
    Ok(router)
}

/// In the order of the contract.
fn methods() -> Vec<String> {
    let files = FileDescriptorSet::decode(proto::DESCRIPTORS).expect("descriptors");
    let ours = files
        .file
        .iter()
        .filter(|file| file.package() == "futoin.evt.v1");
    let services = ours.flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            let path = |method: &prost_types::MethodDescriptorProto| {
                format!("/futoin.evt.v1.{}/{}", service.name(), method.name())
            };
            service.method.iter().map(path)
        })
        .collect()
}

/// A message as gRPC frames it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    once(0)
        .chain(length)
        .chain(message.iter().copied())
        .collect()
}

/// Looks at the status, if one is there.
fn judge(method: &str, headers: &HeaderMap) {
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    if status.code() == Code::Ok {
        return;
    }
    let reason = status.get_details_error_info().map(|info| info.reason);
    let reason = reason.unwrap_or_default();
    let of_the_service = [Code::Internal, Code::Unknown, Code::Unimplemented];
    assert!(
        !of_the_service.contains(&status.code()) && reason != "DATABASE_UNAVAILABLE",
        "{method}: {status:?}"
    );
    assert!(
        !reason.is_empty() && !status.message().is_empty(),
        "{method}: {status:?}"
    );
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    type Call = (&'static str, Vec<u8>);

    fn call(method: &'static str, message: &impl prost::Message) -> Call {
        (method, message.encode_to_vec())
    }

    /// Calls that are answered.
    fn good() -> Vec<Call> {
        let component = || "SHOP".to_owned();
        let event = proto::NewEvent {
            r#type: "USR_NEW".into(),
            data_json: r#"{"id":1}"#.into(),
        };
        let start = Some(proto::StartAt {
            at: Some(proto::start_at::At::AfterId(0)),
        });
        let add = proto::AddEventRequest {
            r#type: "USR_NEW".into(),
            data_json: r#"{"id":1}"#.into(),
            request_id: "6f2d6e0c-5d1a-4b0e-9a43-0f6a7b1c2d3e".into(),
        };
        let import = proto::ImportEventsRequest {
            events: vec![event],
            ..Default::default()
        };
        let register = proto::RegisterConsumerRequest {
            component: component(),
            start,
        };
        let poll = proto::PollEventsRequest {
            component: component(),
            last_id: Some(1),
            ..Default::default()
        };
        let ready = proto::ReadyToReceiveRequest {
            component: component(),
            client_label: "ü".into(),
            ..Default::default()
        };
        let seek = proto::SeekConsumerRequest {
            component: component(),
            start,
            ..Default::default()
        };
        vec![
            call("GenService/AddEvent", &add),
            call("GenService/ImportEvents", &import),
            call("PollService/RegisterConsumer", &register),
            call("PollService/PollEvents", &poll),
            call("PushService/ReadyToReceive", &ready),
            call("AdminService/SeekConsumer", &seek),
        ]
    }

    fn bytes_of(service: &Service, (method, message): &Call) -> Vec<u8> {
        let at = service
            .methods
            .iter()
            .position(|path| path.ends_with(method));
        let at = u8::try_from(at.expect("a method")).expect("few");
        once(at).chain(message.iter().copied()).collect()
    }

    #[test]
    fn nearly_good_calls() {
        let service = Service::start();
        let good: Vec<_> = good().iter().map(|call| bytes_of(&service, call)).collect();
        for call in &good {
            service.call(call);
        }
        let changes = vec((any::<Index>(), any::<u8>()), 0..6);
        let config = ProptestConfig::with_cases(500);
        proptest!(config, |(which in any::<Index>(), changes in changes)| {
            let mut bytes = which.get(&good).clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            service.call(&bytes);
        });
    }

    #[test]
    fn arbitrary_bytes() {
        let service = Service::start();
        let config = ProptestConfig::with_cases(500);
        proptest!(config, |(bytes in vec(any::<u8>(), 0..200))| service.call(&bytes));
    }
}
