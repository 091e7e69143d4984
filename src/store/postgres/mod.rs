//! PostgreSQL.
//!
//! Ids are given out at INSERT and transactions commit in another order, so the
//! frontier needs evidence: `tail` collects it by the rule of `floors`, without
//! a trigger or column in the application's table. All writes are decided by
//! row locks in one order (consumers by ident, then the stream's row, replicas,
//! sessions, stops), so that replicas neither lose updates nor deadlock.

mod checkup;
pub(super) mod connections;
mod consumers;
mod floors;
mod grants;
mod head;
mod late;
mod pooler;
pub(super) mod queue;
mod schema;
mod sessions;
mod tail;
mod upkeep;
mod url;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::SqlStr;
use tokio::time::timeout;
use uuid::Uuid;

pub use self::url::PostgresUrl;
use self::{connections::Connections, head::Head};
use super::{
    Advance, Advanced, Append, Audit, Blocker, Bounds, Claim, Claimed, Consumer, ConsumerPage,
    Discard, Discardable, Discarded, Effect, Error, Expired, Expiry, Fence, IdRange, IdRuns, Lease,
    NewSession, Opening, Options, Page, PoolUse, Refusal, Rewound, Skip, Span, Standing, Store,
    Tail, discarded::LowEnd,
};
use crate::event::{ConsumerKey, EventId, Moment};

/// Where the database is and how it is used.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Server, database and role.
    pub url: PostgresUrl,
    /// Schema of the tables; `None`: the role's search path decides.
    pub schema: Option<String>,
    /// A statement that takes longer is given up.
    pub statement_timeout: Duration,
    /// Connections for reading.
    pub read_connections: u32,
    /// Connections for writing.
    pub write_connections: u32,
    /// Settings that every engine has.
    pub common: Options,
}

/// A stream in a PostgreSQL database. Cloning shares the connections.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    options: Arc<PostgresOptions>,
    connections: Arc<Connections>,
    shared: Arc<Mutex<Shared>>,
}

/// What is known of the database until it is lost.
#[derive(Debug, Default)]
struct Shared {
    head: Head,
    low_end: LowEnd,
    /// Highest id that the tail proved settled.
    settled: i64,
}

/// An operation is several statements; this on top of one that is given up.
const GRACE: Duration = Duration::from_secs(5);

impl PostgresStore {
    /// Connects, makes or adopts the tables and checks the contract.
    ///
    /// # Errors
    /// When the server cannot be reached or is none that can be served.
    pub async fn open(options: PostgresOptions) -> Result<Self, Error> {
        let store = Self::connect(options).await?;
        store.prepare().await?;
        Ok(store)
    }

    /// Steps of the schema that are not applied yet, without applying them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn pending_steps(options: PostgresOptions) -> Result<Vec<&'static str>, Error> {
        let store = Self::connect(options).await?;
        let pending = store.pending().await;
        store.connections.close().await;
        Ok(pending?.into_iter().map(|step| step.name).collect())
    }

    /// The least that the roles of the service and of a producer must be
    /// granted, as SQL. Changes nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn grants(options: PostgresOptions) -> Result<String, Error> {
        let store = Self::connect(options).await?;
        let text = store.grant_text().await;
        store.connections.close().await;
        text
    }

    async fn connect(options: PostgresOptions) -> Result<Self, Error> {
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
        timeout(limit, pooler::unmixed(effect, work))
            .await
            .map_err(lost)?
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

    /// The stream's name in our own tables.
    fn stream(&self) -> &str {
        &self.options.common.names.queue
    }

    /// A replica whose heartbeat is older than this has lost its sessions.
    fn lapse_millis(&self) -> i64 {
        i64::try_from(self.options.common.session_lapse.as_millis()).unwrap_or(i64::MAX)
    }

    fn head(&self) -> Head {
        self.with_shared(|shared| shared.head.clone())
    }

    /// Makes or checks the tables and forgets what was known of them.
    async fn prepare(&self) -> Result<(), Error> {
        let head = self.prepare_schema().await?;
        let low_end = LowEnd {
            witness: self.saved_witness().await?,
            ..LowEnd::default()
        };
        self.with_shared(|shared| {
            *shared = Shared {
                head,
                low_end,
                settled: 0,
            };
        });
        Ok(())
    }

    fn with_shared<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    async fn append(&self, requests: &[Append]) -> Result<Vec<Result<IdRuns, Refusal>>, Error> {
        self.bounded(Effect::Unknown, self.append_requests(requests))
            .await
    }

    fn tail(&self) -> Box<dyn Tail> {
        Box::new(tail::PostgresTail::new(self.clone()))
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
        "an INSERT that names its id; nextval() in an earlier statement than the INSERT; a session \
         that still uses a block of ids from when the sequence had a CACHE above 1; or setval() to \
         a lower value"
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
