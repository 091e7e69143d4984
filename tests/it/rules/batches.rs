//! Rule 9: in a group commit nobody fails because of another, and a repeated
//! request returns what the first one got.

use futoin_eventstream::proto::{AddEventRequest, AddEventsRequest};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::{
    calls::{events, poll, poll_of, refused},
    server::{Clients, Server},
};

const REQUEST: &str = "6f2b8a52-4d3a-4b0e-9d63-0b6a5f2f3a11";

fn event(data: &str, request_id: &str) -> AddEventRequest {
    AddEventRequest {
        r#type: "A".to_owned(),
        data_json: data.to_owned(),
        request_id: request_id.to_owned(),
    }
}

async fn add(clients: &Clients, request: AddEventRequest) -> Result<i64, Status> {
    let mut generate = clients.generate.clone();
    Ok(generate.add_event(request).await?.into_inner().id)
}

/// Adds all at once, so that they meet in group commits; outcomes in order.
async fn add_at_once(
    clients: &Clients,
    requests: Vec<AddEventRequest>,
) -> Vec<Result<i64, Status>> {
    let mut adding = JoinSet::new();
    for (index, request) in requests.into_iter().enumerate() {
        let clients = clients.clone();
        adding.spawn(async move { (index, add(&clients, request).await) });
    }
    let mut outcomes = adding.join_all().await;
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

#[tokio::test]
async fn rule_09_retry_returns_the_first_ids() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let first = add(&clients, event("1", REQUEST)).await.expect("added");
    let batch = AddEventsRequest {
        events: events("B", 5),
        request_id: "0d4f8b1e-93f0-4d5a-b2bb-b2a0f3c1e7aa".to_owned(),
    };
    let many = clients.generate.add_events(batch.clone()).await;
    let many = many.expect("added").into_inner().ids;
    let server = server.crash_and_restart().await;
    let mut clients = server.clients().await;
    let again = add(&clients, event("1", REQUEST)).await.expect("answered");
    assert_eq!(again, first);
    let again = clients.generate.add_events(batch).await;
    assert_eq!(again.expect("answered").into_inner().ids, many);
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "6");
}

#[tokio::test]
async fn rule_09_request_id_with_other_content_is_refused() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    add(&clients, event("1", REQUEST)).await.expect("added");
    let (code, reason) = (Code::AlreadyExists, "REQUEST_ID_REUSED");
    refused(add(&clients, event("1 ", REQUEST)).await, code, reason);
    // The id is the same however it is written.
    let upper = REQUEST.to_uppercase();
    refused(add(&clients, event("2", &upper)).await, code, reason);
    let batch = AddEventsRequest {
        events: events("A", 2),
        request_id: REQUEST.to_owned(),
    };
    let refusal = clients.generate.add_events(batch).await;
    refused(refusal, code, reason);
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "1");
}

#[tokio::test]
async fn rule_09_same_request_at_once_is_stored_once() {
    let server = Server::start().await;
    let clients = server.clients().await;
    let outcomes = add_at_once(&clients, vec![event("1", REQUEST); 64]).await;
    let ids: Vec<_> = outcomes.into_iter().map(|id| id.expect("added")).collect();
    assert_eq!(ids, [ids[0]; 64]);
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "1");
}

/// Fifty good ones and one in their midst that `refusing` does not let in.
async fn one_refused_among_fifty(refusing: &str) {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    server.sqlite(refusing);
    let mut requests: Vec<_> = (0..50).map(|n| event(&n.to_string(), "")).collect();
    requests.insert(20, event("666", ""));
    // Under a request id too: a refused request is not remembered as done.
    requests.insert(30, event("666", REQUEST));
    let mut added = Vec::new();
    for (index, outcome) in add_at_once(&clients, requests.clone())
        .await
        .into_iter()
        .enumerate()
    {
        if requests[index].data_json == "666" {
            refused(outcome, Code::FailedPrecondition, "EVENT_REFUSED");
        } else {
            let id = outcome.expect("the others are added");
            added.push((id, requests[index].data_json.clone()));
        }
    }
    let polled = poll(&mut clients, poll_of("LIVE")).await;
    added.sort();
    let stored: Vec<_> = polled
        .events
        .into_iter()
        .map(|e| (e.id, e.data_json))
        .collect();
    assert_eq!(stored, added);
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_requests"), "0");
}

#[tokio::test]
async fn rule_09_event_refused_by_a_trigger_fails_alone() {
    one_refused_among_fifty(
        "CREATE TRIGGER no BEFORE INSERT ON evt_queue WHEN new.data = '666'
         BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    )
    .await;
}

#[tokio::test]
async fn rule_09_event_left_out_by_a_trigger_fails_alone() {
    one_refused_among_fifty(
        "CREATE TRIGGER no BEFORE INSERT ON evt_queue WHEN new.data = '666'
         BEGIN SELECT RAISE(IGNORE); END",
    )
    .await;
}

#[tokio::test]
async fn rule_09_batch_with_a_refused_event_is_refused_as_a_whole() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    server.sqlite("CREATE UNIQUE INDEX once ON evt_queue (data) WHERE type = 'ONCE'");
    let mut batch = events("ONCE", 3);
    batch[2].data_json = "0".to_owned();
    let request = AddEventsRequest {
        events: batch,
        request_id: REQUEST.to_owned(),
    };
    let refusal = clients.generate.add_events(request).await;
    refused(refusal, Code::FailedPrecondition, "EVENT_REFUSED");
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "0");
    // The id is free for the corrected request.
    let request = AddEventsRequest {
        events: events("ONCE", 3),
        request_id: REQUEST.to_owned(),
    };
    let added = clients.generate.add_events(request).await;
    assert_eq!(added.expect("added").into_inner().ids.len(), 3);
}
