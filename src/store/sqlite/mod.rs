//! SQLite: the embedded default.
//!
//! One writer lock means that ids are given out in commit order, so every id
//! up to the highest visible one is settled and the frontier needs no gap
//! rule; AUTOINCREMENT keeps ids of a rolled-back or emptied table from
//! meaning two events. Writes go through one connection with BEGIN IMMEDIATE,
//! reads through a small pool of snapshots (WAL). The file itself can be
//! replaced under a running service, see `connections`.

mod changes;
mod checkup;
pub(super) mod connections;
mod consumers;
mod late;
pub(super) mod queue;
mod schema;
mod sessions;
mod tail;
mod upkeep;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{SqlStr, sqlite::SqliteSynchronous};
use uuid::Uuid;

use self::connections::Connections;
use super::{
    Advance, Advanced, Append, Audit, Bounds, Claim, Claimed, Consumer, ConsumerPage, Discard,
    Discardable, Discarded, Effect, Error, Expired, Expiry, Fence, IdRange, IdRuns, Lease,
    NewSession, Opening, Options, Page, PoolUse, Refusal, Rewound, Skip, Span, Standing, Store,
    Tail,
};
use crate::event::{ConsumerKey, EventId, Moment};

/// How durable an acknowledged commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// Survives power loss: the WAL is synced at each commit.
    Full,
    /// Survives a crash of the process; power loss can take the last commits.
    Normal,
    /// As `Full`, and the directory too.
    Extra,
}

/// Where the database is and how it is used.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file; made if missing.
    pub path: PathBuf,
    /// Durability.
    pub synchronous: Synchronous,
    /// How long a write waits for another process's transaction.
    pub busy_timeout: Duration,
    /// Connections for reading.
    pub read_connections: u32,
    /// Settings that every engine has.
    pub common: Options,
}

/// A stream in an SQLite file. Cloning shares the connections.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    options: Arc<SqliteOptions>,
    connections: Arc<Connections>,
}

impl SqliteStore {
    /// Opens the file, makes or adopts the tables and checks the contract.
    ///
    /// # Errors
    /// When the file cannot be opened or is no database that can be served.
    pub async fn open(options: SqliteOptions) -> Result<Self, Error> {
        let options = Arc::new(options);
        let connections = Arc::new(Connections::open(Arc::clone(&options)).await?);
        let store = Self {
            options,
            connections,
        };
        store.prepare_schema().await?;
        Ok(store)
    }

    /// Steps of the schema that are not applied yet, without applying them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn pending_steps(options: SqliteOptions) -> Result<Vec<&'static str>, Error> {
        let options = Arc::new(options);
        let connections = Arc::new(Connections::open(Arc::clone(&options)).await?);
        let store = Self {
            options,
            connections,
        };
        let pending = store.pending().await;
        // Whoever opens the file next must not meet a close under way.
        store.connections.close().await;
        Ok(pending?.into_iter().map(|step| step.name).collect())
    }

    /// What must be allowed for the service and for producers: a file has no
    /// roles.
    #[must_use]
    pub fn grants(path: &Path) -> String {
        format!(
            "-- SQLite has no roles: what counts is the file's permissions. The service and every\n\
             -- producer need to write {} with its -wal and -shm, and the directory that they are in.",
            path.display()
        )
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

    /// A statement of a common head and its own end.
    fn sql2(&self, head: &'static str, end: &'static str) -> SqlStr {
        use sqlx::{AssertSqlSafe, SqlSafeStr};
        let names = &self.options.common.names;
        AssertSqlSafe(format!("{}{}", names.apply(head), names.apply(end))).into_sql_str()
    }

    /// The stream's name in our own tables.
    fn stream(&self) -> &str {
        &self.options.common.names.queue
    }

    /// A replica whose heartbeat is older than this has lost its sessions.
    fn lapse_millis(&self) -> i64 {
        i64::try_from(self.options.common.session_lapse.as_millis()).unwrap_or(i64::MAX)
    }
}

impl From<Synchronous> for SqliteSynchronous {
    fn from(synchronous: Synchronous) -> Self {
        match synchronous {
            Synchronous::Full => Self::Full,
            Synchronous::Normal => Self::Normal,
            Synchronous::Extra => Self::Extra,
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn append(&self, requests: &[Append]) -> Result<Vec<Result<IdRuns, Refusal>>, Error> {
        self.append_requests(requests).await
    }

    fn tail(&self) -> Box<dyn Tail> {
        Box::new(tail::SqliteTail::new(self.clone()))
    }

    async fn page(&self, span: &Span<'_>) -> Result<Page, Error> {
        Ok(self.read_span(span).await?.page)
    }

    async fn first_at(&self, time: Moment, above: EventId) -> Result<Option<EventId>, Error> {
        self.read_first_at(time, above).await
    }

    async fn bounds(&self) -> Result<Bounds, Error> {
        self.connections.check_file(Effect::None)?;
        let mut connection = self.connections.read().await?;
        self.read_bounds(&mut connection).await
    }

    async fn audit(&self, known: EventId) -> Result<Audit, Error> {
        self.audit_positions(known).await
    }

    async fn register(&self, key: &ConsumerKey, start: EventId) -> Result<(Consumer, bool), Error> {
        self.register_consumer(key, start).await
    }

    async fn consumer(&self, key: &ConsumerKey) -> Result<Option<Consumer>, Error> {
        self.read_consumer(key).await
    }

    async fn consumers(&self, page: &ConsumerPage<'_>) -> Result<Vec<Consumer>, Error> {
        self.read_consumers(page).await
    }

    async fn unregister(&self, key: &ConsumerKey) -> Result<bool, Error> {
        self.remove_consumer(key).await
    }

    async fn seek(&self, key: &ConsumerKey, to: EventId) -> Result<Option<Consumer>, Error> {
        self.seek_consumer(key, to, EventId::START).await
    }

    async fn seek_archived(
        &self,
        key: &ConsumerKey,
        to: EventId,
        archived_to: EventId,
    ) -> Result<Option<Consumer>, Error> {
        self.seek_consumer(key, to, archived_to).await
    }

    async fn advance(&self, frontier: EventId, moves: &[Advance]) -> Result<Vec<Advanced>, Error> {
        self.advance_positions(frontier, moves).await
    }

    async fn open_session(&self, session: &NewSession) -> Result<Opening, Error> {
        self.insert_session(session).await
    }

    async fn close_sessions(&self, sessions: &[(ConsumerKey, Uuid)]) -> Result<(), Error> {
        self.delete_sessions(sessions).await
    }

    async fn beat(
        &self,
        replica: Uuid,
        sessions: &[(ConsumerKey, i64)],
    ) -> Result<Vec<Standing>, Error> {
        self.renew_heartbeat(replica, sessions).await
    }

    async fn credit(
        &self,
        key: &ConsumerKey,
        epoch: Option<i64>,
        acked: EventId,
    ) -> Result<(), Error> {
        self.credit_session(key, epoch, acked).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, Error> {
        self.claim_lease(claim).await
    }

    async fn release(&self, fence: Fence) -> Result<(), Error> {
        self.release_lease(fence).await
    }

    async fn leases(&self) -> Result<Vec<Lease>, Error> {
        self.read_leases().await
    }

    async fn discardable(&self, archiving: bool) -> Result<Discardable, Error> {
        self.read_discardable(archiving).await
    }

    async fn discard(&self, batch: &Discard) -> Result<Discarded, Error> {
        self.discard_batch(batch).await
    }

    async fn expire(&self, expiry: &Expiry<'_>) -> Result<Expired, Error> {
        self.expire_consumer(expiry).await
    }

    async fn appeared(&self, ranges: &[IdRange], limit: usize) -> Result<Vec<EventId>, Error> {
        self.read_appeared(ranges, limit).await
    }

    fn late_causes(&self) -> &'static str {
        "an INSERT that names its id"
    }

    async fn rewind(&self, late: &[EventId]) -> Result<Vec<Rewound>, Error> {
        self.rewind_consumers(late).await
    }

    async fn skip(&self, skip: &Skip) -> Result<(), Error> {
        self.insert_skip(skip).await
    }

    async fn skips(&self) -> Result<Vec<Skip>, Error> {
        self.read_skips().await
    }

    fn pools(&self) -> Vec<PoolUse> {
        self.connections.pools()
    }

    async fn reconnect(&self) -> Result<(), Error> {
        self.connections.reopen().await?;
        self.prepare_schema().await
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}
