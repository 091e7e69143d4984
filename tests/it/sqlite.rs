//! SQLite: the adversarial cases, through the real service, which is another
//! process than the applications here. One writer at a time is what its plain
//! rule (`id > last`) rests on; and AUTOINCREMENT, as the mutant shows.

use futoin_eventstream::proto::ReadyToReceiveResponse;
use sqlx::{
    AssertSqlSafe, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tonic::Streaming;

use crate::{
    calls::{ids, poll, poll_of, status},
    round_trip::{next_group, ready, register, subscribe},
    server::{Clients, Server},
};

/// A service, a subscriber, and sessions of applications.
struct Stage {
    server: Server,
    clients: Clients,
    stream: Streaming<ReadyToReceiveResponse>,
}

impl Stage {
    async fn open() -> Self {
        let server = Server::start().await;
        let mut clients = server.clients().await;
        register(&mut clients, "SHOP").await;
        let (_, stream) = subscribe(&mut clients, ready("SHOP")).await;
        Self {
            server,
            clients,
            stream,
        }
    }

    async fn session(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(self.server.database())
            .journal_mode(SqliteJournalMode::Wal);
        SqliteConnection::connect_with(&options)
            .await
            .expect("opened")
    }

    /// These events come next, in this order.
    async fn expect(&mut self, expected: &[(i64, &str)]) {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let events = next_group(&mut self.stream).await.events;
            seen.extend(events.into_iter().map(|event| (event.id, event.data_json)));
        }
        let seen: Vec<_> = seen.iter().map(|(id, data)| (*id, &data[..])).collect();
        assert_eq!(seen, expected);
    }

    async fn expect_frontier(&mut self, frontier: i64) {
        let found = status(&mut self.clients).await;
        assert_eq!(found.frontier_id, frontier, "{found:?}");
    }
}

async fn run(session: &mut SqliteConnection, sql: &str) {
    let ran = sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await;
    ran.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn insert(session: &mut SqliteConnection, data: &str) -> i64 {
    let sql = "INSERT INTO evt_queue (type, data, ts) VALUES ('T', ?1, CURRENT_TIMESTAMP)
        RETURNING id";
    let id = sqlx::query_scalar(sql).bind(data).fetch_one(session);
    id.await.expect("inserted")
}

#[tokio::test]
async fn case_01_id_of_a_rollback_is_given_out_again() {
    let mut stage = Stage::open().await;
    let mut session = stage.session().await;
    run(&mut session, "BEGIN").await;
    assert_eq!(insert(&mut session, "1").await, 1);
    stage.expect_frontier(0).await;
    run(&mut session, "ROLLBACK").await;
    stage.expect_frontier(0).await;
    assert_eq!(insert(&mut session, "2").await, 1);
    stage.expect(&[(1, "2")]).await;
    stage.expect_frontier(1).await;
}

#[tokio::test]
async fn case_02_savepoint_gives_ids_out_again_in_one_transaction() {
    let mut stage = Stage::open().await;
    let mut session = stage.session().await;
    run(&mut session, "BEGIN").await;
    insert(&mut session, "1").await;
    run(&mut session, "SAVEPOINT s").await;
    assert_eq!(insert(&mut session, "2").await, 2);
    run(&mut session, "ROLLBACK TO s").await;
    assert_eq!(insert(&mut session, "3").await, 2);
    stage.expect_frontier(0).await;
    run(&mut session, "COMMIT").await;
    stage.expect(&[(1, "1"), (2, "3")]).await;
}

#[tokio::test]
async fn case_03_emptied_queue_goes_on_with_its_ids() {
    let mut stage = Stage::open().await;
    let mut session = stage.session().await;
    for data in ["1", "2"] {
        insert(&mut session, data).await;
    }
    stage.expect(&[(1, "1"), (2, "2")]).await;
    run(&mut session, "DELETE FROM evt_queue").await;
    assert_eq!(insert(&mut session, "3").await, 3);
    stage.expect(&[(3, "3")]).await;
}

/// What `id > last` delivers of two events between which the table is emptied.
async fn delivered_around_a_purge(primary_key: &str) -> Vec<i64> {
    let mut session = SqliteConnection::connect("sqlite::memory:")
        .await
        .expect("opened");
    let create = format!("CREATE TABLE evt_queue (id INTEGER {primary_key}, type, data, ts)");
    run(&mut session, &create).await;
    let (mut last, mut delivered) = (0, Vec::new());
    for data in ["1", "2"] {
        insert(&mut session, data).await;
        let found: Vec<i64> = sqlx::query_scalar("SELECT id FROM evt_queue WHERE id > ?1")
            .bind(last)
            .fetch_all(&mut session)
            .await
            .expect("read");
        last = found.last().copied().unwrap_or(last);
        delivered.extend(found);
        run(&mut session, "DELETE FROM evt_queue").await;
    }
    delivered
}

#[tokio::test]
async fn case_03_mutant_without_autoincrement_loses() {
    let kept = delivered_around_a_purge("PRIMARY KEY AUTOINCREMENT").await;
    assert_eq!(kept, [1, 2]);
    let mutant = delivered_around_a_purge("PRIMARY KEY").await;
    assert_eq!(mutant, [1], "the second event has the id of the first");
}

#[tokio::test]
async fn case_04_processes_beside_each_other() {
    const EACH: usize = 50;
    let mut stage = Stage::open().await;
    let one = "INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', CURRENT_TIMESTAMP);";
    let programs: Vec<_> = (0..4)
        .map(|_| {
            let file = stage.server.database();
            tokio::task::spawn_blocking(move || crate::server::sqlite(&file, &one.repeat(EACH)))
        })
        .collect();
    let mut seen = Vec::new();
    while seen.len() < 4 * EACH {
        seen.extend(ids(&next_group(&mut stage.stream).await.events));
    }
    for program in programs {
        program.await.expect("no panic inside");
    }
    let all: Vec<i64> = (1..).take(4 * EACH).collect();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn case_05_busy_writer_holds_up_writers_and_no_reader() {
    let mut stage = Stage::open().await;
    let mut busy = stage.session().await;
    let mut other = stage.session().await;
    run(&mut other, "PRAGMA busy_timeout = 0").await;
    run(&mut busy, "BEGIN").await;
    insert(&mut busy, "1").await;
    let refused = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await;
    let refused = refused.expect_err("one writer at a time").to_string();
    assert!(refused.contains("locked"), "{refused}");
    let polled = poll(&mut stage.clients, poll_of("LIVE")).await;
    assert!(polled.events.is_empty(), "{polled:?}");
    stage.expect_frontier(0).await;
    run(&mut busy, "COMMIT").await;
    assert_eq!(insert(&mut other, "2").await, 2);
    stage.expect(&[(1, "1"), (2, "2")]).await;
}
