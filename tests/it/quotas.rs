//! Quotas of users: one budget over both fronts, and what refusals say.

use futoin_eventstream::proto::{AddEventRequest, GetStatusRequest, RegisterConsumerRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    calls::{ack, add_many, after, metric, refused},
    futoin::{builder, client::post},
    round_trip::{add, next_group, ready, subscribe},
    server::{Clients, Server, eventually},
};

async fn try_add(clients: &mut Clients, data: &str) -> Result<i64, Status> {
    let request = AddEventRequest {
        r#type: "KIND".into(),
        data_json: data.into(),
        ..Default::default()
    };
    let added = clients.generate.add_event(request).await?;
    Ok(added.into_inner().id)
}

/// The same user by FutoIn.
async fn add_by_futoin(server: &Server) -> String {
    let p = r#"{"type":"KIND","data":1}"#;
    let message = format!(r#"{{"f":"futoin.evt.gen:1.1:addEvent","p":{p},"sec":"local:pass"}}"#);
    post(server, &message).await
}

/// Which quota a call is refused by; the refusal says when to come back.
fn quota_of<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    let status = refused(outcome, Code::ResourceExhausted, "QUOTA_EXCEEDED");
    let info = status.get_details_error_info().expect("ErrorInfo");
    assert_eq!(info.metadata["effect"], "none");
    let retry = status.get_details_retry_info().expect("RetryInfo");
    assert!(retry.retry_delay.is_some_and(|delay| !delay.is_zero()));
    let failure = status.get_details_quota_failure().expect("QuotaFailure");
    assert_eq!(failure.violations[0].subject, "user:local");
    info.metadata["quota"].clone()
}

/// A service whose bounds are used up by the first calls: what a test takes
/// brings nothing back that matters.
async fn limited(option: &str) -> Server {
    let bounds = builder().arg("--limits-user-burst=1s");
    bounds.arg(option).start().await
}

#[tokio::test]
async fn events_of_both_fronts_are_of_one_budget() {
    let server = limited("--limits-user-events=1").await;
    let mut clients = server.clients().await;
    // Admitted because nothing was used before; owed for five minutes.
    add_many(&mut clients, "KIND", 300).await;
    assert_eq!(quota_of(try_add(&mut clients, "1").await), "events");
    let answer = add_by_futoin(&server).await;
    assert!(answer.contains(r#""e":"DefenseRejected""#), "{answer}");
    // Other calls go on, and nothing was stored by these.
    let state = clients.admin.get_status(GetStatusRequest::default()).await;
    assert_eq!(state.expect("answered").into_inner().head_id, 300);
    let name = r#"eventstream_quota_refusals_total{what="events"}"#;
    let refusals = metric(&server, name).await;
    assert!((refusals - 2.0).abs() < 0.5, "{refusals}");
}

#[tokio::test]
async fn bytes_are_of_type_and_data() {
    let server = limited("--limits-user-bytes=10B").await;
    let mut clients = server.clients().await;
    let large = format!("\"{}\"", "x".repeat(100_000));
    try_add(&mut clients, &large).await.expect("admitted");
    assert_eq!(quota_of(try_add(&mut clients, "1").await), "bytes");
}

#[tokio::test]
async fn calls_are_counted_and_acknowledgements_are_free() {
    let server = limited("--limits-user-calls=1").await;
    let mut clients = server.clients().await;
    let id = eventually(async || try_add(&mut clients, "1").await).await;
    eventually(async || {
        let request = RegisterConsumerRequest {
            component: "SHOP".into(),
            start: after(0),
        };
        clients.poll.register_consumer(request).await
    })
    .await;
    // However slow they are, not one a second.
    let asked = (0..200).map(|_| {
        let mut admin = clients.admin.clone();
        async move { admin.get_status(GetStatusRequest::default()).await }
    });
    let answers = futures_util::future::join_all(asked).await;
    let refused = answers.into_iter().find(Result::is_err).expect("refused");
    assert_eq!(quota_of(refused), "calls");
    ack(&mut clients, "SHOP", id, None).await.expect("taken");
}

#[tokio::test]
async fn streams_are_counted_while_they_are_open() {
    let server = limited("--limits-user-streams=1").await;
    let mut clients = server.clients().await;
    let (_, mut stream) = subscribe(&mut clients, ready("LIVE")).await;
    assert_eq!(
        quota_of(clients.push.ready_to_receive(ready("LIVE")).await),
        "streams"
    );
    let id = add(&mut clients, "KIND", "1").await;
    assert_eq!(next_group(&mut stream).await.last_id, id);
    drop(stream);
    eventually(async || clients.push.ready_to_receive(ready("LIVE")).await).await;
}
