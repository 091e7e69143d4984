//! What the log says of administrators and of refusals.

use futoin_eventstream::{limits, proto::SeekConsumerRequest};
use serde_json::Value;
use tonic::Code;

use super::stage::{guarded, several};
use crate::{
    calls::{after, poll_of, refused, skip},
    futoin::client,
    round_trip::register,
    server::{Server, eventually},
};

/// The audit lines so far.
fn audited(server: &Server) -> Vec<Value> {
    let lines = server.log();
    let entries = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.filter(|entry| entry["target"] == "audit").collect()
}

/// The one line about this, when it has come.
pub async fn line(server: &Server, action: &str, user: &str) -> Value {
    eventually(async || {
        let mut lines = audited(server).into_iter();
        let found = lines.find(|entry| entry["action"] == action && entry["user"] == user);
        found.ok_or_else(|| server.log())
    })
    .await
}

#[tokio::test]
async fn acts_of_administrators_are_logged() {
    let server = guarded(&several()).start().await;
    let (mut ops, mut all) = (
        server.clients_of("ops").await,
        server.clients_of("all").await,
    );
    register(&mut all, "SHOP").await;
    let seek = |component: &str| SeekConsumerRequest {
        component: component.into(),
        user: "all".into(),
        start: after(0),
    };
    ops.admin.seek_consumer(seek("SHOP")).await.expect("sought");
    let entry = line(&server, "seek", "ops").await;
    assert_eq!(entry["outcome"], "done", "{entry}");
    assert!(
        entry["what"]
            .as_str()
            .expect("text")
            .starts_with("all:SHOP to ")
    );

    // What failed is told with its reason, and so is who was not let.
    let missing = skip(&mut ops, 99).await;
    assert!(missing.is_err());
    let entry = line(&server, "skip the frontier", "ops").await;
    assert_eq!(
        (&entry["outcome"], &entry["what"]),
        (&"failed".into(), &"to 99".into())
    );
    refused(
        all.admin
            .seek_consumer(SeekConsumerRequest {
                user: "shop".into(),
                ..seek("WEB")
            })
            .await,
        Code::PermissionDenied,
        "NOT_ALLOWED",
    );
    let entry = line(&server, "administer", "all").await;
    assert_eq!(entry["outcome"], "refused");
    assert_eq!(entry["reason"], "user all may not change consumer shop:WEB");
    // Reading is no act.
    assert!(
        audited(&server)
            .iter()
            .all(|entry| entry["action"] != "poll")
    );
}

#[tokio::test]
async fn refusals_are_all_counted_and_not_all_logged() {
    let server = guarded(&several()).start().await;
    let mut stranger = server.clients_of("hunter2").await;
    let count = u64::from(limits::LOGGED_REFUSALS) * 3;
    for _ in 0..count {
        let polled = stranger.poll.poll_events(poll_of("LIVE")).await;
        refused(polled, Code::Unauthenticated, "UNAUTHENTICATED");
    }
    let seen = client::request(
        server.http_address(),
        "GET",
        "/metrics",
        &[("authorization", "Bearer eye")],
        b"",
    )
    .await;
    let counted = format!("eventstream_refusals_total{{reason=\"unauthenticated\"}} {count}");
    assert!(seen.text().contains(&counted), "{}", seen.text());
    // A new interval may begin in between, if the machine is slow.
    let lines = audited(&server).len();
    assert!(lines > 0 && (lines as u64) < count, "{lines}");
    assert!(server.log().iter().all(|line| !line.contains("hunter2")));
}
