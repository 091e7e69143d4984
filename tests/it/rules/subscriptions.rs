//! Rules 10 and 11, and the window: where a subscription starts and when it
//! pauses.

use futoin_eventstream::proto::{ReadyToReceiveRequest, start_at::At};
use tonic::Code;

use crate::{
    calls::{ack, add_many, after, at, consumer, heartbeat, ids, refused},
    round_trip::{next_group, ready, register, subscribe},
    server::{Clients, Server},
};

/// Ten events, `SHOP` at 6.
async fn at_six(server: &Server) -> Clients {
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 10).await;
    ack(&mut clients, "SHOP", 6, None).await.expect("acked");
    clients
}

#[tokio::test]
async fn rule_10_start_below_the_position_replays_and_moves_nothing() {
    let server = Server::start().await;
    let mut clients = at_six(&server).await;
    let request = ReadyToReceiveRequest {
        start: after(3),
        max_group_events: 2,
        ..ready("SHOP")
    };
    let (started, mut stream) = subscribe(&mut clients, request).await;
    assert_eq!(started.start_after_id, 3);
    assert_eq!(ids(&next_group(&mut stream).await.events), [4, 5]);
    let acked = ack(&mut clients, "SHOP", 5, Some(started.epoch)).await;
    assert_eq!(acked.expect("accepted"), 6);
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 6);
    assert_eq!(ids(&next_group(&mut stream).await.events), [6, 7]);
    let acked = ack(&mut clients, "SHOP", 7, Some(started.epoch)).await;
    assert_eq!(acked.expect("passed again"), 7);
}

#[tokio::test]
async fn rule_10_replay_waits_for_acks_below_the_position_too() {
    let server = Server::start().await;
    let mut clients = at_six(&server).await;
    let request = ReadyToReceiveRequest {
        start: after(3),
        max_in_flight_events: 1,
        ..ready("SHOP")
    };
    let (started, mut stream) = subscribe(&mut clients, request).await;
    for (seq, id) in (0..).zip(4..=10) {
        let group = next_group(&mut stream).await;
        assert_eq!((group.seq, ids(&group.events)), (seq, vec![id]));
        let acked = ack(&mut clients, "SHOP", id, Some(started.epoch)).await;
        assert_eq!(acked.expect("acked"), id.max(6));
    }
}

#[tokio::test]
async fn rule_10_start_above_the_position_is_for_seek() {
    let server = Server::start().await;
    let mut clients = at_six(&server).await;
    for start in [after(7), at(At::Now(true))] {
        let request = ReadyToReceiveRequest {
            start,
            ..ready("SHOP")
        };
        let refusal = clients.push.ready_to_receive(request).await;
        refused(
            refusal.map(|_| ()),
            Code::FailedPrecondition,
            "START_ABOVE_POSITION",
        );
    }
    let request = ReadyToReceiveRequest {
        start: after(6),
        ..ready("SHOP")
    };
    let (_, mut stream) = subscribe(&mut clients, request).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [7, 8, 9, 10]);
}

#[tokio::test]
async fn rule_10_window_pauses_and_goes_on_after_acks_without_a_gap() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let added = add_many(&mut clients, "A", 20).await;
    let request = ReadyToReceiveRequest {
        max_in_flight_events: 4,
        max_group_events: 2,
        heartbeat_interval: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        ..ready("SHOP")
    };
    let (started, mut stream) = subscribe(&mut clients, request).await;
    assert_eq!(started.max_in_flight_events, 4);
    let mut seen = Vec::new();
    for seq in 0..2 {
        let group = next_group(&mut stream).await;
        assert_eq!(group.seq, seq);
        seen.extend(ids(&group.events));
    }
    assert_eq!(seen, added[..4]);
    // Full: nothing but heartbeats, which say that there is more.
    assert!(!heartbeat(&mut stream).await.caught_up);
    for seq in 2..10 {
        let acked = ack(
            &mut clients,
            "SHOP",
            seen[seen.len() - 4 + 1],
            Some(started.epoch),
        )
        .await;
        acked.expect("acked");
        let group = next_group(&mut stream).await;
        assert_eq!((group.seq, group.events.len()), (seq, 2));
        seen.extend(ids(&group.events));
    }
    assert_eq!(seen, added);
    assert!(heartbeat(&mut stream).await.caught_up);
}

#[tokio::test]
async fn rule_11_live_subscription_starts_now() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    add_many(&mut clients, "A", 3).await;
    let (started, mut stream) = subscribe(&mut clients, ready("LIVE")).await;
    assert_eq!((started.start_after_id, started.epoch), (3, 0));
    add_many(&mut clients, "A", 1).await;
    let group = next_group(&mut stream).await;
    assert_eq!((group.seq, ids(&group.events)), (0, vec![4]));
    // Nothing of it is stored.
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_consumers"), "0");
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_sessions"), "0");
}

#[tokio::test]
async fn rule_11_live_subscription_starts_where_it_asks() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    add_many(&mut clients, "A", 5).await;
    for (start, expected) in [(after(0), 1..=5), (after(3), 4..=5)] {
        let request = ReadyToReceiveRequest {
            start,
            ..ready("LIVE")
        };
        let (_, mut stream) = subscribe(&mut clients, request).await;
        let group = next_group(&mut stream).await;
        assert_eq!(ids(&group.events), expected.collect::<Vec<_>>());
    }
    let request = ReadyToReceiveRequest {
        start: after(6),
        ..ready("LIVE")
    };
    let refusal = clients.push.ready_to_receive(request).await;
    refused(refusal.map(|_| ()), Code::OutOfRange, "BEYOND_HEAD");
}
