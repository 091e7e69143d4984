//! Rules 1, 2 and 8: the frontier is proven and saved, no position passes it,
//! and filters may change.

use futoin_eventstream::proto::PollEventsRequest;
use tonic::Code;

use crate::{
    calls::{ack, add_many, consumer, ids, metadata, poll, poll_of, refused, seek, status, want},
    round_trip::{add, next_group, ready, register, subscribe},
    server::Server,
};

#[tokio::test]
async fn rule_01_frontier_is_saved_and_a_start_continues_from_it() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let last = *add_many(&mut clients, "A", 7).await.last().expect("seven");
    ack(&mut clients, "SHOP", 3, None).await.expect("acked");
    assert_eq!(
        server.sqlite("SELECT frontier FROM evt_stream"),
        last.to_string(),
        "saved along with a position"
    );
    let again = server.again();
    server.terminate().await;
    let server = again.start().await;
    let mut clients = server.clients().await;
    let status = status(&mut clients).await;
    assert_eq!((status.frontier_id, status.problem.as_str()), (last, ""));
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [4, 5, 6, 7]);
}

#[tokio::test]
async fn rule_01_frontier_is_not_derived_from_positions() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "FAST").await;
    register(&mut clients, "SLOW").await;
    add_many(&mut clients, "A", 5).await;
    ack(&mut clients, "FAST", 5, None).await.expect("acked");
    let again = server.again();
    server.terminate().await;
    // What was not proven must be proven again, whatever a position says.
    crate::server::sqlite(&again.database(), "UPDATE evt_stream SET frontier = 2");
    let server = again.start().await;
    let mut clients = server.clients().await;
    let (_, mut stream) = subscribe(&mut clients, ready("SLOW")).await;
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(ids(&next_group(&mut stream).await.events));
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn rule_02_position_above_the_head_is_out_of_range() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let head = add(&mut clients, "A", "1").await;
    let beyond = head + 1;

    let refusal = ack(&mut clients, "SHOP", beyond, None).await;
    let refusal = refused(refusal, Code::OutOfRange, "BEYOND_HEAD");
    assert_eq!(metadata(&refusal, "head_id"), Some(head.to_string()));
    for component in ["SHOP", "LIVE"] {
        let request = PollEventsRequest {
            last_id: Some(beyond),
            ..poll_of(component)
        };
        let refusal = clients.poll.poll_events(request).await;
        refused(refusal, Code::OutOfRange, "BEYOND_HEAD");
    }
    let refusal = seek(&mut clients, "SHOP", beyond).await;
    refused(refusal, Code::OutOfRange, "BEYOND_HEAD");
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 0);
}

#[tokio::test]
async fn rule_02_ack_above_a_replicas_frontier_makes_it_prove_further() {
    let server = Server::start().await;
    let other = Server::builder().beside(&server).start().await;
    let (mut here, mut there) = (server.clients().await, other.clients().await);
    register(&mut here, "SHOP").await;
    // The other replica listens to nobody and has looked before these came.
    assert_eq!(status(&mut there).await.frontier_id, 0);
    let last = *add_many(&mut here, "A", 3).await.last().expect("three");
    let acked = ack(&mut there, "SHOP", last, None).await;
    assert_eq!(acked.expect("proven on demand"), last);

    let next = add(&mut here, "A", "4").await;
    let request = PollEventsRequest {
        last_id: Some(next),
        ..poll_of("SHOP")
    };
    let polled = poll(&mut there, request).await;
    assert_eq!((polled.last_id, polled.events.len()), (next, 0));
}

#[tokio::test]
async fn rule_02_position_never_moves_back() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 5).await;
    assert_eq!(ack(&mut clients, "SHOP", 4, None).await.expect("acked"), 4);
    assert_eq!(ack(&mut clients, "SHOP", 2, None).await.expect("acked"), 4);
    assert_eq!(ack(&mut clients, "SHOP", 4, None).await.expect("acked"), 4);
    let request = PollEventsRequest {
        last_id: Some(1),
        ..poll_of("SHOP")
    };
    assert_eq!(ids(&poll(&mut clients, request).await.events), [5]);
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 4);
}

#[tokio::test]
async fn rule_08_want_may_differ_between_subscriptions_and_polls() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    for kind in ["A", "B", "A", "B", "A"] {
        add(&mut clients, kind, "1").await;
    }
    let only = |types: &[&str], last_id| PollEventsRequest {
        want: want(types),
        last_id,
        ..poll_of("SHOP")
    };
    let polled = poll(&mut clients, only(&["A"], None)).await;
    assert_eq!(ids(&polled.events), [1, 3, 5]);
    // Done with the first one only; another filter from there.
    let request = futoin_eventstream::proto::ReadyToReceiveRequest {
        want: want(&["B"]),
        ..ready("SHOP")
    };
    ack(&mut clients, "SHOP", 1, None).await.expect("acked");
    let (started, mut stream) = subscribe(&mut clients, request).await;
    assert_eq!(started.start_after_id, 1);
    assert_eq!(ids(&next_group(&mut stream).await.events), [2, 4]);
    ack(&mut clients, "SHOP", 2, Some(started.epoch))
        .await
        .expect("acked");
    drop(stream);
    crate::calls::until_unsubscribed(&mut clients, "SHOP").await;
    // Everything, from what was acknowledged under the filter of its time.
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [3, 4, 5]);
}

#[tokio::test]
async fn rule_08_filter_that_matches_nothing_moves_a_polled_position() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    for component in ["OTHER", "NONE"] {
        register(&mut clients, component).await;
    }
    add_many(&mut clients, "A", 5).await;
    for (component, types) in [("OTHER", &["B"][..]), ("NONE", &[])] {
        let request = PollEventsRequest {
            want: want(types),
            ..poll_of(component)
        };
        let polled = poll(&mut clients, request).await;
        assert_eq!(
            (polled.events.len(), polled.last_id, polled.more),
            (0, 5, false)
        );
        assert_eq!(consumer(&mut clients, component).await.position, 5);
    }
}

#[tokio::test]
async fn rule_08_filter_that_matches_nothing_gives_empty_groups_to_acknowledge() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let request = futoin_eventstream::proto::ReadyToReceiveRequest {
        want: want(&[]),
        ..ready("SHOP")
    };
    let (started, mut stream) = subscribe(&mut clients, request).await;
    add_many(&mut clients, "A", 1000).await;
    let last = *add_many(&mut clients, "A", 1000)
        .await
        .last()
        .expect("many");
    let mut seq = 0;
    let mut reached = 0;
    while reached < 1000 {
        let group = next_group(&mut stream).await;
        assert_eq!((group.seq, group.events.len()), (seq, 0));
        assert!(group.last_id > reached && group.last_id <= last);
        (seq, reached) = (seq + 1, group.last_id);
    }
    let acked = ack(&mut clients, "SHOP", reached, Some(started.epoch)).await;
    assert_eq!(acked.expect("acked"), reached);
}
