//! Making, adopting and checking the schema.

use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::{
    PostgresStore,
    connections::{sqlstate, unavailable},
    head::Head,
};
use crate::{
    event::Moment,
    store::{
        Error,
        checkup::clock_difference,
        migrate::{POSTGRES, Step},
    },
};

/// Taken for each step, so that replicas which start at once do not collide:
/// `CREATE … IF NOT EXISTS` alone fails when two run it. The letters of "evtmigra".
const MIGRATION_LOCK: i64 = 0x6576_746d_6967_7261;

/// Oldest version that the statements were written for.
const MIN_VERSION: i32 = 120_000;

impl PostgresStore {
    /// Applies the steps that are missing and checks the contract; returns
    /// where it can be read which ids were given out.
    pub(super) async fn prepare_schema(&self) -> Result<Head, Error> {
        self.check_schema().await?;
        for step in self.pending().await? {
            self.apply(step).await?;
        }
        self.check_contract().await
    }

    /// Without USAGE its tables look as if they were not there.
    pub(super) async fn check_schema(&self) -> Result<(), Error> {
        const USABLE: &str = "SELECT quote_ident(current_user) AS role,
                coalesce(has_schema_privilege(nspname, 'USAGE'), true) AS usable
            FROM (SELECT coalesce($1, CASE WHEN current_schema() IS NULL THEN 'public' END) AS wanted)
                AS own LEFT JOIN pg_namespace ON nspname = wanted";
        let mut connection = self.connections.read().await?;
        let row = sqlx::query(USABLE)
            .bind(self.options.schema.as_deref())
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if row.get("usable") {
            return Ok(());
        }
        let (role, schema): (&str, _) = (row.get("role"), self.options.schema.as_deref());
        let schema = schema.unwrap_or("public");
        Err(Error::Contract(format!(
            "the role may not use schema {schema}; run GRANT USAGE ON SCHEMA {schema} TO {role}"
        )))
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
        let applied = match applied {
            Err(error) if is_denied(&error) => {
                // Names all that is missing, should more be.
                self.check_privileges(&mut connection).await?;
                return Err(unavailable(&error));
            }
            applied => applied.map_err(|error| unavailable(&error))?,
        };
        Ok(POSTGRES
            .iter()
            .filter(|step| !applied.contains(&step.version))
            .collect())
    }

    async fn apply(&self, step: &Step) -> Result<(), Error> {
        let mut tx = self.connections.begin().await?;
        let applied = self.apply_in(&mut tx, step).await.map_err(|error| {
            if is_denied(&error) {
                return Error::Contract(format!(
                    "the tables need the step {}, which the role may not do ({error}); run \
                     `eventstream migrate` as their owner, then what `eventstream migrate \
                     --print-grants` prints",
                    step.name
                ));
            }
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
    async fn check_contract(&self) -> Result<Head, Error> {
        let mut connection = self.connections.read().await?;
        self.check_privileges(&mut connection).await?;
        check_clock(&mut connection).await?;
        self.check_table(&mut connection).await
    }

    /// The server's version, the table and its sequence.
    pub(super) async fn check_table(&self, connection: &mut PgConnection) -> Result<Head, Error> {
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
                s.seqcache, s.seqincrement, s.seqcycle
            FROM pg_class c LEFT JOIN pg_sequence s
                ON s.seqrelid = pg_get_serial_sequence('evt_queue', 'id')::regclass
            WHERE c.oid = 'evt_queue'::regclass";
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
        let head = choose_head(connection, &sequence).await?;
        if head != Head::Rows {
            self.check_sequence_is_ahead(connection, &sequence, &head)
                .await?;
        }
        Ok(head)
    }

    /// Rows above the sequence would wait for ever: a dump without its
    /// `setval`, or ids that were set by hand.
    async fn check_sequence_is_ahead(
        &self,
        connection: &mut PgConnection,
        sequence: &str,
        head: &Head,
    ) -> Result<(), Error> {
        const HIGHEST: &str =
            "SELECT coalesce((SELECT id FROM evt_queue ORDER BY id DESC LIMIT 1), 0)";
        // In this order: an id that is drawn in between is no fault.
        let highest: i64 = sqlx::query_scalar(self.sql(HIGHEST))
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let last: i64 = sqlx::query_scalar(AssertSqlSafe(head.sql(self.stream(), "0")))
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

/// By what the role may do; says what would be better.
async fn choose_head(connection: &mut PgConnection, sequence: &str) -> Result<Head, Error> {
    const RIGHTS: &str = "SELECT has_sequence_privilege($1, 'SELECT') AS may_read,
            has_sequence_privilege($1, 'USAGE') AS may_use,
            has_sequence_privilege($1, 'USAGE, UPDATE') OR EXISTS (SELECT FROM pg_depend
                WHERE classid = 'pg_class'::regclass AND objid = $1::regclass
                    AND refclassid = 'pg_class'::regclass AND deptype = 'i') AS may_draw,
            quote_ident(current_user) AS role";
    let row = sqlx::query(RIGHTS)
        .bind(sequence)
        .fetch_one(connection)
        .await
        .map_err(|error| unavailable(&error))?;
    let remedy = || {
        let role: &str = row.get("role");
        format!("run GRANT USAGE ON SEQUENCE {sequence} TO {role}")
    };
    if !row.get::<bool, _>("may_draw") {
        tracing::warn!(
            remedy = remedy(),
            "the role may draw no ids: AddEvent will fail"
        );
    }
    if row.get("may_read") {
        return Ok(Head::Sequence(sequence.to_owned()));
    }
    if row.get("may_use") {
        return Ok(Head::LastValue(sequence.to_owned()));
    }
    tracing::warn!(
        remedy = remedy(),
        "the role may not read the sequence: events behind a rollback or an open transaction come \
         later than they could, and a restore is noticed only by rows"
    );
    Ok(Head::Rows)
}

/// Only tells: clocks decide nothing but when sessions lapse, by the database's.
async fn check_clock(connection: &mut PgConnection) -> Result<(), Error> {
    if let Some(ahead) = clock_ahead(connection).await? {
        tracing::warn!(
            database_ahead_ms = ahead,
            "the clocks of the database and of this machine differ: ages and lags are wrong by \
             that; let NTP set both"
        );
    }
    Ok(())
}

/// By how many milliseconds the database's clock is wrong, or ours, if it matters.
pub(super) async fn clock_ahead(connection: &mut PgConnection) -> Result<Option<i64>, Error> {
    const CLOCK: &str = "SELECT (date_part('epoch', clock_timestamp()) * 1000)::bigint";
    let before = Moment::now().unix_millis();
    let theirs: i64 = sqlx::query_scalar(CLOCK)
        .fetch_one(connection)
        .await
        .map_err(|error| unavailable(&error))?;
    let after = Moment::now().unix_millis();
    Ok(clock_difference(before, theirs, after))
}

/// Whether a privilege is missing.
fn is_denied(error: &sqlx::Error) -> bool {
    matches!(sqlstate(error).as_deref(), Some("42501" | "3F000"))
}

/// What must be true of the queue's table and sequence.
#[derive(Debug, Clone)]
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
        }
    }

    #[test]
    fn every_broken_contract_is_named() {
        assert_eq!(good().check().as_deref(), Ok("public.evt_queue_id_seq"));
        let broken: [(&str, Breaks); 8] = [
            ("not a table", |c| c.kind = "v".into()),
            ("SET LOGGED", |c| c.persistence = "u".into()),
            ("exact text", |c| c.data_type = "jsonb".into()),
            ("publisher", |c| c.subscribed = true),
            ("OWNED BY", |c| c.sequence = None),
            ("its default", |c| c.drawn = false),
            ("CACHE 1", |c| c.cache = Some(20)),
            ("INCREMENT BY 1", |c| c.increment = Some(3)),
        ];
        for (remedy, broken) in broken {
            let mut contract = good();
            broken(&mut contract);
            let text = contract.check().expect_err(remedy);
            assert!(text.contains(remedy), "{text}");
        }
    }
}
