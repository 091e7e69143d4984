//! Applications on one SQLite file: they take turns, so nothing here can come
//! between an id and its commit, and the run shows that.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::{
    engine::{EVENT_TYPE, Engine, Helper, Scratch, Session, TwoPhase, tuples},
    plan::Shape,
};

/// Many writers wait for one lock.
const BUSY_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) struct Sqlite {
    options: SqliteConnectOptions,
    names: Scratch,
}

impl Sqlite {
    /// The file must be there.
    pub(super) fn new(path: &Path, names: Scratch) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        Self { options, names }
    }
}

#[async_trait]
impl Engine for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn place(&self) -> String {
        self.options.get_filename().display().to_string()
    }

    async fn session(&self) -> Result<Box<dyn Session>, sqlx::Error> {
        Ok(Box::new(SqliteSession(self.options.connect().await?)))
    }

    fn begin(&self) -> &'static str {
        "BEGIN IMMEDIATE"
    }

    fn insert(&self, shape: Shape, rows: u32, _delay: f64) -> String {
        let queue = &self.names.queue;
        let into = format!("INSERT INTO {queue} (type, data, ts)");
        let event = format!("'{EVENT_TYPE}', ?1, CURRENT_TIMESTAMP");
        if shape == Shape::Select {
            return format!(
                "{into} WITH RECURSIVE counted (n) AS (
                    SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {rows})
                 SELECT {event} FROM counted RETURNING id"
            );
        }
        let tuples = tuples(&format!("({event})"), rows);
        format!("{into} VALUES {tuples} RETURNING id")
    }

    fn make_other(&self) -> String {
        format!("CREATE TABLE {} (note TEXT)", self.names.other)
    }

    fn helpers(&self) -> Vec<Helper> {
        Vec::new()
    }

    fn plain_shapes(&self) -> &'static [Shape] {
        &[Shape::Select]
    }

    fn two_phase(&self) -> Option<TwoPhase> {
        None
    }

    fn kill(&self, _session: i64) -> Option<String> {
        None
    }

    fn is_open(&self, _session: i64) -> String {
        "SELECT 'open' WHERE 0".to_owned()
    }

    fn keyed_tables(&self) -> &'static str {
        r"SELECT m.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c
          WHERE m.type = 'table' AND c.name = 'stream' AND m.name LIKE 'evt\_%' ESCAPE '\'"
    }

    fn original(&self, after: i64) -> [String; 3] {
        [
            "BEGIN".to_owned(),
            format!(
                "SELECT id, data FROM {} WHERE id > {after} LIMIT 1000",
                self.names.queue
            ),
            "COMMIT".to_owned(),
        ]
    }

    fn is_single_writer(&self) -> bool {
        true
    }
}

struct SqliteSession(SqliteConnection);

#[async_trait]
impl Session for SqliteSession {
    fn number(&self) -> i64 {
        0
    }

    async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.0)
            .await
            .map(drop)
    }

    async fn insert(&mut self, sql: &str, data: &str) -> Result<i64, sqlx::Error> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(data);
        let ids: Vec<i64> = query.fetch_all(&mut self.0).await?;
        ids.into_iter().min().ok_or(sqlx::Error::RowNotFound)
    }

    async fn read(&mut self, sql: &str) -> Result<Vec<(i64, String)>, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        let rows = rows.fetch_all(&mut self.0).await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    }

    async fn texts(&mut self, sql: &str) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .persistent(false)
            .fetch_all(&mut self.0)
            .await
    }
}
