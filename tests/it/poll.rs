//! Polling: how much comes, what `more` and `last_id` say, and waiting.

use futoin_eventstream::proto::{PollEventsRequest, PollEventsResponse};
use prost_types::Duration;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    calls::{add_many, consumer, ids, poll, poll_of, want},
    round_trip::{add, register},
    server::{Clients, PATIENCE, Server},
};

#[tokio::test]
async fn more_says_that_not_everything_fitted() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 5).await;
    let three = |last_id| PollEventsRequest {
        max_events: 3,
        last_id,
        ..poll_of("SHOP")
    };
    let first = poll(&mut clients, three(None)).await;
    assert_eq!((ids(&first.events), first.more), (vec![1, 2, 3], true));
    assert_eq!(first.last_id, 3);
    // Nothing was acknowledged: the same again.
    let again = poll(&mut clients, three(None)).await;
    assert_eq!(ids(&again.events), [1, 2, 3]);
    let rest = poll(&mut clients, three(Some(3))).await;
    assert_eq!((ids(&rest.events), rest.more), (vec![4, 5], false));
    let end = poll(&mut clients, three(Some(5))).await;
    assert_eq!((end.events.len(), end.last_id, end.more), (0, 5, false));
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 5);
}

#[tokio::test]
async fn exactly_as_many_as_asked_for_is_not_more() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    add_many(&mut clients, "A", 3).await;
    let request = PollEventsRequest {
        max_events: 3,
        ..poll_of("LIVE")
    };
    let polled = poll(&mut clients, request).await;
    assert_eq!((polled.events.len(), polled.more), (3, false));
}

#[tokio::test]
async fn counts_and_bytes_are_bounded() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    add_many(&mut clients, "A", 1000).await;
    let data = format!("\"{}\"", "x".repeat(400));
    add(&mut clients, "B", &data).await;
    for _ in 0..4 {
        add(&mut clients, "B", &data).await;
    }
    let request = PollEventsRequest {
        max_events: i32::MAX,
        ..poll_of("LIVE")
    };
    let polled = poll(&mut clients, request).await;
    assert_eq!((polled.events.len(), polled.more), (1000, true));
    let request = PollEventsRequest {
        last_id: Some(1000),
        max_bytes: 1000,
        ..poll_of("LIVE")
    };
    let polled = poll(&mut clients, request).await;
    assert_eq!((ids(&polled.events), polled.more), (vec![1001, 1002], true));
}

#[tokio::test]
async fn filtered_poll_of_a_long_table_reports_its_progress() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    server.sqlite(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
         INSERT INTO evt_queue (type, data, ts) SELECT 'B', i, CURRENT_TIMESTAMP FROM n",
    );
    let last = add(&mut clients, "A", "1").await;
    let filtered = |last_id| PollEventsRequest {
        want: want(&["A"]),
        last_id,
        ..poll_of("SHOP")
    };
    let (mut reached, mut steps) = (0, 0);
    let found = loop {
        let polled = poll(&mut clients, filtered(Some(reached))).await;
        if !polled.events.is_empty() {
            break polled;
        }
        assert!(polled.last_id > reached && polled.more, "{polled:?}");
        (reached, steps) = (polled.last_id, steps + 1);
        let position = consumer(&mut clients, "SHOP").await.position;
        assert_eq!(
            position, reached,
            "a position moves past what is filtered out"
        );
    };
    assert_eq!((ids(&found.events), found.more), (vec![last], false));
    assert!(
        steps >= 3,
        "no call looks at the whole table: {steps} steps"
    );
    // One that may wait goes on by itself.
    let request = PollEventsRequest {
        want: want(&["A"]),
        max_wait: waiting(),
        ..poll_of("LIVE")
    };
    assert_eq!(ids(&poll(&mut clients, request).await.events), [last]);
}

#[expect(clippy::unnecessary_wraps, reason = "as a request has it")]
fn waiting() -> Option<Duration> {
    Some(Duration {
        seconds: 60,
        nanos: 0,
    })
}

fn spawn(clients: &Clients, request: PollEventsRequest) -> JoinHandle<PollEventsResponse> {
    let mut clients = clients.clone();
    tokio::spawn(async move { poll(&mut clients, request).await })
}

async fn answer(polling: JoinHandle<PollEventsResponse>) -> PollEventsResponse {
    let polled = timeout(PATIENCE / 2, polling).await;
    polled.expect("woken").expect("no panic")
}

#[tokio::test]
async fn long_poll_wakes_for_the_first_wanted_event() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let polls: Vec<_> = ["SHOP", "LIVE"]
        .into_iter()
        .map(|component| PollEventsRequest {
            want: want(&["B"]),
            max_wait: waiting(),
            ..poll_of(component)
        })
        .map(|request| spawn(&clients, request))
        .collect();
    add_many(&mut clients, "A", 3).await;
    let id = add(&mut clients, "B", "1").await;
    for polling in polls {
        let polled = answer(polling).await;
        assert_eq!((ids(&polled.events), polled.last_id), (vec![id], id));
    }
}

#[tokio::test]
async fn long_poll_wakes_for_another_program() {
    let server = Server::start().await;
    let clients = server.clients().await;
    let request = PollEventsRequest {
        max_wait: waiting(),
        ..poll_of("LIVE")
    };
    let polling = spawn(&clients, request);
    server.sqlite("INSERT INTO evt_queue (type, data, ts) VALUES ('A', '1', CURRENT_TIMESTAMP)");
    assert_eq!(ids(&answer(polling).await.events), [1]);
}

#[tokio::test]
async fn long_poll_that_finds_nothing_ends_with_where_it_stands() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 3).await;
    let request = PollEventsRequest {
        want: want(&["B"]),
        max_wait: Some(Duration {
            seconds: 0,
            nanos: 50_000_000,
        }),
        ..poll_of("SHOP")
    };
    let polled = poll(&mut clients, request).await;
    assert_eq!((polled.events.len(), polled.last_id), (0, 3));
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 3);
}
