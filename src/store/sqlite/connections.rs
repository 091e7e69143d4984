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
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout},
};

use super::SqliteOptions;
use crate::{
    limits,
    store::{Effect, Error, PoolUse},
};

/// What leads to the file, replaced as one by a reconnect.
#[derive(Debug)]
pub(in crate::store) struct Connections {
    options: Arc<SqliteOptions>,
    /// The one connection that writes, unless it is in use or was spoilt. In no
    /// pool: that would ask it for a sign of life after each transaction, which
    /// costs as much as a statement.
    writer: Mutex<Option<SqliteConnection>>,
    current: RwLock<Current>,
}

#[derive(Debug, Clone)]
struct Current {
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

/// How long SQLite itself waits for a lock of a connection that writes; then it
/// is asked again, until `busy_timeout` is over. Left to itself it would soon
/// look only every 100 ms, and between processes that write without a pause
/// find the lock free once in many seconds.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Pages of WAL after which a commit checkpoints: 16 MiB, so that a burst of
/// commits does not pay for it every few milliseconds.
const CHECKPOINT_PAGES: &str = "4000";

impl Connections {
    pub(in crate::store) async fn open(options: Arc<SqliteOptions>) -> Result<Self, Error> {
        let (writer, current) = Current::open(&options, true).await?;
        Ok(Self {
            options,
            writer: Mutex::new(Some(writer)),
            current: RwLock::new(current),
        })
    }

    /// As [`Self::open`], to a file that is there.
    pub(in crate::store) async fn existing(options: Arc<SqliteOptions>) -> Result<Self, Error> {
        let (writer, current) = Current::open(&options, false).await?;
        Ok(Self {
            options,
            writer: Mutex::new(Some(writer)),
            current: RwLock::new(current),
        })
    }

    /// Makes new connections to whatever file is at the path now. What is being
    /// written ends first, so that it is judged by the file that it went into.
    pub(in crate::store) async fn reopen(&self) -> Result<(), Error> {
        let (writer, fresh) = Current::open(&self.options, false).await?;
        let mut slot = self.writer.lock().await;
        let stale_writer = slot.replace(writer);
        let stale = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, fresh)
        };
        drop(slot);
        stale.read.close().await;
        close(stale_writer).await;
        Ok(())
    }

    /// How they are used now. One writes, and is in no pool.
    pub(in crate::store) fn pools(&self) -> Vec<PoolUse> {
        let idle = self.writer.try_lock().is_ok();
        vec![
            PoolUse::of("read", &self.current().read),
            PoolUse {
                name: "write",
                open: 1,
                idle: u32::from(idle),
                max: 1,
            },
        ]
    }

    pub(in crate::store) async fn close(&self) {
        self.current().read.close().await;
        close(self.writer.lock().await.take()).await;
    }

    /// The connection for writing, for one transaction. Nothing is written into
    /// a file that is known to be gone.
    pub(in crate::store) async fn write(&self) -> Result<Writer<'_>, Error> {
        let limit = self.options.busy_timeout + QUEUE_TIMEOUT;
        let slot = timeout(limit, self.writer.lock()).await;
        let mut slot = slot.map_err(|_elapsed| Error::Unavailable {
            effect: Effect::None,
            cause: format!("earlier writes have taken {limit:?}"),
        })?;
        self.check_file(Effect::None)?;
        let connection = match slot.take() {
            Some(connection) => connection,
            None => open_writer(&self.options).await?,
        };
        Ok(Writer {
            connections: self,
            slot,
            connection,
            patient_until: Instant::now() + self.options.busy_timeout,
        })
    }

    /// A write transaction; holds the file's write lock from the start, so that
    /// it can neither deadlock nor fail half way.
    pub(in crate::store) async fn begin(&self) -> Result<WriteTx<'_>, Error> {
        let mut tx = WriteTx(self.write().await?);
        loop {
            match tx.run("BEGIN IMMEDIATE").await {
                Ok(()) => return Ok(tx),
                Err(error) if tx.0.waits(&error) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
    }

    /// A connection for reading.
    pub(in crate::store) async fn read(&self) -> Result<PoolConnection<Sqlite>, Error> {
        self.current()
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

    fn current(&self) -> Current {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Current {
    /// The writing connection, and everything else.
    async fn open(
        options: &SqliteOptions,
        create: bool,
    ) -> Result<(SqliteConnection, Self), Error> {
        let connect = connect(options);
        if create {
            let made = connect.clone().create_if_missing(true).connect().await;
            let closed = made.map_err(|error| cannot_open(options, &error))?.close();
            closed.await.map_err(|error| cannot_open(options, &error))?;
        }
        let file = identity(options)?;
        let writer = open_writer(options).await?;
        if identity(options)? != file {
            // Which of the two was opened cannot be told.
            return Err(Error::Lost {
                effect: Effect::None,
                cause: "the database file was replaced while it was opened".into(),
            });
        }
        let read = SqlitePoolOptions::new()
            .acquire_timeout(options.busy_timeout + QUEUE_TIMEOUT)
            .test_before_acquire(false)
            .max_connections(options.read_connections)
            .connect_lazy_with(connect.pragma("query_only", "1"));
        Ok((writer, Self { read, file }))
    }
}

fn connect(options: &SqliteOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&options.path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(options.synchronous.into())
        .busy_timeout(options.busy_timeout)
        .foreign_keys(false)
        .row_buffer_size(limits::PAGE_EVENTS)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
}

async fn open_writer(options: &SqliteOptions) -> Result<SqliteConnection, Error> {
    let opened = async {
        // The switch to WAL is not repeated, so it has all the time at once.
        let mut connection = connect(options).connect().await?;
        let pragma = format!("PRAGMA busy_timeout = {}", LOOK_AGAIN.as_millis());
        sqlx::query(AssertSqlSafe(pragma))
            .execute(&mut connection)
            .await?;
        Ok(connection)
    };
    opened.await.map_err(|error| cannot_open(options, &error))
}

async fn close(connection: Option<SqliteConnection>) {
    if let Some(connection) = connection
        && let Err(error) = connection.close().await
    {
        tracing::debug!(%error, "closing the writing connection");
    }
}

/// The writing connection in use. A transaction that does not end well costs
/// it: dropped, it closes, which rolls back whatever is open, and the next
/// writer opens another one. One that was opened while the file was read-only
/// would stay so; and where SQLite has rolled back by itself, as it does when
/// the disk is full, nobody could tell what state it is in.
pub(in crate::store) struct Writer<'a> {
    connections: &'a Connections,
    slot: MutexGuard<'a, Option<SqliteConnection>>,
    connection: SqliteConnection,
    patient_until: Instant,
}

impl Writer<'_> {
    /// Whether a statement that takes the write lock is to be repeated after
    /// this error: another process has the lock, and there is time.
    pub(super) fn waits(&self, error: &sqlx::Error) -> bool {
        is_busy(error) && Instant::now() < self.patient_until
    }

    /// What was done is done: the connection serves the next one.
    pub(in crate::store) fn keep(mut self) {
        *self.slot = Some(self.connection);
    }

    /// As [`Self::keep`], after a commit: whether that was into the file that
    /// is at the path.
    pub(in crate::store) fn acknowledge(self) -> Result<(), Error> {
        let connections = self.connections;
        let checked = connections.check_file(Effect::Unknown);
        self.keep();
        checked
    }
}

impl std::ops::Deref for Writer<'_> {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl std::ops::DerefMut for Writer<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

/// A write transaction; rolled back when dropped, with its connection.
pub(in crate::store) struct WriteTx<'a>(Writer<'a>);

impl WriteTx<'_> {
    /// What follows can be undone alone.
    pub(in crate::store) async fn savepoint(&mut self) -> Result<(), sqlx::Error> {
        self.run("SAVEPOINT apart").await
    }

    /// Keeps what was done since the savepoint.
    pub(in crate::store) async fn release(&mut self) -> Result<(), sqlx::Error> {
        self.run("RELEASE apart").await
    }

    /// Undoes what was done since the savepoint.
    pub(in crate::store) async fn undo(&mut self) -> Result<(), sqlx::Error> {
        self.run("ROLLBACK TO apart").await?;
        self.release().await
    }

    pub(in crate::store) async fn rollback(mut self) -> Result<(), Error> {
        let rolled_back = self.run("ROLLBACK").await;
        rolled_back.map_err(|error| unavailable(&error))?;
        self.0.keep();
        Ok(())
    }

    /// Durable when it returns, and in the file that is at the path.
    pub(in crate::store) async fn commit(mut self) -> Result<(), Error> {
        let committed = self.run("COMMIT").await;
        committed.map_err(|error| commit_failed(&error))?;
        self.0.acknowledge()
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        let run = sqlx::query(statement).execute(&mut self.0.connection);
        run.await.map(drop)
    }
}

impl std::ops::Deref for WriteTx<'_> {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        &self.0.connection
    }
}

impl std::ops::DerefMut for WriteTx<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.0.connection
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

/// `SQLITE_BUSY`: another process has the lock.
pub(in crate::store) fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(5)
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

/// A failure of COMMIT, or of a statement that is its own transaction. SQLite
/// rolls back when the file is locked (5, 6), read-only (8) or full (13) or
/// cannot be opened (14); an I/O error may have struck after the commit record
/// was written.
pub(in crate::store) fn commit_failed(error: &sqlx::Error) -> Error {
    let effect = match primary_code(error) {
        Some(5 | 6 | 8 | 13 | 14) => Effect::None,
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
