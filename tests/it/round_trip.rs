//! The main job: recorded events reach consumers, in order, at least once.

use futoin_eventstream::proto::{
    AckRequest, AddEventRequest, EventGroup, ReadyToReceiveRequest, ReadyToReceiveResponse,
    RegisterConsumerRequest, SubscriptionStarted, ready_to_receive_response::Payload,
};
use tokio::time::timeout;
use tonic::Streaming;

use crate::server::{Clients, PATIENCE, Server};

/// Opens a push session and waits for its start.
pub async fn subscribe(
    clients: &mut Clients,
    request: ReadyToReceiveRequest,
) -> (SubscriptionStarted, Streaming<ReadyToReceiveResponse>) {
    let mut stream = clients
        .push
        .ready_to_receive(request)
        .await
        .expect("subscribed")
        .into_inner();
    match next(&mut stream).await {
        Payload::Started(started) => (started, stream),
        other => panic!("`started` comes first, not {other:?}"),
    }
}

/// The next message of a stream.
pub async fn next(stream: &mut Streaming<ReadyToReceiveResponse>) -> Payload {
    let message = timeout(PATIENCE, stream.message()).await.expect("in time");
    message
        .expect("no error")
        .expect("not the end")
        .payload
        .expect("a known payload")
}

/// The next group of a stream, past heartbeats.
pub async fn next_group(stream: &mut Streaming<ReadyToReceiveResponse>) -> EventGroup {
    loop {
        match next(stream).await {
            Payload::Group(group) => return group,
            Payload::Heartbeat(_) => {}
            other => panic!("expected a group, got {other:?}"),
        }
    }
}

/// Registers `component` at the oldest event.
pub async fn register(clients: &mut Clients, component: &str) {
    let request = RegisterConsumerRequest {
        component: component.to_owned(),
        start: None,
    };
    clients
        .poll
        .register_consumer(request)
        .await
        .expect("registered");
}

/// Adds one event.
pub async fn add(clients: &mut Clients, kind: &str, data: &str) -> i64 {
    let request = AddEventRequest {
        r#type: kind.to_owned(),
        data_json: data.to_owned(),
        request_id: String::new(),
    };
    clients
        .generate
        .add_event(request)
        .await
        .expect("added")
        .into_inner()
        .id
}

/// A subscription of `component` with nothing special.
pub fn ready(component: &str) -> ReadyToReceiveRequest {
    ReadyToReceiveRequest {
        component: component.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn added_event_reaches_a_subscriber_and_stays_acknowledged() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    assert_eq!(started.start_after_id, 0);

    let id = add(
        &mut clients,
        "ORDER_NEW",
        r#"{"b":1,"a":1.0,"b":12345678901234567890}"#,
    )
    .await;
    let group = next_group(&mut stream).await;
    assert_eq!((group.seq, group.last_id, group.events.len()), (0, id, 1));
    assert_eq!(
        group.events[0].data_json,
        r#"{"b":1,"a":1.0,"b":12345678901234567890}"#
    );

    let ack = AckRequest {
        component: "SHOP".into(),
        last_id: id,
        epoch: Some(started.epoch),
    };
    assert_eq!(
        clients
            .push
            .ack(ack)
            .await
            .expect("acknowledged")
            .into_inner()
            .acked_id,
        id
    );
    drop(stream);
    let (started, _stream) = subscribe(&mut clients, ready("SHOP")).await;
    assert_eq!(started.start_after_id, id);
}

#[tokio::test]
async fn transaction_of_another_program_is_delivered_and_a_rolled_back_one_is_not() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    server.sqlite(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT);
         BEGIN; INSERT INTO orders (item) VALUES ('lost');
         INSERT INTO evt_queue (type, data, ts) VALUES ('LOST', '1', CURRENT_TIMESTAMP); ROLLBACK;
         BEGIN; INSERT INTO orders (item) VALUES ('kept');
         INSERT INTO evt_queue (type, data, ts) VALUES ('KEPT', '2', CURRENT_TIMESTAMP); COMMIT;",
    );
    let group = next_group(&mut stream).await;
    let kinds: Vec<_> = group
        .events
        .iter()
        .map(|event| event.r#type.as_str())
        .collect();
    assert_eq!(kinds, ["KEPT"]);
    assert!(group.events[0].ts.is_some());
}
