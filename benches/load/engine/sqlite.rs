//! SQLite: files in WAL mode with `synchronous=FULL`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{Database, Engine, Session};
use crate::{
    measure::rate,
    workload::{KIND, data, padding},
};

const TABLES: &str = include_str!("../../../migrations/active/sqlite/0001_ftn18_tables.sql");

/// Where files are made.
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }
}

#[async_trait]
impl Engine for Files {
    fn about(&self) -> &'static str {
        "SQLite, WAL, synchronous=FULL"
    }

    fn add_targets(&self) -> [(usize, Option<f64>); 4] {
        [(1, None), (16, None), (64, Some(8.0)), (256, Some(15.0))]
    }

    /// More would only wait for each other's lock.
    fn most_writers(&self) -> usize {
        1
    }

    async fn database(&self) -> anyhow::Result<Arc<dyn Database>> {
        let file = File(tempfile::tempdir_in(&self.dir)?);
        let mut connection = file.connect().await?;
        sqlx::raw_sql(TABLES).execute(&mut connection).await?;
        connection.close().await?;
        Ok(Arc::new(file))
    }

    fn cpu(&self) -> anyhow::Result<Option<f64>> {
        Ok(None)
    }
}

/// A file in a directory of its own.
struct File(TempDir);

impl File {
    fn path(&self) -> PathBuf {
        self.0.path().join("eventstream.db")
    }

    async fn connect(&self) -> anyhow::Result<SqliteConnection> {
        let connection = SqliteConnectOptions::new()
            .filename(self.path())
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("wal_autocheckpoint", "4000")
            .connect()
            .await?;
        Ok(connection)
    }
}

#[async_trait]
impl Database for File {
    fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    async fn session(&self) -> anyhow::Result<Box<dyn Session>> {
        Ok(Box::new(self.connect().await?))
    }

    /// The shell has neither a second thread nor an await.
    async fn own_program(&self, _: usize, period: Duration) -> anyhow::Result<(String, f64)> {
        let mut shell = Command::new("sqlite3")
            .args(["-bail", "-cmd", ".timeout 10000"])
            .arg(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("no sqlite3")?;
        let mut stdin = shell.stdin.take().context("stdin is piped")?;
        stdin
            .write_all(b"PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000;\n")
            .await?;
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < period {
            let insert = format!(
                "INSERT INTO evt_queue (type, data, ts) VALUES ('{KIND}', '{}', CURRENT_TIMESTAMP);\n",
                data(count)
            );
            // It takes them as it has done the ones before: a pipe is short.
            stdin.write_all(insert.as_bytes()).await?;
            count += 1;
        }
        drop(stdin);
        let ended = timeout(Duration::from_secs(30), shell.wait()).await??;
        ensure!(ended.success(), "sqlite3 failed");
        Ok(("the sqlite3 shell".to_owned(), rate(count, begun.elapsed())))
    }
}

#[async_trait]
impl Session for SqliteConnection {
    async fn insert(&mut self, data: &str) -> anyhow::Result<i64> {
        const INSERT: &str =
            "INSERT INTO evt_queue (type, data, ts) VALUES (?, ?, CURRENT_TIMESTAMP)";
        let done = sqlx::query(INSERT)
            .bind(KIND)
            .bind(data)
            .execute(self)
            .await?;
        Ok(done.last_insert_rowid())
    }

    async fn insert_and_hold(&mut self, data: &str, hold: Duration) -> anyhow::Result<()> {
        let mut tx = self.begin().await?;
        Session::insert(&mut *tx, data).await?;
        sleep(hold).await;
        Ok(tx.commit().await?)
    }

    async fn insert_rows(&mut self, data: &[String]) -> anyhow::Result<()> {
        let values = vec!["(?, ?, CURRENT_TIMESTAMP)"; data.len()].join(", ");
        let sql = format!("INSERT INTO evt_queue (type, data, ts) VALUES {values}");
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for data in data {
            insert = insert.bind(KIND).bind(data);
        }
        insert.execute(self).await?;
        Ok(())
    }

    async fn fill(&mut self, count: i64) -> anyhow::Result<()> {
        const FILL: &str = "WITH RECURSIVE n (i) AS
                (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
            INSERT INTO evt_queue (type, data, ts)
            SELECT ?2, printf('{\"n\":\"%010d\",\"pad\":\"%s\"}', i, ?3), CURRENT_TIMESTAMP FROM n";
        sqlx::query(FILL)
            .bind(count)
            .bind(KIND)
            .bind(padding())
            .execute(&mut *self)
            .await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(self)
            .await?;
        Ok(())
    }

    async fn fill_consumers(&mut self, count: i64) -> anyhow::Result<()> {
        const FILL: &str = "WITH RECURSIVE n (i) AS
                (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
            INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time)
            SELECT printf('local:OTHER%d', i), (SELECT max(id) FROM evt_queue),
                CURRENT_TIMESTAMP, CURRENT_TIMESTAMP FROM n";
        sqlx::query(FILL).bind(count).execute(self).await?;
        Ok(())
    }

    async fn select_all(&mut self) -> anyhow::Result<u64> {
        const ALL: &str = "SELECT id, type, data, ts FROM evt_queue ORDER BY id";
        let mut rows = sqlx::query(ALL).fetch(self);
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

    async fn copy_all(&mut self) -> anyhow::Result<()> {
        const COPY: [&str; 2] = [
            "CREATE TABLE evt_copy (id INTEGER PRIMARY KEY, type TEXT, data TEXT, ts TEXT)",
            "INSERT INTO evt_copy (id, type, data, ts)
                SELECT id, type, data, ts FROM evt_queue ORDER BY id",
        ];
        for statement in COPY {
            sqlx::raw_sql(statement).execute(&mut *self).await?;
        }
        Ok(())
    }
}
