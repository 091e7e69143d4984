//! Ids that appear below the frontier against the contract, and skips.

use sqlx::Row as _;
use tonic::Code;

use super::{
    Cluster,
    cluster::{insert, run},
    stage::Stage,
};
use crate::{
    calls::{ack, consumer, end_of, metric, problem, refused, skip},
    round_trip::{ready, register, subscribe},
    server::Clients,
};

#[tokio::test]
async fn chosen_id_below_the_frontier_is_an_alarm_and_moves_consumers_back() {
    let database = Cluster::shared().database().await;
    let server = database
        .server()
        .arg("--stream-sentinel-interval=100ms")
        .arg("--stream-late-policy=rewind")
        .start()
        .await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let mut session = database.session().await;
    run(&mut session, "BEGIN").await;
    let dead = insert(&mut session).await;
    run(&mut session, "ROLLBACK").await;
    let next = insert(&mut session).await;
    let group = crate::round_trip::next_group(&mut stream).await;
    assert_eq!(group.last_id, next);
    ack(&mut clients, "SHOP", next, None)
        .await
        .expect("acknowledged");
    let late =
        format!("INSERT INTO evt_queue (id, type, data, ts) VALUES ({dead}, 'T', '1', NOW())");
    run(&mut session, &late).await;
    let end = end_of(&mut stream).await;
    refused::<()>(Err(end), Code::FailedPrecondition, "STALE_EPOCH");
    assert_eq!(consumer(&mut clients, "SHOP").await.position, dead - 1);
    let told = problem(&mut clients).await;
    assert!(told.contains("names its id"), "{told}");
    let late = "eventstream_late_events_total{database=\"mysql\"}";
    assert!((metric(&server, late).await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn skip_passes_an_open_transaction_and_its_late_commit_is_told() {
    let mut stage = Stage::open().await;
    let mut hung = stage.transaction().await;
    let given_up = insert(&mut hung).await;
    let kept = insert(&mut stage.database.session().await).await;
    stage.stays(given_up - 1).await;
    let skipped = skip(&mut stage.clients, kept).await.expect("skipped");
    assert_eq!(skipped.frontier_before_id, given_up - 1);
    assert_eq!(skipped.frontier_after_id, kept);
    let row = sqlx::query("SELECT CAST(CONNECTION_ID() AS CHAR) AS id").fetch_one(&mut hung);
    let session: String = row.await.expect("read").get("id");
    let named = skipped.blockers.iter().any(|one| one.session == session);
    assert!(named, "{skipped:?}");
    stage.expect(&[kept]).await;
    let next = insert(&mut stage.database.session().await).await;
    stage.expect(&[next]).await;
    // A second replica obeys, and tells of the commit as well.
    let quick = "--stream-sentinel-interval=100ms";
    let other = stage.database.server().arg(quick).start().await;
    let mut clients: Clients = other.clients().await;
    assert_eq!(crate::calls::status(&mut clients).await.frontier_id, next);
    crate::calls::until_watched(&other).await;
    run(&mut hung, "COMMIT").await;
    let told = problem(&mut clients).await;
    assert!(told.contains("given up by a skip"), "{told}");
}
