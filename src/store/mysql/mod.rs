//! MySQL and MariaDB.
//!
//! One dialect that both take; where they differ, `server` decides by what the
//! server has. Ids are given out at INSERT and transactions commit in another
//! order, so the frontier needs evidence, which `tail` collects. All writes are
//! decided by row locks in one order (consumers by ident, then the stream's
//! row, replicas, sessions, stops); where InnoDB breaks a deadlock all the
//! same, the transaction is repeated.

mod connections;
mod errors;
mod server;
mod url;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::SqlStr;
use tokio::time::timeout;

use self::connections::Connections;
pub use self::url::MysqlUrl;
use super::{Effect, Error, Options};
use crate::event::EventId;

/// Where the database is and how it is used.
#[derive(Debug, Clone)]
pub struct MysqlOptions {
    /// Server, database and user.
    pub url: MysqlUrl,
    /// A statement that takes longer is given up.
    pub statement_timeout: Duration,
    /// Connections for reading.
    pub read_connections: u32,
    /// Connections for writing.
    pub write_connections: u32,
    /// Settings that every engine has.
    pub common: Options,
}

/// A stream in a database of MySQL or MariaDB. Cloning shares the connections.
#[derive(Debug, Clone)]
pub struct MysqlStore {
    options: Arc<MysqlOptions>,
    connections: Arc<Connections>,
    shared: Arc<Mutex<Shared>>,
}

/// What is known of the database until it is lost.
#[derive(Debug, Default)]
struct Shared {
    /// Highest id that the tail proved settled.
    settled: i64,
}

/// An operation is several statements; this on top of one that is given up.
const GRACE: Duration = Duration::from_secs(5);

impl MysqlStore {
    async fn connect(options: MysqlOptions) -> Result<Self, Error> {
        let options = Arc::new(options);
        let connections = Arc::new(Connections::open(Arc::clone(&options)).await?);
        Ok(Self {
            options,
            connections,
            shared: Arc::default(),
        })
    }

    /// A network that swallows packets must not hold a caller for ever.
    async fn bounded<T>(
        &self,
        effect: Effect,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let limit = self.options.statement_timeout + GRACE;
        let lost = |_elapsed| Error::Lost {
            effect,
            cause: format!("no answer within {limit:?}"),
        };
        timeout(limit, work).await.map_err(lost)?
    }

    /// The statement with this stream's table names.
    fn sql(&self, text: &'static str) -> SqlStr {
        use sqlx::{AssertSqlSafe, SqlSafeStr};
        match self.options.common.names.apply(text) {
            std::borrow::Cow::Borrowed(text) => text.into_sql_str(),
            // Names are checked identifiers.
            std::borrow::Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
        }
    }

    /// The stream's name in our own tables; also the name of the queue.
    fn stream(&self) -> &str {
        &self.options.common.names.queue
    }

    /// A replica whose heartbeat is older than this has lost its sessions.
    fn lapse_millis(&self) -> i64 {
        i64::try_from(self.options.common.session_lapse.as_millis()).unwrap_or(i64::MAX)
    }

    /// Notes what the tail proved: pages reach up to there although the rows
    /// at the end may be gone.
    fn note_settled(&self, settled: EventId) {
        self.with_shared(|shared| shared.settled = shared.settled.max(settled.get()));
    }

    fn with_shared<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
