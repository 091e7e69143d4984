//! What stands beside the four services: health, reflection, gRPC-Web, and
//! the HTTP front for operators.

use std::path::Path;

use bytes::Bytes;
use http::{Request, StatusCode, request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::Message as _;
use tokio::{process::Command, time::timeout};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    calls::{add_many, poll, poll_of},
    round_trip::{add, next_group, ready, register, subscribe},
    server::{PATIENCE, Server},
};

const SERVICES: [&str; 4] = [
    "futoin.evt.v1.AdminService",
    "futoin.evt.v1.GenService",
    "futoin.evt.v1.PollService",
    "futoin.evt.v1.PushService",
];

#[tokio::test]
async fn health_knows_the_server_and_every_service() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in SERVICES.iter().copied().chain([""]) {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        // A watch starts with what it is now and tells every change.
        let watched = health.watch(request).await.expect("known");
        let mut watched = watched.into_inner();
        loop {
            let now = timeout(PATIENCE, watched.message()).await.expect("in time");
            let now = now.expect("no error").expect("not the end");
            if now.status() == ServingStatus::Serving {
                break;
            }
        }
    }
    let request = HealthCheckRequest {
        service: "futoin.evt.v1.Nothing".to_owned(),
    };
    let unknown = health.check(request).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
}

/// Runs grpcurl as a person does; what it said.
async fn grpcurl(server: &Server, before: &[&str], after: &[&str]) -> String {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/tools/bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let run = Command::new("grpcurl")
        .arg("-plaintext")
        .args(before)
        .arg(server.grpc_address())
        .args(after)
        .env("PATH", format!("{}:{path}", tools.display()))
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, run).await.expect("it ends");
    let output = output.expect("grpcurl is installed; scripts/tools.sh does that");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).expect("text")
}

#[tokio::test]
async fn reflection_lets_grpcurl_list_describe_and_call() {
    let server = Server::start().await;
    let listed = grpcurl(&server, &[], &["list"]).await;
    for service in SERVICES {
        assert!(listed.contains(service), "{listed}");
    }
    assert!(listed.contains("grpc.health.v1.Health"), "{listed}");
    let described = grpcurl(&server, &[], &["describe", "futoin.evt.v1.Event"]).await;
    assert!(described.contains("string data_json = 3;"), "{described}");

    let call = async |method: &str, json: &str| {
        let method = format!("futoin.evt.v1.{method}");
        grpcurl(&server, &["-d", json], &[&method]).await
    };
    let added = call(
        "GenService/AddEvent",
        r#"{"type":"ORDER_NEW","data_json":"{\"id\":9007199254740993}"}"#,
    )
    .await;
    assert!(added.contains(r#""id": "1""#), "{added}");
    call("PollService/RegisterConsumer", r#"{"component":"SHOP"}"#).await;
    let polled = call("PollService/PollEvents", r#"{"component":"SHOP"}"#).await;
    assert!(polled.contains("9007199254740993"), "{polled}");
    let acked = call("PushService/Ack", r#"{"component":"SHOP","last_id":1}"#).await;
    assert!(acked.contains(r#""ackedId": "1""#), "{acked}");
    let refused = call("GenService/AddEvent", r#"{"type":"x","data_json":"1"}"#).await;
    assert!(refused.contains("InvalidArgument"), "{refused}");
    assert!(refused.contains("INVALID_FIELD"), "{refused}");
}

#[tokio::test]
async fn reflection_answers_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let server = Server::start().await;
    let host = String::new();

    let request = v1::ServerReflectionRequest {
        host: host.clone(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let answers = client.server_reflection_info(tokio_stream::once(request));
    let answer = answers.await.expect("v1").into_inner().message().await;
    let answer = format!("{:?}", answer.expect("an answer"));
    assert!(answer.contains("futoin.evt.v1.PushService"), "{answer}");

    let request = v1alpha::ServerReflectionRequest {
        host,
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let answers = client.server_reflection_info(tokio_stream::once(request));
    let answer = answers.await.expect("v1alpha").into_inner().message().await;
    let answer = format!("{:?}", answer.expect("an answer"));
    assert!(answer.contains("futoin.evt.v1.PushService"), "{answer}");
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
    let server = Server::builder()
        .arg("--grpc-reflection=false")
        .start()
        .await;
    let said = grpcurl(&server, &[], &["list"]).await;
    assert!(
        said.contains("does not support the reflection API"),
        "{said}"
    );
}

/// Sends a request over HTTP/1.1; status, headers and body.
async fn send(
    request: request::Builder,
    body: impl Into<Bytes>,
) -> (StatusCode, http::HeaderMap, Bytes) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request: Request<Full<Bytes>> = request.body(Full::new(body.into())).expect("a request");
    let answer = timeout(PATIENCE, client.request(request)).await;
    let (head, body) = answer.expect("in time").expect("an answer").into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (head.status, head.headers, body)
}

/// A call as a browser sends it for a page of this origin.
fn from_page(server: &Server, method: &str, origin: &str, kind: &str) -> request::Builder {
    let address = server.grpc_address();
    Request::post(format!("http://{address}/futoin.evt.v1.{method}"))
        .header("content-type", kind)
        .header("x-grpc-web", "1")
        .header("origin", origin)
}

/// A gRPC-Web call; the answer's frames as (flags, content).
async fn web_call(
    server: &Server,
    origin: &str,
    method: &str,
    message: &[u8],
) -> (http::HeaderMap, Vec<(u8, Bytes)>) {
    let request = from_page(server, method, origin, "application/grpc-web+proto");
    let len = u32::try_from(message.len()).expect("short");
    let body = [&[0][..], &len.to_be_bytes(), message].concat();
    let (status, headers, mut body) = send(request, body).await;
    assert_eq!(status, StatusCode::OK);
    let mut frames = Vec::new();
    while !body.is_empty() {
        let flags = body[0];
        let len = u32::from_be_bytes(body[1..5].try_into().expect("four bytes"));
        let mut frame = body.split_to(5 + usize::try_from(len).expect("short"));
        frames.push((flags, frame.split_off(5)));
    }
    (headers, frames)
}

#[tokio::test]
async fn browsers_call_through_grpc_web_over_http_1() {
    use futoin_eventstream::proto::{AddEventRequest, AddEventResponse};
    let server = Server::start().await;
    let request = AddEventRequest {
        r#type: "WEB".to_owned(),
        data_json: "1".to_owned(),
        request_id: String::new(),
    };
    let own = format!("http://{}", server.grpc_address());
    let message = request.encode_to_vec();
    let (headers, frames) = web_call(&server, &own, "GenService/AddEvent", &message).await;
    assert_eq!(headers["content-type"], "application/grpc-web+proto");
    let [(0, message), (0x80, trailers)] = &frames[..] else {
        panic!("a message and trailers: {frames:?}");
    };
    let added = AddEventResponse::decode(message.clone()).expect("a response");
    assert_eq!(added.id, 1);
    let trailers = String::from_utf8_lossy(trailers);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");

    // Refusals carry their reason here too.
    let (headers, frames) = web_call(&server, &own, "GenService/AddEvent", b"\x0a\x01\xff").await;
    let said = format!("{headers:?} {frames:?}");
    assert!(said.contains("grpc-status"), "{said}");
    assert!(
        said.contains("type%20cannot") || said.contains("type cannot"),
        "{said}"
    );
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "1");
}

/// What a browser asks before a page of `origin` may call.
async fn preflight(server: &Server, origin: &str) -> http::HeaderMap {
    let address = server.grpc_address();
    let method = "futoin.evt.v1.GenService/AddEvent";
    let request = Request::options(format!("http://{address}/{method}"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "content-type,x-grpc-web,grpc-timeout,authorization",
        );
    send(request, Bytes::new()).await.1
}

#[tokio::test]
async fn pages_of_configured_origins_may_call_and_no_others() {
    const ALLOWED: &str = "access-control-allow-origin";
    let origins = [
        "--grpc-web-origins",
        "http://shop.example https://a.example:8443",
    ];
    let server = Server::builder()
        .arg(origins[0])
        .arg(origins[1])
        .start()
        .await;
    let told = preflight(&server, "https://a.example:8443").await;
    assert_eq!(told[ALLOWED], "https://a.example:8443");
    assert_eq!(told["access-control-allow-methods"], "POST,GET");
    let headers = told["access-control-allow-headers"].to_str().expect("text");
    assert!(headers.contains("x-grpc-web") && headers.contains("authorization"));
    assert!(
        !preflight(&server, "https://evil.example")
            .await
            .contains_key(ALLOWED)
    );

    let page = "http://shop.example";
    let (headers, _) = web_call(&server, page, "AdminService/GetStatus", b"").await;
    assert_eq!(headers[ALLOWED], "http://shop.example");
    let exposed = headers["access-control-expose-headers"]
        .to_str()
        .expect("text");
    assert!(exposed.contains("grpc-status-details-bin"), "{exposed}");

    let server = Server::start().await;
    assert!(
        !preflight(&server, "http://shop.example")
            .await
            .contains_key(ALLOWED)
    );
}

#[tokio::test]
async fn what_pages_of_others_send_unasked_is_not_taken() {
    let server = Server::start().await;
    let address = server.grpc_address();
    let (_, port) = address.rsplit_once(':').expect("a port");
    let method = "GenService/AddEvent";
    let event = b"\0\0\0\0\x06\x0a\x01A\x12\x011";
    let grpc = "application/grpc-web+proto";
    let own = format!("http://{address}");
    let named = format!("http://evil.example:{port}");
    for (origin, host, kind, status) in [
        ("http://evil.example", address, grpc, StatusCode::FORBIDDEN),
        ("null", address, grpc, StatusCode::FORBIDDEN),
        // Somebody else's DNS leads here.
        (
            &named,
            &named["http://".len()..],
            grpc,
            StatusCode::FORBIDDEN,
        ),
        // A browser sends this without asking.
        (
            &own,
            address,
            "text/plain",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
    ] {
        let request = from_page(&server, method, origin, kind).header("host", host);
        let (answered, _, _) = send(request, Bytes::from_static(event)).await;
        assert_eq!(answered, status, "{origin} {host} {kind}");
    }
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "0");
    let request = from_page(&server, method, &own, grpc);
    let (answered, headers, _) = send(request, Bytes::from_static(event)).await;
    assert_eq!(answered, StatusCode::OK, "{headers:?}");
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "1");
}

async fn get(server: &Server, path: &str) -> (StatusCode, String) {
    let url = format!("http://{}{path}", server.http_address());
    let (status, _, body) = send(Request::get(url), Bytes::new()).await;
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

/// The value of a metric without labels, or with these.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

#[tokio::test]
async fn operators_see_life_readiness_and_metrics() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&server, path).await.0, StatusCode::OK, "{path}");
    }
    register(&mut clients, "SHOP").await;
    let (_, mut stream) = subscribe(&mut clients, ready("LIVE")).await;
    add_many(&mut clients, "A", 4).await;
    next_group(&mut stream).await;
    add(&mut clients, "A", "1").await;
    next_group(&mut stream).await;
    poll(&mut clients, poll_of("SHOP")).await;

    let (status, metrics) = get(&server, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for (name, expected) in [
        ("eventstream_events_added_total", 5.0),
        ("eventstream_frontier_id", 5.0),
        ("eventstream_head_id", 5.0),
        ("eventstream_streams_open", 1.0),
        ("eventstream_events_delivered_total{mode=\"live\"}", 5.0),
        ("eventstream_events_delivered_total{mode=\"poll\"}", 5.0),
        (
            "eventstream_consumer_lag_ids{user=\"local\",component=\"SHOP\"}",
            5.0,
        ),
    ] {
        assert_eq!(
            value(&metrics, name),
            Some(expected),
            "{name} in\n{metrics}"
        );
    }
    let (status, text) = get(&server, "/elsewhere").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(text.contains("/metrics"), "{text}");
}
