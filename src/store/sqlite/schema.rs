//! Making, adopting and checking the schema.

use sqlx::{AssertSqlSafe, Row};

use super::{SqliteStore, connections};
use crate::store::{
    Error,
    migrate::{SQLITE, Step},
};

impl SqliteStore {
    /// Applies the steps that are missing and checks the contract.
    pub(super) async fn prepare_schema(&self) -> Result<(), Error> {
        for step in self.pending().await? {
            self.apply(step).await?;
        }
        self.check_contract().await
    }

    /// The steps that this stream has not had. A database of the original has
    /// no `evt_migrations` and gets them all: the first one leaves its tables alone.
    pub(super) async fn pending(&self) -> Result<Vec<&'static Step>, Error> {
        const HAS_TABLE: &str =
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'evt_migrations'";
        const APPLIED: &str =
            "SELECT version FROM evt_migrations WHERE stream = ?1 ORDER BY version";
        let mut connection = self.connections.read().await?;
        let has_table: i64 = sqlx::query_scalar(HAS_TABLE)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| connections::unavailable(&error))?;
        let applied: Vec<i64> = if has_table == 0 {
            Vec::new()
        } else {
            sqlx::query_scalar(APPLIED)
                .bind(self.stream())
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| connections::unavailable(&error))?
        };
        Ok(SQLITE
            .iter()
            .filter(|step| !applied.contains(&step.version))
            .collect())
    }

    async fn apply(&self, step: &Step) -> Result<(), Error> {
        const TABLE: &str = "CREATE TABLE IF NOT EXISTS evt_migrations (
            stream TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL,
            applied TIMESTAMP NOT NULL, PRIMARY KEY (stream, version)) WITHOUT ROWID";
        const RECORD: &str = "INSERT INTO evt_migrations (stream, version, name, applied)
            VALUES (?1, ?2, ?3, CURRENT_TIMESTAMP) ON CONFLICT DO NOTHING";
        let failed = |error: sqlx::Error| {
            tracing::error!(%error, step = step.name, "migration failed");
            connections::unavailable(&error)
        };
        let mut tx = self.connections.begin().await?;
        sqlx::query(TABLE).execute(&mut *tx).await.map_err(failed)?;
        let recorded = sqlx::query(RECORD)
            .bind(self.stream())
            .bind(step.version)
            .bind(step.name)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        // Another process may have been faster.
        if recorded.rows_affected() == 1 {
            let sql = self.options.common.names.apply(step.sql).into_owned();
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            tracing::info!(
                step = step.name,
                stream = self.stream(),
                "migration applied"
            );
        }
        tx.commit().await
    }

    /// What the guarantee rests on.
    pub(super) async fn check_contract(&self) -> Result<(), Error> {
        const TABLE_SQL: &str = "SELECT upper(sql) AS ddl,
            (SELECT count(*) FROM pragma_table_info('evt_queue')
             WHERE name IN ('id', 'type', 'data', 'ts')) AS columns
            FROM sqlite_master WHERE type = 'table' AND name = 'evt_queue'";
        let mut connection = self.connections.read().await?;
        let row = sqlx::query(self.sql(TABLE_SQL))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| connections::unavailable(&error))?;
        let (ddl, columns): (String, i64) = (row.get("ddl"), row.get("columns"));
        if columns != 4 {
            return Err(Error::Contract(format!(
                "table {} lacks one of the columns id, type, data, ts",
                self.stream()
            )));
        }
        if !ddl.contains("AUTOINCREMENT") {
            return Err(Error::Contract(format!(
                "column {}.id is not AUTOINCREMENT: an emptied table would hand out the same ids \
                 again and events would be lost; rebuild the table with \
                 INTEGER PRIMARY KEY AUTOINCREMENT",
                self.stream()
            )));
        }
        Ok(())
    }
}
