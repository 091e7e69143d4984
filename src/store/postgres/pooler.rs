//! Whether something between us and the server breaks sessions.
//!
//! A pooler in transaction or statement mode runs each transaction on whatever
//! server connection is free: what a session states is lost or leaks into
//! others, and two statements of the tail may be answered by two servers. So it
//! is refused; a pooler in session mode works. Three looks find it:
//! * a direct connection has the mark of its startup packet, which no pooler
//!   passes on: then there is nothing to find;
//! * else a session is marked and others are opened beside it: none may have
//!   its mark, and it may not lose it;
//! * the tail reads its own mark with each piece of evidence.

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    PostgresOptions,
    connections::{CONNECT_TIMEOUT, connect_with, unavailable},
};
use crate::store::{Effect, Error};

/// A setting that no server knows and every server keeps for a session.
pub(super) const MARK: &str = "eventstream.session";

/// Reads it; NULL where it was never set.
pub(super) const READ_MARK: &str = "current_setting('eventstream.session', true)";

/// Sessions that are opened beside the marked one.
const NEIGHBOURS: usize = 3;

const REMEDY: &str = "point db.url at the server itself or at a pool in session mode (pgbouncer: \
                      pool_mode = session)";

/// A session whose statements all reach one session of the server.
pub(super) async fn examined(options: &PostgresOptions) -> Result<PgConnection, Error> {
    let plain = options.url.connect_options();
    let mark = Uuid::new_v4().to_string();
    let marked = plain.clone().options([(MARK, &mark)]);
    let mut first = match connect_with(&marked).await {
        Err(refusal) if is_about_startup(&refusal) => connect_with(&plain).await?,
        first => first?,
    };
    if read_mark(&mut first).await?.as_deref() == Some(&mark) {
        return Ok(first);
    }
    tracing::info!("a pooler is between this service and the database");
    match timeout(CONNECT_TIMEOUT, examine(first, &plain, &mark)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(Error::Unavailable {
            effect: Effect::None,
            cause: format!(
                "the pooler gave no {} sessions within {CONNECT_TIMEOUT:?}; pgbouncer's pool_size must \
                 be at least {} for this service, and pool_mode = session",
                NEIGHBOURS + 1,
                options.read_connections + options.write_connections + 3
            ),
        }),
    }
}

/// pgbouncer refuses what it cannot pass on.
fn is_about_startup(error: &Error) -> bool {
    error.to_string().contains("startup parameter")
}

async fn examine(
    mut first: PgConnection,
    plain: &PgConnectOptions,
    mark: &str,
) -> Result<PgConnection, Error> {
    set_mark(&mut first, mark).await?;
    let mut neighbours = Vec::new();
    for _ in 0..NEIGHBOURS {
        let mut neighbour = connect_with(plain).await?;
        // Open, so that in transaction mode it keeps its server connection and
        // the next one needs another.
        begin(&mut neighbour).await?;
        if read_mark(&mut neighbour).await?.as_deref() == Some(mark) {
            return Err(transaction_mode());
        }
        expect_mark(&mut first, mark).await?;
        neighbours.push(neighbour);
    }
    for neighbour in neighbours {
        // Its server connection is free now, and may be the next in turn.
        if let Err(error) = neighbour.close().await {
            tracing::debug!(%error, "closing a session beside the first");
        }
        expect_mark(&mut first, mark).await?;
    }
    Ok(first)
}

async fn begin(session: &mut PgConnection) -> Result<(), Error> {
    let begun = sqlx::raw_sql("BEGIN").execute(session).await;
    match begun {
        Ok(_) => Ok(()),
        Err(error) if error.to_string().contains("statement pooling") => {
            Err(Error::Contract(format!(
                "a pooler in statement mode is between this service and the database: it has no \
                 transactions; {REMEDY}"
            )))
        }
        Err(error) => Err(unavailable(&error)),
    }
}

async fn expect_mark(session: &mut PgConnection, mark: &str) -> Result<(), Error> {
    match read_mark(session).await? {
        Some(found) if found == mark => Ok(()),
        _ => Err(transaction_mode()),
    }
}

/// By the simple protocol: a pooler may not know prepared statements.
async fn read_mark(session: &mut PgConnection) -> Result<Option<String>, Error> {
    const READ: &str = "SELECT current_setting('eventstream.session', true)";
    let row = sqlx::raw_sql(READ).fetch_one(session).await;
    Ok(row.map_err(|error| unavailable(&error))?.get(0))
}

async fn set_mark(session: &mut PgConnection, mark: &str) -> Result<(), Error> {
    let sql = format!("SELECT set_config('{MARK}', '{mark}', false)");
    let set = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(session);
    set.await.map_err(|error| unavailable(&error))?;
    Ok(())
}

fn transaction_mode() -> Error {
    Error::Contract(format!(
        "a pooler such as pgbouncer in transaction mode is between this service and the database: \
         its sessions are not kept, so it cannot be told which ids are under way and events would \
         be lost; {REMEDY}"
    ))
}

/// What a statement of the tail says that another session answered.
pub(super) fn session_lost() -> Error {
    Error::Lost {
        effect: Effect::None,
        cause: format!(
            "another session of the server answered than the one that was opened, as a pooler in \
             transaction mode makes it; {REMEDY}"
        ),
    }
}
