//! A warehouse in an SQLite file.

mod rows;
mod schema;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use tokio::sync::Mutex;

use super::{
    Batch, Extent, HistoryPage, Rejection, Stored, Warehouse, WarehouseOptions, ledger::Range,
};
use crate::{
    event::{EventId, Moment},
    store::{
        Error, Options, Span,
        sqlite::{SqliteOptions, Synchronous, connections::Connections},
    },
};

/// Connections that read: a replay each at a time.
const READ_CONNECTIONS: u32 = 4;

/// A history in an SQLite file.
#[derive(Debug)]
pub struct SqliteWarehouse {
    file: Arc<SqliteOptions>,
    options: WarehouseOptions,
    connections: Mutex<Option<Arc<Connections>>>,
    /// The file at the path is another one than that of the connections.
    lost: AtomicBool,
}

impl SqliteWarehouse {
    /// A warehouse in this file, which is made when it is first used.
    #[must_use]
    pub fn new(path: PathBuf, options: WarehouseOptions) -> Self {
        let file = SqliteOptions {
            path,
            // What is archived may be deleted elsewhere.
            synchronous: Synchronous::Full,
            busy_timeout: options.statement_timeout,
            read_connections: READ_CONNECTIONS,
            common: Options::default(),
        };
        Self {
            file: Arc::new(file),
            options,
            connections: Mutex::new(None),
            lost: AtomicBool::new(false),
        }
    }

    /// Opens it, or opens it anew, if need be.
    async fn live(&self) -> Result<Arc<Connections>, Error> {
        let mut connections = self.connections.lock().await;
        match &*connections {
            Some(live) if !self.lost.load(Ordering::Acquire) => return Ok(Arc::clone(live)),
            Some(live) => {
                live.reopen().await?;
                self.prepare(live).await?;
                self.lost.store(false, Ordering::Release);
                return Ok(Arc::clone(live));
            }
            None => {}
        }
        let fresh = Arc::new(Connections::open(Arc::clone(&self.file)).await?);
        self.prepare(&fresh).await?;
        *connections = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    fn noted<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        outcome.inspect_err(|error| {
            if matches!(error, Error::Lost { .. }) {
                self.lost.store(true, Ordering::Release);
            }
        })
    }

    /// The statement with this history's table name, which is a checked identifier.
    fn sql(&self, text: &'static str) -> SqlStr {
        AssertSqlSafe(self.options.apply(text)).into_sql_str()
    }
}

#[async_trait]
impl Warehouse for SqliteWarehouse {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn store(&self, batch: &Batch) -> Result<Result<Stored, Rejection>, Error> {
        let live = self.live().await?;
        self.noted(self.store_batch(&live, batch).await)
    }

    async fn take_stock(&self, through: EventId, limit: usize) -> Result<usize, Error> {
        let live = self.live().await?;
        self.noted(self.record_rows(&live, through, limit).await)
    }

    async fn page(&self, span: &Span<'_>) -> Result<HistoryPage, Error> {
        let live = self.live().await?;
        self.noted(self.read_page(&live, span).await)
    }

    async fn range_above(&self, after: EventId) -> Result<Option<Range>, Error> {
        let live = self.live().await?;
        self.noted(self.read_range_above(&live, after).await)
    }

    async fn first_at(&self, time: Moment) -> Result<Option<EventId>, Error> {
        let live = self.live().await?;
        self.noted(self.read_first_at(&live, time).await)
    }

    async fn extent(&self) -> Result<Option<Extent>, Error> {
        let live = self.live().await?;
        self.noted(self.read_extent(&live).await)
    }

    async fn ranges(&self, first: EventId, limit: usize) -> Result<Vec<Range>, Error> {
        let live = self.live().await?;
        self.noted(self.read_ranges(&live, first, limit).await)
    }

    async fn count(&self, after: EventId, through: EventId) -> Result<u64, Error> {
        let live = self.live().await?;
        self.noted(self.count_rows(&live, after, through).await)
    }

    async fn close(&self) {
        if let Some(live) = self.connections.lock().await.take() {
            live.close().await;
        }
    }
}
