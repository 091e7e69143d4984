//! Push under pressure: slow readers, silent ones, and clients that go away.

use futoin_eventstream::proto::{EventGroup, ReadyToReceiveRequest, ReadyToReceiveResponse};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    calls::{ack, add_many, after, consumer, end_of, ids, refused, status},
    round_trip::{add, next_group, ready, register, subscribe},
    server::{Clients, Server},
};

/// Events of `fill_beyond_the_ring`, all together six times the ring.
const FILL: i64 = 600;

/// Ten kilobytes of JSON.
fn ten_kilobytes() -> String {
    format!("\"{}\"", "x".repeat(10_000))
}

/// A server that remembers little.
async fn forgetful() -> Server {
    Server::builder()
        .env("EVENTSTREAM_STREAM_RING_BYTES", "1MiB")
        .start()
        .await
}

/// A client whose connection takes little ahead.
async fn narrow(server: &Server) -> Clients {
    let address = format!("http://{}", server.grpc_address());
    let channel: Channel = Endpoint::from_shared(address)
        .expect("an address")
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .connect()
        .await
        .expect("connected");
    Clients {
        push: Clients::over(channel).push,
        ..server.clients().await
    }
}

fn in_small_groups(component: &str) -> ReadyToReceiveRequest {
    ReadyToReceiveRequest {
        max_group_events: 10,
        ..ready(component)
    }
}

/// Adds [`FILL`] events and waits until the ring has passed them all.
async fn fill_beyond_the_ring(clients: &mut Clients) -> i64 {
    let data = ten_kilobytes();
    let mut last = 0;
    for _ in 0..FILL {
        last = add(clients, "A", &data).await;
    }
    let status = status(clients).await;
    assert_eq!(status.frontier_id, last);
    assert!(status.ring_bytes <= 1 << 20, "{}", status.ring_bytes);
    last
}

/// Every group up to the one that ends with `last`.
async fn groups_up_to(
    stream: &mut Streaming<ReadyToReceiveResponse>,
    last: i64,
) -> Vec<EventGroup> {
    let mut groups: Vec<EventGroup> = Vec::new();
    while groups.last().is_none_or(|group| group.last_id < last) {
        groups.push(next_group(stream).await);
    }
    groups
}

#[tokio::test]
async fn slow_live_reader_is_told_exactly_what_it_missed() {
    let server = forgetful().await;
    let mut clients = server.clients().await;
    let mut slow = narrow(&server).await;
    let (_, mut stream) = subscribe(&mut slow, in_small_groups("LIVE")).await;
    add(&mut clients, "A", "0").await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [1]);
    let last = fill_beyond_the_ring(&mut clients).await;

    let groups = groups_up_to(&mut stream, last).await;
    let (mut seq, mut reached, mut skipped) = (1, 1, 0);
    for group in groups {
        let dropped = (group.skipped_events + 9) / 10;
        assert_eq!(group.seq, seq + dropped, "a step for each group dropped");
        for id in ids(&group.events) {
            reached += 1;
            if reached + group.skipped_events == id {
                reached = id;
            }
            assert_eq!(id, reached, "no gap but what was named");
        }
        skipped += group.skipped_events;
        seq = group.seq + 1;
    }
    assert_eq!(reached, last);
    assert!(skipped > 0, "the ring was overrun");
    // It goes on without a gap.
    let id = add(&mut clients, "A", "1").await;
    let group = next_group(&mut stream).await;
    assert_eq!((group.seq, group.skipped_events), (seq, 0));
    assert_eq!(ids(&group.events), [id]);
}

#[tokio::test]
async fn slow_reliable_reader_loses_nothing_and_holds_up_nobody() {
    let server = forgetful().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SLOW").await;
    register(&mut clients, "FAST").await;
    let mut slow = narrow(&server).await;
    let (_, mut stream) = subscribe(&mut slow, in_small_groups("SLOW")).await;
    // This one never reads at all.
    let mut silent = narrow(&server).await;
    let opened = silent.push.ready_to_receive(in_small_groups("LIVE")).await;
    let _silent = opened.expect("subscribed");
    let (_, mut fast) = subscribe(&mut clients, in_small_groups("FAST")).await;
    let last = fill_beyond_the_ring(&mut clients.clone()).await;

    for stream in [&mut fast, &mut stream] {
        let groups = groups_up_to(stream, last).await;
        for (seq, group) in (0..).zip(&groups) {
            assert_eq!((group.seq, group.skipped_events), (seq, 0));
        }
        let seen: Vec<i64> = groups.iter().flat_map(|group| ids(&group.events)).collect();
        assert_eq!(seen, (1..=FILL).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn client_that_went_away_comes_back_to_what_it_acknowledged() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 10).await;
    let mut gone = server.clients().await;
    let (first, mut stream) = subscribe(&mut gone, in_small_groups("SHOP")).await;
    next_group(&mut stream).await;
    ack(&mut gone, "SHOP", 4, Some(first.epoch))
        .await
        .expect("acked");
    drop((gone, stream));
    let (second, mut stream) = subscribe(&mut clients, in_small_groups("SHOP")).await;
    assert_eq!(second.start_after_id, 4);
    assert!(second.epoch > first.epoch);
    let group = next_group(&mut stream).await;
    assert_eq!((group.seq, ids(&group.events)), (0, (5..=10).collect()));
    drop(stream);
    crate::calls::until_unsubscribed(&mut clients, "SHOP").await;
    assert_eq!(status(&mut clients).await.open_streams, 0);
    // An ack needs no open session, as long as nobody came in between.
    let acked = ack(&mut clients, "SHOP", 10, Some(second.epoch)).await;
    assert_eq!(acked.expect("acked"), 10);
}

#[tokio::test]
async fn catching_up_joins_the_live_stream_without_a_seam() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    for _ in 0..5 {
        add_many(&mut clients, "A", 1000).await;
    }
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let mut adding = clients.clone();
    let more = tokio::spawn(async move {
        for number in 0..200 {
            add(&mut adding, "A", &number.to_string()).await;
        }
    });
    let groups = groups_up_to(&mut stream, 5200).await;
    more.await.expect("added");
    let seen: Vec<i64> = groups.iter().flat_map(|group| ids(&group.events)).collect();
    assert_eq!(seen, (1..=5200).collect::<Vec<_>>());
    for (seq, group) in (0..).zip(&groups) {
        assert_eq!(group.seq, seq);
        assert!(group.events.len() <= 1000);
    }
}

#[tokio::test]
async fn linger_fills_a_group() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let request = ReadyToReceiveRequest {
        max_group_events: 3,
        max_linger: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..ready("SHOP")
    };
    let (_, mut stream) = subscribe(&mut clients, request).await;
    add_many(&mut clients, "A", 3).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [1, 2, 3]);
}

#[tokio::test]
async fn limits_in_force_are_told() {
    let server = Server::builder()
        .arg("--stream-max-in-flight-events=500")
        .start()
        .await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (started, stream) = subscribe(&mut clients, ready("SHOP")).await;
    assert_eq!(started.max_in_flight_events, 500);
    assert_eq!(started.heartbeat_interval.expect("told").seconds, 10);
    drop(stream);
    let request = ReadyToReceiveRequest {
        max_in_flight_events: i32::MAX,
        max_in_flight_bytes: i64::MAX,
        heartbeat_interval: Some(prost_types::Duration {
            seconds: 3600,
            nanos: 0,
        }),
        ..ready("SHOP")
    };
    let (started, _stream) = subscribe(&mut clients, request).await;
    assert_eq!(started.max_in_flight_events, 500);
    assert_eq!(started.max_in_flight_bytes, 64 << 20);
    assert_eq!(started.heartbeat_interval.expect("told").seconds, 60);
}

#[tokio::test]
async fn streams_have_a_number() {
    let server = Server::builder()
        .arg("--stream-max-subscriptions=2")
        .start()
        .await;
    let mut clients = server.clients().await;
    let (_, first) = subscribe(&mut clients, ready("LIVE")).await;
    let (_, _second) = subscribe(&mut clients, ready("LIVE")).await;
    let refusal = clients.push.ready_to_receive(ready("LIVE")).await;
    let code = tonic::Code::ResourceExhausted;
    let refusal = refused(refusal.map(|_| ()), code, "OVERLOADED");
    assert!(tonic_types::StatusExt::get_details_retry_info(&refusal).is_some());
    drop(first);
    while status(&mut clients).await.open_streams > 1 {
        tokio::task::yield_now().await;
    }
    let (_, _third) = subscribe(&mut clients, ready("LIVE")).await;
}

#[tokio::test]
async fn stream_ends_with_a_reason_when_the_server_does() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 2).await;
    let request = ReadyToReceiveRequest {
        start: after(0),
        ..ready("SHOP")
    };
    let (started, mut stream) = subscribe(&mut clients, request).await;
    let group = next_group(&mut stream).await;
    ack(&mut clients, "SHOP", group.last_id, Some(started.epoch))
        .await
        .expect("acked");
    assert!(consumer(&mut clients, "SHOP").await.subscribed);
    server.signal("TERM");
    let end = end_of(&mut stream).await;
    refused(Err::<(), _>(end), tonic::Code::Unavailable, "DRAINING");
}
