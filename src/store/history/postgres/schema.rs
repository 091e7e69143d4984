//! Making, adopting and checking the tables of the history.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::PostgresWarehouse;
use crate::store::{
    Error,
    migrate::{HISTORY_POSTGRES, Step},
    postgres::connections::{Connections, unavailable},
};

/// Taken for each step, as for the active tables: the letters of "evtmigra".
const MIGRATION_LOCK: i64 = 0x6576_746d_6967_7261;

impl PostgresWarehouse {
    pub(super) async fn prepare(&self, live: &Connections) -> Result<(), Error> {
        for step in HISTORY_POSTGRES {
            if !self.has(live, step).await? {
                self.apply_step(live, step).await?;
            }
        }
        self.check_contract(live).await
    }

    /// Looks first, so that a database that cannot be written can be read.
    async fn has(&self, live: &Connections, step: &Step) -> Result<bool, Error> {
        const HAS_TABLE: &str = "SELECT to_regclass('evt_migrations') IS NOT NULL";
        const HAS_STEP: &str =
            "SELECT EXISTS (SELECT FROM evt_migrations WHERE stream = $1 AND version = $2)";
        let mut connection = live.read().await?;
        let has_table: bool = sqlx::query_scalar(HAS_TABLE)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if !has_table {
            return Ok(false);
        }
        sqlx::query_scalar(HAS_STEP)
            .bind(&self.options.table)
            .bind(step.version)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))
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
    async fn apply_in(&self, tx: &mut PgConnection, step: &Step) -> Result<bool, sqlx::Error> {
        const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";
        const TABLE: &str = "CREATE TABLE IF NOT EXISTS evt_migrations (
            stream TEXT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL,
            applied TIMESTAMP NOT NULL, PRIMARY KEY (stream, version))";
        const RECORD: &str = "INSERT INTO evt_migrations (stream, version, name, applied)
            VALUES ($1, $2, $3, timezone('UTC', now())) ON CONFLICT DO NOTHING";
        sqlx::query(LOCK)
            .bind(MIGRATION_LOCK)
            .execute(&mut *tx)
            .await?;
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
        const COLUMNS: &str = "SELECT
            (SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped
             AND attname IN ('id', 'type', 'data', 'ts')) AS columns,
            (SELECT atttypid::regtype::text FROM pg_attribute
             WHERE attrelid = c.oid AND attname = 'data') AS data_type,
            EXISTS (SELECT FROM pg_index i JOIN pg_attribute a
                ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE i.indrelid = c.oid AND i.indisunique AND i.indnkeyatts = 1
                    AND a.attname = 'id') AS keyed
            FROM pg_class c WHERE c.oid = 'evt_history'::regclass";
        let table = &self.options.table;
        let mut connection = live.read().await?;
        let row = sqlx::query(self.sql(COLUMNS))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if row.get::<i64, _>("columns") != 4 || !row.get::<bool, _>("keyed") {
            return Err(Error::Contract(format!(
                "table {table} of the warehouse lacks one of the columns type, data, ts, or id as \
                 its primary key"
            )));
        }
        let data_type: &str = row.get("data_type");
        if matches!(data_type, "json" | "text") {
            return Ok(());
        }
        Err(Error::Contract(format!(
            "column {table}.data of the warehouse is {data_type}, which does not keep the exact \
             text; it must be json or text"
        )))
    }
}
