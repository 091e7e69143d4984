//! What `eventstream doctor` asks of PostgreSQL: the rules of the start, and
//! settings that the guarantee does not rest on but an operator should know.
//!
//! The service's sessions state what they need. Those of applications begin as
//! the server, the database or their role was set up to, which is where events
//! are refused, fail or are lost without the service's doing.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _, postgres::PgRow};

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
        let presets = self.presets(&mut connection).await?;
        judge_settings(checkup, &settings, &presets);
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

    /// What was set for the sessions of this database, of roles that may add
    /// events: a role that only reads may be kept from writing on purpose.
    async fn presets(&self, connection: &mut PgConnection) -> Result<Vec<Preset>, Error> {
        const PRESETS: &str = "SELECT role.rolname::text, base.datname::text,
                split_part(stated, '=', 1), substr(stated, strpos(stated, '=') + 1)
            FROM pg_db_role_setting AS setting
            CROSS JOIN LATERAL unnest(setting.setconfig) AS stated
            LEFT JOIN pg_roles AS role ON role.oid = setting.setrole
            LEFT JOIN pg_database AS base ON base.oid = setting.setdatabase
            WHERE (setting.setdatabase = 0 OR base.datname = current_database())
                AND (setting.setrole = 0 OR has_table_privilege(
                    setting.setrole, to_regclass('evt_queue')::oid, 'INSERT'))
            ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 3";
        let rows = sqlx::query(self.sql(PRESETS)).fetch_all(connection).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        let preset = |row: &PgRow| Preset {
            role: row.get(0),
            database: row.get(1),
            name: row.get(2),
            value: row.get(3),
        };
        Ok(rows.iter().map(preset).collect())
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
            'default_transaction_isolation', 'default_transaction_read_only',
            'idle_in_transaction_session_timeout')";
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

/// What sessions begin with by `ALTER ROLE` or `ALTER DATABASE`; who is not
/// named is everybody.
struct Preset {
    role: Option<String>,
    database: Option<String>,
    name: String,
    value: String,
}

impl Preset {
    fn who(&self) -> String {
        let role = self.role.as_ref().map(|role| format!("role {role}"));
        role.unwrap_or_else(|| "every role".to_owned())
    }

    /// The statement that takes it back.
    fn reset(&self) -> String {
        let Self { name, .. } = self;
        match (&self.role, &self.database) {
            (Some(role), Some(base)) => {
                format!("ALTER ROLE \"{role}\" IN DATABASE \"{base}\" RESET {name}")
            }
            (Some(role), None) => format!("ALTER ROLE \"{role}\" RESET {name}"),
            (None, Some(base)) => format!("ALTER DATABASE \"{base}\" RESET {name}"),
            (None, None) => format!("ALTER ROLE ALL RESET {name}"),
        }
    }
}

/// Whose sessions begin with what they should not, and what takes it back.
type Faults = Vec<(String, String)>;

/// Where a setting is as `is_bad` says: of databases and roles, else of the
/// server, which is mended by a `good` value.
fn wherever(
    name: &str,
    good: &str,
    is_bad: impl Fn(&str) -> bool,
    settings: &Settings,
    presets: &[Preset],
) -> Faults {
    let named = presets
        .iter()
        .filter(|preset| preset.name == name && is_bad(&preset.value));
    let mut faults: Faults = named.map(|it| (it.who(), it.reset())).collect();
    if faults.is_empty() && is_bad(settings.text(name)) {
        let mend = format!("ALTER SYSTEM SET {name} = '{good}'; SELECT pg_reload_conf()");
        faults.push(("every role".to_owned(), mend));
    }
    faults
}

fn is_on(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "on" | "true" | "yes" | "1"
    )
}

fn is_off(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "off" | "false" | "no" | "0"
    )
}

fn judge_settings(checkup: &mut Checkup, settings: &Settings, presets: &[Preset]) {
    checkup.ok(
        "server",
        format!("PostgreSQL {}", settings.text("server_version")),
    );
    judge_isolation(checkup, settings, presets);
    judge_durability(checkup, settings, presets);
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

/// The service's own sessions state theirs, which is looked at whenever one is
/// opened; those of applications begin as they were set up to.
fn judge_isolation(checkup: &mut Checkup, settings: &Settings, presets: &[Preset]) {
    let name = "default_transaction_read_only";
    let refused = wherever(name, "off", is_on, settings, presets);
    let refused = refused.into_iter().map(|(who, mend)| {
        let fault =
            format!("transactions of {who} begin read-only: events that they insert are refused");
        (fault, mend)
    });
    let name = "default_transaction_isolation";
    let strict = |level: &str| level.eq_ignore_ascii_case("serializable");
    let failing = wherever(name, "read committed", strict, settings, presets);
    let failing = failing.into_iter().map(|(who, mend)| {
        let fault = format!(
            "transactions of {who} begin serializable: beside each other they fail with 40001, and \
             must be repeated with their events"
        );
        (fault, mend)
    });
    let level = settings.text(name);
    checkup.gather(
        "isolation",
        format!(
            "the service's sessions are at read committed, as they state; applications begin at \
             {level}, which is fine"
        ),
        refused.chain(failing),
    );
}

fn judge_durability(checkup: &mut Checkup, settings: &Settings, presets: &[Preset]) {
    let names = ["fsync", "full_page_writes", "synchronous_commit"];
    let faults = names.into_iter().flat_map(|name| {
        let faults = wherever(name, "on", is_off, settings, presets);
        faults.into_iter().map(move |(who, mend)| {
            let fault = format!(
                "{name} is off for {who}: a crash of the server can take commits that were answered"
            );
            (fault, mend)
        })
    });
    checkup.gather(
        "durability",
        "what is committed survives a crash of the server",
        faults,
    );
}
