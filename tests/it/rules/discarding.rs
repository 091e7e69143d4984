//! Rule 6: what was discarded is never a silent hole, whoever deleted it.

use futoin_eventstream::proto::{PollEventsRequest, ReadyToReceiveRequest};
use tonic::Code;

use crate::{
    calls::{ack, add_many, after, ids, metadata, poll, poll_of, refused, seek, status},
    round_trip::{next_group, ready, register, subscribe},
    server::Server,
};

/// Ten events and `LOW` at 2, `HIGH` at 7; then another program deletes up to
/// 5. The service starts anew, so that its memory holds none of them.
async fn discarded_up_to_5() -> Server {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "LOW").await;
    register(&mut clients, "HIGH").await;
    add_many(&mut clients, "A", 10).await;
    ack(&mut clients, "LOW", 2, None).await.expect("acked");
    ack(&mut clients, "HIGH", 7, None).await.expect("acked");
    let again = server.again();
    server.terminate().await;
    let server = again.start().await;
    server.sqlite("DELETE FROM evt_queue WHERE id <= 5");
    server
}

#[tokio::test]
async fn rule_06_reader_below_the_discarded_is_told() {
    let server = discarded_up_to_5().await;
    let mut clients = server.clients().await;
    let refusal = clients.poll.poll_events(poll_of("LOW")).await;
    let refusal = refused(refusal, Code::OutOfRange, "DISCARDED");
    assert_eq!(metadata(&refusal, "oldest_after_id").as_deref(), Some("5"));

    let (_, mut stream) = subscribe(&mut clients, ready("LOW")).await;
    let end = crate::calls::end_of(&mut stream).await;
    refused(Err::<(), _>(end), Code::OutOfRange, "DISCARDED");

    let request = PollEventsRequest {
        last_id: Some(3),
        ..poll_of("LIVE")
    };
    let refusal = clients.poll.poll_events(request).await;
    refused(refusal, Code::OutOfRange, "DISCARDED");
    let request = ReadyToReceiveRequest {
        start: after(3),
        ..ready("HIGH")
    };
    let refusal = clients.push.ready_to_receive(request).await;
    refused(refusal.map(|_| ()), Code::OutOfRange, "DISCARDED");
    let refusal = seek(&mut clients, "HIGH", 4).await;
    refused(refusal, Code::OutOfRange, "DISCARDED");

    // An operator who accepts the loss goes on where events are kept.
    let sought = seek(&mut clients, "LOW", 0).await.expect("sought");
    assert_eq!(sought.position, 5);
    let polled = poll(&mut clients, poll_of("LOW")).await;
    assert_eq!(ids(&polled.events), [6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn rule_06_reader_above_the_discarded_does_not_notice() {
    let server = discarded_up_to_5().await;
    let mut clients = server.clients().await;
    let polled = poll(&mut clients, poll_of("HIGH")).await;
    assert_eq!(ids(&polled.events), [8, 9, 10]);
    let (_, mut stream) = subscribe(&mut clients, ready("HIGH")).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [8, 9, 10]);
    let status = status(&mut clients).await;
    assert_eq!((status.oldest_id, status.discarded_to_id), (6, 5));
}

#[tokio::test]
async fn rule_06_reader_is_told_when_everything_is_gone() {
    let server = discarded_up_to_5().await;
    let mut clients = server.clients().await;
    server.sqlite("DELETE FROM evt_queue");
    let refusal = clients.poll.poll_events(poll_of("HIGH")).await;
    refused(refusal, Code::OutOfRange, "DISCARDED");
    let status = status(&mut clients).await;
    assert_eq!((status.oldest_id, status.head_id), (0, 10));
    // Ids go on: none is ever given out twice.
    assert_eq!(add_many(&mut clients, "A", 1).await, [11]);
}

#[tokio::test]
async fn rule_06_new_consumer_starts_with_the_oldest_kept() {
    let server = discarded_up_to_5().await;
    let mut clients = server.clients().await;
    register(&mut clients, "FRESH").await;
    let polled = poll(&mut clients, poll_of("FRESH")).await;
    assert_eq!(ids(&polled.events), [6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn rule_11_live_poll_without_last_id_starts_with_the_oldest_kept() {
    let server = discarded_up_to_5().await;
    let mut clients = server.clients().await;
    for last_id in [None, Some(0)] {
        let request = PollEventsRequest {
            last_id,
            ..poll_of("LIVE")
        };
        let polled = poll(&mut clients, request).await;
        assert_eq!(ids(&polled.events), [6, 7, 8, 9, 10]);
        assert_eq!((polled.last_id, polled.epoch), (10, 0));
    }
}

#[tokio::test]
async fn rule_06_position_zero_is_a_position_once_the_consumer_was_used_here() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "OURS").await;
    add_many(&mut clients, "A", 10).await;
    server.sqlite(
        "INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time)
            VALUES ('local:THEIRS', 0, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP);
         DELETE FROM evt_queue WHERE id <= 5",
    );
    let refusal = clients.poll.poll_events(poll_of("OURS")).await;
    refused(refusal, Code::OutOfRange, "DISCARDED");
    // The original means "from the oldest event kept".
    let polled = poll(&mut clients, poll_of("THEIRS")).await;
    assert_eq!(ids(&polled.events), [6, 7, 8, 9, 10]);
    server.sqlite("DELETE FROM evt_queue WHERE id <= 7");
    let refusal = clients.poll.poll_events(poll_of("THEIRS")).await;
    refused(refusal, Code::OutOfRange, "DISCARDED");
}
