//! Making, adopting and widening the tables.
//!
//! Every statement of DDL commits by itself here, so a step can end half way.
//! Therefore each of its statements may be repeated, and the step is recorded
//! when all of them are done. Replicas that start at once take turns.

use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};

use super::{
    MysqlStore,
    errors::{number, unavailable},
    grants::is_denied,
    text,
};
use crate::store::{
    Effect, Error, Names,
    migrate::{MYSQL, Step},
};

/// There already: the table, the column, the key. What a crash in the middle of
/// a step leaves behind, and the original's tables.
const ALREADY_THERE: [u16; 3] = [1050, 1060, 1061];

const NO_SUCH_TABLE: u16 = 1146;

impl MysqlStore {
    /// Applies the steps that are missing and checks the contract.
    pub(super) async fn prepare_schema(&self) -> Result<(), Error> {
        self.check_server().await?;
        if !self.pending().await?.is_empty() {
            self.apply_pending().await?;
        }
        self.check_tables().await
    }

    /// The steps that this stream has not had. A database of the original has
    /// no `evt_migrations` and gets them all: the first one leaves its tables alone.
    pub(super) async fn pending(&self) -> Result<Vec<&'static Step>, Error> {
        let mut connection = self.connections.read().await?;
        let pending = self.pending_in(&mut connection).await;
        pending.map_err(|error| {
            if is_denied(&error) {
                Error::Contract(format!(
                    "the user may not read what was made; run GRANT SELECT ON evt_migrations TO \
                     it, and what else `eventstream migrate --print-grants` prints ({error})"
                ))
            } else {
                unavailable(&error)
            }
        })
    }

    async fn pending_in(
        &self,
        connection: &mut MySqlConnection,
    ) -> Result<Vec<&'static Step>, sqlx::Error> {
        const APPLIED: &str =
            "SELECT version FROM evt_migrations WHERE stream = ? ORDER BY version";
        let applied: Vec<i64> = match sqlx::query_scalar(APPLIED)
            .bind(self.stream())
            .fetch_all(connection)
            .await
        {
            Err(error) if number(&error) == Some(NO_SUCH_TABLE) => Vec::new(),
            applied => applied?,
        };
        let missing = |step: &&Step| !applied.contains(&step.version);
        Ok(MYSQL.iter().filter(missing).collect())
    }

    async fn apply_pending(&self) -> Result<(), Error> {
        const TABLE: &str = "CREATE TABLE IF NOT EXISTS evt_migrations (
            stream VARCHAR(64) NOT NULL, version BIGINT NOT NULL, name VARCHAR(64) NOT NULL,
            applied DATETIME NOT NULL, PRIMARY KEY (stream, version)
        ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
        let mut connection = self.alone().await?;
        let applied: Result<_, sqlx::Error> = async {
            sqlx::raw_sql(TABLE).execute(&mut connection).await?;
            // Another replica may have been faster.
            for step in self.pending_in(&mut connection).await? {
                self.apply(&mut connection, step).await?;
            }
            Ok(())
        }
        .await;
        applied.map_err(|error| {
            tracing::error!(%error, "migration failed");
            unavailable(&error)
        })?;
        // The lock ends with the connection.
        connection
            .close()
            .await
            .map_err(|error| unavailable(&error))
    }

    /// A connection that may take its time, and that only one process has at a
    /// time: `CREATE … IF NOT EXISTS` is safe when two run it, but `ALTER` is not.
    async fn alone(&self) -> Result<MySqlConnection, Error> {
        // Names of locks are the whole server's and at most 64 letters long.
        const LOCK: &str = "SELECT GET_LOCK(CONCAT('evt_migrations ', MD5(DATABASE())), ?)";
        let mut connection = self.connections.unhurried().await?;
        let taken: Option<i64> = sqlx::query_scalar(LOCK)
            .bind(self.options.statement_timeout.as_secs())
            .fetch_one(&mut connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if taken == Some(1) {
            return Ok(connection);
        }
        Err(Error::Unavailable {
            effect: Effect::None,
            cause: "another process is changing the tables; try again when it has ended".into(),
        })
    }

    async fn apply(
        &self,
        connection: &mut MySqlConnection,
        step: &Step,
    ) -> Result<(), sqlx::Error> {
        const RECORD: &str = "INSERT INTO evt_migrations (stream, version, name, applied)
            VALUES (?, ?, ?, UTC_TIMESTAMP())";
        let sql = self.options.common.names.apply(step.sql);
        for statement in sql.split_inclusive(";\n") {
            let statement = AssertSqlSafe(statement.to_owned());
            if let Err(error) = sqlx::raw_sql(statement).execute(&mut *connection).await
                && !number(&error).is_some_and(|it| ALREADY_THERE.contains(&it))
            {
                return Err(error);
            }
        }
        sqlx::query(RECORD)
            .bind(self.stream())
            .bind(step.version)
            .bind(step.name)
            .execute(connection)
            .await?;
        let (step, stream) = (step.name, self.stream());
        tracing::info!(step, stream, "migration applied");
        Ok(())
    }

    /// Rewrites adopted columns as new tables have them: all of Unicode, data of
    /// any size, compared to the letter. Returns the statements that were run.
    pub(super) async fn widen_tables(&self) -> Result<Vec<String>, Error> {
        let mut connection = self.alone().await?;
        let widened: Result<_, sqlx::Error> = async {
            let columns = self.columns(&mut connection).await?;
            let statements = widening(&self.options.common.names, &columns);
            for statement in &statements {
                sqlx::raw_sql(AssertSqlSafe(statement.clone()))
                    .execute(&mut connection)
                    .await?;
            }
            Ok(statements)
        }
        .await;
        let widened = widened.map_err(|error| unavailable(&error))?;
        connection
            .close()
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(widened)
    }

    /// The columns of the two tables of FTN18.
    pub(super) async fn columns(
        &self,
        connection: &mut MySqlConnection,
    ) -> Result<Vec<Column>, sqlx::Error> {
        const COLUMNS: &str = "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLLATION_NAME, EXTRA,
                IS_NULLABLE
            FROM information_schema.COLUMNS
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('evt_queue', 'evt_consumers')
            ORDER BY TABLE_NAME, ORDINAL_POSITION";
        let rows = sqlx::query(self.sql(COLUMNS)).fetch_all(connection).await?;
        let column = |row: &sqlx::mysql::MySqlRow| Column {
            table: text(row, 0).unwrap_or_default(),
            name: text(row, 1).unwrap_or_default(),
            kind: text(row, 2).unwrap_or_default().to_lowercase(),
            collation: text(row, 3),
            extra: text(row, 4).unwrap_or_default().to_lowercase(),
            nullable: text(row, 5).is_some_and(|text| text == "YES"),
        };
        Ok(rows.iter().map(column).collect())
    }
}

/// A column, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub table: String,
    pub name: String,
    /// `bigint`, `longtext` …
    pub kind: String,
    /// `None` unless it is text.
    pub collation: Option<String>,
    /// `auto_increment` and the like.
    pub extra: String,
    pub nullable: bool,
}

impl Column {
    /// Whether it tells letters apart by their case.
    pub(super) fn is_exact(&self) -> bool {
        let collation = self.collation.as_deref();
        collation.is_none_or(|name| name.ends_with("_bin") || name == "binary")
    }

    /// Whether it takes every character.
    pub(super) fn is_unicode(&self) -> bool {
        let collation = self.collation.as_deref();
        collation.is_none_or(|name| name.starts_with("utf8mb4_") || name == "binary")
    }
}

/// Statements that make columns of an adopted table what new ones are. Whether
/// NULL is allowed stays as it is: there may be some.
fn widening(names: &Names, columns: &[Column]) -> Vec<String> {
    const WIDE: &str = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
    let mut statements = Vec::new();
    let targets = [
        (
            &names.queue,
            &[("type", "varchar", "(16)"), ("data", "longtext", "")][..],
        ),
        (&names.consumers, &[("ident", "varchar", "(64)")]),
    ];
    for (table, wanted) in targets {
        let mut changes = Vec::new();
        for (name, kind, length) in wanted {
            let found = columns
                .iter()
                .find(|column| column.table == *table && column.name == *name);
            let Some(found) = found.filter(|found| found.kind != "enum") else {
                continue;
            };
            if found.kind != *kind || found.collation.as_deref() != Some("utf8mb4_bin") {
                let null = if found.nullable { "NULL" } else { "NOT NULL" };
                changes.push(format!("MODIFY {name} {kind}{length} {WIDE} {null}"));
            }
        }
        if !changes.is_empty() {
            statements.push(format!("ALTER TABLE {table} {}", changes.join(", ")));
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(table: &str, name: &str, kind: &str, collation: Option<&str>) -> Column {
        Column {
            table: table.into(),
            name: name.into(),
            kind: kind.into(),
            collation: collation.map(Into::into),
            extra: String::new(),
            nullable: name == "data",
        }
    }

    #[test]
    fn original_columns_are_widened_once() {
        let original = [
            column("evt_queue", "id", "bigint", None),
            column("evt_queue", "type", "varchar", Some("utf8mb3_general_ci")),
            column("evt_queue", "data", "text", Some("utf8mb4_unicode_ci")),
            column(
                "evt_consumers",
                "ident",
                "varchar",
                Some("utf8mb4_unicode_ci"),
            ),
        ];
        let names = Names::default();
        let statements = widening(&names, &original);
        assert_eq!(
            statements,
            [
                "ALTER TABLE evt_queue MODIFY type varchar(16) CHARACTER SET utf8mb4 COLLATE \
                 utf8mb4_bin NOT NULL, MODIFY data longtext CHARACTER SET utf8mb4 COLLATE \
                 utf8mb4_bin NULL",
                "ALTER TABLE evt_consumers MODIFY ident varchar(64) CHARACTER SET utf8mb4 COLLATE \
                 utf8mb4_bin NOT NULL",
            ]
        );
        let wide = [
            column("evt_queue", "type", "varchar", Some("utf8mb4_bin")),
            column("evt_queue", "data", "longtext", Some("utf8mb4_bin")),
            column("evt_consumers", "ident", "varchar", Some("utf8mb4_bin")),
        ];
        assert_eq!(widening(&names, &wide), [""; 0]);
        // The original's advice for efficiency, and MySQL's own JSON.
        let custom = [
            column("evt_queue", "type", "enum", Some("utf8mb3_general_ci")),
            column("evt_queue", "data", "json", None),
        ];
        let statements = widening(&names, &custom);
        assert_eq!(statements.len(), 1);
        assert!(statements[0].contains("MODIFY data longtext") && !statements[0].contains("type"));
    }

    #[test]
    fn collations_are_judged_by_their_names() {
        for (collation, exact, unicode) in [
            (Some("utf8mb4_bin"), true, true),
            (Some("utf8mb4_unicode_ci"), false, true),
            (Some("utf8mb3_general_ci"), false, false),
            (Some("utf8_bin"), true, false),
            (Some("latin1_swedish_ci"), false, false),
            (None, true, true),
        ] {
            let found = column("t", "c", "varchar", collation);
            assert_eq!((found.is_exact(), found.is_unicode()), (exact, unicode));
        }
    }

    #[test]
    fn steps_fall_into_statements() {
        for step in MYSQL {
            let statements: Vec<&str> = step.sql.split_inclusive(";\n").collect();
            assert!(!statements.is_empty());
            for statement in statements {
                assert!(statement.ends_with(";\n"), "{statement}");
            }
        }
    }
}
