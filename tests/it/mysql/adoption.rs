//! The first proof of a table that was there before the service.

use super::{
    Cluster, Database,
    cluster::{LockMode, Offer, insert, run},
    contract::ORIGINAL,
    stage::Stage,
};

/// A table of the original with `count` events more than the one of the open
/// transaction below them, which is the session.
async fn adopted(mode: LockMode, count: i64) -> (Database, sqlx::MySqlConnection, i64) {
    let database = Cluster::of(Offer::Plugin, mode).database().await;
    database.run(ORIGINAL).await;
    let mut late = database.session().await;
    run(&mut late, "BEGIN").await;
    let open = insert(&mut late).await;
    let many = format!(
        "INSERT INTO evt_queue (type, data, ts) SELECT 'T', 1, now() FROM seq_1_to_{count}"
    );
    database.run(&many).await;
    (database, late, open)
}

#[tokio::test]
async fn transaction_that_owns_a_low_id_holds_an_adopted_table() {
    for mode in [LockMode::Consecutive, LockMode::Interleaved] {
        let (database, mut late, open) = adopted(mode, 3).await;
        let mut stage = Stage::on(database).await;
        stage.stays(open - 1).await;
        run(&mut late, "COMMIT").await;
        stage.expect(&[open, open + 1, open + 2, open + 3]).await;
    }
}

#[tokio::test]
async fn prepared_transaction_holds_an_adopted_table() {
    let database = Cluster::shared().database().await;
    database.run(ORIGINAL).await;
    let name = database.name.clone();
    let mut session = database.session().await;
    run(&mut session, &format!("XA START '{name}'")).await;
    let open = insert(&mut session).await;
    run(
        &mut session,
        &format!("XA END '{name}'; XA PREPARE '{name}'"),
    )
    .await;
    let above = insert(&mut database.session().await).await;
    let mut stage = Stage::on(database).await;
    stage.stays(open - 1).await;
    run(&mut session, &format!("XA COMMIT '{name}'")).await;
    stage.expect(&[open, above]).await;
}

/// Counting would not see it: one row is missing in each read.
#[tokio::test]
async fn row_that_is_being_deleted_does_not_make_up_for_an_open_one() {
    let database = Cluster::shared().database().await;
    database.run(ORIGINAL).await;
    let mut session = database.session().await;
    let low = insert(&mut session).await;
    let mut late = database.session().await;
    run(&mut late, "BEGIN").await;
    let open = insert(&mut late).await;
    let high = insert(&mut session).await;
    run(
        &mut session,
        &format!("BEGIN; DELETE FROM evt_queue WHERE id = {high}"),
    )
    .await;
    let mut stage = Stage::on(database).await;
    stage.stays(low).await;
    run(&mut late, "COMMIT").await;
    run(&mut session, "ROLLBACK").await;
    stage.expect(&[low, open, high]).await;
}

#[tokio::test]
async fn large_adopted_table_is_proven_in_steps() {
    // More than one proof takes.
    let (database, late, open) = adopted(LockMode::Interleaved, 230_000).await;
    drop(late);
    let mut stage = Stage::on(database).await;
    let clients = stage.clients.clone();
    let head = crate::server::eventually(async || {
        let found = crate::calls::status(&mut clients.clone()).await;
        if found.frontier_id == found.head_id && found.head_id > open + 200_000 {
            return Ok(found.head_id);
        }
        Err(found)
    })
    .await;
    let next = insert(&mut stage.database.session().await).await;
    assert!(next > head);
    stage.reaches(next).await;
    // The gap of what the first transaction rolled back is no hole.
    let group = crate::round_trip::next_group(&mut stage.stream).await;
    assert_eq!(group.events[0].id, open + 1);
}
