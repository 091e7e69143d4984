//! What the server says of itself.
//!
//! MySQL and MariaDB, and their versions, differ in the variables they have.
//! So they are asked for once, by name, and everything that differs is decided
//! from the answer: a variable that is not in it does not exist there.

use std::{collections::BTreeMap, time::Duration};

use sqlx::MySqlConnection;

use super::text;

/// Variables by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Server(BTreeMap<String, String>);

/// Which rows a statement of a session sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Isolation {
    /// What is committed when the statement begins.
    ReadCommitted,
    /// Also what is in open transactions: for evidence alone, never for delivery.
    ReadUncommitted,
}

/// Waiting for the lock of a table that somebody alters or locks; the server's
/// default is a day.
const TABLE_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The server closes a session that is idle for longer. Spare connections are
/// closed by us well before, the tail's own one may rest for days.
const IDLE_LIMIT: Duration = Duration::from_hours(24 * 365);

/// A stopped process must not keep its row locks for longer.
const IDLE_TRANSACTION_LIMIT: Duration = Duration::from_secs(15);

/// The same where the server knows only idle sessions: a pool closes its spare
/// ones before.
const IDLE_POOLED_LIMIT: Duration = Duration::from_mins(3);

impl Server {
    pub(in crate::store) async fn ask(
        connection: &mut MySqlConnection,
    ) -> Result<Self, sqlx::Error> {
        const VARIABLES: &str = "SHOW SESSION VARIABLES WHERE Variable_name IN (
            'version', 'version_comment', 'server_uuid', 'server_id', 'hostname', 'port',
            'socket', 'datadir', 'read_only', 'super_read_only', 'innodb_read_only',
            'auto_increment_increment', 'auto_increment_offset', 'innodb_autoinc_lock_mode',
            'max_allowed_packet', 'log_bin', 'binlog_format', 'max_statement_time',
            'max_execution_time', 'information_schema_stats_expiry',
            'idle_transaction_timeout', 'wsrep_on', 'wsrep_cluster_address',
            'wsrep_cluster_name', 'wsrep_node_name')";
        let rows = sqlx::raw_sql(VARIABLES).fetch_all(connection).await?;
        Ok(Self(
            rows.iter()
                .map(|row| [0, 1].map(|at| text(row, at).unwrap_or_default()))
                .map(|[name, value]| (name, value))
                .collect(),
        ))
    }

    /// The text of a variable; `None` if the server has none of that name.
    pub(in crate::store) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a numeric variable.
    pub(in crate::store) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Whether a switch exists and is on.
    pub(in crate::store) fn is_on(&self, name: &str) -> bool {
        matches!(self.text(name), Some("ON" | "1"))
    }

    /// Whether a switch exists and is anything but off.
    pub(in crate::store) fn is_set(&self, name: &str) -> bool {
        self.text(name)
            .is_some_and(|text| !matches!(text, "OFF" | "0"))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Tells this server from another one that answers at the same place.
    /// MariaDB has no id of its own, so it is where its data is.
    pub(in crate::store) fn identity(&self) -> String {
        if let Some(uuid) = self.text("server_uuid") {
            return uuid.to_owned();
        }
        ["server_id", "hostname", "port", "socket", "datadir"]
            .map(|name| self.text(name).unwrap_or_default())
            .join(" ")
    }

    /// As [`Self::session`], for one that writes and is closed when it rests.
    pub(in crate::store) fn pooled_session(&self, statement_timeout: Duration) -> String {
        let session = self.session(Isolation::ReadCommitted, statement_timeout);
        if self.has("idle_transaction_timeout") {
            return session;
        }
        let limit = IDLE_POOLED_LIMIT.as_secs();
        format!("{session}; SET wait_timeout = {limit}")
    }

    /// Statements that make a session what the SQL relies on, whatever the
    /// server's defaults are.
    pub(in crate::store) fn session(
        &self,
        isolation: Isolation,
        statement_timeout: Duration,
    ) -> String {
        let level = match isolation {
            // A snapshot per statement: the frontier's proof rests on it.
            Isolation::ReadCommitted => "READ COMMITTED",
            Isolation::ReadUncommitted => "READ UNCOMMITTED",
        };
        let seconds = statement_timeout.as_secs().max(1);
        let mut settings = vec![
            "NAMES utf8mb4 COLLATE utf8mb4_bin".to_owned(),
            "autocommit = 1".to_owned(),
            "time_zone = '+00:00'".to_owned(),
            // Too long, out of range, not in the character set: refused, never cut.
            "sql_mode = 'STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'".to_owned(),
            format!("lock_wait_timeout = {}", TABLE_LOCK_TIMEOUT.as_secs()),
            format!("innodb_lock_wait_timeout = {seconds}"),
            format!("wait_timeout = {}", IDLE_LIMIT.as_secs()),
            // Ids of a statement are a run; in a cluster see `galera`.
            "auto_increment_increment = 1, auto_increment_offset = 1".to_owned(),
        ];
        // MariaDB bounds every statement, MySQL only SELECT.
        if self.has("max_statement_time") {
            let limit = statement_timeout.as_secs_f64();
            settings.push(format!("max_statement_time = {limit:.3}"));
        } else if self.has("max_execution_time") {
            let limit = statement_timeout.as_millis();
            settings.push(format!("max_execution_time = {limit}"));
        }
        if self.has("idle_transaction_timeout") {
            let limit = IDLE_TRANSACTION_LIMIT.as_secs();
            settings.push(format!("idle_transaction_timeout = {limit}"));
        }
        // MySQL would tell the next id of a day ago.
        if self.has("information_schema_stats_expiry") {
            settings.push("information_schema_stats_expiry = 0".to_owned());
        }
        format!(
            "SET {}; SET SESSION TRANSACTION ISOLATION LEVEL {level}, READ WRITE",
            settings.join(", ")
        )
    }
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use super::*;

    /// As a server answers.
    pub(in crate::store::mysql) fn answer(variables: &[(&str, &str)]) -> Server {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Server(variables.iter().map(owned).collect())
    }

    /// MariaDB 10.11.19 of Debian 12.
    pub(in crate::store::mysql) const MARIADB: &[(&str, &str)] = &[
        ("auto_increment_increment", "1"),
        ("auto_increment_offset", "1"),
        ("binlog_format", "MIXED"),
        ("datadir", "/var/lib/mysql/"),
        ("hostname", "db"),
        ("idle_transaction_timeout", "0"),
        ("innodb_autoinc_lock_mode", "1"),
        ("innodb_read_only", "OFF"),
        ("log_bin", "OFF"),
        ("max_allowed_packet", "16777216"),
        ("max_statement_time", "0.000000"),
        ("port", "3306"),
        ("read_only", "OFF"),
        ("server_id", "1"),
        ("socket", "/run/mysqld/mysqld.sock"),
        ("version", "10.11.19-MariaDB-0+deb12u1"),
        ("version_comment", "Debian 12"),
        ("wsrep_cluster_address", ""),
        ("wsrep_cluster_name", "my_wsrep_cluster"),
        ("wsrep_node_name", "db"),
        ("wsrep_on", "OFF"),
    ];

    /// MySQL 8.0 with its defaults, by its manual.
    pub(in crate::store::mysql) const MYSQL: &[(&str, &str)] = &[
        ("auto_increment_increment", "1"),
        ("auto_increment_offset", "1"),
        ("binlog_format", "ROW"),
        ("datadir", "/var/lib/mysql/"),
        ("hostname", "db"),
        ("information_schema_stats_expiry", "86400"),
        ("innodb_autoinc_lock_mode", "2"),
        ("innodb_read_only", "OFF"),
        ("log_bin", "ON"),
        ("max_allowed_packet", "67108864"),
        ("max_execution_time", "0"),
        ("port", "3306"),
        ("read_only", "OFF"),
        ("server_id", "1"),
        ("server_uuid", "6bd52d69-7d53-11ec-8a25-0242ac110002"),
        ("socket", "/var/run/mysqld/mysqld.sock"),
        ("super_read_only", "OFF"),
        ("version", "8.0.36"),
        ("version_comment", "MySQL Community Server - GPL"),
    ];

    #[test]
    fn session_states_what_each_server_has() {
        let session = |variables| {
            answer(variables).session(Isolation::ReadCommitted, Duration::from_millis(2500))
        };
        let mariadb = session(MARIADB);
        assert!(mariadb.contains("max_statement_time = 2.500, idle_transaction_timeout = 15;"));
        assert!(mariadb.ends_with("ISOLATION LEVEL READ COMMITTED, READ WRITE"));
        assert!(!mariadb.contains("max_execution_time") && !mariadb.contains("stats_expiry"));
        let mysql = session(MYSQL);
        assert!(
            mysql.contains("max_execution_time = 2500, ")
                && mysql.contains("information_schema_stats_expiry = 0;"),
            "{mysql}"
        );
        assert!(!mysql.contains("max_statement_time") && !mysql.contains("idle_transaction"));
        assert!(mysql.contains("increment = 1") && mariadb.contains("offset = 1"));
        let pooled = |variables| answer(variables).pooled_session(Duration::from_secs(10));
        assert!(pooled(MYSQL).ends_with("; SET wait_timeout = 180"));
        assert!(pooled(MARIADB).ends_with("READ WRITE"));
    }

    #[test]
    fn another_server_has_another_identity() {
        let mysql = answer(MYSQL);
        assert_eq!(mysql.identity(), "6bd52d69-7d53-11ec-8a25-0242ac110002");
        let mariadb = answer(MARIADB).identity();
        let moved = MARIADB.iter().map(|&(name, value)| match name {
            "datadir" => (name, "/srv/mysql/"),
            _ => (name, value),
        });
        let moved = answer(&moved.collect::<Vec<_>>()).identity();
        assert_ne!(mariadb, moved);
    }

    #[test]
    fn values_are_read_by_name() {
        let server = answer(&[("read_only", "ON"), ("max_allowed_packet", "16777216")]);
        assert!(server.is_on("read_only") && !server.is_on("super_read_only"));
        assert_eq!(server.number("max_allowed_packet"), Some(16_777_216));
        assert_eq!(server.text("version"), None);
    }
}
