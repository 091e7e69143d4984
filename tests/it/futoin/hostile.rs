//! Whatever is sent, the process lives and serves the next one.

use futures_util::SinkExt as _;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    builder,
    client::{Socket, call, message, post, request},
};
use crate::{
    calls::metric,
    server::{PATIENCE, Server, eventually},
};

async fn serves(server: &Server) {
    let answer = call(server, "futoin.ping:1.0:ping", r#"{"echo":1}"#).await;
    assert_eq!(answer, r#"{"r":{"echo":1}}"#);
}

#[tokio::test]
async fn bodies_that_are_no_request_are_told_so() {
    let server = builder().start().await;
    let missing = r#"{"e":"InvalidRequest","edesc":"Missing req.f"}"#;
    let deep = format!(r#"{{"a":{}"#, "[".repeat(60_000));
    for body in [
        "null",
        "5",
        "\"x\"",
        "[]",
        "{",
        "{}",
        "\u{feff}{}",
        "CBOR",
        "MPCK",
        "MPCK\u{1}",
        &deep,
    ] {
        let answer = request(server.http_address(), "POST", "/ftn", &[], body.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200);
        assert!(
            text == missing || text.contains("Missing req.f"),
            "{body:.20}: {text}"
        );
    }
    for (method, path) in [("POST", "/ftnX"), ("POST", "/%66tn"), ("GET", "/other")] {
        let answer = request(server.http_address(), method, path, &[], b"").await;
        assert_eq!(answer.status, 404, "{path}");
    }
    for path in ["/ftn?x=1", "/ftn/?x=1"] {
        let ping = message("futoin.ping:1.0:ping", r#"{"echo":1}"#, "");
        let answer = request(server.http_address(), "POST", path, &[], ping.as_bytes()).await;
        assert_eq!(answer.text(), r#"{"r":{"echo":1}}"#, "{path}");
    }
    serves(&server).await;
}

#[tokio::test]
async fn deep_data_travels_and_is_signed() {
    let server = builder().start().await;
    let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
    let p = format!(r#"{{"type":"A","data":{deep}}}"#);
    assert_eq!(
        call(&server, "futoin.evt.gen:1.1:addEvent", &p).await,
        r#"{"r":"1"}"#
    );
    let polled = call(
        &server,
        "futoin.evt.poll:1.1:pollEvents",
        r#"{"component":"LIVE"}"#,
    )
    .await;
    assert!(polled.contains(&deep));
    let deepest = format!(
        r#"{{"f":"futoin.ping:1.0:ping","p":{{"echo":{}1{}}},"sec":"-hmac:hmacuser:MD5:AAAA"}}"#,
        "[".repeat(30_000),
        "]".repeat(30_000)
    );
    assert!(
        post(&server, &deepest)
            .await
            .contains("Legacy Signature Verification Failed")
    );
    let deepest = deepest.replace("-hmac:hmacuser:MD5:AAAA", "user:pass");
    assert!(post(&server, &deepest).await.contains("Type mismatch"));
}

#[tokio::test]
async fn frames_without_a_usable_rid_cost_nothing() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    let missing = r#"{"e":"InvalidRequest","edesc":"Missing req.rid"}"#;
    for frame in [
        "null",
        "5",
        "[]",
        "{}",
        r#"{"rid":null}"#,
        r#"{"rid":7,"f":"futoin.ping:1.0:ping"}"#,
        r#"{"rid":{"a":1}}"#,
    ] {
        socket.send(frame).await;
        assert_eq!(socket.text().await, missing, "{frame}");
    }
    // What cannot be decoded and answers to nothing are passed over.
    for frame in [
        "",
        "{",
        "x",
        r#"{"rid":"S1","r":true}"#,
        r#"{"rid":"S"}"#,
        r#"{"rid":"S99999999999999999999"}"#,
    ] {
        socket.send(frame).await;
    }
    socket
        .0
        .send(Message::binary(b"\xff\xfe".to_vec()))
        .await
        .expect("sent");
    for rid in ["", "X1", "c1"] {
        let ping = message(
            "futoin.ping:1.0:ping",
            r#"{"echo":1}"#,
            &format!(r#","rid":"{rid}""#),
        );
        socket.send(&ping).await;
        assert_eq!(
            socket.text().await,
            format!(r#"{{"r":{{"echo":1}},"rid":"{rid}"}}"#)
        );
    }
}

#[tokio::test]
async fn same_rid_twice_is_answered_twice() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    let ping = message("futoin.ping:1.0:ping", r#"{"echo":1}"#, r#","rid":"C1""#);
    for _ in 0..200 {
        socket.send(&ping).await;
    }
    for _ in 0..200 {
        assert_eq!(socket.text().await, r#"{"r":{"echo":1},"rid":"C1"}"#);
    }
}

/// The header of a binary frame of a client with an empty mask.
fn frame_head(len: u64) -> Vec<u8> {
    let mut head = vec![0x82, 0x80 | 0x7F];
    head.extend_from_slice(&len.to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    head
}

/// A socket on which bytes can be written.
async fn raw(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.http_address())
        .await
        .expect("it listens");
    let hello = "GET /ftn/any?thing HTTP/1.1\r\nhost: it\r\nconnection: keep-alive, Upgrade\r\n\
                 upgrade: WebSocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-protocol: futoin, other\r\n\
                 sec-websocket-extensions: permessage-deflate\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(hello.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).expect("text").to_lowercase();
    assert!(
        head.contains("sec-websocket-protocol: futoin\r\n"),
        "{head}"
    );
    assert!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    assert!(!head.contains("extensions"), "{head}");
    stream
}

#[tokio::test]
async fn broken_and_huge_frames_end_their_socket_alone() {
    let server = builder().start().await;
    for bytes in [
        frame_head(u64::MAX),
        frame_head(1 << 62),
        frame_head(1 << 20),
        // Reserved bits, an unknown kind of frame, a frame without a mask.
        vec![0xF2, 0x80, 0, 0, 0, 0],
        vec![0x83, 0x80, 0, 0, 0, 0],
        vec![0x82, 0x01, 0x7B],
        // A continuation of nothing, a close frame of one byte.
        vec![0x80, 0x80, 0, 0, 0, 0],
        vec![0x88, 0x81, 0, 0, 0, 0, 1],
    ] {
        let mut stream = raw(&server).await;
        stream.write_all(&bytes).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        let _ = end.expect("the socket ends");
    }
    // Many small parts of one message that is too large.
    let mut stream = raw(&server).await;
    let mut part = vec![0x02, 0x80 | 0x7E, 0x40, 0x00, 0, 0, 0, 0];
    part.resize(8 + 0x4000, b'x');
    for _ in 0..8 {
        let _ = stream.write_all(&part).await;
        part[0] = 0x00;
    }
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("it ends");
    assert!(
        rest.windows(2).any(|two| two == 1009_u16.to_be_bytes()),
        "{rest:?}"
    );
    serves(&server).await;
}

#[tokio::test]
async fn handshakes_that_cannot_be_are_refused() {
    let server = builder().start().await;
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
    for (more, status) in [
        (vec![("sec-websocket-version", "13")], 400),
        (
            vec![("sec-websocket-key", "x"), ("sec-websocket-version", "8")],
            426,
        ),
        (vec![("sec-websocket-key", "x")], 426),
    ] {
        let headers: Vec<_> = upgrade.iter().copied().chain(more).collect();
        let answer = request(server.http_address(), "GET", "/ftn", &headers, b"").await;
        assert_eq!(answer.status, status);
    }
    serves(&server).await;
}

#[tokio::test]
async fn pages_of_other_origins_open_no_socket_where_some_are_named() {
    let headers = |origin| {
        [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            // Refused, but only after its origin was looked at.
            ("sec-websocket-version", "8"),
            ("origin", origin),
        ]
    };
    let server = builder()
        .arg("--futoin-web-origins=http://shop.example")
        .start()
        .await;
    let address = server.http_address();
    let evil = request(address, "GET", "/ftn", &headers("http://evil.example"), b"").await;
    assert_eq!(evil.status, 403);
    let own = request(address, "GET", "/ftn", &headers("http://shop.example"), b"").await;
    assert_eq!(own.status, 426);
    let asked = [
        ("origin", "http://shop.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let told = request(address, "OPTIONS", "/ftn", &asked, b"").await;
    assert_eq!(told.status, 200);
    let allowed = "access-control-allow-origin: http://shop.example";
    assert!(told.head.contains(allowed), "{}", told.head);
    serves(&server).await;
}

#[tokio::test]
async fn silent_and_half_done_peers_are_dropped() {
    let server = builder().arg("--futoin-ws-ping=1s").start().await;
    let mut half = raw(&server).await;
    let mut head = frame_head(1000);
    head.extend_from_slice(b"{\"f\":");
    half.write_all(&head).await.expect("sent");
    let mut silent = raw(&server).await;
    // One that answers pings stays.
    let mut lively = Socket::open(&server).await;
    for stream in [&mut half, &mut silent] {
        let mut said = Vec::new();
        let end = timeout(PATIENCE, async {
            tokio::select! {
                end = stream.read_to_end(&mut said) => end,
                _ = lively.next() => panic!("nothing is said to the other"),
            }
        });
        let _ = end.await.expect("it is dropped");
    }
    assert!(
        lively
            .call("futoin.ping:1.0:ping", r#"{"echo":1}"#)
            .await
            .contains("echo")
    );
    eventually(async || {
        let open = metric(&server, "eventstream_futoin_sockets").await;
        if open < 1.5 { Ok(()) } else { Err(open) }
    })
    .await;
}

#[tokio::test]
async fn body_that_does_not_come_is_not_waited_for() {
    let server = builder().start().await;
    let mut stream = TcpStream::connect(server.http_address())
        .await
        .expect("it listens");
    let head = "POST /ftn HTTP/1.1\r\nhost: it\r\ncontent-length: 100\r\n\r\n{\"f\":";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    let _ = read.expect("it ends");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    serves(&server).await;
}

#[tokio::test]
async fn thousand_sockets_that_say_nothing_leave_room_for_one_that_does() {
    let server = builder().start().await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(raw(&server).await);
    }
    assert!(metric(&server, "eventstream_futoin_sockets").await >= 1000.0);
    serves(&server).await;
    let mut socket = Socket::open(&server).await;
    assert!(
        socket
            .call("futoin.ping:1.0:ping", r#"{"echo":1}"#)
            .await
            .contains("echo")
    );
    drop(silent);
    eventually(async || {
        let open = metric(&server, "eventstream_futoin_sockets").await;
        if open < 1.5 { Ok(()) } else { Err(open) }
    })
    .await;
}

/// Messages that are nearly right, over both transports and all codings.
#[tokio::test]
async fn fuzzed_messages_leave_the_process_alive() {
    let server = builder().start().await;
    let mut runner = TestRunner::new(Config::default());
    let good = [
        message(
            "futoin.evt.poll:1.1:pollEvents",
            r#"{"component":"LIVE","last_id":"1","want":["A"]}"#,
            r#","rid":"C1""#,
        ),
        message(
            "futoin.evt.push:1.1:readyToReceive",
            r#"{"component":"LIVE"}"#,
            r#","rid":"C1""#,
        ),
        r#"{"f":"futoin.ping:1.0:ping","p":{"echo":1},"rid":"C8","sec":"-hmac:hmacuser:MD5:AAAA"}"#
            .to_owned(),
    ];
    let damage = (
        0..good.len(),
        "(MPCK|CBOR)?",
        proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    );
    let mut socket = Socket::open(&server).await;
    for _ in 0..300 {
        let (which, prefix, changes) = damage.new_tree(&mut runner).expect("a value").current();
        let mut bytes = [prefix.as_bytes(), good[which].as_bytes()].concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let answer = request(server.http_address(), "POST", "/ftn", &[], &bytes).await;
        assert_eq!(answer.status, 200, "{bytes:?}");
        socket.0.send(Message::binary(bytes)).await.expect("sent");
    }
    drop(socket);
    serves(&server).await;
}

/// The answers would wait in memory for as long as it does not read.
#[tokio::test]
async fn socket_that_asks_without_end_is_closed() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    for _ in 0..1001 {
        let ping = Message::Ping(vec![7; 125].into());
        socket.0.feed(ping).await.expect("taken");
    }
    socket.0.flush().await.expect("sent");
    assert_eq!(socket.next().await, Err(Some(1008)));
    serves(&server).await;
}
