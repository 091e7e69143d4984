//! Connections to the server.
//!
//! Every session states what the statements rely on (`server`). A connection
//! that breaks is [`Error::Lost`]: the server may have failed over, so
//! everything proven is forgotten, its identity is compared and logged.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection as _, MySqlConnection, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};
use tokio::time::timeout;

use super::{
    MysqlOptions,
    errors::unavailable,
    pooled::{Pooled, WriteTx},
    server::{Isolation, Server},
};
use crate::store::{Effect, Error, PoolUse};

/// The pools, replaced as one by a reconnect.
#[derive(Debug)]
pub(in crate::store) struct Connections {
    options: Arc<MysqlOptions>,
    current: RwLock<Live>,
}

#[derive(Debug, Clone)]
struct Live {
    write: MySqlPool,
    read: MySqlPool,
    server: Arc<Server>,
}

/// For one connection, from the name to the end of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Waiting for one of our own connections.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Spare connections are closed before something between closes them.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Statements that a connection keeps prepared. Those for many rows are not.
const PREPARED_STATEMENTS: usize = 256;

impl Connections {
    pub(in crate::store) async fn open(options: Arc<MysqlOptions>) -> Result<Self, Error> {
        let live = Live::open(&options).await?;
        Ok(Self {
            options,
            current: RwLock::new(live),
        })
    }

    /// Makes new connections to whatever server answers now.
    pub(in crate::store) async fn reopen(&self) -> Result<(), Error> {
        let fresh = Live::open(&self.options).await?;
        let identity = fresh.server.identity();
        let stale = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, fresh)
        };
        let before = stale.server.identity();
        if before != identity {
            tracing::error!(
                before,
                now = identity,
                "another server answers: commits of before may be missing there"
            );
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
    }

    pub(in crate::store) async fn begin(&self) -> Result<WriteTx, Error> {
        let tx = WriteTx::begin(&self.live().write).await;
        tx.map_err(|error| unavailable(&error))
    }

    /// A connection for one statement that writes.
    pub(in crate::store) async fn write(&self) -> Result<Pooled, Error> {
        let connection = Pooled::take(&self.live().write).await;
        connection.map_err(|error| unavailable(&error))
    }

    /// A connection for reading.
    pub(in crate::store) async fn read(&self) -> Result<Pooled, Error> {
        let connection = Pooled::take(&self.live().read).await;
        connection.map_err(|error| unavailable(&error))
    }

    /// A connection outside the pools, to the same server as theirs.
    pub(in crate::store) async fn apart(
        &self,
        isolation: Isolation,
    ) -> Result<MySqlConnection, Error> {
        self.beside(isolation, self.options.statement_timeout).await
    }

    /// As [`Self::apart`], for statements that may take any time.
    pub(in crate::store) async fn unhurried(&self) -> Result<MySqlConnection, Error> {
        self.beside(Isolation::ReadCommitted, Duration::ZERO).await
    }

    async fn beside(
        &self,
        isolation: Isolation,
        statement_timeout: Duration,
    ) -> Result<MySqlConnection, Error> {
        let (connection, server) = connect(&self.options, isolation, statement_timeout).await?;
        if server.identity() == self.server().identity() {
            return Ok(connection);
        }
        Err(Error::Lost {
            effect: Effect::None,
            cause: "another server answers than before".into(),
        })
    }

    /// What the server said of itself when it was connected to.
    pub(in crate::store) fn server(&self) -> Arc<Server> {
        self.live().server
    }

    fn live(&self) -> Live {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Live {
    async fn open(options: &MysqlOptions) -> Result<Self, Error> {
        // The pools would connect on demand and report a wrong password late.
        let (first, server) =
            connect(options, Isolation::ReadCommitted, options.statement_timeout).await?;
        if let Err(error) = first.close().await {
            tracing::debug!(%error, "closing the first connection");
        }
        let session = server.pooled_session(options.statement_timeout);
        let pool = |connections| {
            let session = session.clone();
            MySqlPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(QUEUE_TIMEOUT)
                .idle_timeout(IDLE_TIMEOUT)
                .test_before_acquire(false)
                .after_connect(move |connection, _meta| {
                    let session = session.clone();
                    Box::pin(async move { state(connection, session).await })
                })
                .connect_lazy_with(bare(options))
        };
        Ok(Self {
            write: pool(options.write_connections),
            read: pool(options.read_connections),
            server: Arc::new(server),
        })
    }

    async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

async fn connect(
    options: &MysqlOptions,
    isolation: Isolation,
    statement_timeout: Duration,
) -> Result<(MySqlConnection, Server), Error> {
    let connected = async {
        let mut connection = MySqlConnection::connect_with(&bare(options)).await?;
        let server = Server::ask(&mut connection).await?;
        let session = server.session(isolation, statement_timeout);
        state(&mut connection, session).await?;
        Ok::<_, sqlx::Error>((connection, server))
    };
    let cause = match timeout(CONNECT_TIMEOUT, connected).await {
        Ok(Ok(connected)) => return Ok(connected),
        Ok(Err(error)) => format!("cannot connect: {error}"),
        Err(_elapsed) => format!("cannot connect within {CONNECT_TIMEOUT:?}"),
    };
    Err(Error::Unavailable {
        effect: Effect::None,
        cause,
    })
}

/// Nothing of what the driver would set: `Server::session` states it all.
fn bare(options: &MysqlOptions) -> MySqlConnectOptions {
    options
        .url
        .connect_options()
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .statement_cache_capacity(PREPARED_STATEMENTS)
}

async fn state(connection: &mut MySqlConnection, session: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(session))
        .execute(connection)
        .await?;
    Ok(())
}
