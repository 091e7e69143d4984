//! A warehouse in a database of MySQL or MariaDB.

mod rows;
mod schema;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, SqlSafeStr as _, SqlStr, mysql::MySqlArguments, query::Query};
use tokio::{sync::Mutex, time::timeout};

use super::{
    Batch, Extent, HistoryPage, Rejection, Stored, Warehouse, WarehouseOptions, ledger::Range,
};
use crate::{
    event::{EventId, Moment},
    store::{
        Effect, Error, Options, Span,
        mysql::{Galera, MysqlOptions, MysqlUrl, connections::Connections, pooled::undisturbed},
    },
};

/// Connections that read: a replay each at a time.
const READ_CONNECTIONS: u32 = 4;

/// Connections that write: the archiver, and a second one that waits for it.
const WRITE_CONNECTIONS: u32 = 2;

/// An operation is several statements; this on top of one that is given up.
const GRACE: Duration = Duration::from_secs(5);

/// A history in a database of `MySQL` or `MariaDB`.
#[derive(Debug)]
pub struct MysqlWarehouse {
    server: Arc<MysqlOptions>,
    options: WarehouseOptions,
    connections: Mutex<Option<Arc<Connections>>>,
    /// A connection has broken; another server may answer by now.
    lost: AtomicBool,
    /// The table is the original's, whose times have no fractions.
    whole_seconds: AtomicBool,
}

impl MysqlWarehouse {
    /// A warehouse in this database, which is connected to when it is first used.
    #[must_use]
    pub fn new(url: MysqlUrl, options: WarehouseOptions) -> Self {
        let server = MysqlOptions {
            url,
            statement_timeout: options.statement_timeout,
            read_connections: READ_CONNECTIONS,
            write_connections: WRITE_CONNECTIONS,
            // No ids are given out here, so it does not matter which node is written to.
            galera: Galera::SingleWriter,
            common: Options::default(),
        };
        Self {
            server: Arc::new(server),
            options,
            connections: Mutex::new(None),
            lost: AtomicBool::new(false),
            whole_seconds: AtomicBool::new(false),
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
        let fresh = Arc::new(Connections::open(Arc::clone(&self.server)).await?);
        self.prepare(&fresh).await?;
        *connections = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// A network that swallows packets must not hold a caller for ever.
    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let limit = self.options.statement_timeout + GRACE;
        let outcome = timeout(limit, undisturbed(work))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(Error::Lost {
                    effect: Effect::Unknown,
                    cause: format!("no answer within {limit:?}"),
                })
            });
        outcome.inspect_err(|error| {
            if matches!(error, Error::Lost { .. }) {
                self.lost.store(true, Ordering::Release);
            }
        })
    }

    /// A statement for `count` rows: `row` so many times in the place of ROWS.
    fn query_of<'q>(
        &self,
        text: &'static str,
        row: &str,
        count: usize,
    ) -> Query<'q, MySql, MySqlArguments> {
        let rows = vec![row; count].join(", ");
        let sql = self.options.apply(text).replace("ROWS", &rows);
        sqlx::query(AssertSqlSafe(sql)).persistent(false)
    }

    /// The statement with this history's table name, which is a checked identifier.
    fn sql(&self, text: &'static str) -> SqlStr {
        AssertSqlSafe(self.options.apply(text)).into_sql_str()
    }
}

#[async_trait]
impl Warehouse for MysqlWarehouse {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    async fn store(&self, batch: &Batch) -> Result<Result<Stored, Rejection>, Error> {
        let live = self.live().await?;
        self.bounded(self.store_batch(&live, batch)).await
    }

    async fn take_stock(&self, through: EventId, limit: usize) -> Result<usize, Error> {
        let live = self.live().await?;
        self.bounded(Box::pin(self.record_rows(&live, through, limit)))
            .await
    }

    async fn page(&self, span: &Span<'_>) -> Result<HistoryPage, Error> {
        let live = self.live().await?;
        self.bounded(self.read_page(&live, span)).await
    }

    async fn range_above(&self, after: EventId) -> Result<Option<Range>, Error> {
        let live = self.live().await?;
        self.bounded(self.read_range_above(&live, after)).await
    }

    async fn first_at(&self, time: Moment) -> Result<Option<EventId>, Error> {
        let live = self.live().await?;
        self.bounded(self.read_first_at(&live, time)).await
    }

    async fn extent(&self) -> Result<Option<Extent>, Error> {
        let live = self.live().await?;
        self.bounded(self.read_extent(&live)).await
    }

    async fn ranges(&self, first: EventId, limit: usize) -> Result<Vec<Range>, Error> {
        let live = self.live().await?;
        self.bounded(self.read_ranges(&live, first, limit)).await
    }

    async fn count(&self, after: EventId, through: EventId) -> Result<u64, Error> {
        let live = self.live().await?;
        self.bounded(self.count_rows(&live, after, through)).await
    }

    async fn close(&self) {
        if let Some(live) = self.connections.lock().await.take() {
            live.close().await;
        }
    }
}
