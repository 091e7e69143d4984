//! Push: what receivers see, and what their answers do.

use serde_json::Value;

use super::{
    builder,
    client::{Socket, add, message},
};
use crate::{
    calls::{consumer, metric, seek, status},
    server::{Server, eventually},
};

const TAKEN: &str = r#""r":true"#;

/// Until the consumer stands at `position`.
async fn until_at(server: &Server, component: &str, position: i64) {
    let mut clients = server.clients().await;
    eventually(async || {
        let at = consumer(&mut clients, component).await.position;
        if at == position { Ok(()) } else { Err(at) }
    })
    .await;
}

#[tokio::test]
async fn group_is_called_answered_and_passed() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    add(&server, "A", 2).await;
    socket.receive("SHOP", "null").await;
    let call = socket.json().await;
    let keys: Vec<_> = call.as_object().expect("a map").keys().cloned().collect();
    assert_eq!(keys, ["f", "p", "rid"]);
    assert_eq!(call["rid"], "S1");
    let events = call["p"]["events"].as_array().expect("events");
    assert_eq!((events.len(), &events[0]["id"]), (2, &Value::from("1")));
    assert_eq!(
        (&events[0]["type"], &events[1]["data"]),
        (&Value::from("A"), &Value::from(1))
    );
    socket.answer("S1", TAKEN).await;
    until_at(&server, "SHOP", 2).await;
    add(&server, "A", 1).await;
    assert_eq!(socket.group().await, ("S2".into(), 1, vec!["3".into()]));
    // Taken by another answer too: only the type is looked at.
    socket.answer("S2", r#""r":false"#).await;
    until_at(&server, "SHOP", 3).await;
}

#[tokio::test]
async fn refused_group_comes_again_under_the_same_seq() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", "null").await;
    add(&server, "A", 1).await;
    for (rid, refusal) in [
        ("S1", r#""e":"InternalError","edesc":"Not expected error""#),
        ("S2", r#""r":{}"#),
        ("S3", r#""x":1"#),
    ] {
        assert_eq!(socket.group().await, (rid.into(), 0, vec!["1".into()]));
        socket.answer(rid, refusal).await;
    }
    assert_eq!(socket.group().await, ("S4".into(), 0, vec!["1".into()]));
    socket.answer("S4", TAKEN).await;
    add(&server, "A", 1).await;
    assert_eq!(socket.group().await, ("S5".into(), 1, vec!["2".into()]));
    assert!(metric(&server, "eventstream_futoin_refusals_total").await >= 3.0);
}

#[tokio::test]
async fn one_reliable_group_is_under_way_and_two_live_ones() {
    let server = builder().arg("--futoin-max-chunk-events=1").start().await;
    let mut live = Socket::open(&server).await;
    live.receive("LIVE", "null").await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", "null").await;
    add(&server, "A", 3).await;
    assert_eq!(live.group().await.1, 0);
    assert_eq!(live.group().await.1, 1);
    assert_eq!(socket.group().await.1, 0);
    // Nothing more before an answer: the next thing said is that to a ping.
    for socket in [&mut live, &mut socket] {
        let pinged = socket.call("futoin.ping:1.0:ping", r#"{"echo":1}"#).await;
        assert_eq!(pinged, r#"{"r":{"echo":1},"rid":"C1"}"#);
    }
    // LIVE is done with any answer.
    live.answer("S1", r#""e":"InternalError""#).await;
    assert_eq!(live.group().await, ("S3".into(), 2, vec!["3".into()]));
    socket.answer("S1", TAKEN).await;
    assert_eq!(socket.group().await, ("S2".into(), 1, vec!["2".into()]));
}

#[tokio::test]
async fn quick_receiver_gets_two_groups_if_that_is_wanted() {
    let server = builder()
        .arg("--futoin-max-chunk-events=1")
        .arg("--futoin-reliable-window=2")
        .start()
        .await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", "null").await;
    add(&server, "A", 4).await;
    assert_eq!(socket.group().await.1, 0);
    socket.answer("S1", TAKEN).await;
    assert_eq!(socket.group().await.1, 1);
    assert_eq!(socket.group().await.1, 2);
    // The position is that of the unbroken run of answers.
    socket.answer("S3", TAKEN).await;
    until_at(&server, "SHOP", 1).await;
    socket.answer("S2", TAKEN).await;
    until_at(&server, "SHOP", 3).await;
}

#[tokio::test]
async fn missing_answer_closes_the_socket_and_the_group_comes_again() {
    let server = builder().arg("--futoin-callback-timeout=1s").start().await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", "null").await;
    add(&server, "A", 1).await;
    assert_eq!(socket.group().await.1, 0);
    assert_eq!(socket.next().await, Err(Some(1008)));
    let mut again = Socket::open(&server).await;
    again.receive("SHOP", "null").await;
    assert_eq!(again.group().await, ("S1".into(), 0, vec!["1".into()]));
}

#[tokio::test]
async fn position_passes_what_a_filter_leaves_out_after_everything_before() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", r#"["A"]"#).await;
    add(&server, "A", 1).await;
    assert_eq!(socket.group().await.2, ["1"]);
    add(&server, "B", 2).await;
    // Nothing is passed while the group before is out.
    let mut clients = server.clients().await;
    let pinged = socket.call("futoin.ping:1.0:ping", r#"{"echo":1}"#).await;
    assert_eq!(pinged, r#"{"r":{"echo":1},"rid":"C1"}"#);
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 0);
    socket.answer("S1", TAKEN).await;
    until_at(&server, "SHOP", 3).await;
    // And no number was used for it.
    add(&server, "A", 1).await;
    assert_eq!(socket.group().await, ("S2".into(), 1, vec!["4".into()]));
}

#[tokio::test]
async fn empty_want_delivers_nothing_and_passes_everything() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", "[]").await;
    add(&server, "A", 2).await;
    until_at(&server, "SHOP", 2).await;
}

#[tokio::test]
async fn live_begins_now() {
    let server = builder().start().await;
    add(&server, "A", 3).await;
    let mut socket = Socket::open(&server).await;
    socket.receive("LIVE", "null").await;
    add(&server, "A", 1).await;
    assert_eq!(socket.group().await, ("S1".into(), 0, vec!["4".into()]));
}

#[tokio::test]
async fn newcomer_takes_over_and_the_loser_stands_by() {
    let server = builder().start().await;
    let mut first = Socket::open(&server).await;
    first.receive("SHOP", "null").await;
    let mut second = Socket::open(&server).await;
    second.receive("SHOP", "null").await;
    assert_eq!(first.next().await, Err(Some(1008)));
    // The loser comes back at once, as its library does, and waits.
    let mut first = Socket::open(&server).await;
    first.receive("SHOP", "null").await;
    add(&server, "A", 1).await;
    assert_eq!(second.group().await.2, ["1"]);
    second.answer("S1", TAKEN).await;
    until_at(&server, "SHOP", 1).await;
    add(&server, "A", 1).await;
    assert_eq!(second.group().await.2, ["2"]);
    drop(second);
    assert_eq!(first.group().await, ("S1".into(), 0, vec!["2".into()]));
}

#[tokio::test]
async fn second_subscription_on_the_same_socket_replaces_the_first() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    for component in ["SHOP", "LIVE"] {
        socket.receive(component, "null").await;
        socket.receive(component, "null").await;
    }
    add(&server, "A", 1).await;
    let mut groups = vec![socket.group().await, socket.group().await];
    groups.sort();
    for (number, (rid, seq, ids)) in (1..).zip(groups) {
        assert_eq!((rid.as_str(), seq), (format!("S{number}").as_str(), 0));
        assert_eq!(ids, ["1"]);
        socket.answer(&rid, TAKEN).await;
    }
    until_at(&server, "SHOP", 1).await;
    let pinged = socket.call("futoin.ping:1.0:ping", r#"{"echo":1}"#).await;
    assert_eq!(pinged, r#"{"r":{"echo":1},"rid":"C1"}"#);
}

#[tokio::test]
async fn poll_ends_a_push_session() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", "null").await;
    let mut other = Socket::open(&server).await;
    let polled = other
        .call("futoin.evt.poll:1.1:pollEvents", r#"{"component":"SHOP"}"#)
        .await;
    assert_eq!(polled, r#"{"r":[],"rid":"C1"}"#);
    assert_eq!(socket.next().await, Err(Some(1008)));
}

#[tokio::test]
async fn client_without_a_receiver_of_its_own_is_asked_by_its_version() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    let p = r#"{"component":"LIVE"}"#;
    let ready = socket.call("futoin.evt.push:1.0:readyToReceive", p).await;
    assert_eq!(ready, r#"{"r":true,"rid":"C1"}"#);
    add(&server, "A", 1).await;
    let call = socket.json().await;
    assert_eq!(call["f"], "futoin.evt.receiver:1.0:onEvents");
}

#[tokio::test]
async fn sockets_are_closed_with_a_word_when_the_server_ends() {
    let mut server = builder().start().await;
    let mut idle = Socket::open(&server).await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", "null").await;
    add(&server, "A", 1).await;
    assert_eq!(socket.group().await.1, 0);
    server.signal("TERM");
    // The last answer is still taken.
    socket.answer("S1", TAKEN).await;
    assert_eq!(socket.next().await, Err(Some(1001)));
    assert_eq!(idle.next().await, Err(Some(1001)));
    assert!(server.ended().await.success());
    let server = server.again().start().await;
    let mut clients = server.clients().await;
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 1);
}

#[tokio::test]
async fn event_that_clients_would_refuse_blocks_and_is_named() {
    let server = builder().start().await;
    let mut socket = Socket::open(&server).await;
    let register = message(
        "futoin.evt.push:1.1:registerConsumer",
        r#"{"component":"SHOP"}"#,
        r#","rid":"C1""#,
    )
    .replace("user:pass", "local:pass");
    socket.send(&register).await;
    assert_eq!(socket.text().await, r#"{"r":true,"rid":"C1"}"#);
    add(&server, "A", 1).await;
    server.sqlite("INSERT INTO evt_queue (type, data, ts) VALUES ('a-b', '1', CURRENT_TIMESTAMP)");
    add(&server, "A", 1).await;
    let ready = register.replace("registerConsumer", "readyToReceive");
    socket.send(&ready).await;
    assert_eq!(socket.text().await, r#"{"r":true,"rid":"C1"}"#);
    // What comes before it is delivered.
    assert_eq!(socket.group().await, ("S1".into(), 0, vec!["1".into()]));
    socket.answer("S1", TAKEN).await;
    let mut clients = server.clients().await;
    eventually(async || {
        let problem = consumer(&mut clients, "SHOP").await.problem;
        if problem.contains("event 2 cannot be sent over FutoIn") {
            Ok(())
        } else {
            Err(problem)
        }
    })
    .await;
    let stopped = status(&mut clients).await.stopped_consumers;
    assert_eq!(stopped.len(), 1);
    assert!(metric(&server, "eventstream_futoin_blocked_total").await >= 1.0);
    assert!(
        server
            .log()
            .iter()
            .any(|line| line.contains("consumer is blocked"))
    );
    // An operator decides; then it goes on.
    seek(&mut clients, "SHOP", 2).await.expect("sought");
    socket.send(&ready).await;
    assert_eq!(socket.text().await, r#"{"r":true,"rid":"C1"}"#);
    assert_eq!(socket.group().await, ("S2".into(), 0, vec!["3".into()]));
}
