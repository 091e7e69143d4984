//! Calls as tests make them, and what refusals must look like.

use std::fmt::Debug;

use futoin_eventstream::proto::{
    AckRequest, AddEventsRequest, Consumer, GetStatusRequest, GetStatusResponse,
    ListConsumersRequest, NewEvent, PollEventsRequest, PollEventsResponse, ReadyToReceiveResponse,
    SeekConsumerRequest, SkipFrontierRequest, SkipFrontierResponse, StartAt, Want,
    ready_to_receive_response::Payload, start_at::At,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::server::{Clients, PATIENCE, Server, eventually, http_get};

/// These types only.
#[expect(clippy::unnecessary_wraps, reason = "as a request has it")]
pub fn want(types: &[&str]) -> Option<Want> {
    Some(Want {
        types: types.iter().map(|&name| name.to_owned()).collect(),
    })
}

/// A place in the stream.
#[expect(clippy::unnecessary_wraps, reason = "as a request has it")]
pub fn at(at: At) -> Option<StartAt> {
    Some(StartAt { at: Some(at) })
}

/// After this id.
pub fn after(id: i64) -> Option<StartAt> {
    at(At::AfterId(id))
}

/// A poll with nothing special.
pub fn poll_of(component: &str) -> PollEventsRequest {
    PollEventsRequest {
        component: component.to_owned(),
        ..Default::default()
    }
}

/// A poll that must work.
pub async fn poll(clients: &mut Clients, request: PollEventsRequest) -> PollEventsResponse {
    let polled = clients.poll.poll_events(request).await;
    polled.expect("polled").into_inner()
}

/// An acknowledgement; the position after it.
pub async fn ack(
    clients: &mut Clients,
    component: &str,
    last_id: i64,
    epoch: Option<i64>,
) -> Result<i64, Status> {
    let request = AckRequest {
        component: component.to_owned(),
        last_id,
        epoch,
    };
    Ok(clients.push.ack(request).await?.into_inner().acked_id)
}

/// Moves a position after `id`.
pub async fn seek(clients: &mut Clients, component: &str, id: i64) -> Result<Consumer, Status> {
    let request = SeekConsumerRequest {
        component: component.to_owned(),
        user: String::new(),
        start: after(id),
    };
    let sought = clients.admin.seek_consumer(request).await?.into_inner();
    Ok(sought.consumer.expect("the consumer"))
}

/// New events of one type with running numbers as data.
pub fn events(kind: &str, count: usize) -> Vec<NewEvent> {
    let event = |number: usize| NewEvent {
        r#type: kind.to_owned(),
        data_json: number.to_string(),
    };
    (0..count).map(event).collect()
}

/// Adds `count` events of a type in one batch; their ids.
pub async fn add_many(clients: &mut Clients, kind: &str, count: usize) -> Vec<i64> {
    let request = AddEventsRequest {
        events: events(kind, count),
        request_id: String::new(),
    };
    let added = clients.generate.add_events(request).await;
    added.expect("added").into_inner().ids
}

/// Ids of events, in the order of arrival.
pub fn ids(events: &[futoin_eventstream::proto::Event]) -> Vec<i64> {
    events.iter().map(|event| event.id).collect()
}

/// The state of the stream.
pub async fn status(clients: &mut Clients) -> GetStatusResponse {
    let status = clients.admin.get_status(GetStatusRequest {}).await;
    status.expect("a status").into_inner()
}

/// Asks for the state until it tells a problem; its text.
pub async fn problem(clients: &mut Clients) -> String {
    eventually(async || match status(clients).await.problem {
        text if text.is_empty() => Err("no problem yet"),
        text => Ok(text),
    })
    .await
}

/// Asks for a skip of the frontier, loss accepted.
pub async fn skip(clients: &mut Clients, to: i64) -> Result<SkipFrontierResponse, Status> {
    let request = SkipFrontierRequest {
        to,
        accept_loss: true,
        reason: "a test".to_owned(),
    };
    Ok(clients.admin.skip_frontier(request).await?.into_inner())
}

/// One of at most a thousand registered consumers.
pub async fn consumer(clients: &mut Clients, component: &str) -> Consumer {
    let listed = clients
        .admin
        .list_consumers(ListConsumersRequest::default())
        .await;
    let listed = listed.expect("a list").into_inner().consumers;
    listed
        .into_iter()
        .find(|consumer| consumer.component == component)
        .expect("it is registered")
}

/// So many consumers have a session open; how many, if not.
pub async fn subscribed(clients: &mut Clients, count: usize) -> Result<(), usize> {
    let listed = clients
        .admin
        .list_consumers(ListConsumersRequest::default());
    let consumers = listed.await.expect("listed").into_inner().consumers;
    let open = consumers.iter().filter(|one| one.subscribed).count();
    if open == count { Ok(()) } else { Err(open) }
}

/// Asks until no push session of the consumer is open.
pub async fn until_unsubscribed(clients: &mut Clients, component: &str) {
    let asking = async {
        while consumer(clients, component).await.subscribed {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, asking).await.expect("the session ends");
}

/// How a stream ends, past everything that still comes.
pub async fn end_of(stream: &mut Streaming<ReadyToReceiveResponse>) -> Status {
    let reading = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream ends with a reason"),
                Err(status) => return status,
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("it ends")
}

/// Waits for a heartbeat; nothing else may come before it.
pub async fn heartbeat(
    stream: &mut Streaming<ReadyToReceiveResponse>,
) -> futoin_eventstream::proto::Heartbeat {
    match crate::round_trip::next(stream).await {
        Payload::Heartbeat(heartbeat) => heartbeat,
        other => panic!("expected a heartbeat, got {other:?}"),
    }
}

/// The refusal, with the code and reason that it must have.
pub fn refused<T: Debug>(outcome: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = outcome.expect_err("it must be refused");
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("an ErrorInfo is missing: {status:?}"));
    assert_eq!(info.domain, "evt.futoin.org");
    assert_eq!(info.reason, reason, "{status:?}");
    status
}

/// The refusal of a malformed field; names it and its rule.
pub fn invalid<T: Debug>(outcome: Result<T, Status>, field: &str, rule: &str) {
    let status = refused(outcome, Code::InvalidArgument, "INVALID_FIELD");
    let details = status.get_details_bad_request().expect("a BadRequest");
    let [violation] = &details.field_violations[..] else {
        panic!("one violation: {details:?}");
    };
    assert_eq!(violation.field, field, "{status:?}");
    assert!(
        violation.description.contains(rule),
        "{:?} has {rule:?}",
        violation.description
    );
}

/// A value of an `ErrorInfo`'s metadata.
pub fn metadata(status: &Status, key: &str) -> Option<String> {
    status.get_details_error_info()?.metadata.remove(key)
}

/// The value of a metric as the server tells it now; 0 if it does not.
pub async fn metric(server: &Server, name: &str) -> f64 {
    let (_, text) = http_get(server.http_address(), "/metrics")
        .await
        .expect("metrics");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

/// Waits until the sentinel knows a dead id.
pub async fn until_watched(server: &Server) {
    eventually(async || {
        let ranges = metric(server, "eventstream_dead_ranges").await;
        if ranges > 0.5 {
            Ok(())
        } else {
            Err("nothing is watched")
        }
    })
    .await;
}
