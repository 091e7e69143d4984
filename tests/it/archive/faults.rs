//! Warehouses that are away, slow, full, wrong or older than they were.

use futoin_eventstream::proto::{PollEventsRequest, SeekConsumerRequest};
use tonic::Code;

use super::stage::{Kind, Peek, Stage, each_pair};
use crate::{
    calls::{add_many, after, poll_of, refused},
    postgres::Cluster,
    server::{Clients, eventually, http_get},
};

each_pair!(
    conflicting_row_stops_and_loses_nothing,
    late_id_is_inserted,
    older_warehouse_is_filled_again,
    event_that_the_warehouse_refuses_is_named
);

async fn conflicting_row_stops_and_loses_nothing(active: Kind, warehouse: Kind) {
    let stage = Stage::start(active, warehouse).await;
    let mut clients = stage.clients().await;
    add_many(&mut clients, "A", 10).await;
    stage.archived(10).await;
    stage
        .warehouse
        .run(
            "INSERT INTO evt_history (id, type, data, ts)
             VALUES (15, 'OTHER', '1', '2026-01-01 00:00:00')",
        )
        .await;
    add_many(&mut clients, "A", 10).await;
    let problem = stage.problem().await;
    assert!(
        problem.contains("event 15 is in the warehouse already"),
        "{problem}"
    );
    stage.archived(14).await;
    assert_eq!(crate::calls::status(&mut clients).await.archived_id, 14);
    // The service itself is fine.
    let ready = http_get(stage.server.http_address(), "/readyz").await;
    assert_eq!(ready.expect("answered").0, 200);
    let metrics = http_get(stage.server.http_address(), "/metrics").await;
    assert!(
        metrics
            .expect("answered")
            .1
            .contains("eventstream_archive_rejections_total")
    );

    stage
        .warehouse
        .run("DELETE FROM evt_history WHERE id = 15")
        .await;
    stage.archived(20).await;
    assert_eq!(stage.warehouse.history().await, stage.active.queue().await);
    stage.warehouse.assert_sound().await;
    eventually(
        async || match crate::calls::status(&mut clients).await.stopped_consumers {
            stopped if stopped.is_empty() => Ok(()),
            stopped => Err(stopped),
        },
    )
    .await;
}

/// As the sentinel does: the event appears, the archiver is moved back.
async fn late_id_is_inserted(active: Kind, warehouse: Kind) {
    let stage = Stage::start(active, warehouse).await;
    let mut clients = stage.clients().await;
    add_many(&mut clients, "A", 10).await;
    // 11 is given out and not there yet.
    let gap = match active {
        Kind::Sqlite => {
            "INSERT INTO evt_queue (id, type, data, ts)
            VALUES (12, 'A', '1', '2026-01-01 00:00:00')"
        }
        Kind::Postgres | Kind::Mysql => {
            "BEGIN; INSERT INTO evt_queue (type, data, ts)
                VALUES ('GONE', '1', '2026-01-01 00:00:00'); ROLLBACK;
            INSERT INTO evt_queue (type, data, ts) VALUES ('A', '1', '2026-01-01 00:00:00')"
        }
    };
    stage.active.run(gap).await;
    add_many(&mut clients, "A", 8).await;
    stage.archived(20).await;
    stage
        .active
        .run(
            "INSERT INTO evt_queue (id, type, data, ts)
             VALUES (11, 'LATE', '1', '2026-01-01 00:00:00')",
        )
        .await;
    archiver_to(&mut clients, 10).await;
    add_many(&mut clients, "A", 1).await;
    stage.archived(21).await;
    eventually(async || {
        let (history, queue) = (stage.warehouse.history().await, stage.active.queue().await);
        if history == queue {
            Ok(())
        } else {
            Err((history, queue))
        }
    })
    .await;
    stage.warehouse.assert_sound().await;
    let metrics = http_get(stage.server.http_address(), "/metrics").await;
    let late = "eventstream_events_archived_late_total 1";
    assert!(metrics.expect("answered").1.contains(late));
}

/// As an operator does.
async fn archiver_to(clients: &mut Clients, id: i64) {
    let request = SeekConsumerRequest {
        component: "ARCHIVER".to_owned(),
        user: "-internal".to_owned(),
        start: after(id),
    };
    clients.admin.seek_consumer(request).await.expect("sought");
}

async fn older_warehouse_is_filled_again(active: Kind, warehouse: Kind) {
    let mut stage = Stage::start(active, warehouse).await;
    let mut clients = stage.clients().await;
    add_many(&mut clients, "A", 50).await;
    stage.archived(50).await;
    // An older copy: the end is missing, in the ledger too.
    stage
        .warehouse
        .run("DELETE FROM evt_archived; DELETE FROM evt_history WHERE id > 20")
        .await;
    stage.restart().await;
    let mut clients = stage.clients().await;
    add_many(&mut clients, "A", 10).await;
    stage.archived(60).await;
    assert_eq!(stage.warehouse.history().await, stage.active.queue().await);
    stage.warehouse.assert_sound().await;
}

async fn event_that_the_warehouse_refuses_is_named(active: Kind, warehouse: Kind) {
    let stage = Stage::start(active, warehouse).await;
    let mut clients = stage.clients().await;
    add_many(&mut clients, "A", 3).await;
    stage.archived(3).await;
    let refuse = if warehouse == Kind::Sqlite {
        "CREATE TRIGGER refuse_bad BEFORE INSERT ON evt_history WHEN NEW.type = 'BAD'
            BEGIN SELECT RAISE(ABORT, 'not here'); END"
    } else {
        "ALTER TABLE evt_history ADD CONSTRAINT refuse_bad CHECK (type <> 'BAD')"
    };
    stage.warehouse.run(refuse).await;
    stage
        .active
        .run(
            "INSERT INTO evt_queue (type, data, ts) VALUES
                ('A', '1', '2026-01-01 00:00:00'), ('A', '2', '2026-01-01 00:00:00'),
                ('BAD', '3', '2026-01-01 00:00:00'), ('A', '4', '2026-01-01 00:00:00')",
        )
        .await;
    let problem = stage.problem().await;
    assert!(
        problem.contains("the warehouse refuses event 6"),
        "{problem}"
    );
    stage.archived(5).await;
    stage.warehouse.assert_sound().await;
}

#[tokio::test]
async fn server_of_the_warehouse_may_restart() {
    let cluster = Cluster::start();
    let warehouse = Peek::of(cluster.database().await);
    let mut stage = Stage::on(Kind::Sqlite, warehouse).await;
    let mut clients = stage.clients().await;
    for mode in ["fast", "immediate"] {
        let last = *add_many(&mut clients, "A", 100).await.last().expect("some");
        stage.archived(last).await;
        cluster.restart(mode);
    }
    let last = *add_many(&mut clients, "A", 100).await.last().expect("some");
    stage.archived(last).await;
    stage.active.discard(last).await;
    stage.restart().await;
    let mut clients = stage.clients().await;
    assert_eq!(
        super::round_trips::read_all(&mut clients, 0, 1000)
            .await
            .len(),
        300
    );
    stage.warehouse.assert_sound().await;
}

#[tokio::test]
async fn service_starts_and_serves_without_its_warehouse() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("away");
    let warehouse = Peek::new(Kind::Sqlite).await;
    let url = format!("sqlite:{}/history.db", home.display());
    let mut stage = Stage::on(Kind::Sqlite, warehouse.at(&url)).await;
    let mut clients = stage.clients().await;
    let last = *add_many(&mut clients, "A", 10).await.last().expect("some");
    let problem = stage.problem().await;
    assert!(problem.contains("the warehouse does not work"), "{problem}");
    stage.active.discard(5).await;
    stage.restart().await;
    let mut clients = stage.clients().await;
    let request = PollEventsRequest {
        last_id: Some(2),
        ..poll_of("LIVE")
    };
    let refusal = clients.poll.poll_events(request).await;
    refused(refusal, Code::Unavailable, "ARCHIVE_UNAVAILABLE");
    std::fs::create_dir(&home).expect("made");
    // What was deleted before it was archived stops the archiver, until
    // somebody accepts the loss.
    eventually(async || match stage.problem().await {
        problem if problem.contains("were discarded") => Ok(()),
        problem => Err(problem),
    })
    .await;
    archiver_to(&mut clients, 5).await;
    stage.archived(last).await;
    let request = PollEventsRequest {
        last_id: Some(2),
        ..poll_of("LIVE")
    };
    let refusal = clients.poll.poll_events(request).await;
    refused(refusal, Code::OutOfRange, "DISCARDED");
}

#[tokio::test]
async fn slow_warehouse_is_waited_for() {
    let stage = Stage::start(Kind::Sqlite, Kind::Postgres).await;
    let mut clients = stage.clients().await;
    add_many(&mut clients, "A", 10).await;
    stage.archived(10).await;
    let database = stage.warehouse.database();
    let mut session = database.session().await;
    crate::postgres::run(&mut session, "BEGIN; LOCK TABLE evt_history").await;
    let last = *add_many(&mut clients, "A", 10).await.last().expect("some");
    // Its INSERT waits for ours to end.
    let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually(async || {
        match stage
            .warehouse
            .lines(waiting)
            .await
            .first()
            .map(String::as_str)
        {
            Some("0") | None => Err("nobody waits"),
            Some(_) => Ok(()),
        }
    })
    .await;
    crate::postgres::run(&mut session, "ROLLBACK").await;
    stage.archived(last).await;
    stage.warehouse.assert_sound().await;
}

#[tokio::test]
async fn full_warehouse_is_written_when_it_can_be() {
    let warehouse = Peek::new(Kind::Postgres).await;
    let stage = Stage::on(Kind::Sqlite, warehouse).await;
    let mut clients = stage.clients().await;
    add_many(&mut clients, "A", 10).await;
    stage.archived(10).await;
    stage
        .warehouse
        .run(
            "CREATE FUNCTION full_() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN RAISE disk_full; END $$;
              CREATE TRIGGER full_ BEFORE INSERT ON evt_history EXECUTE FUNCTION full_()",
        )
        .await;
    let last = *add_many(&mut clients, "A", 10).await.last().expect("some");
    let problem = stage.problem().await;
    assert!(problem.contains("the warehouse does not work"), "{problem}");
    stage
        .warehouse
        .run("DROP TRIGGER full_ ON evt_history")
        .await;
    stage.archived(last).await;
    stage.warehouse.assert_sound().await;
}

#[tokio::test]
async fn file_of_the_warehouse_that_is_replaced_is_noticed() {
    let stage = Stage::start(Kind::Sqlite, Kind::Sqlite).await;
    let mut clients = stage.clients().await;
    add_many(&mut clients, "A", 10).await;
    stage.archived(10).await;
    let file = stage.warehouse.file();
    let copy = file.with_extension("copy");
    stage
        .warehouse
        .run(&format!("VACUUM INTO '{}'", copy.display()))
        .await;
    add_many(&mut clients, "A", 10).await;
    stage.archived(20).await;
    for suffix in ["-wal", "-shm"] {
        let mut name = file.clone().into_os_string();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
    std::fs::rename(&copy, file).expect("replaced");
    let last = *add_many(&mut clients, "A", 10).await.last().expect("some");
    stage.archived(last).await;
    // What the older copy lacks has come again.
    assert_eq!(stage.warehouse.history().await, stage.active.queue().await);
    stage.warehouse.assert_sound().await;
}
