//! Rule 7: an event that cannot be delivered blocks who wants it, by name,
//! until an operator goes past it.

use futoin_eventstream::proto::{PollEventsRequest, ReadyToReceiveRequest};
use tonic::Code;

use crate::{
    calls::{ack, end_of, ids, metadata, poll, poll_of, refused, seek, status, want},
    round_trip::{add, next_group, ready, register, subscribe},
    server::Server,
};

const NOT_TEXT: &str =
    "INSERT INTO evt_queue (type, data, ts) VALUES ('BAD', x'ff', CURRENT_TIMESTAMP)";

/// Good ones at 1 and 3, an unreadable `BAD` at 2.
async fn bad_in_the_middle() -> Server {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add(&mut clients, "GOOD", "1").await;
    server.sqlite(NOT_TEXT);
    add(&mut clients, "GOOD", "3").await;
    server
}

#[tokio::test]
async fn rule_07_unreadable_event_blocks_polls_that_want_it() {
    let server = bad_in_the_middle().await;
    let mut clients = server.clients().await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!((ids(&polled.events), polled.more), (vec![1], true));
    let request = PollEventsRequest {
        last_id: Some(1),
        ..poll_of("SHOP")
    };
    let refusal = clients.poll.poll_events(request).await;
    let refusal = refused(refusal, Code::FailedPrecondition, "EVENT_UNREADABLE");
    assert_eq!(metadata(&refusal, "event_id").as_deref(), Some("2"));
    let stopped = status(&mut clients).await.stopped_consumers;
    assert_eq!(
        (stopped[0].component.as_str(), stopped[0].position),
        ("SHOP", 1)
    );
    assert!(stopped[0].problem.contains("event 2"), "{stopped:?}");

    seek(&mut clients, "SHOP", 2).await.expect("sought");
    assert!(status(&mut clients).await.stopped_consumers.is_empty());
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [3]);
}

#[tokio::test]
async fn rule_07_unreadable_event_ends_streams_that_want_it() {
    let server = bad_in_the_middle().await;
    let mut clients = server.clients().await;
    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [1]);
    let end = end_of(&mut stream).await;
    let end = refused(
        Err::<(), _>(end),
        Code::FailedPrecondition,
        "EVENT_UNREADABLE",
    );
    assert_eq!(metadata(&end, "event_id").as_deref(), Some("2"));
    // What came before it can still be acknowledged.
    let acked = ack(&mut clients, "SHOP", 1, Some(started.epoch)).await;
    assert_eq!(acked.expect("acked"), 1);
    let stopped = status(&mut clients).await.stopped_consumers;
    assert!(stopped[0].problem.contains("event 2"), "{stopped:?}");

    seek(&mut clients, "SHOP", 2).await.expect("sought");
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [3]);
    assert!(status(&mut clients).await.stopped_consumers.is_empty());
}

#[tokio::test]
async fn rule_07_unreadable_event_does_not_block_who_filters_it_out() {
    let server = bad_in_the_middle().await;
    let mut clients = server.clients().await;
    let request = PollEventsRequest {
        want: want(&["GOOD"]),
        ..poll_of("SHOP")
    };
    assert_eq!(ids(&poll(&mut clients, request).await.events), [1, 3]);
    let request = ReadyToReceiveRequest {
        want: want(&["GOOD"]),
        ..ready("SHOP")
    };
    let (_, mut stream) = subscribe(&mut clients, request).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [1, 3]);
    // Through the hub as well as from the store.
    server.sqlite(NOT_TEXT);
    let next = add(&mut clients, "GOOD", "5").await;
    let mut seen = Vec::new();
    while seen.last() != Some(&next) {
        seen.extend(ids(&next_group(&mut stream).await.events));
    }
    assert_eq!(seen, [5]);
}

#[tokio::test]
async fn rule_07_type_that_is_a_blob_is_read_alike_by_hub_and_store() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let only = ReadyToReceiveRequest {
        want: want(&["GOOD"]),
        start: crate::calls::after(0),
        ..ready("LIVE")
    };
    let (_, mut from_hub) = subscribe(&mut clients, only.clone()).await;
    server.sqlite(
        "INSERT INTO evt_queue (type, data, ts) VALUES
            (CAST('GOOD' AS BLOB), '1', CURRENT_TIMESTAMP),
            (x'ff', '2', CURRENT_TIMESTAMP),
            ('GOOD', '3', CURRENT_TIMESTAMP)",
    );
    assert_eq!(ids(&next_group(&mut from_hub).await.events), [1, 3]);
    let request = PollEventsRequest {
        want: want(&["GOOD"]),
        ..poll_of("SHOP")
    };
    let server = server.crash_and_restart().await;
    let mut clients = server.clients().await;
    assert_eq!(ids(&poll(&mut clients, request).await.events), [1, 3]);
    // Who wants every type is not led past it.
    let request = PollEventsRequest {
        last_id: Some(1),
        ..poll_of("SHOP")
    };
    let refusal = clients.poll.poll_events(request).await;
    refused(refusal, Code::FailedPrecondition, "EVENT_UNREADABLE");
}
