//! No answer is longer than its caller takes.

use super::{
    builder,
    client::{Socket, add, call, message, request},
};
use crate::{
    calls::{consumer, metric},
    round_trip,
    server::Server,
};

const SMALL: usize = 64 * 1024;

/// Adds an event whose data has so many bytes.
async fn add_large(server: &Server, bytes: usize) {
    let data = format!("\"{}\"", "x".repeat(bytes - 2));
    round_trip::add(&mut server.clients().await, "A", &data).await;
}

async fn poll(server: &Server, f: &str, p: &str) -> String {
    call(server, f, p).await
}

fn ids(answer: &str) -> Vec<String> {
    let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
    let events = answer["r"].as_array().expect("a list").iter();
    events
        .map(|event| event["id"].as_str().expect("id").to_owned())
        .collect()
}

#[tokio::test]
async fn list_is_cut_to_what_the_version_takes() {
    let server = builder().start().await;
    for _ in 0..10 {
        add_large(&server, 10_000).await;
    }
    let live = r#"{"component":"LIVE"}"#;
    let old = poll(&server, "futoin.evt.poll:1.0:pollEvents", live).await;
    assert!(old.len() <= SMALL, "{}", old.len());
    assert_eq!(ids(&old).len(), 6);
    let rest = r#"{"component":"LIVE","last_id":"6"}"#;
    let rest = poll(&server, "futoin.evt.poll:1.0:pollEvents", rest).await;
    assert_eq!(ids(&rest), ["7", "8", "9", "10"]);
    let new = poll(&server, "futoin.evt.poll:1.1:pollEvents", live).await;
    assert_eq!(ids(&new).len(), 10);
    let mut socket = Socket::open(&server).await;
    let pushed = socket.call("futoin.evt.push:1.1:pollEvents", live).await;
    assert_eq!(ids(&pushed).len(), 6);
}

#[tokio::test]
async fn signature_and_rid_are_counted() {
    let server = builder().start().await;
    let overhead = r#"{"id":"1","type":"A","data":,"ts":"2026-11-21T17:10:20Z"}"#.len();
    // So that the list alone would fit, and not with all that is around it.
    add_large(&server, SMALL - overhead - 20).await;
    let rid = format!(r#","rid":"C{}""#, "1".repeat(100));
    let poll = message(
        "futoin.evt.poll:1.0:pollEvents",
        r#"{"component":"LIVE"}"#,
        &rid,
    );
    let answer = super::client::post(&server, &poll).await;
    assert!(
        answer.contains("event 1 cannot be sent over FutoIn"),
        "{}",
        answer.len()
    );
}

#[tokio::test]
async fn event_that_never_fits_blocks_its_consumer_by_name() {
    let server = builder().start().await;
    let component = r#"{"component":"SHOP"}"#;
    let registered = call(&server, "futoin.evt.poll:1.0:registerConsumer", component).await;
    assert_eq!(registered, r#"{"r":true}"#);
    add(&server, "A", 1).await;
    add_large(&server, SMALL).await;
    add(&server, "A", 1).await;
    let old = "futoin.evt.poll:1.0:pollEvents";
    assert_eq!(ids(&poll(&server, old, component).await), ["1"]);
    let behind = r#"{"component":"SHOP","last_id":"1"}"#;
    let blocked = poll(&server, old, behind).await;
    assert!(
        blocked.starts_with(r#"{"e":"InternalError","edesc":"event 2 cannot be sent over FutoIn"#),
        "{blocked}"
    );
    let mut clients = server.clients().await;
    let state = consumer(&mut clients, "SHOP").await;
    assert_eq!(state.position, 1);
    assert!(
        state.problem.contains("SeekConsumer to 2 goes past it"),
        "{}",
        state.problem
    );
    assert!(metric(&server, "eventstream_futoin_blocked_total").await >= 1.0);
    // A version that takes more gets it.
    let new = poll(&server, "futoin.evt.poll:1.1:pollEvents", behind).await;
    assert_eq!(ids(&new), ["2", "3"]);
    assert_eq!(consumer(&mut clients, "SHOP").await.problem, "");
}

#[tokio::test]
async fn large_event_is_pushed_alone() {
    let server = builder().start().await;
    add(&server, "A", 2).await;
    add_large(&server, 1 << 20).await;
    add(&server, "A", 2).await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", "null").await;
    for (seq, ids) in [(0, vec!["1", "2"]), (1, vec!["3"]), (2, vec!["4", "5"])] {
        let (rid, pushed_seq, pushed) = socket.group().await;
        assert_eq!(
            (pushed_seq, pushed),
            (seq, ids.iter().map(ToString::to_string).collect())
        );
        socket.answer(&rid, r#""r":true"#).await;
    }
}

#[tokio::test]
async fn request_has_a_limit() {
    let server = builder().start().await;
    let of_size = |size: usize| {
        let empty = message(
            "futoin.evt.gen:1.1:addEvent",
            r#"{"type":"A","data":""}"#,
            "",
        );
        let filled = format!(r#""data":"{}""#, "x".repeat(size - empty.len()));
        empty.replace(r#""data":"""#, &filled)
    };
    let post = async |size: usize| {
        let message = of_size(size);
        request(
            server.http_address(),
            "POST",
            "/ftn",
            &[],
            message.as_bytes(),
        )
        .await
    };
    assert_eq!(post(SMALL).await.text(), r#"{"r":"1"}"#);
    let refused = post(SMALL + 1).await;
    assert_eq!((refused.status, refused.text()), (413, ""));
    let mut socket = Socket::open(&server).await;
    socket.send(&of_size(1 << 20)).await;
    assert_eq!(socket.next().await, Err(Some(1009)));
}

#[tokio::test]
async fn last_id_above_the_frontier_is_the_frontier() {
    let server = builder().start().await;
    add(&server, "A", 3).await;
    call(
        &server,
        "futoin.evt.poll:1.1:registerConsumer",
        r#"{"component":"SHOP"}"#,
    )
    .await;
    for component in ["SHOP", "LIVE"] {
        let p = format!(r#"{{"component":"{component}","last_id":"999999999999999999"}}"#);
        let polled = poll(&server, "futoin.evt.poll:1.1:pollEvents", &p).await;
        assert_eq!(polled, r#"{"r":[]}"#);
    }
    let mut clients = server.clients().await;
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 3);
    add(&server, "A", 1).await;
    let polled = poll(
        &server,
        "futoin.evt.poll:1.1:pollEvents",
        r#"{"component":"SHOP"}"#,
    )
    .await;
    assert_eq!(ids(&polled), ["4"]);
}

#[tokio::test]
async fn filtered_poll_goes_on_until_it_finds_something() {
    let server = builder().start().await;
    server.sqlite(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
         INSERT INTO evt_queue (type, data, ts) SELECT 'B', i, CURRENT_TIMESTAMP FROM n",
    );
    add(&server, "A", 1).await;
    call(
        &server,
        "futoin.evt.poll:1.1:registerConsumer",
        r#"{"component":"SHOP"}"#,
    )
    .await;
    for component in ["LIVE", "SHOP"] {
        let p = format!(r#"{{"component":"{component}","want":["A"]}}"#);
        let polled = poll(&server, "futoin.evt.poll:1.1:pollEvents", &p).await;
        assert_eq!(ids(&polled), ["30001"], "{component}");
    }
}

#[tokio::test]
async fn delivery_can_be_restricted() {
    let refusals = async |delivery: &str, f: &str, component: &str| {
        let server = builder()
            .arg(format!("--futoin-delivery={delivery}"))
            .start()
            .await;
        let p = format!(r#"{{"component":"{component}"}}"#);
        Socket::open(&server).await.call(f, &p).await
    };
    let poll = "futoin.evt.poll:1.1:pollEvents";
    for (delivery, f, component, text) in [
        ("push", poll, "LIVE", "Only event push is allowed"),
        ("live", poll, "SHOP", "Reliable delivery is disabled"),
        (
            "live",
            "futoin.evt.poll:1.1:registerConsumer",
            "SHOP",
            "Registration is not allowed",
        ),
        (
            "live",
            "futoin.evt.push:1.1:readyToReceive",
            "SHOP",
            "Only LIVE delivery is allowed",
        ),
    ] {
        let expected = format!(r#"{{"rid":"C1","e":"SecurityError","edesc":"{text}"}}"#);
        assert_eq!(refusals(delivery, f, component).await, expected);
    }
}
