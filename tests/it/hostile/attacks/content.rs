//! Headers and messages that are too long, compressed, endless, or no text.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::body::Body;
use bytes::Bytes;
use futoin_eventstream::limits;
use tokio::{process::Command, task::JoinSet};
use tokio_stream::StreamExt as _;

use super::{
    super::{
        caller::{Reply, call, say, status},
        http2::{Connection, END_HEADERS, HEADERS, frame, literal},
        scene::{Account, Scene, Strength},
    },
    CONNECTION, Count, error_name,
};

const ADD: &str = "GenService/AddEvent";

/// Numbers of gRPC's statuses.
const INVALID_ARGUMENT: &str = "3";
const RESOURCE_EXHAUSTED: &str = "8";
const UNIMPLEMENTED: &str = "12";
const INTERNAL: &str = "13";
const UNAUTHENTICATED: &str = "16";

/// Headers that end, and are too long.
pub async fn huge_headers(scene: &Scene) -> Account {
    let calls = scene.of(50, 5_000);
    let filler = [b'x'; 31 * 1024];
    let head = b"GET /livez HTTP/1.1\r\nhost: it\r\nx-filler: ";
    let head = [&head[..], &[b'x'; 64 * 1024]].concat();
    let (mut http2, mut http1, mut heard) = (Count::default(), Count::default(), Vec::new());
    for _ in 0..calls {
        let address = scene.server.grpc_address();
        let reply = call(address, ADD, &[("x-filler", &filler)], Body::empty()).await;
        let reply = reply.expect("an answer");
        http2.note(reply.http.to_string());
        heard.extend(reply.said);
        let said = say(scene.server.http_address(), &head).await;
        http1.note(status(&said).to_string());
        heard.extend(said);
    }
    http2.is_all("431", calls);
    http1.is_all("431", calls);
    Account {
        sent: format!("{calls} headers of 31 KiB by HTTP/2, {calls} of 64 KiB by HTTP/1.1"),
        outcome: format!("HTTP/2: {http2}; HTTP/1.1: {http1}"),
        room: CONNECTION,
        heard,
    }
}

/// So many bytes of nothing, made small.
async fn gzip_of(mib: usize) -> Vec<u8> {
    let command = format!("head -c {} /dev/zero | gzip -9", mib << 20);
    let packed = Command::new("sh").args(["-c", &command]).output().await;
    let packed = packed.expect("gzip is there").stdout;
    assert!(!packed.is_empty() && packed.len() < mib << 11);
    packed
}

/// Much that was made small, to what decompresses nothing.
pub async fn compressed_bombs(scene: &Scene) -> Account {
    const MIB: usize = 100;
    let rounds = scene.of(3, 200);
    let bomb = gzip_of(MIB).await;
    // As long as a FutoIn request may be.
    let short = gzip_of(MIB / 2).await;
    assert!(
        short.len() < limits::FUTOIN_REQUEST_BYTES && limits::FUTOIN_REQUEST_BYTES < bomb.len()
    );
    let (mut grpc, mut unannounced) = (Count::default(), Count::default());
    let (mut http, mut sockets) = (Count::default(), Count::default());
    let mut heard = Vec::new();
    for _ in 0..rounds {
        for coding in ["gzip", "deflate", "zstd"] {
            let headers = [("grpc-encoding", coding.as_bytes())];
            let reply = bombed(scene, &headers, &bomb).await;
            grpc.note(reply.status.expect("a status"));
            heard.extend(reply.said);
        }
        let reply = bombed(scene, &[], &bomb).await;
        unannounced.note(reply.status.expect("a status"));
        heard.extend(reply.said);
        for body in [&bomb, &short] {
            let said = say(scene.server.http_address(), &post(body)).await;
            http.note(futoin_outcome(&said));
            heard.extend(said);
        }
        let said = say(
            scene.server.http_address(),
            &compressed_frame(&short[..100]),
        )
        .await;
        sockets.note(socket_outcome(&said));
        heard.extend(said);
    }
    grpc.is_all(UNIMPLEMENTED, 3 * rounds);
    unannounced.is_all(INTERNAL, rounds);
    let of_http = [
        ("200 InvalidRequest".to_owned(), rounds),
        ("413".to_owned(), rounds),
    ];
    assert_eq!(http.0, of_http.into());
    sockets.is_all("not agreed, closed", rounds);
    Account {
        sent: format!(
            "{} × {MIB} MiB in {} KiB: gzip, deflate, zstd by gRPC, gzip by FutoIn, permessage-deflate",
            7 * rounds,
            bomb.len() / 1024
        ),
        outcome: format!(
            "none unpacked; gRPC: {} UNIMPLEMENTED, {rounds} INTERNAL (not announced); \
             FutoIn: {http}; WebSocket: {sockets}",
            3 * rounds
        ),
        room: CONNECTION,
        heard,
    }
}

async fn bombed(scene: &Scene, headers: &[(&str, &[u8])], bomb: &[u8]) -> Reply {
    let len = u32::try_from(bomb.len()).expect("small").to_be_bytes();
    let message = [&[1][..], &len, bomb].concat();
    let reply = call(
        scene.server.grpc_address(),
        ADD,
        headers,
        Body::from(message),
    )
    .await;
    reply.expect("an answer")
}

/// A request of FutoIn that says that it is compressed.
fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /ftn HTTP/1.1\r\nhost: it\r\ncontent-encoding: gzip\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The status, and the error if it is 200.
fn futoin_outcome(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let error = text
        .split(r#""e":""#)
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let parts = [Some(status(said).to_string()), error.map(str::to_owned)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A socket that asks for compression, and a frame that uses it unasked.
fn compressed_frame(bytes: &[u8]) -> Vec<u8> {
    let head = "GET /ftn HTTP/1.1\r\nhost: it\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-extensions: permessage-deflate\r\n\r\n";
    // FIN, RSV1, binary; masked by zeros.
    let len = u8::try_from(bytes.len()).expect("short");
    [head.as_bytes(), &[0xc2, 0x80 | len, 0, 0, 0, 0], bytes].concat()
}

/// Whether the extension was agreed to, and the code of the close if one is
/// sent before it.
fn socket_outcome(said: &[u8]) -> String {
    assert_eq!(status(said), 101);
    let end = said.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, frames) = said.split_at(end.expect("a header") + 4);
    let head = String::from_utf8_lossy(head).to_lowercase();
    let agreed = if head.contains("sec-websocket-extensions") {
        "agreed"
    } else {
        "not agreed"
    };
    match frames {
        [0x88, _, high, low, ..] => format!("{agreed}, {}", u16::from_be_bytes([*high, *low])),
        [] => format!("{agreed}, closed"),
        other => panic!("{other:?}"),
    }
}

/// Bytes that are no UTF-8.
const BAD: &[u8] = b"\xff\xfe\xc3\x28\xed\xa0\x80";

/// Text that is none, wherever text is expected.
pub async fn invalid_text(scene: &Scene) -> Account {
    let rounds = scene.of(10, 1_000);
    let plain = plain_requests();
    let (mut http, mut grpc, mut heard) = (Count::default(), Count::default(), Vec::new());
    for _ in 0..rounds {
        for (place, request) in &plain {
            let said = say(scene.server.http_address(), request).await;
            http.note(format!("{place} {}", futoin_outcome(&said)));
            heard.extend(said);
        }
        heard.extend(bad_calls(scene, &mut grpc).await);
    }
    let all = |kinds: &[&str]| {
        let kinds = kinds.iter().map(|kind| ((*kind).to_owned(), rounds));
        kinds.collect::<BTreeMap<_, _>>()
    };
    let places = [
        "body 200 InvalidRequest",
        "header 200",
        "path 400",
        "token 401",
    ];
    assert_eq!(http.0, all(&places));
    let message = format!("message {INVALID_ARGUMENT}");
    let token = format!("token {UNAUTHENTICATED}");
    assert_eq!(grpc.0, all(&[&message, "name PROTOCOL_ERROR", &token]));
    Account {
        sent: format!("{rounds} × no UTF-8 in path, header, token, body, message and name"),
        outcome: format!(
            "HTTP: {http}; gRPC: {rounds} × INVALID_ARGUMENT (message), UNAUTHENTICATED (token), \
             PROTOCOL_ERROR (name)"
        ),
        room: CONNECTION,
        heard,
    }
}

/// By HTTP/1.1, and where the bad bytes are in each.
fn plain_requests() -> [(&'static str, Vec<u8>); 4] {
    let end = b"\r\nconnection: close\r\n\r\n";
    let request = |start: &str, rest: &[u8]| [start.as_bytes(), BAD, rest].concat();
    let host = [b" HTTP/1.1\r\nhost: it", &end[..]].concat();
    let token = "GET /console/api/state HTTP/1.1\r\nhost: it\r\nauthorization: ";
    [
        ("path", request("GET /ftn/", &host)),
        (
            "header",
            request("GET /livez HTTP/1.1\r\nhost: it\r\nx: ", end),
        ),
        ("token", request(token, end)),
        ("body", post(BAD)),
    ]
}

/// By gRPC; what was said.
async fn bad_calls(scene: &Scene, count: &mut Count) -> Vec<u8> {
    let address = scene.server.grpc_address();
    // A message whose text fields hold this.
    let message = [&[0, 0, 0, 0, 18, 0x0a, 7][..], BAD, &[0x12, 7], BAD].concat();
    let mut heard = Vec::new();
    for (place, header) in [("message", "x-bin"), ("token", "authorization")] {
        let body = Body::from(message.clone());
        let reply = call(address, ADD, &[(header, BAD)], body).await;
        let reply = reply.expect("an answer");
        count.note(format!("{place} {}", reply.status.expect("a status")));
        heard.extend(reply.said);
    }
    // No library would send such a name.
    let mut connection = Connection::open(address).await.expect("it listens");
    let name = frame(HEADERS, END_HEADERS, 1, &literal(BAD, BAD));
    assert!(connection.send(&name).await);
    let seen = connection.close().await;
    let code = seen.resets.first().copied().or(seen.goaway);
    count.note(format!("name {}", error_name(code)));
    heard.extend(seen.said);
    heard
}

/// Messages that promise 16 MiB, bring most of it and never end. As many are
/// held as there is room for, for their time; the others are refused at once.
pub async fn hoarded_messages(scene: &Scene) -> Account {
    const PROMISED: usize = limits::MAX_MESSAGE_BYTES;
    let room = limits::MESSAGES_UNDER_WAY_BYTES;
    let messages = scene.of(24, 400);
    let brought = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    for _ in 0..messages {
        let address = scene.server.grpc_address().to_owned();
        let body = endless(PROMISED, Arc::clone(&brought));
        calls.spawn(async move { call(&address, ADD, &[], body).await.expect("an answer") });
    }
    let (mut answers, mut heard) = (Count::default(), Vec::new());
    let wanted = match scene.strength {
        Strength::Skirmish => messages - room / PROMISED,
        Strength::Siege => messages,
    };
    for number in 0..wanted {
        let reply = calls.join_next().await.expect("one more");
        let reply = reply.expect("no panic inside");
        answers.note(reply.status.expect("a status"));
        heard.extend(reply.said);
        if number < messages - room / PROMISED {
            answers.is_all(RESOURCE_EXHAUSTED, number + 1);
        }
    }
    let refused = answers.0[RESOURCE_EXHAUSTED];
    let given_up = answers.0.get(INVALID_ARGUMENT).copied().unwrap_or_default();
    assert_eq!(refused + given_up, wanted, "{answers}");
    assert!(given_up > 0 || scene.strength == Strength::Skirmish);
    let brought = brought.load(Ordering::Relaxed) >> 20;
    Account {
        sent: format!("{messages} messages of 16 MiB, {brought} MiB in all, none ended"),
        outcome: format!(
            "{refused} × RESOURCE_EXHAUSTED; {given_up} × INVALID_ARGUMENT after 30 s"
        ),
        // While a buffer grows, it is there twice.
        room: 2 * room,
        heard,
    }
}

/// A message that promises so much, and lacks the last piece of it.
fn endless(promised: usize, brought: Arc<AtomicUsize>) -> Body {
    const PIECE: usize = 16_384;
    let length = u32::try_from(promised).expect("it fits").to_be_bytes();
    let head = Bytes::from([&[0][..], &length].concat());
    let pieces = std::iter::repeat_n(PIECE, promised / PIECE - 1).map(move |piece| {
        brought.fetch_add(piece, Ordering::Relaxed);
        Bytes::from_static(&[0; PIECE])
    });
    let parts = std::iter::once(head).chain(pieces).map(Ok::<_, Infallible>);
    Body::from_stream(tokio_stream::iter(parts).chain(tokio_stream::pending()))
}
