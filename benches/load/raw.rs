//! SQLite without the service: what its figures are compared with, and how
//! another process of the application writes.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::{io::AsyncWriteExt as _, process::Command, time::Instant};

use crate::workload::{KIND, data};

/// The queue as FTN18 has it.
const QUEUE: &str = "CREATE TABLE IF NOT EXISTS evt_queue (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    type VARCHAR(16) NOT NULL,
    data TEXT NOT NULL,
    ts TIMESTAMP NOT NULL)";

const INSERT: &str = "INSERT INTO evt_queue (type, data, ts) VALUES (?, ?, CURRENT_TIMESTAMP)";

/// A durable connection (WAL, synchronous=FULL) to a file that has a queue.
pub(crate) async fn connect(file: &Path) -> anyhow::Result<SqliteConnection> {
    let mut connection = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10))
        .pragma("wal_autocheckpoint", "4000")
        .connect()
        .await?;
    sqlx::query(QUEUE).execute(&mut connection).await?;
    Ok(connection)
}

/// Adds one event in a transaction of its own; its id.
pub(crate) async fn insert(connection: &mut SqliteConnection, data: &str) -> anyhow::Result<i64> {
    let done = sqlx::query(INSERT)
        .bind(KIND)
        .bind(data)
        .execute(connection)
        .await?;
    Ok(done.last_insert_rowid())
}

/// One-row transactions, one after the other; their number.
pub(crate) async fn insert_for(file: &Path, period: Duration) -> anyhow::Result<u64> {
    let mut connection = connect(file).await?;
    let end = Instant::now() + period;
    let mut count = 0;
    while Instant::now() < end {
        insert(&mut connection, &data(count)).await?;
        count += 1;
    }
    Ok(count)
}

/// Transactions of `rows` rows each; the number of rows.
pub(crate) async fn insert_rows_for(
    file: &Path,
    rows: usize,
    period: Duration,
) -> anyhow::Result<u64> {
    let values = vec!["(?, ?, CURRENT_TIMESTAMP)"; rows].join(", ");
    let sql = format!("INSERT INTO evt_queue (type, data, ts) VALUES {values}");
    let mut connection = connect(file).await?;
    let end = Instant::now() + period;
    let mut count = 0;
    while Instant::now() < end {
        let mut insert = sqlx::query(AssertSqlSafe(sql.clone()));
        for _ in 0..rows {
            insert = insert.bind(KIND).bind(data(count));
            count += 1;
        }
        insert.execute(&mut connection).await?;
    }
    Ok(count)
}

/// The same one-row transactions by SQLite's own shell, which has neither a
/// second thread nor an await: the time `count` of them take.
pub(crate) async fn shell_inserts(file: &Path, count: u64) -> anyhow::Result<Duration> {
    sqlx::Connection::close(connect(file).await?).await?;
    let mut script = String::from("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000;\n");
    for number in 0..count {
        script.push_str("INSERT INTO evt_queue (type, data, ts) VALUES ('");
        script.push_str(KIND);
        script.push_str("', '");
        script.push_str(&data(number));
        script.push_str("', CURRENT_TIMESTAMP);\n");
    }
    let begun = Instant::now();
    let mut shell = Command::new("sqlite3")
        .args(["-bail", "-cmd", ".timeout 10000"])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("no sqlite3")?;
    let mut stdin = shell.stdin.take().context("stdin is piped")?;
    stdin.write_all(script.as_bytes()).await?;
    drop(stdin);
    ensure!(shell.wait().await?.success(), "sqlite3 failed");
    Ok(begun.elapsed())
}

/// Adds `count` events in one statement.
pub(crate) async fn fill(file: &Path, count: i64) -> anyhow::Result<()> {
    const FILL: &str = "WITH RECURSIVE n (i) AS
            (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO evt_queue (type, data, ts)
        SELECT ?2, printf('{\"n\":\"%010d\",\"pad\":\"%s\"}', i, ?3), CURRENT_TIMESTAMP FROM n";
    let mut connection = connect(file).await?;
    sqlx::query(FILL)
        .bind(count)
        .bind(KIND)
        .bind(crate::workload::padding())
        .execute(&mut connection)
        .await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut connection)
        .await?;
    Ok(())
}

/// Adds consumers at the end of the queue, as if each had read everything.
pub(crate) async fn fill_consumers(file: &Path, count: i64) -> anyhow::Result<()> {
    const FILL: &str = "WITH RECURSIVE n (i) AS
            (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time)
        SELECT printf('local:OTHER%d', i), (SELECT max(id) FROM evt_queue),
            CURRENT_TIMESTAMP, CURRENT_TIMESTAMP FROM n";
    let mut connection = connect(file).await?;
    sqlx::query(FILL)
        .bind(count)
        .execute(&mut connection)
        .await?;
    Ok(())
}

/// Reads all events row by row, as a plain reader would; their number.
pub(crate) async fn select_all(file: &Path) -> anyhow::Result<u64> {
    const ALL: &str = "SELECT id, type, data, ts FROM evt_queue ORDER BY id";
    let mut connection = connect(file).await?;
    let mut rows = sqlx::query(ALL).fetch(&mut connection);
    let mut count = 0;
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let _id: i64 = row.try_get(0)?;
        let kind: String = row.try_get(1)?;
        let data: String = row.try_get(2)?;
        let ts: String = row.try_get(3)?;
        bytes += kind.len() + data.len() + ts.len();
        count += 1;
    }
    ensure!(bytes > 0, "the events have data");
    Ok(count)
}
