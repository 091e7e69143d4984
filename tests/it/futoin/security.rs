//! Credentials, signatures, channels, and users that are the same over gRPC.

use serde::Deserialize;

use super::{
    SERVICE_KEY, builder,
    client::{Socket, add, call, message, post, request},
    open_builder,
};
use crate::{
    calls::{ack, consumer},
    round_trip::{next_group, ready, subscribe},
    server::{Builder, Server},
};

const ADD: &str = r#"{"type":"A","data":1}"#;

#[derive(Deserialize)]
struct Vector {
    transport: String,
    request: String,
    response: String,
}

/// The signature of an answer that has no id of an event in it.
#[tokio::test]
async fn signed_exchanges_are_those_of_the_original() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("mac_vectors.json")).expect("vectors");
    let mut exact = 0;
    for Vector {
        transport,
        request,
        response,
    } in &vectors
    {
        let answer = if transport == "http" {
            post(&server, request).await
        } else {
            // Polls need a consumer; the signature of its answer is the same.
            register(&mut socket, request).await;
            socket.send(request).await;
            socket.text().await
        };
        if request.contains("addEvent") || request.contains("pollEvents") {
            assert!(answer.contains(r#","sec":""#), "{answer}");
        } else {
            assert_eq!(&answer, response);
            exact += 1;
        }
    }
    assert!(exact >= 12, "{exact} of {} compared", vectors.len());
}

/// Registers the signer's consumer by a message that it signs as well.
async fn register(socket: &mut Socket, request: &str) {
    let service = request.contains("-smac:svc1");
    if !request.contains("pollEvents") {
        return;
    }
    // Exchanges of the real client: both were signed with SHA256 or HS512.
    let registration = if service {
        r#"{"f":"futoin.evt.push:1.1:registerConsumer","p":{"component":"COMP"},"rid":"C3","sec":"-smac:svc1:HS256:HVSPbLzglUrDqelTIhGUzoxdCXETeCj1LVxIKITKxe4="}"#
    } else {
        r#"{"f":"futoin.evt.push:1.1:registerConsumer","p":{"component":"COMP"},"rid":"C3","sec":"-hmac:hmacuser:SHA256:1vaBOv+/dQCPr2qTP5UWrm1/rmv+bxCvYBeqxdRId8g="}"#
    };
    socket.send(registration).await;
    let answer = socket.text().await;
    assert!(
        answer.starts_with(r#"{"r":true,"rid":"C3","sec":""#),
        "{answer}"
    );
}

#[tokio::test]
async fn signed_error_is_signed_and_a_failed_signature_is_not() {
    let server = builder().start().await;
    let signed = r#"{"f":"nope:1.0:ping","p":{"echo":1},"rid":"C8","sec":"-hmac:hmacuser:MD5:reQ0z5Q/znA/vWwZJI1DRQ=="}"#;
    assert_eq!(
        post(&server, signed).await,
        r#"{"rid":"C8","e":"UnknownInterface","edesc":"Unknown interface: nope","sec":"4/XVqbRMugtEKuzkUQYjlw=="}"#
    );
    let failed = signed.replace("\"echo\":1", "\"echo\":2");
    assert_eq!(
        post(&server, &failed).await,
        r#"{"rid":"C8","e":"SecurityError","edesc":"Legacy Signature Verification Failed"}"#
    );
}

#[tokio::test]
async fn master_mac_of_the_stock_client_is_taken() {
    let server = builder()
        .arg("--futoin-service-id=example.com")
        .start()
        .await;
    let request = r#"{"f":"futoin.evt.gen:1.1:addEvent","p":{"type":"TEST_EVT","data":{"a":1}},"rid":"C1","sec":"-mmac:uBkXSEpNSmqvcX2ENolbZw:HS256:HKDF256:20261121:dA1jyvsLpb+m72KOsWe1dnptz41aYtrAfGuD2yvm2no="}"#;
    let answer = post(&server, request).await;
    assert!(
        answer.starts_with(r#"{"r":"1","rid":"C1","sec":""#),
        "{answer}"
    );
    let other = request.replace("20261121", "20261122");
    assert_eq!(
        post(&server, &other).await,
        r#"{"rid":"C1","e":"SecurityError","edesc":"Authentication failed"}"#
    );
}

#[tokio::test]
async fn refused_credentials_look_as_in_the_original() {
    let server = builder().start().await;
    let bad_mac = "Legacy Signature Verification Failed";
    for (sec, e, edesc) in [
        ("user:", "SecurityError", "Basic Auth Verification Failed"),
        (
            "nobody:pass",
            "SecurityError",
            "Basic Auth Verification Failed",
        ),
        (
            "hmacuser:pass",
            "SecurityError",
            "Basic Auth Verification Failed",
        ),
        ("-hmac:nobody:MD5:AAAA", "SecurityError", bad_mac),
        ("-hmac:user:MD5:AAAA", "SecurityError", bad_mac),
        ("-smac:svc1:HS999:AAAA", "SecurityError", bad_mac),
        ("-smac:svc1:HS256:!", "SecurityError", bad_mac),
        ("-smac:svc1:HS256:", "SecurityError", bad_mac),
        (
            "-mmac:svc1:HS256:HKDF256:X:AAAA",
            "SecurityError",
            "Authentication failed",
        ),
        ("-internal:user", "SecurityError", "Not internal channel"),
        ("user", "NotImplemented", "Authentication is not enabled"),
        (
            "user:pa:ss",
            "NotImplemented",
            "Authentication is not enabled",
        ),
        (
            "-hmac:hmacuser:MD5",
            "NotImplemented",
            "Authentication is not enabled",
        ),
        (
            "-kmac:a:b:c",
            "NotImplemented",
            "Authentication is not enabled",
        ),
    ] {
        let request = format!(r#"{{"f":"futoin.ping:1.0:ping","p":{{"echo":1}},"sec":"{sec}"}}"#);
        let expected = format!(r#"{{"e":"{e}","edesc":"{edesc}"}}"#);
        assert_eq!(post(&server, &request).await, expected, "{sec}");
    }
}

#[tokio::test]
async fn without_users_nobody_may() {
    let server = Server::start().await;
    let answer = call(&server, "futoin.ping:1.0:ping", r#"{"echo":1}"#).await;
    assert_eq!(
        answer,
        r#"{"e":"NotImplemented","edesc":"Authentication is not enabled"}"#
    );
}

#[tokio::test]
async fn each_message_of_a_socket_is_judged_by_itself() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    let registered = socket
        .call(
            "futoin.evt.poll:1.1:registerConsumer",
            r#"{"component":"SHOP"}"#,
        )
        .await;
    assert_eq!(registered, r#"{"r":true,"rid":"C1"}"#);
    let poll = message(
        "futoin.evt.poll:1.1:pollEvents",
        r#"{"component":"SHOP"}"#,
        r#","rid":"C2""#,
    );
    for (sec, expected) in [
        ("user:pass", r#"{"r":[],"rid":"C2"}"#),
        ("other:word", r#"{"rid":"C2","e":"NotRegistered"}"#),
        (
            "user:word",
            r#"{"rid":"C2","e":"SecurityError","edesc":"Basic Auth Verification Failed"}"#,
        ),
        ("user:pass", r#"{"r":[],"rid":"C2"}"#),
    ] {
        socket.send(&poll.replace("user:pass", sec)).await;
        assert_eq!(socket.text().await, expected, "{sec}");
    }
    let anonymous = poll.replace(r#","sec":"user:pass""#, "");
    socket.send(&anonymous).await;
    assert!(socket.text().await.contains("Anonymous not allowed"));
}

#[tokio::test]
async fn only_the_exact_word_of_a_trusted_proxy_makes_a_channel_secure() {
    let request_of = async |builder: Builder, header: &str| {
        let server = builder.start().await;
        let message = message("futoin.evt.gen:1.1:addEvent", ADD, "");
        let headers = [("X-Forwarded-Proto", header)];
        let address = server.http_address();
        let answer = request(address, "POST", "/ftn", &headers, message.as_bytes()).await;
        answer.text().to_owned()
    };
    let insecure = r#"{"e":"SecurityError","edesc":"Insecure channel"}"#;
    let trusting = || open_builder().arg("--futoin-trust-proxy");
    assert_eq!(request_of(trusting(), "https").await, r#"{"r":"1"}"#);
    assert_eq!(request_of(trusting(), "HTTPS").await, insecure);
    assert_eq!(request_of(open_builder(), "https").await, insecure);
}

#[tokio::test]
async fn users_come_from_a_file_too() {
    let builder = Server::builder();
    let file = builder.dir().join("users");
    let text = format!(
        "# who\nuser secret-sha256=d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1\nsvc1 mac={SERVICE_KEY}\n"
    );
    std::fs::write(&file, text).expect("written");
    let server = builder
        .arg(format!("--futoin-users-file={}", file.display()))
        .start()
        .await;
    let answer = call(&server, "futoin.ping:1.0:ping", r#"{"echo":1}"#).await;
    assert_eq!(answer, r#"{"r":{"echo":1}}"#);

    let (code, log) = Server::builder()
        .arg("--futoin-users-file=/nowhere")
        .env("EVENTSTREAM_FUTOIN_USERS", "user hunter2")
        .refused()
        .await;
    assert_eq!(code, Some(2));
    assert!(
        log.contains("futoin.users_file (flag") && log.contains("cannot be read"),
        "{log}"
    );
    assert!(
        log.contains("futoin.users (environment") && !log.contains("hunter2"),
        "{log}"
    );
}

#[tokio::test]
async fn consumer_registered_over_futoin_goes_on_over_grpc() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    let by_local =
        |f: &str, p: &str| message(f, p, r#","rid":"C1""#).replace("user:pass", "local:pass");
    let register = by_local(
        "futoin.evt.push:1.1:registerConsumer",
        r#"{"component":"SHOP"}"#,
    );
    socket.send(&register).await;
    assert_eq!(socket.text().await, r#"{"r":true,"rid":"C1"}"#);
    add(&server, "A", 3).await;
    let poll = by_local(
        "futoin.evt.push:1.1:pollEvents",
        r#"{"component":"SHOP","last_id":"2"}"#,
    );
    socket.send(&poll).await;
    let polled = socket.text().await;
    assert!(
        polled.contains(r#""id":"3""#) && !polled.contains(r#""id":"2""#),
        "{polled}"
    );

    let mut clients = server.clients().await;
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 2);
    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    assert_eq!(next_group(&mut stream).await.last_id, 3);
    ack(&mut clients, "SHOP", 3, Some(started.epoch))
        .await
        .expect("acked");
    drop(stream);

    // And back.
    let ready = by_local(
        "futoin.evt.push:1.1:readyToReceive",
        r#"{"component":"SHOP"}"#,
    );
    socket.send(&ready).await;
    assert_eq!(socket.text().await, r#"{"r":true,"rid":"C1"}"#);
    add(&server, "A", 1).await;
    let (_, seq, ids) = socket.group().await;
    assert_eq!((seq, ids), (0, vec!["4".to_owned()]));
}
