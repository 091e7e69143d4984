//! What `eventstream doctor` asks of PostgreSQL: the rules of the start, and
//! settings that the guarantee does not rest on but an operator should know.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};

use super::{PostgresOptions, PostgresStore, connections::unavailable, schema::clock_ahead};
use crate::store::{Error, Finding, checkup::Checkup, migrate::POSTGRES};

/// Connections of the service beside those of its pools: one that adds, one of
/// the tail, one that the sentinel may need.
const APART: u32 = 3;

impl PostgresStore {
    /// Looks at everything that the service needs, and changes nothing.
    pub async fn examine(options: PostgresOptions) -> Vec<Finding> {
        let mut checkup = Checkup::default();
        let needed = options.read_connections + options.write_connections + APART;
        match Self::connect(options).await {
            Ok(store) => {
                checkup.ok(
                    "connection",
                    "the primary answers, its sessions are kept (no pooler in transaction mode)",
                );
                if let Err(error) = store.check_up(&mut checkup, needed).await {
                    checkup.judge("connection", Err(error));
                }
                store.connections.close().await;
            }
            Err(error) => {
                checkup.judge("connection", Err(error));
            }
        }
        checkup.0
    }

    async fn check_up(&self, checkup: &mut Checkup, needed: u32) -> Result<(), Error> {
        let mut connection = self.connections.read().await?;
        checkup.clock(clock_ahead(&mut connection).await);
        let settings = settings(&mut connection).await?;
        judge_settings(checkup, &settings);
        let used = sessions(&mut connection).await?;
        let max =
            settings.number("max_connections") - settings.number("superuser_reserved_connections");
        checkup.room(max, used, i64::from(needed));
        let usable = self.check_schema().await;
        if !checkup.judge(
            "use of the schema",
            usable.map(|()| "it is granted".to_owned()),
        ) {
            return Ok(());
        }
        let has_queue = self.has_queue(&mut connection).await?;
        let pending = self.pending().await;
        let pending = pending.map(|steps| steps.into_iter().map(|step| step.name).collect());
        if !checkup.schema(pending, POSTGRES.len(), has_queue) {
            return Ok(());
        }
        let privileges = self.check_privileges(&mut connection).await;
        let granted = privileges.map(|()| "the role may do all that the service does".to_owned());
        let granted = checkup.judge("privileges", granted);
        let head = self.check_table(&mut connection).await;
        drop(connection);
        let known = head.as_ref().map(|head| {
            format!("ids come from one sequence, in order and without a cache (read from {head})")
        });
        let known = known.map_err(|error| Error::Contract(error.to_string()));
        if !(checkup.judge("table and sequence", known) && granted) {
            return Ok(());
        }
        if let Ok(head) = head {
            self.with_shared(|shared| shared.head = head);
        }
        checkup.reading(self).await;
        Ok(())
    }

    async fn has_queue(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        const HAS_QUEUE: &str = "SELECT to_regclass('evt_queue') IS NOT NULL";
        let found = sqlx::query_scalar(self.sql(HAS_QUEUE)).fetch_one(connection);
        found.await.map_err(|error| unavailable(&error))
    }
}

/// Settings of the server by name.
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }
}

/// As the role's other sessions have them, which state nothing.
async fn settings(connection: &mut PgConnection) -> Result<Settings, Error> {
    const SETTINGS: &str =
        "SELECT name, CASE WHEN source = 'session' THEN reset_val ELSE setting END
        FROM pg_settings WHERE name IN ('server_version', 'fsync', 'full_page_writes',
            'synchronous_commit', 'max_connections', 'superuser_reserved_connections',
            'default_transaction_isolation', 'idle_in_transaction_session_timeout')";
    let rows = sqlx::query(SETTINGS).fetch_all(connection).await;
    let rows = rows.map_err(|error| unavailable(&error))?;
    let pairs = rows.iter().map(|row| (row.get(0), row.get(1)));
    Ok(Settings(pairs.collect()))
}

/// Sessions of clients, those of others too as far as they can be seen.
async fn sessions(connection: &mut PgConnection) -> Result<i64, Error> {
    const SESSIONS: &str = "SELECT sum(numbackends)::bigint FROM pg_stat_database";
    let sessions = sqlx::query_scalar(SESSIONS).fetch_one(connection).await;
    sessions.map_err(|error| unavailable(&error))
}

fn judge_settings(checkup: &mut Checkup, settings: &Settings) {
    checkup.ok(
        "server",
        format!("PostgreSQL {}", settings.text("server_version")),
    );
    checkup.ok(
        "isolation",
        format!(
            "the service states its own; applications begin at {}, which is fine",
            settings.text("default_transaction_isolation")
        ),
    );
    let unsafe_setting = ["fsync", "full_page_writes", "synchronous_commit"]
        .into_iter()
        .find(|name| settings.text(name) == "off");
    match unsafe_setting {
        Some(name) => checkup.warn(
            "durability",
            format!("{name} is off: a crash of the server can take commits that were answered"),
            format!("run ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"),
        ),
        None => checkup.ok(
            "durability",
            "what is committed survives a crash of the server",
        ),
    }
    let limit = settings.number("idle_in_transaction_session_timeout");
    checkup.ok(
        "idle transactions",
        match limit {
            0 => {
                "no limit: a forgotten transaction that has written an event holds back later ones \
                  (idle_in_transaction_session_timeout ends it)"
                    .to_owned()
            }
            limit => format!("ended after {limit} ms"),
        },
    );
}
