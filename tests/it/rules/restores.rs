//! Rule 5: a position above the head means a restore; that consumer is
//! stopped until an operator seeks it.

use tonic::Code;

use crate::{
    calls::{ack, add_many, ids, poll, poll_of, refused, seek, status},
    round_trip::{ready, register},
    server::{Clients, Server},
};

/// `AHEAD` at 100 above a head of 3, `FINE` at 1.
async fn position_above_the_head() -> Server {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "AHEAD").await;
    register(&mut clients, "FINE").await;
    add_many(&mut clients, "A", 3).await;
    ack(&mut clients, "FINE", 1, None).await.expect("acked");
    let again = server.again();
    server.terminate().await;
    crate::server::sqlite(
        &again.database(),
        "UPDATE evt_consumers SET last_evt_id = 100 WHERE ident = 'local:AHEAD'",
    );
    again.start().await
}

/// Neither polled nor pushed nor acknowledged.
async fn is_stopped(clients: &mut Clients) {
    let (code, reason) = (Code::FailedPrecondition, "CONSUMER_STOPPED");
    let refusal = clients.poll.poll_events(poll_of("AHEAD")).await;
    refused(refusal, code, reason);
    let refusal = clients.push.ready_to_receive(ready("AHEAD")).await;
    refused(refusal.map(|_| ()), code, reason);
    refused(ack(clients, "AHEAD", 1, None).await, code, reason);
    let status = status(clients).await;
    assert!(status.problem.contains("restored"), "{}", status.problem);
    let [stopped] = &status.stopped_consumers[..] else {
        panic!("one is stopped: {status:?}");
    };
    assert_eq!(stopped.component, "AHEAD");
    assert!(stopped.problem.contains("100"), "{}", stopped.problem);
}

#[tokio::test]
async fn rule_05_position_above_the_head_stops_that_consumer_alone() {
    let server = position_above_the_head().await;
    let mut clients = server.clients().await;
    is_stopped(&mut clients).await;
    let polled = poll(&mut clients, poll_of("FINE")).await;
    assert_eq!(ids(&polled.events), [2, 3]);
}

#[tokio::test]
async fn rule_05_stopped_consumer_is_not_continued_after_the_head_passed_it() {
    let server = position_above_the_head().await;
    let mut clients = server.clients().await;
    add_many(&mut clients, "A", 200).await;
    is_stopped(&mut clients).await;
    let server = server.crash_and_restart().await;
    let mut clients = server.clients().await;
    let refusal = clients.poll.poll_events(poll_of("AHEAD")).await;
    refused(refusal, Code::FailedPrecondition, "CONSUMER_STOPPED");
    let stopped = status(&mut clients).await.stopped_consumers;
    assert_eq!(stopped[0].component, "AHEAD");
}

#[tokio::test]
async fn rule_05_seek_lifts_the_stop() {
    let server = position_above_the_head().await;
    let mut clients = server.clients().await;
    let sought = seek(&mut clients, "AHEAD", 2).await.expect("sought");
    assert_eq!((sought.position, sought.problem.as_str()), (2, ""));
    let polled = poll(&mut clients, poll_of("AHEAD")).await;
    assert_eq!(ids(&polled.events), [3]);
    assert!(status(&mut clients).await.stopped_consumers.is_empty());
}

#[tokio::test]
async fn rule_05_position_raised_under_a_running_service_stops_too() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "AHEAD").await;
    add_many(&mut clients, "A", 3).await;
    server.sqlite("UPDATE evt_consumers SET last_evt_id = 100");
    let refusal = clients.poll.poll_events(poll_of("AHEAD")).await;
    refused(refusal, Code::FailedPrecondition, "CONSUMER_STOPPED");
    add_many(&mut clients, "A", 200).await;
    is_stopped(&mut clients).await;
}

#[tokio::test]
async fn rule_05_saved_frontier_above_the_head_is_named_and_lowered() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 3).await;
    let again = server.again();
    server.terminate().await;
    crate::server::sqlite(&again.database(), "UPDATE evt_stream SET frontier = 50");
    let server = again.start().await;
    let mut clients = server.clients().await;
    let status = status(&mut clients).await;
    assert_eq!((status.frontier_id, status.head_id), (3, 3));
    assert!(status.problem.contains("50"), "{}", status.problem);
    assert_eq!(add_many(&mut clients, "A", 1).await, [4]);
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [1, 2, 3, 4]);
}
