//! Rule 7: one event always travels, alone if need be, whatever the limits.

use futoin_eventstream::proto::{PollEventsRequest, ReadyToReceiveRequest};

use crate::{
    calls::{ack, ids, poll, poll_of},
    round_trip::{add, next_group, ready, register, subscribe},
    server::{Clients, Server},
};

async fn small_large_small(clients: &mut Clients) -> [i64; 3] {
    let large = format!("\"{}\"", "x".repeat(5 << 20));
    [
        add(clients, "A", "1").await,
        add(clients, "A", &large).await,
        add(clients, "A", "3").await,
    ]
}

#[tokio::test]
async fn rule_07_event_above_the_group_limit_travels_alone() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let added = small_large_small(&mut clients).await;
    for component in ["SHOP", "LIVE"] {
        let request = ReadyToReceiveRequest {
            max_group_bytes: 1000,
            start: crate::calls::after(0),
            ..ready(component)
        };
        let (_, mut stream) = subscribe(&mut clients, request).await;
        for (seq, id) in (0..).zip(added) {
            let group = next_group(&mut stream).await;
            assert_eq!((group.seq, ids(&group.events)), (seq, vec![id]));
        }
    }
}

#[tokio::test]
async fn rule_07_event_above_the_in_flight_limit_travels_alone() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let added = small_large_small(&mut clients).await;
    let request = ReadyToReceiveRequest {
        max_in_flight_bytes: 1000,
        ..ready("SHOP")
    };
    let (started, mut stream) = subscribe(&mut clients, request).await;
    for id in added {
        let group = next_group(&mut stream).await;
        assert_eq!(ids(&group.events), [id]);
        ack(&mut clients, "SHOP", id, Some(started.epoch))
            .await
            .expect("acked");
    }
}

#[tokio::test]
async fn rule_07_event_above_a_polls_limit_travels_alone() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let added = small_large_small(&mut clients).await;
    let mut last_id = None;
    for (index, id) in added.into_iter().enumerate() {
        let request = PollEventsRequest {
            last_id,
            max_bytes: 1000,
            ..poll_of("SHOP")
        };
        let polled = poll(&mut clients, request).await;
        assert_eq!((ids(&polled.events), polled.more), (vec![id], index < 2));
        last_id = Some(polled.last_id);
    }
}
