//! Making, adopting and checking the tables of the history.
//!
//! DDL commits by itself here, so each statement may be repeated and the record
//! comes last.

use std::sync::atomic::Ordering;

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::MysqlWarehouse;
use crate::store::{
    Error,
    migrate::{HISTORY_MYSQL, Step},
    mysql::{
        connections::Connections,
        errors::{number, unavailable},
        text,
    },
};

const NO_SUCH_TABLE: u16 = 1146;

impl MysqlWarehouse {
    pub(super) async fn prepare(&self, live: &Connections) -> Result<(), Error> {
        for step in HISTORY_MYSQL {
            if !self.has(live, step).await? {
                let mut connection = live.unhurried().await?;
                let applied = self.apply_step(&mut connection, step).await;
                applied.map_err(|error| unavailable(&error))?;
                let history = &self.options.table;
                tracing::info!(
                    step = step.name,
                    history,
                    "migration of the warehouse applied"
                );
            }
        }
        self.check_contract(live).await
    }

    /// Looks first, so that a database that cannot be written can be read.
    async fn has(&self, live: &Connections, step: &Step) -> Result<bool, Error> {
        const HAS_STEP: &str =
            "SELECT count(*) FROM evt_migrations WHERE stream = ? AND version = ?";
        let mut connection = live.read().await?;
        let steps: Result<i64, sqlx::Error> = sqlx::query_scalar(HAS_STEP)
            .bind(&self.options.table)
            .bind(step.version)
            .fetch_one(&mut *connection)
            .await;
        match steps {
            Err(error) if number(&error) == Some(NO_SUCH_TABLE) => Ok(false),
            steps => Ok(steps.map_err(|error| unavailable(&error))? > 0),
        }
    }

    async fn apply_step(
        &self,
        connection: &mut MySqlConnection,
        step: &Step,
    ) -> Result<(), sqlx::Error> {
        const TABLE: &str = "CREATE TABLE IF NOT EXISTS evt_migrations (
            stream VARCHAR(64) NOT NULL, version BIGINT NOT NULL, name VARCHAR(64) NOT NULL,
            applied DATETIME NOT NULL, PRIMARY KEY (stream, version)
        ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
        const RECORD: &str = "INSERT INTO evt_migrations (stream, version, name, applied)
            VALUES (?, ?, ?, UTC_TIMESTAMP()) ON DUPLICATE KEY UPDATE name = name";
        sqlx::raw_sql(TABLE).execute(&mut *connection).await?;
        for statement in self.options.apply(step.sql).split_inclusive(";\n") {
            let statement = AssertSqlSafe(statement.to_owned());
            sqlx::raw_sql(statement).execute(&mut *connection).await?;
        }
        sqlx::query(RECORD)
            .bind(&self.options.table)
            .bind(step.version)
            .bind(step.name)
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn check_contract(&self, live: &Connections) -> Result<(), Error> {
        const COLUMNS: &str = "SELECT COLUMN_NAME, COLUMN_KEY,
                CASE WHEN COLUMN_NAME = 'ts' AND COALESCE(DATETIME_PRECISION, 0) >= 3
                    THEN 'fine' ELSE 'coarse' END
            FROM information_schema.COLUMNS
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?
                AND COLUMN_NAME IN ('id', 'type', 'data', 'ts')";
        let table = &self.options.table;
        let mut connection = live.read().await?;
        let rows = sqlx::query(COLUMNS)
            .bind(table)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let is = |row, column, expected: &str| text(row, column).is_some_and(|it| it == expected);
        let keyed = rows.iter().any(|row| is(row, 0, "id") && is(row, 1, "PRI"));
        if rows.len() != 4 || !keyed {
            return Err(Error::Contract(format!(
                "table {table} of the warehouse lacks one of the columns type, data, ts, or id as \
                 its primary key"
            )));
        }
        let fine = rows.iter().any(|row| is(row, 2, "fine"));
        self.whole_seconds.store(!fine, Ordering::Release);
        Ok(())
    }
}
