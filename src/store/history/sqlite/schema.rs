//! Making, adopting and checking the tables of the history.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::SqliteWarehouse;
use crate::store::{
    Error,
    migrate::{HISTORY_SQLITE, Step},
    sqlite::connections::{Connections, unavailable},
};

impl SqliteWarehouse {
    pub(super) async fn prepare(&self, live: &Connections) -> Result<(), Error> {
        for step in HISTORY_SQLITE {
            if !self.has(live, step).await? {
                self.apply_step(live, step).await?;
            }
        }
        self.check_contract(live).await
    }

    /// Looks first, so that a file that cannot be written can be read.
    async fn has(&self, live: &Connections, step: &Step) -> Result<bool, Error> {
        const HAS_TABLE: &str =
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'evt_migrations'";
        const HAS_STEP: &str =
            "SELECT count(*) FROM evt_migrations WHERE stream = ?1 AND version = ?2";
        let mut connection = live.read().await?;
        let tables: i64 = sqlx::query_scalar(HAS_TABLE)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if tables == 0 {
            return Ok(false);
        }
        let steps: i64 = sqlx::query_scalar(HAS_STEP)
            .bind(&self.options.table)
            .bind(step.version)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(steps > 0)
    }

    async fn apply_step(&self, live: &Connections, step: &Step) -> Result<(), Error> {
        let mut tx = live.begin().await?;
        let applied = self.apply_in(&mut tx, step).await;
        if applied.map_err(|error| unavailable(&error))? {
            let history = &self.options.table;
            tracing::info!(
                step = step.name,
                history,
                "migration of the warehouse applied"
            );
        }
        tx.commit().await
    }

    /// False if another process was faster.
    async fn apply_in(&self, tx: &mut SqliteConnection, step: &Step) -> Result<bool, sqlx::Error> {
        const TABLE: &str = "CREATE TABLE IF NOT EXISTS evt_migrations (
            stream TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL,
            applied TIMESTAMP NOT NULL, PRIMARY KEY (stream, version)) WITHOUT ROWID";
        const RECORD: &str = "INSERT INTO evt_migrations (stream, version, name, applied)
            VALUES (?1, ?2, ?3, CURRENT_TIMESTAMP) ON CONFLICT DO NOTHING";
        sqlx::query(TABLE).execute(&mut *tx).await?;
        let recorded = sqlx::query(RECORD)
            .bind(&self.options.table)
            .bind(step.version)
            .bind(step.name)
            .execute(&mut *tx)
            .await?;
        if recorded.rows_affected() == 0 {
            return Ok(false);
        }
        let sql = AssertSqlSafe(self.options.apply(step.sql));
        sqlx::raw_sql(sql).execute(tx).await?;
        Ok(true)
    }

    async fn check_contract(&self, live: &Connections) -> Result<(), Error> {
        const COLUMNS: &str = "SELECT count(*) FROM pragma_table_info('evt_history')
            WHERE name IN ('id', 'type', 'data', 'ts') AND (name <> 'id' OR pk = 1)";
        let mut connection = live.read().await?;
        let columns: i64 = sqlx::query_scalar(self.sql(COLUMNS))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if columns == 4 {
            return Ok(());
        }
        Err(Error::Contract(format!(
            "table {} of the warehouse lacks one of the columns type, data, ts, or id as its \
             primary key",
            self.options.table
        )))
    }
}
