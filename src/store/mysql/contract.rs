//! What the guarantee rests on, checked at each start and reconnect.
//!
//! The server and the catalogue are asked, a pure function judges the answers:
//! so every rule is tested without the server that would break it. A refusal
//! says what to do.

use std::collections::BTreeMap;

use sqlx::{MySqlConnection, Row, mysql::MySqlRow};

use super::{
    MysqlStore,
    errors::{number, unavailable},
    galera::galera,
    schema::Column,
    server::Server,
    text,
};
use crate::{
    limits,
    store::{Error, Names},
};

/// What a statement needs around the largest event.
const PACKET_HEADROOM: u64 = 64 * 1024;

impl MysqlStore {
    /// Before anything is written to it.
    pub(super) async fn check_server(&self) -> Result<(), Error> {
        let server = self.connections.server();
        check_server(&server).map_err(Error::Contract)?;
        galera(&server, self.options.galera).map_err(Error::Contract)?;
        let mut connection = self.connections.read().await?;
        self.check_capabilities(&mut connection).await?;
        let replication = replication(&mut connection).await?;
        check_replication(replication.as_ref()).map_err(Error::Contract)
    }

    pub(super) async fn check_tables(&self) -> Result<(), Error> {
        for limit in self.table_limits().await? {
            tracing::warn!("{limit}");
        }
        self.check_privileges().await
    }

    /// What adopted tables cannot hold; an error if they cannot be served.
    pub(super) async fn table_limits(&self) -> Result<Vec<String>, Error> {
        let mut connection = self.connections.read().await?;
        let catalogue = self.catalogue(&mut connection).await;
        let catalogue = catalogue.map_err(|error| unavailable(&error))?;
        let limits = catalogue.check(&self.options.common.names);
        limits.map_err(Error::Contract)
    }

    /// Asked by use, not by version: window functions and `JSON_TABLE` are the
    /// youngest things that the statements need.
    async fn check_capabilities(&self, connection: &mut MySqlConnection) -> Result<(), Error> {
        const YOUNGEST: &str =
            "SELECT COUNT(*) FROM JSON_TABLE('[1]', '$[*]' COLUMNS (n INT PATH '$')) AS t";
        const SYNTAX: u16 = 1064;
        match sqlx::raw_sql(YOUNGEST).execute(connection).await {
            Err(error) if number(&error) == Some(SYNTAX) => {
                let server = self.connections.server();
                Err(Error::Contract(format!(
                    "the server is {}; MySQL 8.0 or MariaDB 10.6 at least is needed",
                    server.text("version").unwrap_or("of unknown version"),
                )))
            }
            outcome => outcome.map(drop).map_err(|error| unavailable(&error)),
        }
    }

    async fn catalogue(&self, connection: &mut MySqlConnection) -> Result<Catalogue, sqlx::Error> {
        const TABLES: &str = "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('evt_queue', 'evt_consumers')";
        const KEYS: &str = "SELECT TABLE_NAME, INDEX_NAME, COLUMN_NAME
            FROM information_schema.STATISTICS
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('evt_queue', 'evt_consumers')
                AND NON_UNIQUE = 0
            ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX";
        let tables = sqlx::query(self.sql(TABLES))
            .fetch_all(&mut *connection)
            .await?;
        let mut keys: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for row in sqlx::query(self.sql(KEYS))
            .fetch_all(&mut *connection)
            .await?
        {
            let [table, key, column] = [0, 1, 2].map(|at| text(&row, at).unwrap_or_default());
            keys.entry((table, key)).or_default().push(column);
        }
        let engine = |row: &MySqlRow| {
            let [table, engine] = [0, 1].map(|at| text(row, at).unwrap_or_default());
            (table, engine)
        };
        Ok(Catalogue {
            engines: tables.iter().map(engine).collect(),
            columns: self.columns(connection).await?,
            keys,
        })
    }
}

pub(super) const READS_ONLY: &str = "the server is read-only, as replicas are: events would be lost, because \
     there ids do not appear in the order of their transactions; point db.url at the primary, or \
     set read_only, super_read_only and innodb_read_only to OFF if this is the primary";

fn check_server(server: &Server) -> Result<(), String> {
    let read_only = ["read_only", "super_read_only", "innodb_read_only"];
    if read_only.iter().any(|name| server.is_set(name)) {
        return Err(READS_ONLY.into());
    }
    let largest = limits::MAX_EVENT_BYTES as u64 + PACKET_HEADROOM;
    if let Some(packet) = server
        .number("max_allowed_packet")
        .filter(|it| *it < largest)
    {
        return Err(format!(
            "max_allowed_packet is {packet}: an event of {} bytes would not pass; run SET GLOBAL \
             max_allowed_packet = 16777216 and write it into the server's configuration",
            limits::MAX_EVENT_BYTES
        ));
    }
    if server.is_on("log_bin") && server.text("binlog_format") == Some("STATEMENT") {
        return Err(
            "binlog_format is STATEMENT: the server refuses to write at READ COMMITTED, which the \
             frontier needs; set it to ROW or MIXED"
                .into(),
        );
    }
    Ok(())
}

/// Columns of a row of `SHOW REPLICA STATUS`, by name.
type Replication = BTreeMap<String, String>;

/// The replication that runs into this server; `None` if there is none or the
/// user may not know.
async fn replication(connection: &mut MySqlConnection) -> Result<Option<Replication>, Error> {
    use sqlx::Column as _;
    const STATUS: &str = "SHOW REPLICA STATUS";
    // Denied; or a MySQL before 8.0.22, where it has another name.
    const UNKNOWN: [u16; 3] = [1227, 1142, 1064];
    let row = match sqlx::raw_sql(STATUS).fetch_optional(connection).await {
        Err(error) if number(&error).is_some_and(|it| UNKNOWN.contains(&it)) => None,
        row => row.map_err(|error| unavailable(&error))?,
    };
    Ok(row.map(|row| {
        let named = |column: &sqlx::mysql::MySqlColumn| {
            let value = text(&row, column.ordinal()).unwrap_or_default();
            (column.name().to_owned(), value)
        };
        row.columns().iter().map(named).collect()
    }))
}

fn check_replication(replication: Option<&Replication>) -> Result<(), String> {
    let Some(status) = replication else {
        return Ok(());
    };
    // MySQL's names first.
    let either = |new: &str, old: &str| status.get(new).or_else(|| status.get(old));
    if either("Replica_SQL_Running", "Slave_SQL_Running").is_none_or(|text| text == "No") {
        return Ok(());
    }
    let from = either("Source_Host", "Master_Host").map_or("another server", String::as_str);
    Err(format!(
        "the server applies what it replicates from {from}: ids do not appear in the order of \
         their transactions and events would be lost; point db.url at the primary, or run STOP \
         REPLICA if this is the primary now"
    ))
}

/// What the catalogue says about the two tables of FTN18.
#[derive(Debug, Clone)]
struct Catalogue {
    engines: BTreeMap<String, String>,
    columns: Vec<Column>,
    /// Columns of each unique key, by table and name.
    keys: BTreeMap<(String, String), Vec<String>>,
}

impl Catalogue {
    /// What is wrong and what to do; else what an adopted table cannot hold.
    fn check(&self, names: &Names) -> Result<Vec<String>, String> {
        self.check_tables(names)?;
        self.check_id(&names.queue)?;
        self.check_ident(&names.consumers)?;
        let mut limits = self.check_data(&names.queue)?;
        limits.extend(self.narrow_texts(names));
        Ok(limits)
    }

    fn check_tables(&self, names: &Names) -> Result<(), String> {
        const NEEDED: [&[&str]; 2] = [
            &["id", "type", "data", "ts"],
            &["last_evt_id", "reg_time", "last_time", "ident", "epoch"],
        ];
        for (table, needed) in [&names.queue, &names.consumers].into_iter().zip(NEEDED) {
            let engine = self.engines.get(table).map(String::as_str);
            let Some(engine) = engine.filter(|engine| !engine.is_empty()) else {
                return Err(format!("{table} is not a table that the user can see"));
            };
            if !engine.eq_ignore_ascii_case("InnoDB") {
                return Err(format!(
                    "table {table} is of engine {engine}, which has no transactions; run ALTER \
                     TABLE {table} ENGINE = InnoDB"
                ));
            }
            if let Some(missing) = needed.iter().find(|name| self.find(table, name).is_none()) {
                return Err(format!("table {table} lacks column {missing}"));
            }
        }
        Ok(())
    }

    fn check_id(&self, table: &str) -> Result<(), String> {
        let drawn = self
            .find(table, "id")
            .is_some_and(|id| id.extra.contains("auto_increment"));
        if !drawn {
            return Err(format!(
                "{table}.id is not AUTO_INCREMENT, so ids are not given out in order; run ALTER \
                 TABLE {table} MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT"
            ));
        }
        // A partitioned table has more columns behind it.
        let primary = self.keys.get(&(table.to_owned(), "PRIMARY".to_owned()));
        if primary
            .and_then(|columns| columns.first())
            .map(String::as_str)
            == Some("id")
        {
            return Ok(());
        }
        Err(format!(
            "the primary key of {table} does not begin with id, so events cannot be read in order"
        ))
    }

    fn check_ident(&self, table: &str) -> Result<(), String> {
        let unique = |((of, _), columns): (&(String, String), &Vec<String>)| {
            of == table && columns == &["ident"]
        };
        if self.keys.iter().any(unique) {
            return Ok(());
        }
        Err(format!(
            "{table}.ident is not unique: a consumer could have two positions; run ALTER TABLE \
             {table} ADD UNIQUE (ident)"
        ))
    }

    fn check_data(&self, table: &str) -> Result<Vec<String>, String> {
        let kind = self.find(table, "data").map_or("", |data| &data.kind);
        let short = |bytes: &str| {
            vec![format!(
                "column {table}.data is {kind} and holds {bytes} bytes at most; longer events are \
                 refused; eventstream migrate --widen makes it LONGTEXT"
            )]
        };
        match kind {
            "longtext" | "mediumtext" | "longblob" | "mediumblob" => Ok(Vec::new()),
            "text" | "blob" => Ok(short("65535")),
            "varchar" | "tinytext" | "varbinary" | "tinyblob" => Ok(short("few")),
            _ => Err(format!(
                "column {table}.data is {kind}, which does not keep the exact text; eventstream \
                 migrate --widen makes it LONGTEXT"
            )),
        }
    }

    fn narrow_texts(&self, names: &Names) -> Vec<String> {
        let mut limits = Vec::new();
        let data = self.find(&names.queue, "data");
        if data.is_some_and(|data| !data.is_unicode()) {
            limits.push(format!(
                "column {}.data does not take every character, so events with others (emoji, say) \
                 are refused; eventstream migrate --widen makes it utf8mb4",
                names.queue
            ));
        }
        let ident = self.find(&names.consumers, "ident");
        if ident.is_some_and(|ident| !ident.is_exact()) {
            limits.push(format!(
                "column {}.ident does not tell upper from lower case, so a consumer whose name \
                 differs from another one only there is refused; eventstream migrate --widen makes \
                 it utf8mb4_bin",
                names.consumers
            ));
        }
        limits
    }

    fn find(&self, table: &str, name: &str) -> Option<&Column> {
        let mut columns = self.columns.iter();
        columns.find(|column| column.table == table && column.name.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::server::tests::{MARIADB, MYSQL, answer},
        *,
    };

    /// What a server answers, except for these.
    fn with(
        variables: &[(&'static str, &'static str)],
        changes: &[(&'static str, &'static str)],
    ) -> Server {
        let kept = variables
            .iter()
            .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        answer(&kept.chain(changes).copied().collect::<Vec<_>>())
    }

    #[test]
    fn servers_as_they_come_are_served() {
        for variables in [MARIADB, MYSQL] {
            assert_eq!(check_server(&answer(variables)), Ok(()));
        }
    }

    #[test]
    fn every_unfit_server_is_named() {
        for (variables, change, remedy) in [
            (MARIADB, ("read_only", "ON"), "at the primary"),
            (MARIADB, ("read_only", "NO_LOCK"), "at the primary"),
            (MARIADB, ("innodb_read_only", "ON"), "at the primary"),
            (MYSQL, ("super_read_only", "ON"), "at the primary"),
            (MYSQL, ("max_allowed_packet", "4194304"), "SET GLOBAL"),
            (MYSQL, ("binlog_format", "STATEMENT"), "ROW or MIXED"),
        ] {
            let refusal = check_server(&with(variables, &[change])).expect_err(remedy);
            assert!(refusal.contains(remedy), "{refusal}");
        }
        // Nothing is logged, so it does not matter how.
        let unlogged = with(MARIADB, &[("binlog_format", "STATEMENT")]);
        assert_eq!(check_server(&unlogged), Ok(()));
    }

    #[test]
    fn replica_is_refused_by_either_servers_words() {
        let status = |pairs: &[(&str, &str)]| {
            let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
            check_replication(Some(&pairs.iter().map(owned).collect()))
        };
        assert_eq!(check_replication(None), Ok(()));
        for pairs in [
            [("Master_Host", "db1"), ("Slave_SQL_Running", "Yes")],
            [("Source_Host", "db1"), ("Replica_SQL_Running", "Yes")],
        ] {
            let refusal = status(&pairs).expect_err("it applies");
            assert!(
                refusal.contains("db1") && refusal.contains("STOP REPLICA"),
                "{refusal}"
            );
        }
        let stopped = [("Master_Host", "db1"), ("Slave_SQL_Running", "No")];
        assert_eq!(status(&stopped), Ok(()));
    }

    fn column(table: &str, name: &str, kind: &str) -> Column {
        let is_text = matches!(kind, "varchar" | "longtext");
        Column {
            table: table.into(),
            name: name.into(),
            kind: kind.into(),
            collation: is_text.then(|| "utf8mb4_bin".into()),
            extra: if name == "id" { "auto_increment" } else { "" }.into(),
            nullable: false,
        }
    }

    fn sound() -> Catalogue {
        let (queue, consumers) = ("evt_queue", "evt_consumers");
        let key = |table: &str, name: &str, column: &str| {
            ((table.to_owned(), name.to_owned()), vec![column.to_owned()])
        };
        Catalogue {
            engines: [queue, consumers]
                .map(|it| (it.into(), "InnoDB".into()))
                .into(),
            columns: vec![
                column(queue, "id", "bigint"),
                column(queue, "type", "varchar"),
                column(queue, "data", "longtext"),
                column(queue, "ts", "datetime"),
                column(consumers, "id", "smallint"),
                column(consumers, "last_evt_id", "bigint"),
                column(consumers, "reg_time", "datetime"),
                column(consumers, "last_time", "datetime"),
                column(consumers, "ident", "varchar"),
                column(consumers, "epoch", "bigint"),
            ],
            keys: [
                key(queue, "PRIMARY", "id"),
                key(consumers, "ident", "ident"),
            ]
            .into(),
        }
    }

    type Breaks = fn(&mut Catalogue);

    fn broken(breaks: Breaks) -> Result<Vec<String>, String> {
        let mut catalogue = sound();
        breaks(&mut catalogue);
        catalogue.check(&Names::default())
    }

    #[test]
    fn every_broken_contract_is_named() {
        assert_eq!(broken(|_| ()), Ok(Vec::new()));
        let cases: [(&str, Breaks); 7] = [
            ("ENGINE = InnoDB", |c| {
                c.engines.insert("evt_queue".into(), "MyISAM".into());
            }),
            ("is not a table", |c| {
                // What the catalogue says of a view.
                c.engines.insert("evt_queue".into(), String::new());
            }),
            ("lacks column ts", |c| {
                c.columns.remove(3);
            }),
            ("AUTO_INCREMENT", |c| c.columns[0].extra.clear()),
            ("primary key", |c| {
                c.keys.remove(&("evt_queue".into(), "PRIMARY".into()));
            }),
            ("ADD UNIQUE", |c| {
                c.keys.remove(&("evt_consumers".into(), "ident".into()));
            }),
            ("--widen", |c| c.columns[2].kind = "json".into()),
        ];
        for (remedy, breaks) in cases {
            let refusal = broken(breaks).expect_err(remedy);
            assert!(refusal.contains(remedy), "{refusal}");
        }
    }

    #[test]
    fn limits_of_adopted_tables_are_told() {
        let cases: [(&str, Breaks); 3] = [
            ("65535 bytes", |c| c.columns[2].kind = "text".into()),
            ("emoji", |c| {
                c.columns[2].collation = Some("utf8mb3_general_ci".into());
            }),
            ("upper from lower", |c| {
                c.columns[8].collation = Some("utf8mb4_unicode_ci".into());
            }),
        ];
        for (text, breaks) in cases {
            let limits = broken(breaks).expect("served");
            assert!(limits.len() == 1 && limits[0].contains(text), "{limits:?}");
        }
    }
}
