//! The databases under the service, one file each: a throwaway server with
//! durable settings, and its raw driver, which is what the service's figures
//! are compared with and how another process of the application writes.

mod mysql;
mod postgres;
mod sqlite;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use clap::ValueEnum;

/// Which database.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A file, `synchronous=FULL`.
    Sqlite,
    /// A server of the installed version with its defaults.
    Postgres,
    /// The same of MariaDB.
    Mysql,
}

impl Kind {
    /// Starts it; what it needs is made in `dir`.
    pub(crate) fn start(self, dir: &Path) -> anyhow::Result<Arc<dyn Engine>> {
        Ok(match self {
            Self::Sqlite => Arc::new(sqlite::Files::new(dir)),
            Self::Postgres => Arc::new(postgres::Cluster::start(dir)?),
            Self::Mysql => Arc::new(mysql::Cluster::start(dir)?),
        })
    }
}

/// A place for databases; dropping it ends what was started for it.
#[async_trait]
pub(crate) trait Engine: Send + Sync {
    /// Name, version, and how durable a commit is.
    fn about(&self) -> &str;

    /// Callers of `AddEvent`, and how many times the raw driver's one-row
    /// transactions they should reach.
    fn add_targets(&self) -> [(usize, Option<f64>); 4];

    /// The most raw clients that may write at once.
    fn most_writers(&self) -> usize;

    /// A new database with the tables of FTN18, empty.
    async fn database(&self) -> anyhow::Result<Arc<dyn Database>>;

    /// Processor time that the database's own processes have used so far, in
    /// seconds; `None` if it has none.
    fn cpu(&self) -> anyhow::Result<Option<f64>>;
}

/// One database.
#[async_trait]
pub(crate) trait Database: Send + Sync {
    /// What `--db` takes.
    fn url(&self) -> String;

    /// A connection of the raw driver.
    async fn session(&self) -> anyhow::Result<Box<dyn Session>>;

    /// The name of the database's own client program, and how many one-row
    /// transactions a second `clients` of it do.
    async fn own_program(&self, clients: usize, period: Duration) -> anyhow::Result<(String, f64)>;
}

/// A connection of the raw driver. Each method is one transaction.
#[async_trait]
pub(crate) trait Session: Send {
    /// Adds one event; its id.
    async fn insert(&mut self, data: &str) -> anyhow::Result<i64>;

    /// Adds one event in a transaction that stays open for `hold`.
    async fn insert_and_hold(&mut self, data: &str, hold: Duration) -> anyhow::Result<()>;

    /// Adds events in one statement.
    async fn insert_rows(&mut self, data: &[String]) -> anyhow::Result<()>;

    /// Adds `count` events of the usual size, and leaves the table as a quiet
    /// database would.
    async fn fill(&mut self, count: i64) -> anyhow::Result<()>;

    /// Adds consumers at the end of the queue, as if each had read everything.
    async fn fill_consumers(&mut self, count: i64) -> anyhow::Result<()>;

    /// Reads all events row by row, as a plain reader would; their number.
    async fn select_all(&mut self) -> anyhow::Result<u64>;

    /// Copies all events into a table of the same form, as one statement.
    async fn copy_all(&mut self) -> anyhow::Result<()>;
}
