//! Connections to the server, and what its errors mean.
//!
//! Every session states what the statements rely on, whatever the server's
//! defaults are: READ COMMITTED, UTC, bounded statements, plans by index; by
//! SET, because poolers take no startup parameters. A connection that breaks is
//! [`Error::Lost`]: the server may have failed over, so everything proven is
//! forgotten. Every new connection must lead to the same server and timeline.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, Row, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{PostgresOptions, pooler};
use crate::store::{Effect, Error, PoolUse};

/// The pools, replaced as one by a reconnect.
#[derive(Debug)]
pub(in crate::store) struct Connections {
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
    /// Why the pools could not use a connection that they made.
    unusable: Arc<Mutex<Option<String>>>,
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
pub(in crate::store) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Waiting for one of our own connections.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Spare connections are closed before something between closes them.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// A stopped process must not keep its row locks for longer.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);

impl Connections {
    pub(in crate::store) async fn open(options: Arc<PostgresOptions>) -> Result<Self, Error> {
        let live = Live::open(&options).await?;
        Ok(Self {
            options,
            current: RwLock::new(live),
            spare: Mutex::default(),
        })
    }

    /// Makes new connections to whatever server answers now.
    pub(in crate::store) async fn reopen(&self) -> Result<(), Error> {
        // Nobody shall find out by a connection that is dead, or that leads to a
        // server that is primary no more: until there are new ones, calls fail
        // before anything is sent.
        self.live().retire();
        drop(self.spare().take());
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

    /// How they are used now.
    pub(in crate::store) fn pools(&self) -> Vec<PoolUse> {
        let live = self.live();
        vec![
            PoolUse::of("read", &live.read),
            PoolUse::of("write", &live.write),
        ]
    }

    pub(in crate::store) async fn close(&self) {
        self.live().close().await;
        let spare = self.spare().take();
        if let Some(spare) = spare
            && let Err(error) = spare.connection.close().await
        {
            tracing::debug!(%error, "closing the writer's connection");
        }
    }

    pub(in crate::store) async fn begin(&self) -> Result<WriteTx, Error> {
        let live = self.live();
        let tx = live.write.begin().await;
        Ok(WriteTx(tx.map_err(|error| live.explain(&error))?))
    }

    /// A connection for one statement that writes.
    pub(in crate::store) async fn write(&self) -> Result<PoolConnection<Postgres>, Error> {
        let live = self.live();
        let connection = live.write.acquire().await;
        connection.map_err(|error| live.explain(&error))
    }

    /// A connection for adding events in one statement.
    pub(in crate::store) async fn writer(&self) -> Result<Writer<'_>, Error> {
        let generation = self.live().generation;
        let spare = self.spare().take();
        let usable =
            |spare: &Spare| spare.generation == generation && spare.since.elapsed() < IDLE_TIMEOUT;
        let connection = match spare.filter(usable) {
            Some(spare) => spare.connection,
            None => self.apart().await?.0,
        };
        Ok(Writer {
            connections: self,
            connection,
            generation,
        })
    }

    /// A connection for reading.
    pub(in crate::store) async fn read(&self) -> Result<PoolConnection<Postgres>, Error> {
        let live = self.live();
        let connection = live.read.acquire().await;
        connection.map_err(|error| live.explain(&error))
    }

    /// A connection outside the pools, to the same server as theirs, and the
    /// mark of its session.
    pub(in crate::store) async fn apart(&self) -> Result<(PgConnection, String), Error> {
        let mut connection = connect_with(&self.options.url.connect_options()).await?;
        let mark = Uuid::new_v4().to_string();
        state(&mut connection, &self.options, &mark).await?;
        if Identity::of(&mut connection).await? == self.live().identity {
            return Ok((connection, mark));
        }
        Err(Error::Lost {
            effect: Effect::None,
            cause: ANOTHER_SERVER.into(),
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
    async fn open(options: &Arc<PostgresOptions>) -> Result<Self, Error> {
        // The pools would connect on demand and report a wrong password late.
        let mut first = pooler::examined(options).await?;
        state(&mut first, options, "first").await?;
        let identity = Identity::of(&mut first).await?;
        if let Err(error) = first.close().await {
            tracing::debug!(%error, "closing the first connection");
        }
        let unusable = Arc::default();
        Ok(Self {
            write: pool(options, options.write_connections, &identity, &unusable),
            read: pool(options, options.read_connections, &identity, &unusable),
            identity,
            unusable,
            generation: 0,
        })
    }

    /// The pool gives up on connections that it cannot use without saying why.
    fn explain(&self, error: &sqlx::Error) -> Error {
        if !matches!(error, sqlx::Error::PoolTimedOut) {
            return unavailable(error);
        }
        let effect = Effect::None;
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        match unusable.take() {
            Some(cause) => Error::Lost { effect, cause },
            None => Error::Unavailable {
                effect,
                cause: format!(
                    "no connection was free within {QUEUE_TIMEOUT:?}: the server takes no more \
                     (max_connections), or all of ours are busy (db.read_connections, \
                     db.write_connections)"
                ),
            },
        }
    }

    /// No connection is given out any more; those that are in use go on.
    fn retire(&self) {
        drop(self.read.close());
        drop(self.write.close());
    }

    async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

fn pool(
    options: &Arc<PostgresOptions>,
    connections: u32,
    identity: &Identity,
    unusable: &Arc<Mutex<Option<String>>>,
) -> PgPool {
    let (options, identity) = (Arc::clone(options), identity.clone());
    let unusable = Arc::clone(unusable);
    let url = options.url.connect_options();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(QUEUE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let (options, identity) = (Arc::clone(&options), identity.clone());
            let unusable = Arc::clone(&unusable);
            Box::pin(async move {
                let outcome = admit(connection, &options, &identity).await;
                outcome.map_err(|error| {
                    let cause = error.to_string();
                    *unusable.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause.clone());
                    sqlx::Error::Protocol(cause)
                })
            })
        })
        .connect_lazy_with(url)
}

/// Makes a new connection one of ours, if it leads to the same server.
async fn admit(
    connection: &mut PgConnection,
    options: &PostgresOptions,
    identity: &Identity,
) -> Result<(), Error> {
    state(connection, options, "pooled").await?;
    if Identity::of(connection).await? == *identity {
        return Ok(());
    }
    Err(Error::Lost {
        effect: Effect::None,
        cause: ANOTHER_SERVER.into(),
    })
}

const ANOTHER_SERVER: &str = "another server or timeline answers than before";

impl Identity {
    async fn of(connection: &mut PgConnection) -> Result<Self, Error> {
        const IDENTITY: &str = "SELECT
            CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
                THEN (SELECT system_identifier FROM pg_control_system()) END AS system,
            CASE WHEN pg_is_in_recovery() THEN NULL
                ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END AS timeline,
            current_setting('transaction_isolation') AS isolation";
        let row = sqlx::query(IDENTITY)
            .fetch_one(connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let isolation: &str = row.get("isolation");
        if isolation != "read committed" {
            return Err(Error::Contract(format!(
                "the session runs at {isolation} although read committed was asked for: something \
                 between changes sessions; point db.url at the server itself"
            )));
        }
        let Some(timeline) = row.get("timeline") else {
            return Err(Error::Contract(
                "the server is a standby: locks of writers cannot be seen there and events would \
                 be lost; point db.url at the primary (target_session_attrs does not help here)"
                    .into(),
            ));
        };
        Ok(Self {
            system: row.get("system"),
            timeline,
        })
    }
}

/// A connection that states nothing yet.
pub(in crate::store) async fn connect_with(
    options: &PgConnectOptions,
) -> Result<PgConnection, Error> {
    let cause = match timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(error)) => format!("cannot connect: {error}{}", remedy(&error)),
        Err(_elapsed) => format!("cannot connect within {CONNECT_TIMEOUT:?}"),
    };
    Err(Error::Unavailable {
        effect: Effect::None,
        cause,
    })
}

/// What to do about a connection that is refused, where it is not plain.
fn remedy(error: &sqlx::Error) -> &'static str {
    match sqlstate(error).as_deref() {
        Some("28P01" | "28000") => {
            "; user, password and certificate are those of db.url, or PGPASSWORD; \
             pg_hba.conf must let them in"
        }
        Some("53300") => "; raise max_connections of the server, or lower db.read_connections",
        Some("3D000") => "; create the database first",
        Some("08P01") if error.to_string().contains("startup parameter: options") => {
            "; a pooler takes no options, take them out of db.url"
        }
        None if is_missing_file(error) => {
            "; the socket, sslrootcert, sslcert or sslkey of db.url is not there or may not be read"
        }
        _ if error.to_string().contains("certificate") => {
            "; with sslmode=verify-ca or verify-full the server's certificate must come from the \
             authority in sslrootcert, and with verify-full name the host of db.url"
        }
        _ => "",
    }
}

fn is_missing_file(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    matches!(error, sqlx::Error::Io(error) if matches!(error.kind(), NotFound | PermissionDenied))
}

/// States what every statement relies on, whatever the server's defaults are,
/// and marks the session.
async fn state(
    connection: &mut PgConnection,
    options: &PostgresOptions,
    mark: &str,
) -> Result<(), Error> {
    let sql = AssertSqlSafe(session(options, mark));
    let stated = sqlx::raw_sql(sql).execute(connection).await;
    stated.map_err(|error| unavailable(&error))?;
    Ok(())
}

/// The statements of [`state`], in one message.
fn session(options: &PostgresOptions, mark: &str) -> String {
    let statement_timeout = options.statement_timeout.as_millis().to_string();
    let idle_transaction = IDLE_TRANSACTION_TIMEOUT.as_millis().to_string();
    let mut settings = vec![
        (pooler::MARK, mark),
        // A snapshot per statement: the frontier's proof rests on it.
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_read_only", "off"),
        ("TimeZone", "UTC"),
        // Finds dead peers, and keeps idle connections alive in firewalls.
        ("tcp_keepalives_idle", "30"),
        ("tcp_keepalives_interval", "10"),
        ("tcp_keepalives_count", "3"),
        ("statement_timeout", &statement_timeout),
        ("idle_in_transaction_session_timeout", &idle_transaction),
        // Each statement has its index; without statistics the planner would
        // rather sort the whole table when it plans for unknown parameters.
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
        // Those plans are the same whatever the parameters, and to make one
        // costs several times what it takes to run it.
        ("plan_cache_mode", "force_generic_plan"),
    ];
    if let Some(schema) = &options.schema {
        settings.push(("search_path", schema));
    }
    let mut sql = String::new();
    for (name, value) in settings {
        let _ = write!(sql, "SET {name} = '{value}';");
    }
    // Ours may be idle: a pool's spare connection that the server ends would
    // look like a server that is lost. Unknown before PostgreSQL 14.
    sql.push_str(
        "SELECT set_config('idle_session_timeout', '0', false)
         WHERE current_setting('idle_session_timeout', true) IS NOT NULL",
    );
    sql
}

/// The connection of the writer of events, in use. It is closed unless its
/// statement ended well.
pub(in crate::store) struct Writer<'a> {
    connections: &'a Connections,
    connection: PgConnection,
    generation: u64,
}

impl Writer<'_> {
    /// Leaves it to the next statement.
    pub(in crate::store) fn keep(self) {
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
pub(in crate::store) struct WriteTx(Transaction<'static, Postgres>);

impl WriteTx {
    pub(in crate::store) async fn savepoint(
        &mut self,
    ) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
        self.0.begin().await
    }

    pub(in crate::store) async fn rollback(self) -> Result<(), Error> {
        self.0.rollback().await.map_err(|error| unavailable(&error))
    }

    /// Durable when it returns.
    pub(in crate::store) async fn commit(self) -> Result<(), Error> {
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
pub(in crate::store) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the database refuses the values themselves: data exceptions (22),
/// constraints (23), views (44), what a trigger raises (27, 38, 39, P0), limits
/// such as the depth of JSON (54), or a row that an INSERT should have made is
/// missing.
pub(in crate::store) fn is_data_error(error: &sqlx::Error) -> bool {
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
pub(in crate::store) fn unavailable(error: &sqlx::Error) -> Error {
    classify(error, Effect::None)
}

/// A failure of COMMIT, or of a statement that is its own transaction. An error
/// that the server answers with is certain, unless it ends the connection.
pub(in crate::store) fn commit_failed(error: &sqlx::Error) -> Error {
    let state = sqlstate(error);
    let effect = match state.as_deref() {
        Some("40003") => Effect::Unknown,
        Some(state) if !ends_connection(state) => Effect::None,
        None if is_unsent(error) => Effect::None,
        _ => Effect::Unknown,
    };
    classify(error, effect)
}

/// Whether no connection was had, or it was closed before everything was
/// written: the end of the message, which makes it count, comes last.
fn is_unsent(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
        _ => false,
    }
}

/// Connection exceptions, shutdown, crash, start-up, a server that became a
/// standby, and a session that does not know its own statements: a pooler has
/// put another one in its place.
fn ends_connection(state: &str) -> bool {
    const STATES: [&str; 6] = ["57P01", "57P02", "57P03", "57P05", "25006", "26000"];
    state.starts_with("08") || STATES.contains(&state)
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
            Error::Contract(_) | Error::Discarded(_) => None,
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
                sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into()),
                ("lost", Effect::None),
                Effect::None,
            ),
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
