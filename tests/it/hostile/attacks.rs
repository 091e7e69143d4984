//! The attacks. Each sends a bounded amount, and tells what the server did.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futoin_eventstream::limits;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_stream::StreamExt as _;

use super::{
    http2::{
        CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY,
        RST_STREAM, SETTINGS, WINDOW_UPDATE, call, frame, literal,
    },
    scene::{Account, ROOM, Strength},
};
use crate::server::{PATIENCE, Server};

const ADD: &str = "GenService/AddEvent";

/// Error codes of GOAWAY, and how often each came.
#[derive(Default)]
struct Goodbyes(BTreeMap<String, usize>);

impl Goodbyes {
    fn note(&mut self, code: Option<u32>) {
        let name = match code {
            None => "closed".to_owned(),
            Some(0) => "GOAWAY".to_owned(),
            Some(1) => "PROTOCOL_ERROR".to_owned(),
            Some(3) => "FLOW_CONTROL_ERROR".to_owned(),
            Some(6) => "FRAME_SIZE_ERROR".to_owned(),
            Some(9) => "COMPRESSION_ERROR".to_owned(),
            Some(11) => "ENHANCE_YOUR_CALM".to_owned(),
            Some(code) => format!("error {code}"),
        };
        *self.0.entry(name).or_default() += 1;
    }
}

impl std::fmt::Display for Goodbyes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<_> = self
            .0
            .iter()
            .map(|(name, count)| format!("{count} × {name}"))
            .collect();
        f.write_str(&all.join(", "))
    }
}

/// Streams opened and reset at once, again and again: CVE-2023-44487.
pub async fn rapid_reset(server: &Server, strength: Strength) -> Account {
    const AT_ONCE: u32 = 100;
    let streams = strength.of(5_000, 300_000);
    let block = call(ADD);
    let mut goodbyes = Goodbyes::default();
    let mut done = 0;
    let mut connections = 0;
    while done < streams {
        let mut connection = Connection::open(server.grpc_address()).await.expect("open");
        connections += 1;
        let mut stream = 1;
        while done < streams && !connection.is_over() {
            let mut bytes = Vec::new();
            for _ in 0..AT_ONCE {
                bytes.extend(frame(HEADERS, END_HEADERS, stream, &block));
                bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                stream += 2;
            }
            done += AT_ONCE as usize;
            if !connection.send(&bytes).await {
                break;
            }
        }
        goodbyes.note(connection.close().await.goaway);
    }
    Account {
        sent: format!("{done} streams opened and reset, {connections} connections"),
        outcome: goodbyes.to_string(),
        room: ROOM,
    }
}

/// A header that never ends: CVE-2024-27316 and its like.
pub async fn continuation_flood(server: &Server, strength: Strength) -> Account {
    let connections = strength.of(5, 200);
    let most = 64 << 20;
    let mut goodbyes = Goodbyes::default();
    let mut taken = 0;
    let piece = frame(CONTINUATION, 0, 1, &literal(b"x-filler", &[b'x'; 8000]));
    for _ in 0..connections {
        let mut connection = Connection::open(server.grpc_address()).await.expect("open");
        let mut bytes = frame(HEADERS, 0, 1, &call(ADD));
        let mut sent = 0;
        while sent < most && !connection.is_over() && connection.send(&bytes).await {
            sent += bytes.len();
            bytes.clone_from(&piece);
        }
        taken += sent;
        goodbyes.note(connection.seen().await.goaway);
    }
    Account {
        sent: format!(
            "{connections} headers without end, {} KiB each until closed",
            taken / connections / 1024
        ),
        outcome: goodbyes.to_string(),
        room: ROOM,
    }
}

/// Headers that end, and are too long.
pub async fn huge_headers(server: &Server, strength: Strength) -> Account {
    let calls = strength.of(50, 5_000);
    let mut refused = 0;
    let mut goodbyes = Goodbyes::default();
    for _ in 0..calls / 10 {
        let mut connection = Connection::open(server.grpc_address()).await.expect("open");
        for stream in 0..10 {
            let stream = stream * 2 + 1;
            let block = [call(ADD), literal(b"x-filler", &[b'x'; 15_000])].concat();
            let rest = literal(b"x-filler", &[b'x'; 16_000]);
            connection.send(&frame(HEADERS, 0, stream, &block)).await;
            let last = frame(CONTINUATION, END_HEADERS, stream, &rest);
            connection.send(&last).await;
        }
        let seen = connection.close().await;
        // `:status 431` is not in the static table: it comes as text.
        let text = b"431";
        refused += seen.headers.windows(3).filter(|part| part == text).count();
        goodbyes.note(seen.goaway);
    }
    let mut over_http1 = 0;
    for _ in 0..calls {
        let mut stream = TcpStream::connect(server.http_address())
            .await
            .expect("open");
        let mut head = b"GET /livez HTTP/1.1\r\nx-filler: ".to_vec();
        head.resize(64 * 1024, b'x');
        let _ = stream.write_all(&head).await;
        over_http1 += usize::from(answer(&mut stream).await.starts_with("HTTP/1.1 431"));
    }
    Account {
        sent: format!("{calls} headers of 31 KiB by HTTP/2, {calls} of 64 KiB by HTTP/1.1"),
        outcome: format!("{refused} and {over_http1} answered 431; {goodbyes}"),
        room: ROOM,
    }
}

/// What is said until the other side closes.
async fn answer(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// Headers and bodies that come byte by byte.
pub async fn slowloris(server: &Server, strength: Strength) -> Account {
    const BEAT: Duration = Duration::from_millis(20);
    let sockets = strength.of(100, 1_000);
    let beats = strength.of(50, 1_000);
    let header = b"POST /ftn HTTP/1.1\r\nhost: it\r\nx-filler: ";
    let body = b"POST /ftn HTTP/1.1\r\nhost: it\r\ncontent-length: 60000\r\n\r\n";
    let mut slow = Vec::new();
    for index in 0..sockets {
        let (address, start) = match index % 3 {
            0 => (server.grpc_address(), &header[..]),
            1 => (server.http_address(), &header[..]),
            _ => (server.http_address(), &body[..]),
        };
        let mut stream = TcpStream::connect(address).await.expect("open");
        stream.write_all(start).await.expect("sent");
        slow.push(stream);
    }
    let mut dropped = 0;
    for _ in 0..beats {
        let mut open = Vec::with_capacity(slow.len());
        for mut stream in slow {
            let mut said = [0; 256];
            // A server that gave up says so, or resets.
            let over = matches!(stream.try_read(&mut said), Ok(_))
                || stream.write_all(b"x").await.is_err();
            if over {
                dropped += 1;
            } else {
                open.push(stream);
            }
        }
        slow = open;
        sleep(BEAT).await;
    }
    Account {
        sent: format!("{sockets} sockets with a byte each 20 ms or slower, in header or body"),
        outcome: format!("{dropped} dropped, {} still open at the end", slow.len()),
        room: ROOM,
    }
}

/// Handshakes of TLS that stop in the middle.
pub async fn half_open_tls(server: &Server, strength: Strength) -> Account {
    let sockets = strength.of(200, 2_000);
    // The head of a hello that promises more than it has.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let begun = Instant::now();
    let mut half = Vec::new();
    for _ in 0..sockets {
        let mut stream = TcpStream::connect(server.grpc_address())
            .await
            .expect("open");
        stream.write_all(hello).await.expect("sent");
        half.push(stream);
    }
    let mut longest = Duration::ZERO;
    if strength == Strength::Siege {
        for stream in &mut half {
            answer(stream).await;
            longest = begun.elapsed();
        }
    } else {
        sleep(Duration::from_secs(1)).await;
    }
    Account {
        sent: format!("{sockets} hellos cut in the middle"),
        outcome: if longest.is_zero() {
            "held, for at most 10 s".to_owned()
        } else {
            format!("all dropped after {:.1} s", longest.as_secs_f64())
        },
        room: ROOM,
    }
}

/// Much that was made small, to what decompresses nothing.
pub async fn compressed_bombs(server: &Server, strength: Strength) -> Account {
    let calls = strength.of(5, 200);
    let bomb = Command::new("sh")
        .args(["-c", "head -c 104857600 /dev/zero | gzip -9"])
        .output();
    let bomb = bomb.await.expect("gzip is there").stdout;
    let len = u32::try_from(bomb.len()).expect("small").to_be_bytes();
    let message = [&[1][..], &len, &bomb].concat();
    let block = [call(ADD), literal(b"grpc-encoding", b"gzip")].concat();
    let mut unimplemented = 0;
    for _ in 0..calls {
        let mut connection = Connection::open(server.grpc_address()).await.expect("open");
        connection
            .send(&frame(HEADERS, END_HEADERS, 1, &block))
            .await;
        for part in message.chunks(16_384) {
            connection.send(&frame(DATA, 0, 1, part)).await;
        }
        connection.send(&frame(DATA, END_STREAM, 1, &[])).await;
        let seen = connection.close().await;
        // `grpc-status: 12`, in what is said without compression.
        let status = b"grpc-status";
        let told = seen
            .headers
            .windows(status.len())
            .any(|part| part == status);
        unimplemented += usize::from(told || !seen.headers.is_empty());
    }
    let mut plain = 0;
    for _ in 0..calls {
        let mut stream = TcpStream::connect(server.http_address())
            .await
            .expect("open");
        let head = format!(
            "POST /ftn HTTP/1.1\r\nhost: it\r\ncontent-encoding: gzip\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n",
            bomb.len()
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&bomb).await;
        plain += usize::from(answer(&mut stream).await.starts_with("HTTP/1.1 413"));
    }
    Account {
        sent: format!(
            "{calls} × 100 MiB in {} KiB of gzip, by gRPC and FutoIn",
            bomb.len() / 1024
        ),
        outcome: format!("{unimplemented} and {plain} refused, none unpacked"),
        room: ROOM,
    }
}

/// Sockets that were begun and say nothing.
pub async fn idle_sockets(server: &Server, strength: Strength) -> Account {
    let sockets = strength.of(500, 10_000);
    let mut idle = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        idle.push(Connection::open(server.grpc_address()).await.expect("open"));
    }
    sleep(Duration::from_secs(1)).await;
    let open = idle
        .iter()
        .filter(|connection| !connection.is_over())
        .count();
    Account {
        sent: format!("{sockets} HTTP/2 connections without a call"),
        outcome: format!("{open} open at the end"),
        room: ROOM,
    }
}

/// Frames that a server must answer, or at least look at.
pub async fn frame_floods(server: &Server, strength: Strength) -> Account {
    const AT_ONCE: usize = 1000;
    let frames = strength.of(20_000, 2_000_000);
    let block = call(ADD);
    let floods = [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
        ("PING", frame(PING, 0, 0, &[0; 8])),
        (
            "WINDOW_UPDATE",
            frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        ),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        ("empty DATA", frame(DATA, 0, 1, &[])),
    ];
    let mut outcome = Vec::new();
    for (name, flood) in &floods {
        let mut connection = Connection::open(server.grpc_address()).await.expect("open");
        connection
            .send(&frame(HEADERS, END_HEADERS, 1, &block))
            .await;
        let bytes = flood.repeat(AT_ONCE);
        let mut sent = 0;
        while sent < frames && !connection.is_over() && connection.send(&bytes).await {
            sent += AT_ONCE;
        }
        let seen = connection.close().await;
        let mut goodbye = Goodbyes::default();
        goodbye.note(seen.goaway);
        let taken = if sent >= frames {
            "all".to_owned()
        } else {
            format!("{sent}")
        };
        outcome.push(format!("{name}: {taken}, {goodbye}"));
    }
    Account {
        sent: format!("{frames} frames of each of {} kinds", floods.len()),
        outcome: outcome.join("; "),
        room: ROOM,
    }
}

/// Text that is none, wherever text is expected.
pub async fn invalid_text(server: &Server, strength: Strength) -> Account {
    let rounds = strength.of(10, 1_000);
    let bad = b"\xff\xfe\xc3\x28\xed\xa0\x80";
    let mut codes = BTreeMap::<String, usize>::new();
    for _ in 0..rounds {
        let path = [b"GET /ftn/", &bad[..], b" HTTP/1.1\r\nhost: it\r\n\r\n"].concat();
        let header = [
            b"GET /livez HTTP/1.1\r\nhost: it\r\nx: ",
            &bad[..],
            b"\r\nconnection: close\r\n\r\n",
        ]
        .concat();
        let auth = [
            b"GET /ftn/futoin.ping/1.0/ping HTTP/1.1\r\nhost: it\r\nauthorization: ",
            &bad[..],
            b"\r\nconnection: close\r\n\r\n",
        ]
        .concat();
        let body = [
            b"POST /ftn HTTP/1.1\r\nhost: it\r\nconnection: close\r\ncontent-length: 7\r\n\r\n",
            &bad[..],
        ]
        .concat();
        for request in [path, header, auth, body] {
            let mut stream = TcpStream::connect(server.http_address())
                .await
                .expect("open");
            stream.write_all(&request).await.expect("sent");
            stream.shutdown().await.expect("half closed");
            let said = answer(&mut stream).await;
            let code = said.split(' ').nth(1).unwrap_or("closed").to_owned();
            *codes.entry(code).or_default() += 1;
        }
        let mut connection = Connection::open(server.grpc_address()).await.expect("open");
        let block = [
            call(ADD),
            literal(b"authorization", bad),
            literal(b"x-bin", bad),
        ]
        .concat();
        connection
            .send(&frame(HEADERS, END_HEADERS, 1, &block))
            .await;
        // A message whose text fields hold this.
        let message = [&[0, 0, 0, 0, 18, 0x0a, 7][..], bad, &[0x12, 7], bad].concat();
        connection.send(&frame(DATA, END_STREAM, 1, &message)).await;
        connection
            .send(&frame(HEADERS, END_HEADERS, 3, &literal(bad, bad)))
            .await;
        connection.close().await;
    }
    let codes: Vec<_> = codes
        .iter()
        .map(|(code, count)| format!("{count} × {code}"))
        .collect();
    Account {
        sent: format!(
            "{rounds} × bytes that are no UTF-8 in path, header, token, body and message"
        ),
        outcome: format!("HTTP {}", codes.join(", ")),
        room: ROOM,
    }
}

/// Messages that promise 16 MiB, bring most of it and never end.
pub async fn hoarded_messages(server: &Server, strength: Strength) -> Account {
    const PROMISED: u32 = 16 << 20;
    const PIECE: usize = 16_384;
    let messages = strength.of(24, 400);
    let uri = format!("http://{}/futoin.evt.v1.{ADD}", server.grpc_address());
    let brought = Arc::new(AtomicUsize::new(0));
    let complete = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    for _ in 0..messages {
        let head = Bytes::from([&[0][..], &PROMISED.to_be_bytes()].concat());
        let (counted, completed) = (Arc::clone(&brought), Arc::clone(&complete));
        let pieces = std::iter::repeat_n(PIECE, PROMISED as usize / PIECE - 1).map(move |piece| {
            counted.fetch_add(piece, Ordering::Relaxed);
            Bytes::from_static(&[0; PIECE])
        });
        let last = std::iter::from_fn(move || {
            completed.fetch_add(1, Ordering::Relaxed);
            None
        });
        let parts = std::iter::once(head).chain(pieces).chain(last);
        let parts = tokio_stream::iter(parts.map(Ok::<_, Infallible>));
        let request = http::Request::post(&uri)
            .header("content-type", "application/grpc")
            .body(Body::from_stream(parts.chain(tokio_stream::pending())));
        let request = request.expect("a request");
        // A connection of its own: windows are shared by the streams of one.
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        calls.spawn(async move { client.request(request).await.map(|answer| answer.status()) });
    }
    // Each is there as far as it goes, or refused.
    let mut refused = 0;
    while complete.load(Ordering::Relaxed) + refused < messages {
        if let Ok(Some(_)) = timeout(Duration::from_millis(100), calls.join_next()).await {
            refused += 1;
        }
    }
    let brought = brought.load(Ordering::Relaxed) >> 20;
    Account {
        sent: format!("{messages} messages of 16 MiB, {brought} MiB in all, none ended"),
        outcome: format!(
            "{refused} refused with RESOURCE_EXHAUSTED, the others held for 30 s at most"
        ),
        room: ROOM + limits::MESSAGES_UNDER_WAY_BYTES as u64 / 1024,
    }
}
