//! What operators see and do; bulk import.

use std::collections::HashSet;

use futoin_eventstream::proto::{
    ImportEventsRequest, ImportEventsResponse, ListConsumersRequest, ReadyToReceiveRequest,
};
use tonic::{Code, Status};

use crate::{
    calls::{ack, add_many, consumer, events, metadata, refused, seek, status},
    round_trip::{next_group, ready, register, subscribe},
    server::{Clients, Server},
};

#[tokio::test]
async fn consumers_are_listed_page_by_page_past_foreign_names() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let mut expected = HashSet::new();
    for number in 0..7 {
        let component = format!("C{number}");
        register(&mut clients, &component).await;
        expected.insert(component);
    }
    // Nobody's consumers: no component, no user.
    server.sqlite(
        "INSERT INTO evt_consumers (ident, reg_time, last_time) VALUES
            ('aaa', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP),
            ('local:C3:X', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP),
            (':', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)",
    );
    for page_size in [1, 2, 3, 7, 0] {
        let mut seen = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListConsumersRequest {
                page_size,
                page_token,
            };
            let page = clients.admin.list_consumers(request).await;
            let page = page.expect("a page").into_inner();
            assert!(
                page_size == 0
                    || page.consumers.len() <= usize::try_from(page_size).expect("small")
            );
            seen.extend(page.consumers.into_iter().map(|c| c.component));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.len(), expected.len());
        assert_eq!(HashSet::from_iter(seen), expected);
    }
}

#[tokio::test]
async fn consumer_tells_how_it_stands() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let fresh = consumer(&mut clients, "SHOP").await;
    assert_eq!((fresh.user.as_str(), fresh.position), ("local", 0));
    assert_eq!((fresh.lag_ids, fresh.lag_age), (0, None));
    assert!(fresh.reg_time.is_some() && fresh.last_time.is_some());
    add_many(&mut clients, "A", 5).await;
    let behind = consumer(&mut clients, "SHOP").await;
    assert_eq!(behind.lag_ids, 5);
    assert!(behind.lag_age.is_some());
    let request = ReadyToReceiveRequest {
        client_label: "pod-1 😀".to_owned(),
        ..ready("SHOP")
    };
    let (started, _stream) = subscribe(&mut clients, request).await;
    ack(&mut clients, "SHOP", 5, Some(started.epoch))
        .await
        .expect("acked");
    let done = consumer(&mut clients, "SHOP").await;
    assert_eq!((done.position, done.lag_ids, done.lag_age), (5, 0, None));
    assert_eq!((done.subscribed, done.epoch), (true, started.epoch));
    assert_eq!(done.client_label, "pod-1 😀");
}

#[tokio::test]
async fn status_shows_the_stream_at_a_glance() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let empty = status(&mut clients).await;
    assert_eq!(
        (empty.frontier_id, empty.head_id, empty.oldest_id),
        (0, 0, 0)
    );
    assert_eq!(empty.slowest_consumer, None);
    register(&mut clients, "FAST").await;
    register(&mut clients, "SLOW").await;
    let (_, mut stream) = subscribe(&mut clients, ready("LIVE")).await;
    add_many(&mut clients, "A", 5).await;
    next_group(&mut stream).await;
    ack(&mut clients, "FAST", 5, None).await.expect("acked");
    ack(&mut clients, "SLOW", 2, None).await.expect("acked");

    let now = status(&mut clients).await;
    assert_eq!((now.frontier_id, now.head_id), (5, 5));
    assert_eq!((now.oldest_id, now.discarded_to_id), (1, 0));
    let slowest = now.slowest_consumer.expect("there are two");
    assert_eq!((slowest.component.as_str(), slowest.lag_ids), ("SLOW", 3));
    assert_eq!(now.open_streams, 1);
    assert!(now.ring_bytes > 0);
    assert_eq!(
        (now.database.as_str(), now.problem.as_str()),
        ("sqlite", "")
    );
    assert_eq!(now.version, env!("CARGO_PKG_VERSION"));
    assert!(uuid::Uuid::try_parse(&now.replica_id).is_ok());
    assert!(now.stopped_consumers.is_empty() && now.blockers.is_empty());
}

#[tokio::test]
async fn seek_goes_back_and_forth_and_by_time() {
    use futoin_eventstream::proto::{SeekConsumerRequest, start_at::At};
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    server.sqlite(
        "INSERT INTO evt_queue (type, data, ts) VALUES
            ('A', '1', '2020-01-01 00:00:00'), ('A', '2', '2020-01-02 00:00:00'),
            ('A', '3', '2020-01-03 00:00:00')",
    );
    for id in [3, 0, 2] {
        let sought = seek(&mut clients, "SHOP", id).await.expect("sought");
        assert_eq!(sought.position, id);
    }
    let noon = |day: i64| {
        At::Time(prost_types::Timestamp {
            seconds: 1_577_836_800 + day * 86_400 + 43_200,
            nanos: 0,
        })
    };
    for (start, position) in [
        (noon(-9), 0),
        (noon(0), 1),
        (noon(9), 3),
        (At::Now(true), 3),
    ] {
        let request = SeekConsumerRequest {
            component: "SHOP".to_owned(),
            user: "local".to_owned(),
            start: crate::calls::at(start),
        };
        let sought = clients.admin.seek_consumer(request).await;
        let sought = sought.expect("sought").into_inner().consumer;
        assert_eq!(sought.expect("the consumer").position, position);
    }
}

/// Batches of 10, each under a request id of its own.
fn batches(count: usize) -> Vec<ImportEventsRequest> {
    let batch = |number: usize| ImportEventsRequest {
        events: events("A", 10),
        request_id: uuid::Uuid::from_u128(number as u128 + 1).to_string(),
    };
    (0..count).map(batch).collect()
}

async fn import(
    clients: &mut Clients,
    batches: Vec<ImportEventsRequest>,
) -> Result<ImportEventsResponse, Status> {
    let batches = tokio_stream::iter(batches);
    Ok(clients.generate.import_events(batches).await?.into_inner())
}

#[tokio::test]
async fn import_counts_what_it_stored() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let done = import(&mut clients, batches(3)).await.expect("imported");
    assert_eq!((done.batch_count, done.event_count), (3, 30));
    assert_eq!((done.first_id, done.last_id), (1, 30));
    let nothing = import(&mut clients, Vec::new()).await.expect("imported");
    assert_eq!(nothing, ImportEventsResponse::default());
}

#[tokio::test]
async fn failed_import_tells_how_far_it_came_and_can_be_resumed() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let good = batches(4);
    let mut broken = good.clone();
    broken[2].events[5].r#type = "wrong".to_owned();
    let refusal = import(&mut clients, broken).await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    assert!(
        refusal.message().starts_with("events[5].type"),
        "{refusal:?}"
    );
    for (key, value) in [
        ("batch_count", "2"),
        ("event_count", "20"),
        ("first_id", "1"),
        ("last_id", "20"),
    ] {
        assert_eq!(metadata(&refusal, key).as_deref(), Some(value), "{key}");
    }
    // From the beginning, with the same request ids: nothing comes twice.
    let done = import(&mut clients, good).await.expect("resumed");
    assert_eq!((done.batch_count, done.event_count), (4, 40));
    assert_eq!((done.first_id, done.last_id), (1, 40));
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "40");
}
