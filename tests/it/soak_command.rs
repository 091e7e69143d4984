//! `eventstream soak`, the short form of the proof, on every engine. (The long
//! runs of the service itself are in `soak`, behind the feature of that name.)

use std::{process::Output, time::Duration};

use serde_json::Value;
use sqlx::Row as _;
use tokio::time::timeout;

use crate::{
    mysql,
    postgres::{Cluster, Database},
    server::{PATIENCE, PROGRAM, clean_command, eventually, signal, sqlite},
};

async fn soak(url: &str, args: &[&str]) -> Output {
    soak_within(PATIENCE * 3, url, args).await
}

/// Runs it on a database.
pub async fn soak_within(limit: Duration, url: &str, args: &[&str]) -> Output {
    let run = clean_command(PROGRAM)
        .args(["soak", "--json", "--db", url])
        .args(args)
        .output();
    timeout(limit, run)
        .await
        .expect("it ends")
        .expect("it starts")
}

/// The verdict of a run that found nothing wrong.
pub fn verdict(output: &Output, events: u64) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let verdict: Value = serde_json::from_str(&stdout).expect("JSON");
    let service = &verdict["service"];
    let count = |name: &str| service[name].as_u64().expect("a count");
    assert!(count("committed") >= events, "{verdict}");
    // A machine that is busy enough breaks the stream: then they come again.
    let delivered = count("delivered") - count("redelivered");
    assert_eq!(delivered, count("committed"), "{verdict}");
    for violation in [
        "lost",
        "duplicated",
        "out_of_order",
        "rolled_back",
        "altered",
    ] {
        assert_eq!(count(violation), 0, "{violation}: {verdict}");
    }
    let broken = verdict["broken_promises"].as_array();
    assert!(broken.is_some_and(Vec::is_empty), "{verdict}");
    verdict
}

fn lost(verdict: &Value, reader: &str) -> u64 {
    let lost = &verdict["compared"][reader]["lost"];
    lost.as_u64()
        .unwrap_or_else(|| panic!("{reader}: {verdict}"))
}

const READERS: [&str; 3] = ["naive (id > last)", "500 ms grace", "original's read"];

/// Everything that somebody could find in the database.
async fn inventory(database: &Database) -> Vec<String> {
    const SQL: &str = "
        SELECT 'relation ' || relname AS found FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts WHERE database = current_database()
        ORDER BY found";
    let rows = sqlx::query(SQL)
        .fetch_all(&mut database.session().await)
        .await;
    let rows = rows.expect("read");
    rows.iter().map(|row| row.get("found")).collect()
}

#[tokio::test]
async fn on_postgres_nothing_is_lost_where_other_readers_lose() {
    let database = Cluster::shared().database().await;
    let args = [
        "--events",
        "4000",
        "--writers",
        "48",
        "--seed",
        "1",
        "--two-phase",
        "--compare",
        "--long-unrelated",
        "3",
        "--long-related",
        "1",
    ];
    let verdict = verdict(&soak(&database.url, &args).await, 4000);
    for reader in READERS {
        assert!(lost(&verdict, reader) > 0, "{reader}: {verdict}");
    }
    let transactions = &verdict["transactions"];
    for kind in ["committed", "rolled_back"] {
        assert!(transactions[kind].as_u64() > Some(0), "{verdict}");
    }
    assert_eq!(inventory(&database).await, [""; 0]);
}

async fn nothing_is_lost_on_mysql(database: &mysql::Database) {
    let args = [
        "--events",
        "3000",
        "--writers",
        "48",
        "--seed",
        "1",
        "--two-phase",
        "--compare",
        "--long-unrelated",
        "3",
        "--long-related",
        "1",
    ];
    let verdict = verdict(&soak(&database.url, &args).await, 3000);
    // The original's read waits for open transactions; what it loses is chance.
    for reader in &READERS[..2] {
        assert!(lost(&verdict, reader) > 0, "{reader}: {verdict}");
    }
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()
        UNION ALL SELECT ROUTINE_NAME FROM information_schema.ROUTINES
            WHERE ROUTINE_SCHEMA = DATABASE()";
    let mut session = database.session().await;
    let left = sqlx::query(sql).fetch_all(&mut session);
    assert_eq!(left.await.expect("read").len(), 0);
}

#[tokio::test]
async fn on_mysql_nothing_is_lost_where_other_readers_lose() {
    let database = mysql::Cluster::shared().database().await;
    nothing_is_lost_on_mysql(&database).await;
}

#[tokio::test]
async fn on_mysql_nothing_is_lost_where_nobody_locks_the_counter() {
    let server = mysql::Cluster::of(mysql::Offer::Schema, mysql::LockMode::Interleaved);
    nothing_is_lost_on_mysql(&server.database().await).await;
}

#[tokio::test]
async fn on_sqlite_nothing_is_lost_and_a_new_file_is_removed() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let url = format!("sqlite:{}/soak.db", dir.path().display());
    let args = [
        "--events",
        "3000",
        "--writers",
        "48",
        "--seed",
        "1",
        "--compare",
    ];
    let verdict = verdict(&soak(&url, &args).await, 3000);
    for reader in READERS {
        assert_eq!(lost(&verdict, reader), 0, "one writer at a time: {verdict}");
    }
    assert_eq!(dir.path().read_dir().expect("it is there").count(), 0);
}

#[tokio::test]
async fn a_stream_in_the_same_database_is_left_as_it_is() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    crate::round_trip::register(&mut clients, "SHOP").await;
    let before = inventory(&database).await;
    verdict(
        &soak(&database.url, &["--events", "100", "--writers", "4"]).await,
        100,
    );
    assert_eq!(inventory(&database).await, before);
    let id = crate::round_trip::add(&mut clients, "T", "1").await;
    let polled = crate::calls::poll(&mut clients, crate::calls::poll_of("SHOP")).await;
    assert_eq!(crate::calls::ids(&polled.events), [id]);

    let file = tempfile::tempdir().expect("a temporary directory can be made");
    let file = file.path().join("eventstream.db");
    sqlite(&file, "CREATE TABLE kept (n INTEGER)");
    let url = format!("sqlite:{}", file.display());
    verdict(
        &soak(&url, &["--events", "100", "--writers", "4"]).await,
        100,
    );
    assert_eq!(
        sqlite(&file, "SELECT name FROM sqlite_schema"),
        "kept\nsqlite_sequence"
    );
}

#[tokio::test]
async fn ctrl_c_removes_everything_too() {
    let database = Cluster::shared().database().await;
    let mut child = clean_command(PROGRAM)
        .args([
            "soak",
            "--events",
            "1000000",
            "--two-phase",
            "--db",
            &database.url,
        ])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    eventually(async || {
        let found = inventory(&database).await;
        let under_way = found
            .iter()
            .any(|name| name.starts_with("prepared evt_soak_"));
        under_way.then_some(()).ok_or(found)
    })
    .await;
    signal(child.id().expect("it runs"), "INT");
    let ended = timeout(PATIENCE, child.wait()).await.expect("it ends");
    assert_eq!(ended.expect("ended").code(), Some(130));
    assert_eq!(inventory(&database).await, [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_found_out_is_said() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let url = format!("sqlite:{}/soak.db", dir.path().display());
    let output = soak(&url, &["--two-phase"]).await;
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("--two-phase: sqlite has no two-phase commit"),
        "{stderr}"
    );
    let url = format!(
        "postgres://nobody@localhost/none?host={}",
        dir.path().display()
    );
    let output = soak(&url, &[]).await;
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot use none on"), "{stderr}");
    let output = soak(&url, &["--writers", "0"]).await;
    assert_eq!(output.status.code(), Some(2));
}
