//! Connections to the file, and what its errors mean.
//!
//! A file that is moved away or replaced keeps its open connections, which
//! then write into nothing. So the file's identity (device and inode) is
//! compared before every tail read, before every write and before every
//! acknowledgement; when it changed, the answer is [`Error::Lost`] and the
//! connections are made anew. A file is made at the start only, by a connection
//! of its own: those of the pools, which may be opened at any time, never do.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool, Transaction,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};

use super::SqliteOptions;
use crate::{
    limits,
    store::{Effect, Error},
};

/// The pools, replaced as one by a reconnect.
#[derive(Debug)]
pub(in crate::store) struct Connections {
    options: Arc<SqliteOptions>,
    current: RwLock<Pools>,
    /// The writing connection is not to be used again.
    spoilt: AtomicBool,
}

#[derive(Debug, Clone)]
struct Pools {
    write: SqlitePool,
    read: SqlitePool,
    file: FileIdentity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

/// Waiting for one of our own connections on top of the file's lock.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages of WAL after which a commit checkpoints: 16 MiB, so that a burst of
/// commits does not pay for it every few milliseconds.
const CHECKPOINT_PAGES: &str = "4000";

impl Connections {
    pub(in crate::store) async fn open(options: Arc<SqliteOptions>) -> Result<Self, Error> {
        let pools = Pools::open(&options, true).await?;
        Ok(Self {
            options,
            current: RwLock::new(pools),
            spoilt: AtomicBool::new(false),
        })
    }

    /// Makes new connections to whatever file is at the path now.
    pub(in crate::store) async fn reopen(&self) -> Result<(), Error> {
        let fresh = Pools::open(&self.options, false).await?;
        let stale = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, fresh)
        };
        stale.close().await;
        Ok(())
    }

    pub(in crate::store) async fn close(&self) {
        self.pools().close().await;
    }

    /// A write transaction on the one connection for writing; holds the file's
    /// write lock from the start, so that it can neither deadlock nor fail half way.
    pub(in crate::store) async fn begin(&self) -> Result<WriteTx<'_>, Error> {
        // Nothing is written into a file that is known to be gone.
        self.check_file(Effect::None)?;
        let pool = self.pools().write;
        if self.spoilt.swap(false, Ordering::AcqRel) {
            replace_writer(&pool).await;
        }
        match pool.begin_with("BEGIN IMMEDIATE").await {
            Ok(tx) => Ok(WriteTx {
                connections: self,
                tx,
                unless_ended_well: Spoiling(&self.spoilt),
            }),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// A connection for reading.
    pub(in crate::store) async fn read(&self) -> Result<PoolConnection<Sqlite>, Error> {
        self.pools()
            .read
            .acquire()
            .await
            .map_err(|error| unavailable(&error))
    }

    /// A connection for reading that belongs to the caller alone; a reconnect
    /// does not wait for its end.
    pub(in crate::store) async fn read_apart(&self) -> Result<SqliteConnection, Error> {
        Ok(self.read().await?.detach())
    }

    /// Whether the connections still lead to the file at the path.
    pub(in crate::store) fn check_file(&self, effect: Effect) -> Result<(), Error> {
        let opened = self
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .file;
        match FileIdentity::of(&self.options.path) {
            Ok(now) if now == opened => Ok(()),
            Ok(_) => Err(Error::Lost {
                effect,
                cause: "the database file was replaced".into(),
            }),
            Err(error) => Err(Error::Lost {
                effect,
                cause: format!("the database file is gone: {error}"),
            }),
        }
    }

    fn pools(&self) -> Pools {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Pools {
    async fn open(options: &SqliteOptions, create: bool) -> Result<Self, Error> {
        let connect = SqliteConnectOptions::new()
            .filename(&options.path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(options.synchronous.into())
            .busy_timeout(options.busy_timeout)
            .foreign_keys(false)
            .row_buffer_size(limits::PAGE_EVENTS)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        if create {
            let made = connect.clone().create_if_missing(true).connect().await;
            let closed = made.map_err(|error| cannot_open(options, &error))?.close();
            closed.await.map_err(|error| cannot_open(options, &error))?;
        }
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(options.busy_timeout + QUEUE_TIMEOUT)
                .test_before_acquire(false)
        };
        let file = identity(options)?;
        let write = pool()
            .max_connections(1)
            .connect_with(connect.clone())
            .await;
        let write = write.map_err(|error| cannot_open(options, &error))?;
        if identity(options)? != file {
            // Which of the two was opened cannot be told.
            return Err(Error::Lost {
                effect: Effect::None,
                cause: "the database file was replaced while it was opened".into(),
            });
        }
        let read = pool()
            .max_connections(options.read_connections)
            .connect_lazy_with(connect.pragma("query_only", "1"));
        Ok(Self { write, read, file })
    }

    async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// A write transaction; rolled back when dropped.
pub(in crate::store) struct WriteTx<'a> {
    connections: &'a Connections,
    tx: Transaction<'static, Sqlite>,
    unless_ended_well: Spoiling<'a>,
}

/// A transaction that did not end well costs its connection. One that was
/// opened while the file was read-only stays so. And where SQLite has rolled
/// back by itself, as it does when the disk is full, the driver's ROLLBACK
/// fails and leaves it believing in an open transaction for ever.
struct Spoiling<'a>(&'a AtomicBool);

impl Drop for Spoiling<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl WriteTx<'_> {
    /// Runs a savepoint's `work` statements by hand.
    pub(in crate::store) async fn savepoint(
        &mut self,
    ) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
        self.tx.begin().await
    }

    pub(in crate::store) async fn rollback(self) -> Result<(), Error> {
        self.tx
            .rollback()
            .await
            .map_err(|error| unavailable(&error))?;
        std::mem::forget(self.unless_ended_well);
        Ok(())
    }

    /// Durable when it returns, and in the file that is at the path.
    pub(in crate::store) async fn commit(self) -> Result<(), Error> {
        self.tx
            .commit()
            .await
            .map_err(|error| commit_failed(&error))?;
        std::mem::forget(self.unless_ended_well);
        self.connections.check_file(Effect::Unknown)
    }
}

impl std::ops::Deref for WriteTx<'_> {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        &self.tx
    }
}

impl std::ops::DerefMut for WriteTx<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }
}

/// Closes the writing connection; the pool opens another one.
async fn replace_writer(pool: &SqlitePool) {
    if let Ok(connection) = pool.acquire().await
        && let Err(error) = connection.close().await
    {
        tracing::debug!(%error, "closing a spoilt connection");
    }
}

impl FileIdentity {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

fn identity(options: &SqliteOptions) -> Result<FileIdentity, Error> {
    FileIdentity::of(&options.path).map_err(|error| Error::Unavailable {
        effect: Effect::None,
        cause: format!("cannot open {}: {error}", options.path.display()),
    })
}

fn cannot_open(options: &SqliteOptions, error: &sqlx::Error) -> Error {
    Error::Unavailable {
        effect: Effect::None,
        cause: format!("cannot open {}: {error}", options.path.display()),
    }
}

/// SQLite's primary result code.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Whether the database refuses the values themselves: `SQLITE_TOOBIG`,
/// `SQLITE_CONSTRAINT` (a CHECK or trigger of the application's), `SQLITE_MISMATCH`,
/// or a row that an INSERT should have made is missing.
pub(in crate::store) fn is_data_error(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(18..=20)) || matches!(error, sqlx::Error::RowNotFound)
}

/// A failure before anything was committed.
pub(in crate::store) fn unavailable(error: &sqlx::Error) -> Error {
    classify(error, Effect::None)
}

/// A failure of COMMIT itself. SQLite rolls back when it is busy or full; an
/// I/O error may have struck after the commit record was written.
fn commit_failed(error: &sqlx::Error) -> Error {
    let effect = match primary_code(error) {
        Some(5 | 6 | 13) => Effect::None,
        _ => Effect::Unknown,
    };
    classify(error, effect)
}

fn classify(error: &sqlx::Error, effect: Effect) -> Error {
    let cause = error.to_string();
    match (error, primary_code(error)) {
        // SQLITE_CORRUPT and SQLITE_NOTADB: something else is at the path.
        (_, Some(11 | 26)) | (sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed, _) => {
            Error::Lost { effect, cause }
        }
        _ => Error::Unavailable { effect, cause },
    }
}
