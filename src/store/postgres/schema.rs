//! Making, adopting and checking the schema.

use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::{PostgresStore, connections::unavailable};
use crate::store::{
    Error,
    migrate::{POSTGRES, Step},
};

/// Taken for each step, so that replicas which start at once do not collide:
/// `CREATE … IF NOT EXISTS` alone fails when two run it. The letters of "evtmigra".
const MIGRATION_LOCK: i64 = 0x6576_746d_6967_7261;

/// Oldest version that the statements were written for.
const MIN_VERSION: i32 = 120_000;

impl PostgresStore {
    /// Applies the steps that are missing and checks the contract; returns the
    /// name of the sequence that gives out ids.
    pub(super) async fn prepare_schema(&self) -> Result<String, Error> {
        for step in self.pending().await? {
            self.apply(step).await?;
        }
        self.check_contract().await
    }

    /// The steps that this stream has not had. A database of the original has
    /// no `evt_migrations` and gets them all: the first one leaves its tables alone.
    pub(super) async fn pending(&self) -> Result<Vec<&'static Step>, Error> {
        const HAS_TABLE: &str = "SELECT to_regclass('evt_migrations') IS NOT NULL";
        const APPLIED: &str =
            "SELECT version FROM evt_migrations WHERE stream = $1 ORDER BY version";
        let mut connection = self.connections.read().await?;
        let applied: Result<Vec<i64>, sqlx::Error> = async {
            let has_table: bool = sqlx::query_scalar(HAS_TABLE)
                .fetch_one(&mut *connection)
                .await?;
            if !has_table {
                return Ok(Vec::new());
            }
            sqlx::query_scalar(APPLIED)
                .bind(self.stream())
                .fetch_all(&mut *connection)
                .await
        }
        .await;
        let applied = applied.map_err(|error| unavailable(&error))?;
        Ok(POSTGRES
            .iter()
            .filter(|step| !applied.contains(&step.version))
            .collect())
    }

    async fn apply(&self, step: &Step) -> Result<(), Error> {
        let mut tx = self.connections.begin().await?;
        let applied = self.apply_in(&mut tx, step).await.map_err(|error| {
            tracing::error!(%error, step = step.name, "migration failed");
            unavailable(&error)
        })?;
        tx.commit().await?;
        if applied {
            tracing::info!(
                step = step.name,
                stream = self.stream(),
                "migration applied"
            );
        }
        Ok(())
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
        if let Some(schema) = &self.options.schema {
            let create = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
            let exists: bool =
                sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
                    .bind(schema)
                    .fetch_one(&mut *tx)
                    .await?;
            if !exists {
                sqlx::raw_sql(AssertSqlSafe(create))
                    .execute(&mut *tx)
                    .await?;
            }
        }
        sqlx::query(TABLE).execute(&mut *tx).await?;
        let recorded = sqlx::query(RECORD)
            .bind(self.stream())
            .bind(step.version)
            .bind(step.name)
            .execute(&mut *tx)
            .await?;
        if recorded.rows_affected() == 0 {
            return Ok(false);
        }
        let sql = self.options.common.names.apply(step.sql).into_owned();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await?;
        Ok(true)
    }

    /// What the guarantee rests on.
    async fn check_contract(&self) -> Result<String, Error> {
        const TABLE: &str = "SELECT current_setting('server_version_num')::int AS version,
                (SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped
                 AND attname IN ('id', 'type', 'data', 'ts')) AS columns
            FROM pg_class c WHERE c.oid = 'evt_queue'::regclass";
        const CONTRACT: &str = "SELECT c.relkind::text, c.relpersistence::text,
                (SELECT atttypid::regtype::text FROM pg_attribute
                 WHERE attrelid = c.oid AND attname = 'data') AS data_type,
                EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = c.oid) AS subscribed,
                (SELECT a.attidentity <> '' OR EXISTS (
                    SELECT FROM pg_attrdef d WHERE d.adrelid = c.oid AND d.adnum = a.attnum
                        AND pg_get_expr(d.adbin, d.adrelid) ~ '^nextval\\(''[^'']+''::regclass\\)$')
                 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'id') AS drawn,
                pg_get_serial_sequence('evt_queue', 'id') AS sequence,
                s.seqcache, s.seqincrement, s.seqcycle,
                has_table_privilege(c.oid, 'SELECT') AS may_read,
                coalesce(has_sequence_privilege(s.seqrelid, 'SELECT'), false) AS may_read_sequence
            FROM pg_class c LEFT JOIN pg_sequence s
                ON s.seqrelid = pg_get_serial_sequence('evt_queue', 'id')::regclass
            WHERE c.oid = 'evt_queue'::regclass";
        let mut connection = self.connections.read().await?;
        let row = sqlx::query(self.sql(TABLE))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let (version, columns): (i32, i64) = (row.get("version"), row.get("columns"));
        if version < MIN_VERSION {
            return Err(Error::Contract(format!(
                "the server is PostgreSQL {}, at least {} is needed",
                version / 10_000,
                MIN_VERSION / 10_000
            )));
        }
        if columns != 4 {
            return Err(Error::Contract(format!(
                "table {} lacks one of the columns id, type, data, ts",
                self.stream()
            )));
        }
        let row = sqlx::query(self.sql(CONTRACT))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let contract = TableContract::read(self.stream(), &row);
        let sequence = contract.check().map_err(Error::Contract)?;
        self.check_sequence_is_ahead(&mut connection, &sequence)
            .await?;
        Ok(sequence)
    }

    /// Rows above the sequence would wait for ever: a dump without its
    /// `setval`, or ids that were set by hand.
    async fn check_sequence_is_ahead(
        &self,
        connection: &mut PgConnection,
        sequence: &str,
    ) -> Result<(), Error> {
        const HIGHEST: &str =
            "SELECT coalesce((SELECT id FROM evt_queue ORDER BY id DESC LIMIT 1), 0)";
        // In this order: an id that is drawn in between is no fault.
        let highest: i64 = sqlx::query_scalar(self.sql(HIGHEST))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let last: i64 = sqlx::query_scalar(super::tail::last_value_of(sequence))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if highest <= last {
            return Ok(());
        }
        Err(Error::Contract(format!(
            "table {} holds id {highest}, but its sequence has only given out {last}; run \
             SELECT setval('{sequence}', {highest})",
            self.stream()
        )))
    }
}

/// What must be true of the queue's table and sequence.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one per question to the catalogue"
)]
struct TableContract {
    table: String,
    kind: String,
    persistence: String,
    data_type: String,
    subscribed: bool,
    drawn: bool,
    sequence: Option<String>,
    cache: Option<i64>,
    increment: Option<i64>,
    cycle: Option<bool>,
    may_read: bool,
    may_read_sequence: bool,
}

impl TableContract {
    fn read(table: &str, row: &PgRow) -> Self {
        Self {
            table: table.to_owned(),
            kind: row.get("relkind"),
            persistence: row.get("relpersistence"),
            data_type: row.get("data_type"),
            subscribed: row.get("subscribed"),
            drawn: row.get("drawn"),
            sequence: row.get("sequence"),
            cache: row.get("seqcache"),
            increment: row.get("seqincrement"),
            cycle: row.get("seqcycle"),
            may_read: row.get("may_read"),
            may_read_sequence: row.get("may_read_sequence"),
        }
    }

    /// The sequence, or what is wrong and what to do.
    fn check(self) -> Result<String, String> {
        self.check_table()?;
        self.check_sequence()
    }

    fn check_table(&self) -> Result<(), String> {
        let table = &self.table;
        if !matches!(&*self.kind, "r" | "p") {
            return Err(format!("{table} is not a table"));
        }
        if self.persistence != "p" {
            return Err(format!(
                "table {table} is not logged: a crash of the server empties it and events would be \
                 lost; run ALTER TABLE {table} SET LOGGED"
            ));
        }
        if !matches!(&*self.data_type, "json" | "text" | "character varying") {
            return Err(format!(
                "column {table}.data is {}, which does not keep the exact text; it must be json or \
                 text",
                self.data_type
            ));
        }
        if self.subscribed {
            return Err(format!(
                "table {table} is filled by a logical replication subscription, whose commits do \
                 not follow its ids; point db.url at the publisher"
            ));
        }
        if !self.may_read {
            return Err(format!(
                "the role may not read table {table}; run GRANT SELECT ON {table}"
            ));
        }
        Ok(())
    }

    fn check_sequence(self) -> Result<String, String> {
        let table = &self.table;
        let Some(sequence) = self.sequence else {
            return Err(format!(
                "no sequence is owned by {table}.id, so it cannot be told which ids are under way; \
                 run ALTER SEQUENCE … OWNED BY {table}.id"
            ));
        };
        if !self.drawn {
            return Err(format!(
                "{table}.id does not take its values from a sequence alone; make \
                 nextval('{sequence}') its default"
            ));
        }
        if self.cache != Some(1) {
            return Err(format!(
                "sequence {sequence} has CACHE {}: sessions would hand out ids long after higher \
                 ones and events would be lost; run ALTER SEQUENCE {sequence} CACHE 1 and let every \
                 other session reconnect",
                self.cache.unwrap_or(0)
            ));
        }
        if self.increment != Some(1) || self.cycle != Some(false) {
            return Err(format!(
                "sequence {sequence} must count by one and not cycle; run ALTER SEQUENCE \
                 {sequence} INCREMENT BY 1 NO CYCLE"
            ));
        }
        if !self.may_read_sequence {
            return Err(format!(
                "the role may not read sequence {sequence}, which tells what is under way; run \
                 GRANT SELECT ON SEQUENCE {sequence}"
            ));
        }
        Ok(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Breaks = fn(&mut TableContract);

    fn good() -> TableContract {
        TableContract {
            table: "evt_queue".into(),
            kind: "r".into(),
            persistence: "p".into(),
            data_type: "json".into(),
            subscribed: false,
            drawn: true,
            sequence: Some("public.evt_queue_id_seq".into()),
            cache: Some(1),
            increment: Some(1),
            cycle: Some(false),
            may_read: true,
            may_read_sequence: true,
        }
    }

    #[test]
    fn every_broken_contract_is_named() {
        assert_eq!(good().check().as_deref(), Ok("public.evt_queue_id_seq"));
        let broken: [(&str, Breaks); 10] = [
            ("not a table", |c| c.kind = "v".into()),
            ("SET LOGGED", |c| c.persistence = "u".into()),
            ("exact text", |c| c.data_type = "jsonb".into()),
            ("publisher", |c| c.subscribed = true),
            ("OWNED BY", |c| c.sequence = None),
            ("its default", |c| c.drawn = false),
            ("CACHE 1", |c| c.cache = Some(20)),
            ("INCREMENT BY 1", |c| c.increment = Some(3)),
            ("GRANT SELECT ON evt_queue", |c| c.may_read = false),
            ("GRANT SELECT ON SEQUENCE", |c| c.may_read_sequence = false),
        ];
        for (remedy, broken) in broken {
            let mut contract = good();
            broken(&mut contract);
            let text = contract.check().expect_err(remedy);
            assert!(text.contains(remedy), "{text}");
        }
    }
}
