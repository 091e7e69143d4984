//! The storage contract: everything the stream asks of a database.
//!
//! One object-safe trait, implemented by one hand-written file tree per engine
//! in that engine's own SQL; no SQL exists outside this module. Every method
//! is one transaction or one statement, so that it either happened or not, and
//! no connection is held between calls. What must hold between replicas
//! (positions, epochs, sessions) is decided in the SQL, never in memory.

mod checkup;
mod discarded;
pub mod history;
mod migrate;
pub mod mysql;
pub mod postgres;
mod requests;
mod rows;
pub mod sqlite;
mod upkeep;

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::event::{ConsumerKey, Event, EventId, Label, Moment, NewEvent, User, Want};

pub use checkup::{Finding, READING, Verdict};
pub use rows::{IdRuns, Names};
pub use upkeep::{
    Claim, Claimed, Discard, Discardable, Discarded, Expired, Expiry, Fence, Hold, Lease, Task,
};

/// A database that holds one stream.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The kind of database: `sqlite`, `postgres` or `mysql`.
    fn kind(&self) -> &'static str;

    /// Stores the events of all requests in one transaction. The outer error
    /// means that none is stored (or, with [`Effect::Unknown`], that it cannot
    /// be told); an inner one concerns its request alone (ARCHITECTURE, rule 9).
    async fn append(&self, requests: &[Append]) -> Result<Vec<Result<IdRuns, Refusal>>, Error>;

    /// A cursor over the tail of the stream, for the one tailer of a process.
    fn tail(&self) -> Box<dyn Tail>;

    /// Reads wanted events of `span` in id order, from one snapshot.
    async fn page(&self, span: &Span<'_>) -> Result<Page, Error>;

    /// The lowest kept id above `above` whose `ts` is at or after `time`. Looks
    /// at every kept event between them, in id order: `ts` has no index.
    async fn first_at(&self, time: Moment, above: EventId) -> Result<Option<EventId>, Error>;

    /// Ids at the ends of the active table.
    async fn bounds(&self) -> Result<Bounds, Error>;

    /// Compares what is stored with the head after a start or a reconnect. If
    /// `known`, the saved frontier or a position lies above the head, ids were
    /// rolled back by a restore: those consumers are stopped, for good, until
    /// an operator seeks them (ARCHITECTURE, rule 5).
    async fn audit(&self, known: EventId) -> Result<Audit, Error>;

    /// Registers a consumer at `start`; an existing registration is returned
    /// unchanged. [`Error::Discarded`] if the discarder has passed `start`.
    async fn register(&self, key: &ConsumerKey, start: EventId) -> Result<(Consumer, bool), Error>;

    /// One consumer; `None` if it is not registered.
    async fn consumer(&self, key: &ConsumerKey) -> Result<Option<Consumer>, Error>;

    /// Consumers of one user or of all, by ident, after `after`.
    async fn consumers(&self, page: &ConsumerPage<'_>) -> Result<Vec<Consumer>, Error>;

    /// Forgets a consumer and its session; false if there was none.
    async fn unregister(&self, key: &ConsumerKey) -> Result<bool, Error>;

    /// Puts a consumer at a position under a new epoch and lifts a stop; `None`
    /// if it is not registered. [`Error::Discarded`] as in [`Self::register`].
    async fn seek(&self, key: &ConsumerKey, to: EventId) -> Result<Option<Consumer>, Error>;

    /// As [`Self::seek`], where everything above `to` up to `archived_to` can be
    /// read in the warehouse. Remembers that it may have been discarded, which
    /// can no longer be concluded from the positions.
    async fn seek_archived(
        &self,
        key: &ConsumerKey,
        to: EventId,
        archived_to: EventId,
    ) -> Result<Option<Consumer>, Error>;

    /// Moves positions forward and saves the frontier, in one transaction; the
    /// outcomes are in the order of `moves`.
    async fn advance(&self, frontier: EventId, moves: &[Advance]) -> Result<Vec<Advanced>, Error>;

    /// Opens a push session under a new epoch, unless another one is open and
    /// `policy` respects it.
    async fn open_session(&self, session: &NewSession) -> Result<Opening, Error>;

    /// Removes sessions that ended, or never quite began, by their ids.
    async fn close_sessions(&self, sessions: &[(ConsumerKey, Uuid)]) -> Result<(), Error>;

    /// Renews this replica's heartbeat and tells how its sessions stand, in
    /// their order.
    async fn beat(
        &self,
        replica: Uuid,
        sessions: &[(ConsumerKey, i64)],
    ) -> Result<Vec<Standing>, Error>;

    /// Notes how far a session of another replica was acknowledged, so that its
    /// window opens there; without an epoch that of whatever session is open.
    async fn credit(
        &self,
        key: &ConsumerKey,
        epoch: Option<i64>,
        acked: EventId,
    ) -> Result<(), Error>;

    /// Transactions that may own ids which nobody can see yet. Empty for an
    /// engine where nothing can come between an id and its commit.
    async fn blockers(&self) -> Result<Vec<Blocker>, Error> {
        Ok(Vec::new())
    }

    /// Begins, or goes on with, a task that one replica does at a time.
    async fn claim(&self, claim: &Claim) -> Result<Claimed, Error>;

    /// Ends a tenure, so that another replica need not wait for it to lapse.
    async fn release(&self, fence: Fence) -> Result<(), Error>;

    /// Who does which task of upkeep now.
    async fn leases(&self) -> Result<Vec<Lease>, Error>;

    /// What [`Self::discard`] would find.
    async fn discardable(&self, archiving: bool) -> Result<Discardable, Error>;

    /// Deletes settled events that every consumer has, from the low end, and
    /// records how far in the same transaction (ARCHITECTURE, rule 6). The last
    /// row is kept. A registration or seek at the same time either is seen by
    /// this or sees what this recorded.
    async fn discard(&self, batch: &Discard) -> Result<Discarded, Error>;

    /// Unregisters a consumer unless it has shown life, in one statement.
    async fn expire(&self, expiry: &Expiry<'_>) -> Result<Expired, Error>;

    /// Visible ids inside any of `ranges`, ascending, at most `limit`. Looks at
    /// the primary key alone; the ranges are disjoint and in any order.
    async fn appeared(&self, ranges: &[IdRange], limit: usize) -> Result<Vec<EventId>, Error>;

    /// What an application or its database probably did, if an id appeared
    /// after it was proven dead.
    fn late_causes(&self) -> &'static str;

    /// Moves every consumer that has passed one of the `late` ids to just
    /// before it, and fences all of them: a session or a page may have passed
    /// it and not be acknowledged yet. Each id counts once, whichever replica
    /// comes with it. Consumers that are stopped stay where they are.
    async fn rewind(&self, late: &[EventId]) -> Result<Vec<Rewound>, Error>;

    /// Keeps an operator's decision to skip; repeated, the first one stays.
    async fn skip(&self, skip: &Skip) -> Result<(), Error>;

    /// The latest skips, the highest first.
    async fn skips(&self) -> Result<Vec<Skip>, Error>;

    /// How the connections are used now.
    fn pools(&self) -> Vec<PoolUse>;

    /// Opens the database anew after [`Error::Lost`].
    async fn reconnect(&self) -> Result<(), Error>;

    /// Closes every connection.
    async fn close(&self);
}

/// The tail of the stream. Stateful where an engine must collect evidence of
/// what is settled; dropped and made anew after a reconnect.
#[async_trait]
pub trait Tail: Send {
    /// What is settled now, without reading events. Nothing at or below it
    /// can appear any more.
    async fn frontier(&mut self, known: EventId) -> Result<Proof, Error>;

    /// Events above `after` and the evidence of which missing ids are dead.
    /// `gaps` are the ids below `after` that are still open.
    async fn read(&mut self, after: EventId, gaps: &[IdRange]) -> Result<TailRead, Error>;

    /// As [`Self::read`], but nothing above `after`: the caller holds as many
    /// events behind a gap as it may.
    async fn recheck(&mut self, after: EventId, gaps: &[IdRange]) -> Result<TailRead, Error> {
        self.read(after, gaps).await
    }
}

/// An open transaction of an event writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// The database's name for it.
    pub session: String,
    /// What the database knows of the client.
    pub client: String,
    /// How long it has been open; zero if the database does not tell.
    pub age: Duration,
    /// Whether it is prepared (two-phase) and waits for its coordinator.
    pub prepared: bool,
}

/// How a pool of connections is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// What they are for: `read` or `write`.
    pub name: &'static str,
    /// Open ones.
    pub open: u32,
    /// Of those, waiting for work.
    pub idle: u32,
    /// The most there may be.
    pub max: u32,
}

impl PoolUse {
    fn of<D: sqlx::Database>(name: &'static str, pool: &sqlx::Pool<D>) -> Self {
        Self {
            name,
            open: pool.size(),
            idle: u32::try_from(pool.num_idle()).unwrap_or(u32::MAX),
            max: pool.options().get_max_connections(),
        }
    }
}

/// An operator's decision that the frontier shall pass ids which may still
/// appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Where the frontier stood.
    pub from: EventId,
    /// Where it shall be at least: what is not visible up to there is given up.
    pub to: EventId,
    /// Who decided.
    pub who: String,
    /// Why.
    pub reason: String,
}

/// A consumer that [`Store::rewind`] moved back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewound {
    /// Which one.
    pub key: ConsumerKey,
    /// Its position before.
    pub from: EventId,
    /// Its position now.
    pub to: EventId,
    /// Its epoch now.
    pub epoch: i64,
}

/// An inclusive range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// Lowest id.
    pub first: EventId,
    /// Highest id.
    pub last: EventId,
}

/// What [`Tail::frontier`] proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Highest settled id.
    pub frontier: EventId,
    /// Highest id given out, settled or not.
    pub head: EventId,
    /// Whether another call would prove more at once: one call is bounded.
    pub more: bool,
}

/// What [`Tail::read`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRead {
    /// Rows above `after` or inside `gaps`, ascending.
    pub events: Vec<Event>,
    /// Every visible row up to this id, above `after`, is in `events`.
    pub scanned: EventId,
    /// Every id up to this one that is not visible is dead.
    pub dead_through: EventId,
    /// Highest id given out, settled or not.
    pub head: EventId,
    /// Whether there was more to read than one read takes.
    pub more: bool,
}

/// What [`Store::page`] shall read.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// Events above this id…
    pub after: EventId,
    /// …up to this one.
    pub through: EventId,
    /// Of these types.
    pub want: &'a Want,
    /// At most this many.
    pub max_events: usize,
    /// At most this many bytes, but always one event.
    pub max_bytes: usize,
}

/// What [`Store::page`] read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Wanted events, ascending.
    pub events: Vec<Event>,
    /// Every wanted event above `after` up to this id is in `events`.
    pub through: EventId,
    /// Every id at or below it may have been discarded: a reader below it has
    /// a hole (ARCHITECTURE, rule 6).
    pub discarded_to: EventId,
}

/// The ends of the active table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Highest id given out.
    pub head: EventId,
    /// Lowest id kept; `None` if the table is empty.
    pub oldest: Option<EventId>,
    /// As [`Page::discarded_to`].
    pub discarded_to: EventId,
}

/// What [`Store::audit`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The frontier to continue from.
    pub frontier: EventId,
    /// Highest id given out.
    pub head: EventId,
    /// Set if something lay above the head: the highest such id.
    pub lost_above_head: Option<EventId>,
    /// Idents of the consumers that are stopped.
    pub stopped: Vec<String>,
}

/// One request of a group commit.
#[derive(Debug, Clone)]
pub struct Append {
    /// Who adds.
    pub user: User,
    /// Makes a retry return the first ids.
    pub request_id: Option<Uuid>,
    /// All or none are stored, in this order.
    pub events: Vec<NewEvent>,
}

/// Why one request of a group commit was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request id was used for other events.
    #[error("request_id was used for other events")]
    RequestIdReused,
    /// The database refuses the events themselves.
    #[error("the database refuses the event: {0}")]
    Data(String),
}

/// A registered consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub key: ConsumerKey,
    /// Every id up to this one counts as delivered.
    pub position: EventId,
    /// Fencing number; 0 if it was registered by the original and never used here.
    pub epoch: i64,
    /// First registration.
    pub reg_time: Option<Moment>,
    /// Latest sign of life.
    pub last_time: Option<Moment>,
    /// Label of the push session that is open in some replica.
    pub session: Option<Label>,
    /// What that replica calls itself.
    pub place: Option<String>,
    /// Why it is stopped, if it is.
    pub stopped: Option<String>,
    /// Epoch of the last seek or [`Store::rewind`] of any consumer: what was
    /// read before may lack an event below the frontier.
    pub rewound: i64,
    /// `ts` of the oldest kept event above its position.
    pub oldest_missing: Option<Moment>,
    /// The database's clock, for ages.
    pub now: Moment,
}

/// Which consumers [`Store::consumers`] lists.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerPage<'a> {
    /// Of this user only.
    pub user: Option<&'a User>,
    /// After this ident.
    pub after: &'a str,
    /// At most this many.
    pub limit: usize,
}

/// One forward move of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// Whose.
    pub key: ConsumerKey,
    /// The epoch it must still have; `None`: any.
    pub epoch: Option<i64>,
    /// The new position; a lower one than stored changes nothing.
    pub to: EventId,
}

/// Outcome of one [`Advance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advanced {
    /// The position stored now, at or above the one asked for.
    At(EventId),
    /// Refused: the consumer has this epoch by now.
    Stale(i64),
    /// Refused: the consumer is stopped.
    Stopped,
    /// Refused: there is no such consumer.
    Unknown,
}

/// A push session to open.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Whose.
    pub key: ConsumerKey,
    /// Names it in logs.
    pub id: Uuid,
    /// Where it is served.
    pub replica: Uuid,
    /// What the subscriber says about itself.
    pub label: Label,
    /// Whether an open session is left alone.
    pub yields: bool,
}

/// Outcome of [`Store::open_session`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Opened: the consumer under its new epoch.
    Opened(Consumer),
    /// Another session is open and was left alone.
    Occupied(Label),
    /// There is no such consumer.
    Unknown,
}

/// How a session of this replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It still has the consumer's epoch.
    Current {
        /// Acknowledged so far through other replicas.
        acked: EventId,
    },
    /// Another session has taken the consumer over.
    TakenOver,
    /// The consumer was sought or unregistered and has this epoch; 0: none.
    Stale(i64),
}

/// Whether a failed write may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It certainly did not.
    None,
    /// It cannot be told.
    Unknown,
}

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not work right now (locked, full, read-only); it may later.
    #[error("the database does not answer as it should: {cause}")]
    Unavailable {
        /// Whether the write may have happened.
        effect: Effect,
        /// For the log.
        cause: String,
    },
    /// The connection is gone or leads to another database than before:
    /// forget everything proven and [`Store::reconnect`].
    #[error("the database was lost: {cause}")]
    Lost {
        /// Whether the write may have happened.
        effect: Effect,
        /// For the log.
        cause: String,
    },
    /// A place that was asked for is discarded by now; nothing was done.
    #[error("everything up to {0} is discarded")]
    Discarded(EventId),
    /// The database is not what it must be; needs an operator.
    #[error("{0}")]
    Contract(String),
}

impl Error {
    /// Label for metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Lost { .. } => "lost",
            Self::Discarded(_) => "discarded",
            Self::Contract(_) => "contract",
        }
    }
}

/// Settings that every engine has.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Table names.
    pub names: Names,
    /// How long a request id is remembered.
    pub request_window: Duration,
    /// A replica without a heartbeat for this long has lost its sessions.
    pub session_lapse: Duration,
    /// What this replica calls itself, for operators.
    pub place: String,
}
