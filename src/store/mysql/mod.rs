//! MySQL and MariaDB.
//!
//! One dialect that both take; where they differ, `server` decides by what the
//! server has. Ids are given out at INSERT and transactions commit in another
//! order, so the frontier needs evidence, which `tail` collects. All writes are
//! decided by row locks in one order (consumers by ident, then the stream's
//! row, replicas, sessions, stops); where InnoDB breaks a deadlock all the
//! same, the transaction is repeated.

mod barriers;
mod blockers;
mod checkup;
pub(super) mod connections;
mod consumers;
mod contract;
pub(super) mod errors;
mod galera;
mod grants;
mod late;
pub(in crate::store) mod pooled;
mod prober;
pub(super) mod queue;
mod schema;
pub(super) mod server;
mod sessions;
mod tail;
mod upkeep;
mod url;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{
    MySql, Row as _, SqlStr,
    mysql::{MySqlArguments, MySqlRow},
    query::Query,
};
use tokio::time::timeout;
use uuid::Uuid;

use self::{
    connections::Connections,
    errors::{commit_failed, is_deadlock, unavailable},
    pooled::{WriteTx, undisturbed},
    queue::CAUTIOUS_SIZE,
};
pub use self::{galera::Galera, url::MysqlUrl};
use super::{
    Advance, Advanced, Append, Audit, Blocker, Bounds, Claim, Claimed, Consumer, ConsumerPage,
    Discard, Discardable, Discarded, Effect, Error, Expired, Expiry, Fence, IdRange, IdRuns, Lease,
    NewSession, Opening, Options, Page, PoolUse, Refusal, Rewound, Skip, Span, Standing, Store,
    Tail, discarded::LowEnd,
};
use crate::event::{ConsumerKey, EventId, Moment};

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
    /// Whether a cluster with several writers is refused.
    pub galera: Galera,
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
#[derive(Debug)]
struct Shared {
    low_end: LowEnd,
    /// Highest id that the tail proved settled.
    settled: i64,
    /// Bytes of one of the events that were read last.
    typical_size: usize,
    blockers: blockers::Told,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            low_end: LowEnd::default(),
            settled: 0,
            typical_size: CAUTIOUS_SIZE,
            blockers: None,
        }
    }
}

/// An operation is several statements; this on top of one that is given up.
const GRACE: Duration = Duration::from_secs(5);

/// How often a transaction is repeated that InnoDB chose to break a deadlock.
const DEADLOCK_REPEATS: usize = 5;

/// Rows up to which a statement for many of them is kept prepared: each number
/// of rows is a text of its own.
const PREPARED_ROWS: usize = 32;

impl MysqlStore {
    /// Connects, makes or adopts the tables and checks the contract.
    ///
    /// # Errors
    /// When the server cannot be reached or is none that can be served.
    pub async fn open(options: MysqlOptions) -> Result<Self, Error> {
        let store = Self::connect(options).await?;
        store.prepare().await?;
        Ok(store)
    }

    /// Steps of the schema that are not applied yet, without applying them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn pending_steps(options: MysqlOptions) -> Result<Vec<&'static str>, Error> {
        let store = Self::connect(options).await?;
        let pending = store.pending().await;
        store.connections.close().await;
        Ok(pending?.into_iter().map(|step| step.name).collect())
    }

    /// Rewrites adopted columns that cannot hold every event: `utf8mb4`, data
    /// of any size, names compared to the letter. Copies the tables, during
    /// which nobody can write to them. Returns the statements that were run.
    ///
    /// # Errors
    /// When the database cannot be changed.
    pub async fn widen(options: MysqlOptions) -> Result<Vec<String>, Error> {
        let store = Self::connect(options).await?;
        let widened = store.widen_tables().await;
        store.connections.close().await;
        widened
    }

    async fn connect(options: MysqlOptions) -> Result<Self, Error> {
        let options = Arc::new(options);
        let connections = Arc::new(Connections::open(Arc::clone(&options)).await?);
        Ok(Self {
            options,
            connections,
            shared: Arc::default(),
        })
    }

    /// Makes or checks the tables and forgets what was known of them.
    async fn prepare(&self) -> Result<(), Error> {
        self.prepare_schema().await?;
        let witness = self.saved_witness().await?;
        self.with_shared(|shared| {
            *shared = Shared::default();
            shared.low_end.witness = witness;
        });
        Ok(())
    }

    /// A network that swallows packets must not hold a caller for ever. What a
    /// caller does not wait for costs its connection. The work is on the heap:
    /// sqlx makes it as large as 16 KiB.
    fn bounded<'a, T: 'a>(
        &self,
        effect: Effect,
        work: impl Future<Output = Result<T, Error>> + Send + 'a,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'a {
        let limit = self.options.statement_timeout + GRACE;
        let lost = move |_elapsed| Error::Lost {
            effect,
            cause: format!("no answer within {limit:?}"),
        };
        let work = timeout(limit, undisturbed(Box::pin(work)));
        async move { work.await.map_err(lost)? }
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
        let sql = format!("{}{}", names.apply(head), names.apply(end));
        AssertSqlSafe(sql).into_sql_str()
    }

    /// A statement for `count` rows: `row` so many times in the place of ROWS.
    fn query_of<'q>(
        &self,
        text: &'static str,
        row: &str,
        count: usize,
    ) -> Query<'q, MySql, MySqlArguments> {
        use sqlx::AssertSqlSafe;
        let rows = vec![row; count].join(", ");
        let sql = self.options.common.names.apply(text).replace("ROWS", &rows);
        sqlx::query(AssertSqlSafe(sql)).persistent(count <= PREPARED_ROWS)
    }

    /// Does `work` in one transaction, which it hands back to be committed.
    async fn transaction<T, W>(&self, work: impl Fn(WriteTx) -> W) -> Result<T, Error>
    where
        W: Future<Output = Result<(WriteTx, T), sqlx::Error>>,
    {
        let attempt = self.attempt(work).await?;
        attempt.map_err(|error| unavailable(&error))
    }

    /// As [`Self::transaction`]; the inner error is that of `work`, and nothing
    /// was written. Repeated where InnoDB broke a deadlock: that has certainly
    /// rolled everything back.
    async fn attempt<T, W>(
        &self,
        work: impl Fn(WriteTx) -> W,
    ) -> Result<Result<T, sqlx::Error>, Error>
    where
        W: Future<Output = Result<(WriteTx, T), sqlx::Error>>,
    {
        let mut repeats = 0..DEADLOCK_REPEATS;
        loop {
            let failure = match work(self.connections.begin().await?).await {
                Ok((tx, done)) => match tx.commit().await {
                    Ok(()) => return Ok(Ok(done)),
                    Err(error) if !is_deadlock(&error) => return Err(commit_failed(&error)),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !is_deadlock(&failure) || repeats.next().is_none() {
                return Ok(Err(failure));
            }
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

#[async_trait]
impl Store for MysqlStore {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    async fn append(&self, requests: &[Append]) -> Result<Vec<Result<IdRuns, Refusal>>, Error> {
        self.bounded(Effect::Unknown, self.append_requests(requests))
            .await
    }

    fn tail(&self) -> Box<dyn Tail> {
        Box::new(tail::MysqlTail::new(self.clone()))
    }

    async fn page(&self, span: &Span<'_>) -> Result<Page, Error> {
        self.bounded(Effect::None, self.read_span(span)).await
    }

    async fn first_at(&self, time: Moment, above: EventId) -> Result<Option<EventId>, Error> {
        self.bounded(Effect::None, self.read_first_at(time, above))
            .await
    }

    async fn bounds(&self) -> Result<Bounds, Error> {
        self.bounded(Effect::None, self.read_bounds()).await
    }

    async fn audit(&self, known: EventId) -> Result<Audit, Error> {
        self.bounded(Effect::Unknown, self.audit_positions(known))
            .await
    }

    async fn register(&self, key: &ConsumerKey, start: EventId) -> Result<(Consumer, bool), Error> {
        self.bounded(Effect::Unknown, self.register_consumer(key, start))
            .await
    }

    async fn consumer(&self, key: &ConsumerKey) -> Result<Option<Consumer>, Error> {
        self.bounded(Effect::None, self.read_consumer(key)).await
    }

    async fn consumers(&self, page: &ConsumerPage<'_>) -> Result<Vec<Consumer>, Error> {
        self.bounded(Effect::None, self.read_consumers(page)).await
    }

    async fn unregister(&self, key: &ConsumerKey) -> Result<bool, Error> {
        self.bounded(Effect::Unknown, self.remove_consumer(key))
            .await
    }

    async fn seek(&self, key: &ConsumerKey, to: EventId) -> Result<Option<Consumer>, Error> {
        self.seek_archived(key, to, EventId::START).await
    }

    async fn seek_archived(
        &self,
        key: &ConsumerKey,
        to: EventId,
        archived_to: EventId,
    ) -> Result<Option<Consumer>, Error> {
        self.bounded(Effect::Unknown, self.seek_consumer(key, to, archived_to))
            .await
    }

    async fn advance(&self, frontier: EventId, moves: &[Advance]) -> Result<Vec<Advanced>, Error> {
        self.bounded(Effect::Unknown, self.advance_positions(frontier, moves))
            .await
    }

    async fn open_session(&self, session: &NewSession) -> Result<Opening, Error> {
        self.bounded(Effect::Unknown, self.insert_session(session))
            .await
    }

    async fn close_sessions(&self, sessions: &[(ConsumerKey, Uuid)]) -> Result<(), Error> {
        self.bounded(Effect::Unknown, self.delete_sessions(sessions))
            .await
    }

    async fn beat(
        &self,
        replica: Uuid,
        sessions: &[(ConsumerKey, i64)],
    ) -> Result<Vec<Standing>, Error> {
        self.bounded(Effect::Unknown, self.renew_heartbeat(replica, sessions))
            .await
    }

    async fn credit(
        &self,
        key: &ConsumerKey,
        epoch: Option<i64>,
        acked: EventId,
    ) -> Result<(), Error> {
        self.bounded(Effect::Unknown, self.credit_session(key, epoch, acked))
            .await
    }

    async fn blockers(&self) -> Result<Vec<Blocker>, Error> {
        self.bounded(Effect::None, self.read_blockers()).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Claimed, Error> {
        self.bounded(Effect::Unknown, self.claim_lease(claim)).await
    }

    async fn release(&self, fence: Fence) -> Result<(), Error> {
        self.bounded(Effect::Unknown, self.release_lease(fence))
            .await
    }

    async fn leases(&self) -> Result<Vec<Lease>, Error> {
        self.bounded(Effect::None, self.read_leases()).await
    }

    async fn discardable(&self, archiving: bool) -> Result<Discardable, Error> {
        self.bounded(Effect::None, self.read_discardable(archiving))
            .await
    }

    async fn discard(&self, batch: &Discard) -> Result<Discarded, Error> {
        self.bounded(Effect::Unknown, self.discard_batch(batch))
            .await
    }

    async fn expire(&self, expiry: &Expiry<'_>) -> Result<Expired, Error> {
        self.bounded(Effect::Unknown, self.expire_consumer(expiry))
            .await
    }

    async fn appeared(&self, ranges: &[IdRange], limit: usize) -> Result<Vec<EventId>, Error> {
        self.bounded(Effect::None, self.read_appeared(ranges, limit))
            .await
    }

    fn late_causes(&self) -> &'static str {
        "an INSERT that names its id; a session with an auto_increment_increment or \
         auto_increment_offset of its own; a transaction on another node of a cluster whose only \
         writer this one was declared to be; or replication into this server"
    }

    async fn rewind(&self, late: &[EventId]) -> Result<Vec<Rewound>, Error> {
        self.bounded(Effect::Unknown, self.rewind_consumers(late))
            .await
    }

    async fn skip(&self, skip: &Skip) -> Result<(), Error> {
        self.bounded(Effect::Unknown, self.insert_skip(skip)).await
    }

    async fn skips(&self) -> Result<Vec<Skip>, Error> {
        self.bounded(Effect::None, self.read_skips()).await
    }

    fn pools(&self) -> Vec<PoolUse> {
        self.connections.pools()
    }

    async fn reconnect(&self) -> Result<(), Error> {
        self.connections.reopen().await?;
        self.prepare().await
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}

/// A column as text; `None` if it is NULL or not UTF-8. By place, and whatever
/// its type is: the servers differ in the names and types of their catalogues.
pub(super) fn text(row: &MySqlRow, column: usize) -> Option<String> {
    let bytes: Option<&[u8]> = row.get_unchecked(column);
    std::str::from_utf8(bytes?).ok().map(Into::into)
}
