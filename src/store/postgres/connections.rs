//! Connections to the server, and what its errors mean.
//!
//! Every session states what the statements rely on, whatever the server's
//! defaults are: READ COMMITTED, UTC, bounded statements, plans by index. A
//! connection that breaks is [`Error::Lost`]: the server may have failed over,
//! so everything proven is forgotten, its identity is compared and logged.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use sqlx::{
    Connection as _, PgConnection, PgPool, Postgres, Row, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{Instant, timeout};

use super::PostgresOptions;
use crate::store::{Effect, Error};

/// The pools, replaced as one by a reconnect.
#[derive(Debug)]
pub(super) struct Connections {
    options: Arc<PostgresOptions>,
    current: RwLock<Live>,
    /// What the writer of events left. In no pool: that would ask it for a sign
    /// of life after each commit, a second round trip.
    spare: Mutex<Option<Spare>>,
}

#[derive(Debug)]
struct Spare {
    connection: PgConnection,
    generation: u64,
    since: Instant,
}

#[derive(Debug, Clone)]
struct Live {
    write: PgPool,
    read: PgPool,
    identity: Identity,
    /// Counts the reconnects.
    generation: u64,
}

/// Which server this is, and on which of its timelines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    /// `None` if the role may not read it.
    system: Option<i64>,
    /// First eight digits of the name of its current WAL file.
    timeline: String,
}

/// For one connection, from the name to the end of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Waiting for one of our own connections.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Spare connections are closed before something between closes them.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// A stopped process must not keep its row locks for longer.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);

impl Connections {
    pub(super) async fn open(options: Arc<PostgresOptions>) -> Result<Self, Error> {
        let live = Live::open(&options).await?;
        Ok(Self {
            options,
            current: RwLock::new(live),
            spare: Mutex::default(),
        })
    }

    /// Makes new connections to whatever server answers now.
    pub(super) async fn reopen(&self) -> Result<(), Error> {
        let mut fresh = Live::open(&self.options).await?;
        let identity = fresh.identity.clone();
        let stale = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            fresh.generation = current.generation + 1;
            std::mem::replace(&mut *current, fresh)
        };
        drop(self.spare().take());
        if stale.identity != identity {
            tracing::error!(before = ?stale.identity, now = ?identity,
                "another server or timeline answers: commits of before may be missing there");
        }
        // Connections that do not answer are not waited for.
        let _ = timeout(CONNECT_TIMEOUT, stale.close()).await;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.live().close().await;
        let spare = self.spare().take();
        if let Some(spare) = spare
            && let Err(error) = spare.connection.close().await
        {
            tracing::debug!(%error, "closing the writer's connection");
        }
    }

    pub(super) async fn begin(&self) -> Result<WriteTx, Error> {
        let tx = self.live().write.begin().await;
        Ok(WriteTx(tx.map_err(|error| unavailable(&error))?))
    }

    /// A connection for one statement that writes.
    pub(super) async fn write(&self) -> Result<PoolConnection<Postgres>, Error> {
        let connection = self.live().write.acquire().await;
        connection.map_err(|error| unavailable(&error))
    }

    /// A connection for adding events in one statement.
    pub(super) async fn writer(&self) -> Result<Writer<'_>, Error> {
        let generation = self.live().generation;
        let spare = self.spare().take();
        let usable =
            |spare: &Spare| spare.generation == generation && spare.since.elapsed() < IDLE_TIMEOUT;
        let connection = match spare.filter(usable) {
            Some(spare) => spare.connection,
            None => self.apart().await?,
        };
        Ok(Writer {
            connections: self,
            connection,
            generation,
        })
    }

    /// A connection for reading.
    pub(super) async fn read(&self) -> Result<PoolConnection<Postgres>, Error> {
        let connection = self.live().read.acquire().await;
        connection.map_err(|error| unavailable(&error))
    }

    /// A connection outside the pools, to the same server as theirs.
    pub(super) async fn apart(&self) -> Result<PgConnection, Error> {
        let mut connection = connect(&self.options).await?;
        let identity = Identity::of(&mut connection).await?;
        if identity == self.live().identity {
            return Ok(connection);
        }
        Err(Error::Lost {
            effect: Effect::None,
            cause: "another server answers than before".into(),
        })
    }

    fn spare(&self) -> MutexGuard<'_, Option<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Live {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Live {
    async fn open(options: &PostgresOptions) -> Result<Self, Error> {
        let mut first = connect(options).await?;
        let identity = Identity::of(&mut first).await?;
        // The pools would connect on demand and report a wrong password late.
        if let Err(error) = first.close().await {
            tracing::debug!(%error, "closing the first connection");
        }
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(QUEUE_TIMEOUT)
                .idle_timeout(IDLE_TIMEOUT)
                .test_before_acquire(false)
                .connect_lazy_with(session(options))
        };
        Ok(Self {
            write: pool(options.write_connections),
            read: pool(options.read_connections),
            identity,
            generation: 0,
        })
    }

    async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

impl Identity {
    async fn of(connection: &mut PgConnection) -> Result<Self, Error> {
        const RECOVERY: &str = "SELECT pg_is_in_recovery()";
        const IDENTITY: &str = "SELECT
            CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
                THEN (SELECT system_identifier FROM pg_control_system()) END AS system,
            left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS timeline";
        let standby: bool = sqlx::query_scalar(RECOVERY)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if standby {
            return Err(Error::Contract(
                "the server is a standby: locks of writers cannot be seen there and events would \
                 be lost; point db.url at the primary (target_session_attrs does not help here)"
                    .into(),
            ));
        }
        let row = sqlx::query(IDENTITY)
            .fetch_one(connection)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(Self {
            system: row.get("system"),
            timeline: row.get("timeline"),
        })
    }
}

async fn connect(options: &PostgresOptions) -> Result<PgConnection, Error> {
    let session = session(options);
    match timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&session)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(Error::Unavailable {
            effect: Effect::None,
            cause: format!("cannot connect: {error}"),
        }),
        Err(_elapsed) => Err(Error::Unavailable {
            effect: Effect::None,
            cause: format!("cannot connect within {CONNECT_TIMEOUT:?}"),
        }),
    }
}

/// What every session states, whatever the server's defaults are.
fn session(options: &PostgresOptions) -> PgConnectOptions {
    let mut settings = vec![
        // A snapshot per statement: the frontier's proof rests on it.
        ("default_transaction_isolation", "read committed".to_owned()),
        ("default_transaction_read_only", "off".to_owned()),
        ("TimeZone", "UTC".to_owned()),
        // Finds dead peers, and keeps idle connections alive in firewalls.
        ("tcp_keepalives_idle", "30".to_owned()),
        ("tcp_keepalives_interval", "10".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        (
            "statement_timeout",
            options.statement_timeout.as_millis().to_string(),
        ),
        (
            "idle_in_transaction_session_timeout",
            IDLE_TRANSACTION_TIMEOUT.as_millis().to_string(),
        ),
        // Each statement has its index; without statistics the planner would
        // rather sort the whole table when it plans for unknown parameters.
        ("enable_seqscan", "off".to_owned()),
        ("enable_bitmapscan", "off".to_owned()),
        ("enable_hashjoin", "off".to_owned()),
        ("enable_mergejoin", "off".to_owned()),
        ("jit", "off".to_owned()),
        // Those plans are the same whatever the parameters, and to make one
        // costs several times what it takes to run it.
        ("plan_cache_mode", "force_generic_plan".to_owned()),
    ];
    if let Some(schema) = &options.schema {
        settings.push(("search_path", schema.clone()));
    }
    options.url.connect_options().options(settings)
}

/// The connection of the writer of events, in use. It is closed unless its
/// statement ended well.
pub(super) struct Writer<'a> {
    connections: &'a Connections,
    connection: PgConnection,
    generation: u64,
}

impl Writer<'_> {
    /// Leaves it to the next statement.
    pub(super) fn keep(self) {
        *self.connections.spare() = Some(Spare {
            connection: self.connection,
            generation: self.generation,
            since: Instant::now(),
        });
    }
}

impl std::ops::Deref for Writer<'_> {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl std::ops::DerefMut for Writer<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// A write transaction; rolled back when dropped.
pub(super) struct WriteTx(Transaction<'static, Postgres>);

impl WriteTx {
    pub(super) async fn savepoint(&mut self) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
        self.0.begin().await
    }

    pub(super) async fn rollback(self) -> Result<(), Error> {
        self.0.rollback().await.map_err(|error| unavailable(&error))
    }

    /// Durable when it returns.
    pub(super) async fn commit(self) -> Result<(), Error> {
        self.0.commit().await.map_err(|error| commit_failed(&error))
    }
}

impl std::ops::Deref for WriteTx {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl std::ops::DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// The five letters of the server's error.
fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the database refuses the values themselves: data exceptions (22),
/// constraints (23), views (44), what a trigger raises (27, 38, 39, P0), limits
/// such as the depth of JSON (54), or a row that an INSERT should have made is
/// missing.
pub(super) fn is_data_error(error: &sqlx::Error) -> bool {
    let Some(state) = sqlstate(error) else {
        return matches!(error, sqlx::Error::RowNotFound);
    };
    // The queue's own key: the sequence is behind the table.
    let own_key = error
        .as_database_error()
        .and_then(|error| error.constraint())
        .is_some_and(|constraint| constraint.ends_with("_pkey"));
    matches!(
        &state[..2],
        "22" | "23" | "27" | "38" | "39" | "44" | "54" | "P0"
    ) && !(state == "23505" && own_key)
}

/// A failure before anything was committed.
pub(super) fn unavailable(error: &sqlx::Error) -> Error {
    classify(error, Effect::None)
}

/// A failure of COMMIT, or of a statement that is its own transaction. An error
/// that the server answers with is certain, unless it ends the connection.
pub(super) fn commit_failed(error: &sqlx::Error) -> Error {
    let state = sqlstate(error);
    let effect = match state.as_deref() {
        Some("40003") => Effect::Unknown,
        Some(state) if !ends_connection(state) => Effect::None,
        // No connection was had, so nothing was sent.
        None if matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => {
            Effect::None
        }
        _ => Effect::Unknown,
    };
    classify(error, effect)
}

/// Connection exceptions, shutdown, crash, start-up, and a server that became
/// a standby.
fn ends_connection(state: &str) -> bool {
    state.starts_with("08") || matches!(state, "57P01" | "57P02" | "57P03" | "57P05" | "25006")
}

fn classify(error: &sqlx::Error, effect: Effect) -> Error {
    let cause = error.to_string();
    let lost = match sqlstate(error) {
        Some(state) => ends_connection(&state),
        None => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::PoolClosed
        ),
    };
    if lost {
        Error::Lost { effect, cause }
    } else {
        Error::Unavailable { effect, cause }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// What a server answers with.
    #[derive(Debug)]
    struct Answer(&'static str);

    impl std::fmt::Display for Answer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Answer {}

    impl DatabaseError for Answer {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn answer(state: &'static str) -> sqlx::Error {
        sqlx::Error::Database(Box::new(Answer(state)))
    }

    fn cut() -> sqlx::Error {
        sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())
    }

    /// Class and effect.
    fn told(error: &Error) -> (&'static str, Option<Effect>) {
        let effect = match error {
            Error::Unavailable { effect, .. } | Error::Lost { effect, .. } => Some(*effect),
            Error::Contract(_) => None,
        };
        (error.class(), effect)
    }

    #[test]
    fn effect_is_unknown_only_when_the_connection_ends_at_commit() {
        for (error, before, at_commit) in [
            (answer("40P01"), ("unavailable", Effect::None), Effect::None),
            (answer("53100"), ("unavailable", Effect::None), Effect::None),
            (answer("57014"), ("unavailable", Effect::None), Effect::None),
            (answer("57P01"), ("lost", Effect::None), Effect::Unknown),
            (answer("08006"), ("lost", Effect::None), Effect::Unknown),
            (answer("25006"), ("lost", Effect::None), Effect::Unknown),
            (cut(), ("lost", Effect::None), Effect::Unknown),
            (
                sqlx::Error::PoolTimedOut,
                ("unavailable", Effect::None),
                Effect::None,
            ),
        ] {
            let (class, effect) = before;
            assert_eq!(told(&unavailable(&error)), (class, Some(effect)), "{error}");
            let committed = told(&commit_failed(&error));
            assert_eq!(committed, (class, Some(at_commit)), "{error}");
        }
    }

    #[test]
    fn data_errors_are_those_of_the_values() {
        for state in ["22P02", "22021", "23514", "P0001", "54001"] {
            assert!(is_data_error(&answer(state)), "{state}");
        }
        for state in ["40001", "42P01", "53200", "57014", "55P03"] {
            assert!(!is_data_error(&answer(state)), "{state}");
        }
        assert!(!is_data_error(&cut()));
    }
}
