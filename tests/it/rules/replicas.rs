//! Rules 3, 4 and 12 between two replicas on one database.

use futoin_eventstream::proto::{
    ConflictPolicy, ReadyToReceiveRequest, ReadyToReceiveResponse, SubscriptionStarted,
    ready_to_receive_response::Payload,
};
use tonic::{Code, Streaming};

use super::fencing::unregister;
use crate::{
    calls::{ack, add_many, consumer, end_of, heartbeat, ids, poll_of, refused, seek},
    round_trip::{next, next_group, ready, register, subscribe},
    server::{Builder, Clients, Server},
};

/// Notices what happens in the other replica soon.
fn quick(builder: Builder) -> Builder {
    builder
        .arg("--stream-session-beat=100ms")
        .arg("--stream-session-lapse=1s")
}

async fn two() -> (Server, Server) {
    let server = quick(Server::builder()).start().await;
    let other = quick(Server::builder().beside(&server)).start().await;
    (server, other)
}

fn standing_by(component: &str) -> ReadyToReceiveRequest {
    ReadyToReceiveRequest {
        conflict_policy: ConflictPolicy::StandBy.into(),
        heartbeat_interval: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        ..ready(component)
    }
}

async fn stand_by(clients: &mut Clients, component: &str) -> Streaming<ReadyToReceiveResponse> {
    let opened = clients.push.ready_to_receive(standing_by(component)).await;
    opened.expect("standing by").into_inner()
}

/// `started`, past heartbeats.
async fn started(stream: &mut Streaming<ReadyToReceiveResponse>) -> SubscriptionStarted {
    loop {
        match next(stream).await {
            Payload::Started(started) => return started,
            Payload::Heartbeat(_) => {}
            other => panic!("nothing precedes `started`, not {other:?}"),
        }
    }
}

/// Three events one by one: the second and third wait for acks.
async fn acks_through_the_other_open_the_window(with_epoch: bool) {
    let (server, other) = two().await;
    let (mut here, mut there) = (server.clients().await, other.clients().await);
    register(&mut here, "SHOP").await;
    let added = add_many(&mut here, "A", 3).await;
    let request = ReadyToReceiveRequest {
        max_in_flight_events: 1,
        ..ready("SHOP")
    };
    let (started, mut stream) = subscribe(&mut here, request).await;
    for (seq, id) in (0..).zip(added) {
        let group = next_group(&mut stream).await;
        assert_eq!((group.seq, ids(&group.events)), (seq, vec![id]));
        let epoch = with_epoch.then_some(started.epoch);
        let acked = ack(&mut there, "SHOP", id, epoch).await;
        assert_eq!(acked.expect("through any replica"), id);
    }
    assert_eq!(consumer(&mut here, "SHOP").await.position, 3);
}

#[tokio::test]
async fn rule_04_acks_with_epoch_through_the_other_replica_open_the_window() {
    acks_through_the_other_open_the_window(true).await;
}

#[tokio::test]
async fn rule_04_acks_without_epoch_through_the_other_replica_open_the_window() {
    acks_through_the_other_open_the_window(false).await;
}

#[tokio::test]
async fn rule_03_take_over_in_the_other_replica_ends_the_session_here() {
    let (server, other) = two().await;
    let (mut here, mut there) = (server.clients().await, other.clients().await);
    register(&mut here, "SHOP").await;
    add_many(&mut here, "A", 2).await;
    let (first, mut stream) = subscribe(&mut here, ready("SHOP")).await;
    next_group(&mut stream).await;
    let (second, mut taken) = subscribe(&mut there, ready("SHOP")).await;
    assert!(second.epoch > first.epoch);
    // Fenced by the database, whether this replica has noticed or not.
    for clients in [&mut here, &mut there] {
        let late = ack(clients, "SHOP", 2, Some(first.epoch)).await;
        refused(late, Code::FailedPrecondition, "STALE_EPOCH");
    }
    let end = end_of(&mut stream).await;
    refused(Err::<(), _>(end), Code::Aborted, "TAKEN_OVER");
    assert_eq!(ids(&next_group(&mut taken).await.events), [1, 2]);
    let acked = ack(&mut here, "SHOP", 2, Some(second.epoch)).await;
    assert_eq!(acked.expect("of the session there"), 2);
}

#[tokio::test]
async fn rule_03_seek_and_unregister_in_the_other_replica_end_the_session_here() {
    let (server, other) = two().await;
    let (mut here, mut there) = (server.clients().await, other.clients().await);
    register(&mut here, "SHOP").await;
    add_many(&mut here, "A", 2).await;
    let (started, mut stream) = subscribe(&mut here, ready("SHOP")).await;
    seek(&mut there, "SHOP", 1).await.expect("sought");
    let late = ack(&mut here, "SHOP", 2, Some(started.epoch)).await;
    refused(late, Code::FailedPrecondition, "STALE_EPOCH");
    let end = end_of(&mut stream).await;
    refused(Err::<(), _>(end), Code::FailedPrecondition, "STALE_EPOCH");

    let (started, mut stream) = subscribe(&mut here, ready("SHOP")).await;
    assert_eq!(started.start_after_id, 1);
    unregister(&mut there, "SHOP").await;
    let late = ack(&mut here, "SHOP", 2, Some(started.epoch)).await;
    refused(late, Code::NotFound, "NOT_REGISTERED");
    let end = end_of(&mut stream).await;
    refused(Err::<(), _>(end), Code::FailedPrecondition, "STALE_EPOCH");
}

#[tokio::test]
async fn rule_04_poll_and_reject_see_the_session_of_the_other_replica() {
    let (server, other) = two().await;
    let (mut here, mut there) = (server.clients().await, other.clients().await);
    register(&mut here, "SHOP").await;
    let (_, _stream) = subscribe(&mut here, ready("SHOP")).await;
    let refusal = there.poll.poll_events(poll_of("SHOP")).await;
    refused(refusal, Code::FailedPrecondition, "SUBSCRIPTION_ACTIVE");
    let request = ReadyToReceiveRequest {
        conflict_policy: ConflictPolicy::Reject.into(),
        ..ready("SHOP")
    };
    let refusal = there.push.ready_to_receive(request).await;
    refused(
        refusal.map(|_| ()),
        Code::FailedPrecondition,
        "SUBSCRIPTION_ACTIVE",
    );
    assert!(consumer(&mut there, "SHOP").await.subscribed);
}

#[tokio::test]
async fn rule_10_heartbeats_come_while_standing_by_and_started_when_the_other_ends() {
    let (server, other) = two().await;
    let (mut here, mut there) = (server.clients().await, other.clients().await);
    register(&mut here, "SHOP").await;
    add_many(&mut here, "A", 2).await;
    let (first, stream) = subscribe(&mut here, ready("SHOP")).await;
    ack(&mut here, "SHOP", 1, Some(first.epoch))
        .await
        .expect("acked");
    let mut same = stand_by(&mut here, "SHOP").await;
    let mut waiting = stand_by(&mut there, "SHOP").await;
    assert!(!heartbeat(&mut same).await.caught_up);
    assert!(!heartbeat(&mut waiting).await.caught_up);
    drop(same);
    drop(stream);
    let begun = started(&mut waiting).await;
    assert!(begun.epoch > first.epoch);
    assert_eq!(begun.start_after_id, 1);
    assert_eq!(ids(&next_group(&mut waiting).await.events), [2]);
}

#[tokio::test]
async fn rule_04_killed_replica_locks_nobody_out() {
    let (mut server, other) = two().await;
    let (mut here, mut there) = (server.clients().await, other.clients().await);
    register(&mut here, "SHOP").await;
    add_many(&mut here, "A", 2).await;
    let (first, _stream) = subscribe(&mut here, ready("SHOP")).await;
    let mut waiting = stand_by(&mut there, "SHOP").await;
    assert!(!heartbeat(&mut waiting).await.caught_up);
    server.signal("KILL");
    server.ended().await;
    let begun = started(&mut waiting).await;
    assert!(begun.epoch > first.epoch);
    assert_eq!(ids(&next_group(&mut waiting).await.events), [1, 2]);
}

#[tokio::test]
async fn rule_12_two_receivers_that_retry_for_ever_do_not_evict_each_other() {
    let (server, other) = two().await;
    let (mut here, mut there) = (server.clients().await, other.clients().await);
    register(&mut here, "SHOP").await;
    let (_, mut old) = subscribe(&mut here, ready("SHOP")).await;
    // Another one takes over; who was taken over stands by, as often as it likes.
    let (second, mut stream) = subscribe(&mut there, ready("SHOP")).await;
    let end = end_of(&mut old).await;
    refused(Err::<(), _>(end), Code::Aborted, "TAKEN_OVER");
    for _ in 0..3 {
        let mut waiting = stand_by(&mut here, "SHOP").await;
        assert!(!heartbeat(&mut waiting).await.caught_up);
    }
    let waiting = stand_by(&mut here, "SHOP").await;
    let id = add_many(&mut here, "A", 1).await[0];
    assert_eq!(next_group(&mut stream).await.last_id, id);
    let acked = ack(&mut there, "SHOP", id, Some(second.epoch)).await;
    assert_eq!(acked.expect("never evicted"), id);
    assert_eq!(consumer(&mut here, "SHOP").await.epoch, second.epoch);
    drop(waiting);
}
