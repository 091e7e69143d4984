//! Adversarial cases, by their numbers in the catalogue.

use sqlx::Row as _;

use super::{
    Cluster,
    cluster::{draw, insert, insert_at, insert_into, pid, run},
    stage::Stage,
};
use crate::{calls::end_of, server::eventually};

#[tokio::test]
async fn case_01_late_commit_of_a_lower_id() {
    late_commit(&mut Stage::open().await).await;
}

pub async fn late_commit(stage: &mut Stage) {
    let mut late = stage.transaction().await;
    let first = insert(&mut late).await;
    let second = insert(&mut stage.database.session().await).await;
    let status = stage.status().await;
    assert_eq!((status.frontier_id, status.head_id), (first - 1, second));
    let [blocker] = &status.blockers[..] else {
        panic!("one transaction holds it back: {status:?}");
    };
    assert!(!blocker.prepared && blocker.client.contains("postgres"));
    run(&mut late, "COMMIT").await;
    stage.expect(&[first, second]).await;
    let status = stage.status().await;
    assert_eq!(status.frontier_id, second);
    assert!(status.blockers.is_empty(), "{status:?}");
}

#[tokio::test]
async fn case_02_rollback_leaves_a_gap() {
    rollback_gap(&mut Stage::open().await).await;
}

pub async fn rollback_gap(stage: &mut Stage) {
    let mut session = stage.transaction().await;
    insert(&mut session).await;
    run(&mut session, "ROLLBACK").await;
    let kept = insert(&mut session).await;
    stage.expect(&[kept]).await;
    stage.expect_frontier(kept).await;
}

#[tokio::test]
async fn case_03_first_event_of_a_fresh_table() {
    let mut stage = Stage::open().await;
    stage.expect_frontier(0).await;
    let mut first = stage.transaction().await;
    assert_eq!(insert(&mut first).await, 1);
    stage.expect_frontier(0).await;
    run(&mut first, "COMMIT").await;
    stage.expect(&[1]).await;
}

#[tokio::test]
async fn case_04_prepared_transaction_whose_session_is_gone() {
    let mut stage = Stage::open().await;
    let mut session = stage.transaction().await;
    let first = insert(&mut session).await;
    stage.expect_frontier(first - 1).await;
    let name = stage.database.name.clone();
    run(&mut session, &format!("PREPARE TRANSACTION '{name}'")).await;
    drop(session);
    let mut other = stage.database.session().await;
    let second = insert(&mut other).await;
    let status = stage.status().await;
    assert_eq!(status.frontier_id, first - 1);
    assert!(status.blockers[0].prepared, "{status:?}");
    assert_eq!(status.blockers[0].session, name);
    run(&mut other, &format!("COMMIT PREPARED '{name}'")).await;
    stage.expect(&[first, second]).await;
}

#[tokio::test]
async fn case_04_prepared_before_the_service_starts() {
    let database = Cluster::shared().database().await;
    drop(database.server().start().await);
    let mut session = database.session().await;
    run(&mut session, "BEGIN").await;
    let first = insert(&mut session).await;
    let name = database.name.clone();
    run(&mut session, &format!("PREPARE TRANSACTION '{name}'")).await;
    let second = insert(&mut session).await;
    let mut stage = Stage::on(database).await;
    stage.expect_frontier(0).await;
    run(&mut session, &format!("COMMIT PREPARED '{name}'")).await;
    stage.expect(&[first, second]).await;
}

#[tokio::test]
async fn case_05_slow_expression_between_id_and_row() {
    let mut stage = Stage::open().await;
    let mut gate = stage.database.session().await;
    run(&mut gate, "SELECT pg_advisory_lock(5)").await;
    let mut slow = stage.database.session().await;
    let inserting = tokio::spawn(async move {
        run(
            &mut slow,
            "INSERT INTO evt_queue (type, data, ts) VALUES ('T',
             CASE WHEN pg_advisory_lock_shared(5) IS NULL THEN '1'::json ELSE '2'::json END, now())",
        )
        .await;
    });
    // The id is drawn before the expression waits.
    let clients = stage.clients.clone();
    eventually(
        async || match crate::calls::status(&mut clients.clone()).await.head_id {
            1 => Ok(()),
            head => Err(head),
        },
    )
    .await;
    let second = insert(&mut stage.database.session().await).await;
    stage.expect_frontier(0).await;
    run(&mut gate, "SELECT pg_advisory_unlock(5)").await;
    inserting.await.expect("inserted");
    stage.expect(&[1, second]).await;
}

#[tokio::test]
async fn case_07_id_drawn_in_an_earlier_statement_is_caught_by_the_sentinel() {
    let mut stage = Stage::open_with(&["--stream-sentinel-interval=100ms"]).await;
    let mut session = stage.database.session().await;
    let drawn = draw(&mut session).await;
    let next = insert(&mut stage.database.session().await).await;
    stage.expect(&[next]).await;
    insert_at(&mut session, drawn).await;
    let problem = crate::calls::problem(&mut stage.clients).await;
    assert!(
        problem.contains(&format!("frontier: {drawn} ")),
        "{problem}"
    );
    assert!(
        problem.contains("nextval() in an earlier statement"),
        "{problem}"
    );
}

#[tokio::test]
async fn case_08_lock_freed_by_a_savepoint_frees_dead_ids_only() {
    let mut stage = Stage::open().await;
    let mut long = stage.transaction().await;
    run(&mut long, "SAVEPOINT s").await;
    insert(&mut long).await;
    run(&mut long, "ROLLBACK TO s").await;
    let mut other = stage.database.session().await;
    let second = insert(&mut other).await;
    stage.expect(&[second]).await;
    let third = insert(&mut long).await;
    let fourth = insert(&mut other).await;
    stage.expect_frontier(second).await;
    run(&mut long, "COMMIT").await;
    stage.expect(&[third, fourth]).await;
}

#[tokio::test]
async fn case_09_terminated_writer_frees_what_it_held() {
    let mut stage = Stage::open().await;
    let mut victim = stage.transaction().await;
    let pid = sqlx::query("SELECT pg_backend_pid() AS pid").fetch_one(&mut victim);
    let pid: i32 = pid.await.expect("read").get("pid");
    let first = insert(&mut victim).await;
    let mut other = stage.database.session().await;
    let second = insert(&mut other).await;
    stage.expect_frontier(first - 1).await;
    run(&mut other, &format!("SELECT pg_terminate_backend({pid})")).await;
    stage.expect(&[second]).await;
}

#[tokio::test]
async fn case_09_terminated_connections_of_the_service_lose_nothing() {
    let mut stage = Stage::open().await;
    let mut late = stage.transaction().await;
    let first = insert(&mut late).await;
    let mut other = stage.database.session().await;
    let second = insert(&mut other).await;
    stage.expect_frontier(first - 1).await;
    run(
        &mut other,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE 'eventstream%'",
    )
    .await;
    let end = end_of(&mut stage.stream).await;
    assert_eq!(end.code(), tonic::Code::Unavailable, "{end:?}");
    let mut clients = stage.clients.clone();
    eventually(async || {
        let request = futoin_eventstream::proto::GetStatusRequest {};
        clients.admin.get_status(request).await.map(drop)
    })
    .await;
    stage.expect_frontier(first - 1).await;
    stage.subscribe().await;
    run(&mut late, "COMMIT").await;
    stage.expect(&[first, second]).await;
}

#[tokio::test]
async fn case_10_unrelated_transactions_hold_nothing_back() {
    let mut stage = Stage::open().await;
    let kept = insert(&mut stage.database.session().await).await;
    stage.expect(&[kept]).await;
    stage.database.run("CREATE TABLE other (n int)").await;
    let mut open = Vec::new();
    for sql in [
        "INSERT INTO other VALUES (1)",
        "SELECT count(*) FROM evt_queue",
        "SELECT id FROM evt_queue FOR UPDATE",
        "ANALYZE evt_queue",
    ] {
        let mut session = stage.transaction().await;
        run(&mut session, sql).await;
        open.push(session);
    }
    rollback_gap(&mut stage).await;
    // A DELETE holds the lock of a writer: only dead ids wait for it.
    drop(open);
    let mut deleting = stage.transaction().await;
    run(&mut deleting, "DELETE FROM evt_queue WHERE id = 0").await;
    let mut other = stage.database.session().await;
    let next = insert(&mut other).await;
    stage.expect(&[next]).await;
    run(&mut other, "BEGIN").await;
    insert(&mut other).await;
    run(&mut other, "ROLLBACK").await;
    let behind_a_gap = insert(&mut other).await;
    stage.expect_frontier(next).await;
    run(&mut deleting, "ROLLBACK").await;
    stage.expect(&[behind_a_gap]).await;
}

#[tokio::test]
async fn case_11_repeatable_read_as_the_default_of_the_server() {
    let database = Cluster::shared().database().await;
    let name = &database.name;
    let sql = format!(
        "ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read';
         ALTER DATABASE {name} SET default_transaction_read_only = on;
         ALTER DATABASE {name} SET TimeZone = 'Asia/Tokyo'"
    );
    database.run(&sql).await;
    let mut stage = Stage::on(database).await;
    let name = &stage.database.name;
    let sql = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    let mut admin = stage.database.session().await;
    run(&mut admin, &format!("BEGIN READ WRITE; {sql}; COMMIT")).await;
    late_commit(&mut stage).await;
    rollback_gap(&mut stage).await;
}

#[tokio::test]
async fn case_13_direct_insert_into_a_partition() {
    let database = Cluster::shared().database().await;
    database
        .run(
            "CREATE SEQUENCE evt_queue_id_seq;
             CREATE TABLE evt_queue (
                id bigint NOT NULL DEFAULT nextval('evt_queue_id_seq') PRIMARY KEY,
                type varchar(16) NOT NULL, data json NOT NULL, ts timestamp NOT NULL
             ) PARTITION BY RANGE (id);
             ALTER SEQUENCE evt_queue_id_seq OWNED BY evt_queue.id;
             CREATE TABLE evt_queue_p1 PARTITION OF evt_queue FOR VALUES FROM (0) TO (1000000)",
        )
        .await;
    let mut stage = Stage::on(database).await;
    let mut late = stage.transaction().await;
    let first = insert_into(&mut late, "evt_queue_p1").await;
    let second = insert(&mut stage.database.session().await).await;
    stage.expect_frontier(first - 1).await;
    run(&mut late, "COMMIT").await;
    stage.expect(&[first, second]).await;
}

#[tokio::test]
async fn case_16_truncation_with_restart_of_the_ids_is_an_alarm() {
    let mut stage = Stage::open().await;
    let mut session = stage.database.session().await;
    let ids = [insert(&mut session).await, insert(&mut session).await];
    stage.expect(&ids).await;
    crate::calls::ack(&mut stage.clients, "SHOP", ids[1], None)
        .await
        .expect("acknowledged");
    run(&mut session, "TRUNCATE evt_queue RESTART IDENTITY").await;
    let clients = stage.clients.clone();
    let problem = eventually(async || {
        let request = futoin_eventstream::proto::GetStatusRequest {};
        let status = clients.clone().admin.get_status(request).await;
        let status = status.map_err(|error| error.to_string())?.into_inner();
        if status.stopped_consumers.is_empty() {
            return Err("nobody is stopped".to_owned());
        }
        Ok(status.problem)
    })
    .await;
    assert!(problem.contains("restored"), "{problem}");
}

#[tokio::test]
async fn case_18_more_locks_than_the_fast_path_has() {
    let mut stage = Stage::open().await;
    let tables: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    for table in &tables {
        stage
            .database
            .run(&format!("CREATE TABLE {table} (n int)"))
            .await;
    }
    let mut late = stage.transaction().await;
    for table in &tables {
        run(&mut late, &format!("INSERT INTO {table} VALUES (1)")).await;
    }
    let first = insert(&mut late).await;
    let second = insert(&mut stage.database.session().await).await;
    stage.expect_frontier(first - 1).await;
    run(&mut late, "COMMIT").await;
    stage.expect(&[first, second]).await;
}

#[tokio::test]
async fn case_19_full_pages_and_a_full_buffer_behind_a_gap() {
    const MANY: i64 = 25_000;
    let mut stage = Stage::open().await;
    let mut late = stage.transaction().await;
    let first = insert(&mut late).await;
    let mut other = stage.database.session().await;
    run(
        &mut other,
        &format!(
            "INSERT INTO evt_queue (type, data, ts)
             SELECT 'T', '1', now() FROM generate_series(1, {MANY})"
        ),
    )
    .await;
    // Looks until the buffer is full, and one more.
    for _ in 0..30 {
        stage.expect_frontier(first - 1).await;
    }
    run(&mut late, "COMMIT").await;
    let mut seen = Vec::new();
    while seen.last() != Some(&(first + MANY)) {
        let group = crate::round_trip::next_group(&mut stage.stream).await;
        seen.extend(group.events.iter().map(|event| event.id));
        crate::calls::ack(&mut stage.clients, "SHOP", group.last_id, None)
            .await
            .expect("acknowledged");
    }
    assert_eq!(seen, (first..=first + MANY).collect::<Vec<_>>());
}

#[tokio::test]
async fn case_20_long_transactions_related_and_unrelated() {
    let mut stage = Stage::open().await;
    stage.database.run("CREATE TABLE other (n int)").await;
    let mut unrelated = stage.transaction().await;
    run(&mut unrelated, "INSERT INTO other VALUES (1)").await;
    let mut session = stage.transaction().await;
    let dead = insert(&mut session).await;
    run(&mut session, "ROLLBACK").await;
    // Seen before the related transaction begins, so that it cannot own it.
    stage.expect_frontier(dead).await;
    let mut related = stage.transaction().await;
    let owned = insert(&mut related).await;
    let behind = insert(&mut session).await;
    let status = stage.status().await;
    assert_eq!((status.frontier_id, status.held_id), (dead, owned));
    let named: Vec<&str> = status.blockers.iter().map(|one| &*one.session).collect();
    assert_eq!(named, [pid(&mut related).await.to_string()]);
    run(&mut related, "COMMIT").await;
    stage.expect(&[owned, behind]).await;
    run(&mut unrelated, "COMMIT").await;
}
