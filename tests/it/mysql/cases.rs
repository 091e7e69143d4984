//! Adversarial cases, by their numbers in the catalogue.

use sqlx::{MySqlConnection, Row as _};

use super::{
    Cluster,
    cluster::{LockMode, connect, insert, run},
    stage::{EVERYWHERE, Evidence, Stage},
    window::{Window, in_background},
};
use crate::{
    calls::{end_of, status},
    server::eventually,
};

/// Plays a case with each evidence and in each lock mode.
async fn everywhere(case: impl AsyncFn(&mut Stage)) {
    for (evidence, mode) in EVERYWHERE {
        let mut stage = Stage::with(evidence, mode).await;
        case(&mut stage).await;
    }
}

#[tokio::test]
async fn case_01_late_commit_of_a_lower_id() {
    everywhere(late_commit).await;
}

async fn late_commit(stage: &mut Stage) {
    let mut late = stage.transaction().await;
    let first = insert(&mut late).await;
    let second = insert(&mut stage.database.session().await).await;
    stage.stays(first - 1).await;
    assert_eq!(stage.status().await.head_id, second);
    run(&mut late, "COMMIT").await;
    stage.expect(&[first, second]).await;
    stage.reaches(second).await;
    let status = stage.status().await;
    assert!(status.blockers.is_empty(), "{status:?}");
}

#[tokio::test]
async fn case_01_blocking_session_is_named() {
    for evidence in [Evidence::Plugin, Evidence::Schema, Evidence::List] {
        let mut stage = Stage::with(evidence, LockMode::Consecutive).await;
        let mut late = stage.transaction().await;
        let first = insert(&mut late).await;
        insert(&mut stage.database.session().await).await;
        let row = sqlx::query("SELECT CAST(CONNECTION_ID() AS CHAR) AS id").fetch_one(&mut late);
        let session: String = row.await.expect("read").get("id");
        stage.reaches(first - 1).await;
        let clients = stage.clients.clone();
        let (found, all) = eventually(async || {
            let blockers = status(&mut clients.clone()).await.blockers;
            match blockers.iter().find(|one| one.session == session) {
                Some(found) => Ok((found.clone(), blockers.len())),
                None => Err(blockers),
            }
        })
        .await;
        assert!(
            !found.prepared && found.client.contains("root@"),
            "{found:?}"
        );
        if evidence != Evidence::List {
            assert_eq!(all, 1);
        }
    }
}

#[tokio::test]
async fn case_02_rollback_leaves_a_gap() {
    everywhere(rollback_gap).await;
}

async fn rollback_gap(stage: &mut Stage) {
    let mut session = stage.transaction().await;
    insert(&mut session).await;
    run(&mut session, "ROLLBACK").await;
    let kept = insert(&mut session).await;
    stage.expect(&[kept]).await;
    stage.reaches(kept).await;
}

#[tokio::test]
async fn case_03_multi_row_insert_that_waits_between_its_rows() {
    everywhere(async |stage| {
        let gate = stage.gate().await;
        let first = stage.next_id().await;
        let slow = in_background(
            stage,
            "INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', now()),
                ('T', IF(GET_LOCK(DATABASE(), 60), '2', ''), now()), ('T', '3', now())",
        )
        .await;
        stage.at_the_gate().await;
        let other = insert(&mut stage.database.session().await).await;
        assert_eq!(
            other,
            first + 3,
            "all ids of a statement are given out at once"
        );
        stage.stays(first - 1).await;
        drop(gate);
        slow.await.expect("inserted");
        stage.expect(&[first, first + 1, first + 2, other]).await;
    })
    .await;
}

/// In lock mode 1 nobody else gets an id before such a statement has ended.
#[tokio::test]
async fn case_04_slow_insert_from_select() {
    for evidence in [Evidence::Plugin, Evidence::Schema, Evidence::List] {
        let mut stage = Stage::with(evidence, LockMode::Interleaved).await;
        let gate = stage.gate().await;
        let first = stage.next_id().await;
        let slow = in_background(
            &stage,
            "INSERT INTO evt_queue (type, data, ts)
             SELECT 'T', IF(seq = 4, GET_LOCK(DATABASE(), 60), 1), now() FROM seq_1_to_5",
        )
        .await;
        stage.at_the_gate().await;
        let other = insert(&mut stage.database.session().await).await;
        stage.stays(first - 1).await;
        drop(gate);
        slow.await.expect("inserted");
        let mut rows = ids(&stage, "").await;
        rows.sort_unstable();
        assert!(rows.len() == 6 && rows.contains(&other), "{rows:?}");
        stage.expect(&rows).await;
    }
}

#[tokio::test]
async fn case_05_slow_trigger_after_each_row() {
    everywhere(async |stage| {
        stage
            .database
            .run(
                "CREATE TABLE audit (id BIGINT);
                 CREATE TRIGGER audit AFTER INSERT ON evt_queue FOR EACH ROW BEGIN
                    INSERT INTO audit VALUES (NEW.id);
                    IF NEW.type = 'SLOW' THEN DO GET_LOCK(DATABASE(), 60); END IF;
                    INSERT INTO audit VALUES (NEW.id);
                 END",
            )
            .await;
        let gate = stage.gate().await;
        let first = stage.next_id().await;
        let slow = in_background(
            stage,
            "INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', now()),
                ('SLOW', '2', now()), ('T', '3', now())",
        )
        .await;
        stage.at_the_gate().await;
        let other = insert(&mut stage.database.session().await).await;
        stage.stays(first - 1).await;
        drop(gate);
        slow.await.expect("inserted");
        stage.expect(&[first, first + 1, first + 2, other]).await;
    })
    .await;
}

#[tokio::test]
async fn case_06_prepared_transaction_whose_session_is_gone() {
    everywhere(async |stage| {
        let name = stage.database.name.clone();
        let mut session = stage.database.session().await;
        run(&mut session, &format!("XA START '{name}'")).await;
        let first = insert(&mut session).await;
        run(
            &mut session,
            &format!("XA END '{name}'; XA PREPARE '{name}'"),
        )
        .await;
        drop(session);
        let mut other = stage.database.session().await;
        let second = insert(&mut other).await;
        stage.stays(first - 1).await;
        let status = stage.status().await;
        let prepared = status.blockers.iter().find(|one| one.session == name);
        assert!(prepared.is_some_and(|one| one.prepared), "{status:?}");
        // The server may still be about to give it away.
        eventually(async || {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("XA COMMIT '{name}'")))
                .execute(&mut other)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .await;
        stage.expect(&[first, second]).await;
    })
    .await;
}

#[tokio::test]
async fn case_07_trigger_of_another_table() {
    everywhere(async |stage| {
        stage
            .database
            .run(
                "CREATE TABLE orders (n INT); CREATE TABLE audit (n INT);
                 CREATE TRIGGER event AFTER INSERT ON orders FOR EACH ROW BEGIN
                    INSERT INTO audit VALUES (NEW.n);
                    INSERT INTO evt_queue (type, data, ts) VALUES ('T', NEW.n, now());
                 END",
            )
            .await;
        held_between_id_and_row(stage, "INSERT INTO orders VALUES (1), (2)", 2).await;
    })
    .await;
}

#[tokio::test]
async fn case_08_procedure() {
    everywhere(async |stage| {
        stage
            .database
            .run(
                "CREATE PROCEDURE add_event() BEGIN
                    SELECT 1; INSERT INTO evt_queue (type, data, ts) VALUES ('T', 1, now());
                 END",
            )
            .await;
        held_between_id_and_row(stage, "CALL add_event()", 1).await;
    })
    .await;
}

#[tokio::test]
async fn case_09_event_scheduler() {
    everywhere(async |stage| {
        let url = stage.database.url.clone();
        let window = Window::open(stage, async || {
            run(
                &mut connect(&url).await,
                "CREATE EVENT now_and_never_again ON SCHEDULE AT CURRENT_TIMESTAMP
                 DO INSERT INTO evt_queue (type, data, ts) VALUES ('T', 1, now())",
            )
            .await;
        });
        let window = window.await;
        let (hidden, visible) = (window.hidden, window.visible);
        stage.stays(hidden - 1).await;
        window.close().await;
        stage.expect(&[hidden, visible]).await;
    })
    .await;
}

/// A statement that inserts `count` events is held where its first id has no
/// row yet.
async fn held_between_id_and_row(stage: &mut Stage, sql: &str, count: i64) {
    let mut waiting = None;
    let window = Window::open(stage, async || {
        waiting = Some(in_background(stage, sql).await);
    });
    let window = window.await;
    let (hidden, visible) = (window.hidden, window.visible);
    stage.stays(hidden - 1).await;
    window.close().await;
    waiting.expect("it waited").await.expect("inserted");
    let mut rows: Vec<i64> = vec![hidden, visible];
    rows.extend(visible + 1..visible + count);
    stage.expect(&rows).await;
}

#[tokio::test]
async fn case_10_unrelated_work_holds_nothing_back() {
    for (evidence, mode) in EVERYWHERE {
        let mut stage = Stage::with(evidence, mode).await;
        let kept = insert(&mut stage.database.session().await).await;
        stage.expect(&[kept]).await;
        stage.database.run("CREATE TABLE other (n int)").await;
        let mut open = Vec::new();
        for sql in [
            "INSERT INTO other VALUES (1)",
            "DELETE FROM evt_queue WHERE id = 0",
            "SELECT COUNT(*) FROM evt_queue",
            "SELECT id FROM evt_queue WHERE id = 1 FOR UPDATE",
        ] {
            let mut session = stage.transaction().await;
            run(&mut session, sql).await;
            open.push(session);
        }
        let gate = stage.gate().await;
        let slow = in_background(&stage, "INSERT INTO other SELECT GET_LOCK(DATABASE(), 60)").await;
        stage.at_the_gate().await;
        rollback_gap(&mut stage).await;
        // The list of processes does not tell what a statement works on.
        if evidence == Evidence::List {
            drop(gate);
        } else {
            let reading = "DO (SELECT GET_LOCK(DATABASE(), 60) FROM evt_queue LIMIT 1)";
            let reading = in_background(&stage, reading).await;
            // Behind the other one it has no state of its own.
            stage
                .until_some("INFO LIKE 'DO %evt_queue%' AND STATE <> ''")
                .await;
            rollback_gap(&mut stage).await;
            drop(gate);
            reading.await.expect("read");
        }
        slow.await.expect("written");
    }
}

#[tokio::test]
async fn case_11_killed_writer_frees_what_it_held() {
    everywhere(async |stage| {
        let mut victim = stage.transaction().await;
        let thread = connection_id(&mut victim).await;
        let first = insert(&mut victim).await;
        let mut other = stage.database.session().await;
        let second = insert(&mut other).await;
        stage.stays(first - 1).await;
        run(&mut other, &format!("KILL CONNECTION {thread}")).await;
        stage.expect(&[second]).await;
        stage.reaches(second).await;
    })
    .await;
}

#[tokio::test]
async fn case_11_killed_statement_between_id_and_row() {
    everywhere(async |stage| {
        let mut victim = stage.database.session().await;
        let thread = connection_id(&mut victim).await;
        let mut waiting = None;
        let window = Window::open(stage, async || {
            waiting = Some(tokio::spawn(async move {
                let sql = "INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', now())";
                sqlx::raw_sql(sql).execute(&mut victim).await.map(drop)
            }));
        });
        let window = window.await;
        let (hidden, visible) = (window.hidden, window.visible);
        stage.stays(hidden - 1).await;
        stage.database.run(&format!("KILL QUERY {thread}")).await;
        let outcome = waiting.expect("it waited").await.expect("no panic");
        outcome.expect_err("it was killed");
        stage.expect(&[visible]).await;
        window.close().await;
    })
    .await;
}

#[tokio::test]
async fn case_11_killed_connections_of_the_service_lose_nothing() {
    let mut stage = Stage::open().await;
    let mut late = stage.transaction().await;
    let first = insert(&mut late).await;
    let mut other = stage.database.session().await;
    let second = insert(&mut other).await;
    stage.stays(first - 1).await;
    let (ours, theirs) = (
        connection_id(&mut late).await,
        connection_id(&mut other).await,
    );
    let sql = format!(
        "SELECT ID AS id FROM information_schema.PROCESSLIST
         WHERE DB = DATABASE() AND ID NOT IN ({ours}, {theirs})"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut other);
    for row in rows.await.expect("read") {
        let id: i64 = row.get_unchecked("id");
        let kill = format!("KILL CONNECTION {id}");
        // Some end by themselves.
        let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(kill))
            .execute(&mut other)
            .await;
    }
    let end = end_of(&mut stage.stream).await;
    assert_eq!(end.code(), tonic::Code::Unavailable, "{end:?}");
    back(&mut stage).await;
    stage.stays(first - 1).await;
    run(&mut late, "COMMIT").await;
    stage.expect(&[first, second]).await;
}

/// The service works again, and is subscribed to again.
async fn back(stage: &mut Stage) {
    let clients = stage.clients.clone();
    eventually(async || {
        let request = futoin_eventstream::proto::GetStatusRequest {};
        clients.clone().admin.get_status(request).await.map(drop)
    })
    .await;
    stage.subscribe().await;
}

#[tokio::test]
async fn case_12_rollback_to_a_savepoint() {
    everywhere(async |stage| {
        let mut long = stage.transaction().await;
        let first = insert(&mut long).await;
        run(&mut long, "SAVEPOINT s").await;
        insert(&mut long).await;
        run(&mut long, "ROLLBACK TO s").await;
        let mut other = stage.database.session().await;
        let third = insert(&mut other).await;
        stage.stays(first - 1).await;
        let fourth = insert(&mut long).await;
        let fifth = insert(&mut other).await;
        stage.stays(first - 1).await;
        run(&mut long, "COMMIT").await;
        stage.expect(&[first, third, fourth, fifth]).await;
    })
    .await;
}

#[tokio::test]
async fn case_13_table_that_is_locked_for_writing() {
    everywhere(async |stage| {
        let mut session = stage.database.session().await;
        run(&mut session, "LOCK TABLES evt_queue WRITE").await;
        stage
            .until_some("STATE LIKE 'Waiting for table metadata lock%'")
            .await;
        let first = insert(&mut session).await;
        run(&mut session, "UNLOCK TABLES").await;
        stage.expect(&[first]).await;
    })
    .await;
}

#[tokio::test]
async fn case_14_bulk_load_into_the_empty_table() {
    everywhere(async |stage| {
        let mut bulk = stage.database.session().await;
        run(
            &mut bulk,
            "SET SESSION unique_checks = 0, foreign_key_checks = 0; BEGIN;
             INSERT INTO evt_queue (type, data, ts) SELECT 'T', 1, now() FROM seq_1_to_5",
        )
        .await;
        stage.stays(0).await;
        let late = "INSERT INTO evt_queue (type, data, ts) VALUES ('T', 'late', now())";
        let late = in_background(stage, late).await;
        run(&mut bulk, "COMMIT").await;
        late.await.expect("inserted");
        let rows = ids(stage, "").await;
        assert_eq!(rows.len(), 6);
        stage.expect(&rows).await;
    })
    .await;
}

#[tokio::test]
async fn case_15_emptied_table_and_restart() {
    let cluster = Cluster::start();
    let mut stage = Stage::on(cluster.database().await).await;
    let mut session = stage.database.session().await;
    let mut rows = Vec::new();
    for _ in 0..3 {
        rows.push(insert(&mut session).await);
    }
    stage.expect(&rows).await;
    run(&mut session, "DELETE FROM evt_queue").await;
    drop(session);
    cluster.restart();
    end_of(&mut stage.stream).await;
    back(&mut stage).await;
    let next = insert(&mut stage.database.session().await).await;
    assert_eq!(next, rows[2] + 1, "ids are not given out again");
    stage.expect(&[next]).await;
    stage.reaches(next).await;
}

#[tokio::test]
async fn case_15_killed_server_with_an_open_transaction() {
    let cluster = Cluster::start();
    let mut stage = Stage::on(cluster.database().await).await;
    let mut session = stage.database.session().await;
    run(&mut session, "XA START 'kept'").await;
    let prepared = insert(&mut session).await;
    run(&mut session, "XA END 'kept'; XA PREPARE 'kept'").await;
    let mut open = stage.transaction().await;
    insert(&mut open).await;
    let kept = insert(&mut stage.database.session().await).await;
    stage.stays(prepared - 1).await;
    drop(session);
    cluster.crash();
    end_of(&mut stage.stream).await;
    back(&mut stage).await;
    stage.stays(prepared - 1).await;
    stage.database.run("XA COMMIT 'kept'").await;
    stage.expect(&[prepared, kept]).await;
    stage.reaches(kept).await;
}

#[tokio::test]
async fn case_15_truncated_table_is_an_alarm() {
    let mut stage = Stage::open().await;
    let mut session = stage.database.session().await;
    let rows = [insert(&mut session).await, insert(&mut session).await];
    stage.expect(&rows).await;
    run(&mut session, "TRUNCATE evt_queue").await;
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
async fn case_16_reader_without_privileges() {
    for evidence in [Evidence::PluginAlone, Evidence::Nothing] {
        for mode in [LockMode::Consecutive, LockMode::Interleaved] {
            let mut stage = Stage::with(evidence, mode).await;
            late_commit(&mut stage).await;
            rollback_gap(&mut stage).await;
            between_id_and_row(&mut stage).await;
        }
    }
}

/// What only the hammer of 64 sessions hits by chance, held open.
#[tokio::test]
async fn case_17_id_whose_row_is_not_stored_yet() {
    everywhere(between_id_and_row).await;
}

async fn between_id_and_row(stage: &mut Stage) {
    let sql = "INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', now())";
    held_between_id_and_row(stage, sql, 1).await;
}

/// A look at the table from outside: a rule that would trust a dirty read alone
/// takes the hidden id for dead.
#[tokio::test]
async fn case_18_dirty_read_alone_does_not_see_it() {
    let stage = Stage::with(Evidence::Plugin, LockMode::Consecutive).await;
    let mut waiting = None;
    let window = Window::open(&stage, async || {
        let sql = "INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', now())";
        waiting = Some(in_background(&stage, sql).await);
    });
    let window = window.await;
    let dirty = ids(
        &stage,
        "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
    )
    .await;
    assert_eq!(dirty, [window.visible], "the lower id has no row at all");
    window.close().await;
    waiting.expect("it waited").await.expect("inserted");
    assert_eq!(ids(&stage, "").await.len(), 2, "and yet it is committed");
}

/// Ids in the table, as a session sees them after `before`.
async fn ids(stage: &Stage, before: &str) -> Vec<i64> {
    let mut session = stage.database.session().await;
    if !before.is_empty() {
        run(&mut session, before).await;
    }
    let sql = "SELECT CAST(id AS SIGNED) AS event FROM evt_queue ORDER BY id";
    let rows = sqlx::query(sql)
        .fetch_all(&mut session)
        .await
        .expect("read");
    rows.iter().map(|row| row.get("event")).collect()
}

async fn connection_id(session: &mut MySqlConnection) -> i64 {
    let row = sqlx::query("SELECT CAST(CONNECTION_ID() AS SIGNED) AS id").fetch_one(session);
    row.await.expect("read").get("id")
}
