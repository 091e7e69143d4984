//! The warehouse: all events for ever, beside the active table.
//!
//! `evt_history` holds the events, `evt_archived` what of them is known to be
//! complete (see [`ledger`]). Rows and ledger change in one transaction, and a
//! row is identified by its id alone: storing it again changes nothing,
//! storing other content under its id is a [`Rejection::Conflict`]. A warehouse
//! connects when it is first used, so that a service starts without it.

mod deposit;
pub mod ledger;
mod lenient;
pub mod mysql;
pub mod postgres;
pub mod sqlite;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;

pub use self::deposit::{Batch, Deposited, deposit};
use self::ledger::{Digest, Range};
use super::{Error, Span, mysql::MysqlUrl, postgres::PostgresUrl};
use crate::event::{Event, EventId, Moment};

/// A database that holds the history of one stream.
#[async_trait]
pub trait Warehouse: Send + Sync + 'static {
    /// The kind of database: `sqlite`, `postgres` or `mysql`.
    fn kind(&self) -> &'static str;

    /// Stores a batch and records it as complete, in one transaction. Nothing
    /// is stored on an error or a rejection; whether it is after an error at
    /// the commit does not matter, because it may be repeated.
    async fn store(&self, batch: &Batch) -> Result<Result<Stored, Rejection>, Error>;

    /// Records up to `limit` rows above the recorded ones as complete, none
    /// above `through`, and returns how many: what an archiver that kept no
    /// ledger has left, up to its position.
    async fn take_stock(&self, through: EventId, limit: usize) -> Result<usize, Error>;

    /// Events of `span` in id order. The caller knows that the span is recorded.
    async fn page(&self, span: &Span<'_>) -> Result<HistoryPage, Error>;

    /// The recorded range that covers the id after `after`, or else the next
    /// one above it.
    async fn range_above(&self, after: EventId) -> Result<Option<Range>, Error>;

    /// The lowest recorded id whose `ts` is at or after `time`.
    async fn first_at(&self, time: Moment) -> Result<Option<EventId>, Error>;

    /// Ends of what is recorded; `None` if nothing is.
    async fn extent(&self) -> Result<Option<Extent>, Error>;

    /// Recorded ranges in id order, from the one that begins at or above `first`.
    async fn ranges(&self, first: EventId, limit: usize) -> Result<Vec<Range>, Error>;

    /// Number of rows above `after` up to `through`, recorded or not.
    async fn count(&self, after: EventId, through: EventId) -> Result<u64, Error>;

    /// Closes every connection.
    async fn close(&self);
}

/// What was new to the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Rows that were not there before.
    pub fresh: usize,
    /// Of those, rows inside ranges that were recorded as complete before.
    pub late: usize,
}

/// Why a warehouse does not take a batch, however often it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Another event has this id there.
    #[error(
        "event {0} is in the warehouse already, with other content; nothing is archived until \
         one of the two is removed"
    )]
    Conflict(EventId),
    /// The database refuses some row.
    #[error("the warehouse refuses {}: {cause}", several(*.first, *.last))]
    Refused {
        /// Lowest id of the batch.
        first: EventId,
        /// Highest id of the batch.
        last: EventId,
        /// The database's words.
        cause: String,
    },
}

fn several(first: EventId, last: EventId) -> String {
    if first == last {
        format!("event {first}")
    } else {
        format!("one of the events {first} to {last}")
    }
}

/// What [`Warehouse::page`] read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// Wanted events, ascending.
    pub events: Vec<Event>,
    /// Every wanted event above the span's start up to this id is in `events`.
    pub through: EventId,
}

impl HistoryPage {
    /// Of a span that is recorded: `found` wanted rows were in reach, of which
    /// `events` fitted; `scan_end` is set if rows beyond it were not looked at.
    fn read(span: &Span<'_>, events: Vec<Event>, found: i64, scan_end: Option<i64>) -> Self {
        let found = usize::try_from(found).unwrap_or(usize::MAX);
        let cut = events.len() < found || found >= span.max_events;
        let through = match (events.last(), scan_end) {
            (Some(last), _) if cut => last.id,
            (_, Some(scan_end)) => EventId::stored(scan_end),
            _ => span.through,
        };
        Self { events, through }
    }
}

/// Ends of what is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Lowest recorded id.
    pub first: EventId,
    /// Highest recorded id.
    pub last: EventId,
}

/// Where a warehouse is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of `SQLite`.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres(PostgresUrl),
    /// A database of a server of `MySQL` or `MariaDB`.
    Mysql(MysqlUrl),
}

/// Settings that every engine has.
#[derive(Debug, Clone)]
pub struct WarehouseOptions {
    /// Name of the history table.
    pub table: String,
    /// A statement that takes longer is given up.
    pub statement_timeout: Duration,
}

impl WarehouseOptions {
    /// The usual name of the history table.
    pub const TABLE: &'static str = "evt_history";

    /// `sql`, which is written with the default name, with this name.
    fn apply(&self, sql: &str) -> String {
        sql.replace(Self::TABLE, &self.table)
    }
}

/// A warehouse at this place; nothing is opened yet.
#[must_use]
pub fn at(place: &Place, options: WarehouseOptions) -> Arc<dyn Warehouse> {
    match place {
        Place::Sqlite(path) => Arc::new(sqlite::SqliteWarehouse::new(path.clone(), options)),
        Place::Mysql(url) => Arc::new(mysql::MysqlWarehouse::new(url.clone(), options)),
        Place::Postgres(url) => Arc::new(postgres::PostgresWarehouse::new(url.clone(), options)),
    }
}

/// Of an event as it is stored.
#[must_use]
pub fn digest(event: &Event) -> Digest {
    Digest::of(event.id, &event.kind, &event.data, event.ts)
}
