//! Rules 3 and 4: epochs fence off what came before, and a consumer has one
//! reader.

use futoin_eventstream::proto::{
    ConflictPolicy, PollEventsRequest, ReadyToReceiveRequest, RegisterConsumerRequest,
    UnregisterConsumerRequest,
};
use tonic::Code;

use crate::{
    calls::{ack, add_many, after, consumer, end_of, ids, metadata, poll, poll_of, refused, seek},
    round_trip::{next_group, ready, register, subscribe},
    server::{Clients, Server},
};

pub async fn unregister(clients: &mut Clients, component: &str) {
    let request = UnregisterConsumerRequest {
        component: component.to_owned(),
        user: String::new(),
    };
    let gone = clients.admin.unregister_consumer(request).await;
    gone.expect("unregistered");
}

#[tokio::test]
async fn rule_03_take_over_ends_the_first_session_and_fences_its_acks() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 4).await;
    let (first, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    next_group(&mut stream).await;
    ack(&mut clients, "SHOP", 2, Some(first.epoch))
        .await
        .expect("acked");
    let (second, mut taken) = subscribe(&mut clients, ready("SHOP")).await;
    assert!(second.epoch > first.epoch);
    assert_eq!(second.start_after_id, 2);

    let end = end_of(&mut stream).await;
    refused(Err::<(), _>(end), Code::Aborted, "TAKEN_OVER");
    let late = ack(&mut clients, "SHOP", 4, Some(first.epoch)).await;
    let late = refused(late, Code::FailedPrecondition, "STALE_EPOCH");
    assert_eq!(
        metadata(&late, "current_epoch"),
        Some(second.epoch.to_string())
    );
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 2);
    assert_eq!(ids(&next_group(&mut taken).await.events), [3, 4]);
}

#[tokio::test]
async fn rule_03_polls_of_an_earlier_epoch_change_nothing() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 3).await;
    let before = poll(&mut clients, poll_of("SHOP")).await;
    seek(&mut clients, "SHOP", 1).await.expect("sought");
    let request = PollEventsRequest {
        last_id: Some(3),
        epoch: Some(before.epoch),
        ..poll_of("SHOP")
    };
    let refusal = clients.poll.poll_events(request).await;
    refused(refusal, Code::FailedPrecondition, "STALE_EPOCH");
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 1);
    let now = poll(&mut clients, poll_of("SHOP")).await;
    assert!(now.epoch > before.epoch);
    assert_eq!(ids(&now.events), [2, 3]);
}

#[tokio::test]
async fn rule_03_seek_and_unregister_end_the_session() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 3).await;
    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let sought = seek(&mut clients, "SHOP", 1).await.expect("sought");
    assert!(sought.epoch > started.epoch);
    assert_eq!((sought.position, sought.subscribed), (1, false));
    let end = end_of(&mut stream).await;
    refused(Err::<(), _>(end), Code::FailedPrecondition, "STALE_EPOCH");
    let late = ack(&mut clients, "SHOP", 3, Some(started.epoch)).await;
    refused(late, Code::FailedPrecondition, "STALE_EPOCH");

    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    unregister(&mut clients, "SHOP").await;
    let end = end_of(&mut stream).await;
    refused(Err::<(), _>(end), Code::NotFound, "NOT_REGISTERED");
    let late = ack(&mut clients, "SHOP", 3, Some(started.epoch)).await;
    refused(late, Code::NotFound, "NOT_REGISTERED");
}

#[tokio::test]
async fn rule_03_registration_after_unregistration_has_a_greater_epoch() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (started, stream) = subscribe(&mut clients, ready("SHOP")).await;
    drop(stream);
    unregister(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 2).await;
    let request = RegisterConsumerRequest {
        component: "SHOP".to_owned(),
        start: None,
    };
    let made = clients.poll.register_consumer(request.clone()).await;
    let made = made.expect("registered").into_inner();
    let epoch = made.consumer.expect("the consumer").epoch;
    assert!(made.created && epoch > started.epoch);
    let late = ack(&mut clients, "SHOP", 2, Some(started.epoch)).await;
    refused(late, Code::FailedPrecondition, "STALE_EPOCH");
    // Repeating the registration is no new one.
    let again = clients.poll.register_consumer(request).await;
    let again = again.expect("registered").into_inner();
    assert!(!again.created);
    assert_eq!(again.consumer.expect("the consumer").epoch, epoch);
}

#[tokio::test]
async fn rule_04_poll_is_refused_while_a_session_is_open() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 2).await;
    let request = ReadyToReceiveRequest {
        client_label: "pod-7".to_owned(),
        ..ready("SHOP")
    };
    let (_, stream) = subscribe(&mut clients, request).await;
    let request = PollEventsRequest {
        last_id: Some(2),
        ..poll_of("SHOP")
    };
    let refusal = clients.poll.poll_events(request).await;
    let refusal = refused(refusal, Code::FailedPrecondition, "SUBSCRIPTION_ACTIVE");
    assert!(refusal.message().contains("pod-7"), "{refusal:?}");
    let now = consumer(&mut clients, "SHOP").await;
    assert_eq!(
        (now.position, now.subscribed, now.client_label.as_str()),
        (0, true, "pod-7")
    );
    drop(stream);
    crate::calls::until_unsubscribed(&mut clients, "SHOP").await;
    assert_eq!(poll(&mut clients, poll_of("SHOP")).await.events.len(), 2);
}

#[tokio::test]
async fn rule_04_reject_leaves_the_open_session_alone() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let request = ReadyToReceiveRequest {
        conflict_policy: ConflictPolicy::Reject.into(),
        ..ready("SHOP")
    };
    let refusal = clients.push.ready_to_receive(request).await;
    refused(
        refusal.map(|_| ()),
        Code::FailedPrecondition,
        "SUBSCRIPTION_ACTIVE",
    );
    add_many(&mut clients, "A", 1).await;
    assert_eq!(next_group(&mut stream).await.last_id, 1);
    let acked = ack(&mut clients, "SHOP", 1, Some(started.epoch)).await;
    assert_eq!(acked.expect("its epoch still holds"), 1);
}

#[tokio::test]
async fn rule_04_mistaken_subscription_fences_nobody_off() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 3).await;
    let (started, _stream) = subscribe(&mut clients, ready("SHOP")).await;
    let request = ReadyToReceiveRequest {
        start: after(2),
        ..ready("SHOP")
    };
    let refusal = clients.push.ready_to_receive(request).await;
    refused(
        refusal.map(|_| ()),
        Code::FailedPrecondition,
        "START_ABOVE_POSITION",
    );
    let acked = ack(&mut clients, "SHOP", 1, Some(started.epoch)).await;
    assert_eq!(acked.expect("the session is still open"), 1);
}
