//! What HTTP/2 allows to be sent in any amount.

use super::{
    super::{
        http2::{
            Answered, CONTINUATION, Connection, DATA, END_HEADERS, HEADERS, PING, PRIORITY,
            RST_STREAM, SETTINGS, WINDOW_UPDATE, call, frame, literal,
        },
        scene::{Account, Scene},
    },
    CONNECTION, Count, error_name,
};

const ADD: &str = "GenService/AddEvent";

/// Streams opened and reset at once, again and again: CVE-2023-44487. Every
/// connection that does it is ended.
pub async fn rapid_reset(scene: &Scene) -> Account {
    const AT_ONCE: u32 = 100;
    // Far more than the server puts up with.
    const MOST: usize = 100_000;
    let connections = scene.of(5, 500);
    let block = call(ADD);
    let mut goodbyes = Count::default();
    let (mut streams, mut heard) = (0, Vec::new());
    for _ in 0..connections {
        let mut connection = open(scene).await;
        let mut stream = 1;
        let mut done = 0;
        while done < MOST && !connection.is_over() {
            let mut bytes = Vec::new();
            for _ in 0..AT_ONCE {
                bytes.extend(frame(HEADERS, END_HEADERS, stream, &block));
                bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                stream += 2;
            }
            if !connection.send(&bytes).await {
                break;
            }
            done += AT_ONCE as usize;
        }
        streams += done;
        let seen = connection.seen().await;
        goodbyes.note(error_name(seen.goaway));
        heard.extend(seen.said);
    }
    goodbyes.is_all("ENHANCE_YOUR_CALM", connections);
    Account {
        sent: format!("{streams} streams opened and reset, {connections} connections"),
        outcome: format!("each ended: {goodbyes}"),
        room: CONNECTION,
        heard,
    }
}

async fn open(scene: &Scene) -> Connection {
    let address = scene.server.grpc_address();
    Connection::open(address).await.expect("it listens")
}

/// A header that never ends: CVE-2024-27316 and its like.
pub async fn continuation_flood(scene: &Scene) -> Account {
    const MOST: usize = 64 << 20;
    let connections = scene.of(5, 200);
    let mut goodbyes = Count::default();
    let (mut taken, mut heard) = (0, Vec::new());
    let piece = frame(CONTINUATION, 0, 1, &literal(b"x-filler", &[b'x'; 8000]));
    for _ in 0..connections {
        let mut connection = open(scene).await;
        let mut bytes = frame(HEADERS, 0, 1, &call(ADD));
        let mut sent = 0;
        while sent < MOST && !connection.is_over() && connection.send(&bytes).await {
            sent += bytes.len();
            bytes.clone_from(&piece);
        }
        assert!(sent < MOST, "it was read to its end");
        taken += sent;
        let seen = connection.seen().await;
        goodbyes.note(error_name(seen.goaway));
        heard.extend(seen.said);
    }
    goodbyes.is_all("ENHANCE_YOUR_CALM", connections);
    Account {
        sent: format!(
            "{connections} headers without end, {} KiB each until closed",
            taken / connections / 1024
        ),
        outcome: format!("each ended: {goodbyes}"),
        room: CONNECTION,
        heard,
    }
}

/// Frames that a server must answer, or at least look at. Where they are cheap
/// all are taken, in their turn, and the connection still works.
pub async fn frame_floods(scene: &Scene) -> Account {
    let frames = scene.of(20_000, 2_000_000);
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
    let (mut outcome, mut heard) = (Vec::new(), Vec::new());
    for (name, flood) in &floods {
        let mut connection = open(scene).await;
        let begin = frame(HEADERS, END_HEADERS, 1, &call(ADD));
        assert!(connection.send(&begin).await, "{name}");
        let settings = 1 + if *name == "SETTINGS" { frames } else { 0 };
        let pings = 1 + if *name == "PING" { frames } else { 0 };
        let all = Answered { settings, pings };
        let came_to = if flooded(&mut connection, flood, frames, all).await {
            assert_eq!(connection.answered(), all, "{name}");
            "all taken".to_owned()
        } else {
            "ended".to_owned()
        };
        let seen = connection.close().await;
        assert_eq!(seen.resets, [0; 0], "{name}");
        outcome.push((*name, came_to, error_name(seen.goaway)));
        heard.extend(seen.said);
    }
    let taken = |name| (name, "all taken".to_owned(), "closed".to_owned());
    let calm = "ENHANCE_YOUR_CALM".to_owned();
    let expected = [
        taken("SETTINGS"),
        taken("PING"),
        taken("WINDOW_UPDATE"),
        taken("PRIORITY"),
        ("empty DATA", "ended".to_owned(), calm),
    ];
    assert_eq!(outcome, expected);
    Account {
        sent: format!("{frames} frames of each of {} kinds", floods.len()),
        outcome:
            "SETTINGS, PING (each answered), WINDOW_UPDATE and PRIORITY taken, the connection \
                  serves on; empty DATA ended: ENHANCE_YOUR_CALM"
                .to_owned(),
        room: CONNECTION,
        heard,
    }
}

/// Sends so many frames, and a last PING; whether all was taken and answered.
async fn flooded(
    connection: &mut Connection,
    flood: &[u8],
    frames: usize,
    answers: Answered,
) -> bool {
    const AT_ONCE: usize = 1000;
    let bytes = flood.repeat(AT_ONCE);
    for _ in 0..frames / AT_ONCE {
        if !connection.send(&bytes).await {
            return false;
        }
    }
    let last = frame(PING, 0, 0, b"the last");
    let enough = |all: &Answered| all.pings >= answers.pings && all.settings >= answers.settings;
    connection.send(&last).await && connection.until(enough).await
}
