//! Sockets that are kept and give nothing, or next to it.

use std::time::Duration;

use futoin_eventstream::limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use super::super::{
    caller::{answer, status},
    http2::{Answered, Connection, PING, frame},
    scene::{Account, Scene},
};
use crate::{calls::metric, server::PATIENCE};

/// Headers and bodies that come byte by byte. Each is given up in its time.
pub async fn slowloris(scene: &Scene) -> Account {
    let each = scene.of(50, 400);
    let header = b"POST /ftn HTTP/1.1\r\nhost: it\r\nx-filler: ";
    let body = b"POST /ftn HTTP/1.1\r\nhost: it\r\ncontent-length: 60000\r\n\r\n";
    let (grpc, http) = (scene.server.grpc_address(), scene.server.http_address());
    let begun = Instant::now();
    let mut slow = JoinSet::new();
    for _ in 0..each {
        for (address, start) in [(grpc, &header[..]), (http, &header[..]), (http, &body[..])] {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            stream.write_all(start).await.expect("sent");
            slow.spawn(timeout(PATIENCE, drip(stream)));
        }
    }
    let (mut silently, mut in_words, mut heard) = (0, 0, Vec::new());
    while let Some(said) = slow.join_next().await {
        let said = said.expect("no panic inside").expect("it is given up");
        match status(&said) {
            0 => silently += 1,
            408 => in_words += 1,
            other => panic!("answered {other}"),
        }
        heard.extend(said);
    }
    assert_eq!((silently, in_words), (2 * each, each));
    scene.until_refused("grpc", "slow", each).await;
    scene.until_refused("http", "slow", each).await;
    Account {
        sent: format!("{} sockets, a byte each 100 ms, header or body", 3 * each),
        outcome: format!(
            "all closed within {:.1} s: {silently} without a word, {in_words} × 408",
            begun.elapsed().as_secs_f64()
        ),
        room: 3 * each * limits::FUTOIN_REQUEST_BYTES,
        heard,
    }
}

/// Sends byte after byte, until the other side closes; what it said.
async fn drip(mut stream: TcpStream) -> Vec<u8> {
    // The pace of the attack.
    let mut beat = interval(Duration::from_millis(100));
    let mut said = Vec::new();
    loop {
        tokio::select! {
            read = stream.read_buf(&mut said) => {
                if !read.is_ok_and(|bytes| bytes > 0) {
                    return said;
                }
            }
            _ = beat.tick() => {
                // The end shows in what is read.
                let _ = stream.write_all(b"x").await;
            }
        }
    }
}

/// Handshakes of TLS that stop in the middle.
pub async fn half_open_tls(scene: &Scene) -> Account {
    let sockets = scene.of(200, 2_000);
    // The head of a hello that promises more than it has.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let begun = Instant::now();
    let mut half = Vec::new();
    for _ in 0..sockets {
        let address = scene.server.grpc_address();
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(hello).await.expect("sent");
        half.push(stream);
    }
    let mut heard = Vec::new();
    for stream in &mut half {
        heard.extend(answer(stream).await);
    }
    scene.until_refused("grpc", "tls_slow", sockets).await;
    assert!(heard.is_empty(), "it has nothing to say: {heard:?}");
    Account {
        sent: format!("{sockets} hellos cut in the middle"),
        outcome: format!("all closed within {:.1} s", begun.elapsed().as_secs_f64()),
        room: sockets * 2 * limits::MAX_HEADER_BYTES,
        heard,
    }
}

/// Sockets that were begun and say nothing. They may.
pub async fn idle_sockets(scene: &Scene) -> Account {
    let sockets = scene.of(500, 10_000);
    let mut idle = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let address = scene.server.grpc_address();
        let mut connection = Connection::open(address).await.expect("it listens");
        assert!(connection.send(&frame(PING, 0, 0, b"are you?")).await);
        idle.push(connection);
    }
    for connection in &mut idle {
        let answered = |all: &Answered| all.pings == 1;
        assert!(connection.until(answered).await, "it is served");
    }
    scene.while_served(scene.of(50, 1000)).await;
    let open = idle.iter().filter(|one| !one.is_over()).count();
    let name = "eventstream_connections_open{listener=\"grpc\"}";
    let told = metric(&scene.server, name).await;
    assert!(told >= sockets as f64, "{told}");
    assert_eq!(open, sockets);
    let mut heard = Vec::new();
    for connection in idle {
        heard.extend(connection.close().await.said);
    }
    Account {
        sent: format!("{sockets} HTTP/2 connections without a call"),
        outcome: format!("{open} served, and open to the end"),
        room: sockets * limits::MAX_HEADER_BYTES,
        heard,
    }
}
