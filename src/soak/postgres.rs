//! Applications on PostgreSQL.

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _, postgres::PgConnectOptions,
};

use super::{
    engine::{EVENT_TYPE, Engine, Helper, Scratch, Session, TwoPhase, tuples},
    plan::Shape,
};
use crate::store::postgres::PostgresUrl;

pub(super) struct Postgres {
    pub(super) place: String,
    pub(super) options: PgConnectOptions,
    pub(super) names: Scratch,
}

impl Postgres {
    pub(super) fn new(url: &PostgresUrl, schema: Option<&str>, names: Scratch) -> Self {
        let mut options = url.connect_options().disable_statement_logging();
        if let Some(schema) = schema {
            options = options.options([("search_path", schema)]);
        }
        Self {
            place: url.to_string(),
            options,
            names,
        }
    }

    fn trigger(&self) -> Helper {
        let queue = &self.names.queue;
        Helper {
            shape: Shape::Trigger,
            make: vec![
                format!("CREATE TABLE {queue}_orders (data json, first bigint)"),
                format!(
                    "CREATE FUNCTION {queue}_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
                     BEGIN
                        INSERT INTO {queue} (type, data, ts) VALUES ('{EVENT_TYPE}', NEW.data, now())
                            RETURNING id INTO NEW.first;
                        RETURN NEW;
                     END $$"
                ),
                format!(
                    "CREATE TRIGGER {queue}_trigger BEFORE INSERT ON {queue}_orders
                     FOR EACH ROW EXECUTE FUNCTION {queue}_trigger()"
                ),
            ],
            drop: vec![
                format!("DROP TABLE IF EXISTS {queue}_orders"),
                format!("DROP FUNCTION IF EXISTS {queue}_trigger()"),
            ],
        }
    }

    fn function(&self) -> Helper {
        let queue = &self.names.queue;
        Helper {
            shape: Shape::Function,
            make: vec![format!(
                "CREATE FUNCTION {queue}_function(json, int) RETURNS bigint LANGUAGE plpgsql AS $$
                 DECLARE next bigint; first bigint;
                 BEGIN
                    FOR n IN 1..$2 LOOP
                        BEGIN
                            INSERT INTO {queue} (type, data, ts)
                                VALUES ('{EVENT_TYPE}', $1, now()) RETURNING id INTO next;
                            first := coalesce(first, next);
                            IF n % 3 = 0 THEN RAISE EXCEPTION 'undone'; END IF;
                        EXCEPTION WHEN raise_exception THEN NULL;
                        END;
                    END LOOP;
                    RETURN first;
                 END $$"
            )],
            drop: vec![format!(
                "DROP FUNCTION IF EXISTS {queue}_function(json, int)"
            )],
        }
    }
}

#[async_trait]
impl Engine for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    async fn check(&self) -> anyhow::Result<()> {
        const HOME: &str = "SELECT 'yes' WHERE current_schema() IS NOT NULL";
        let found = self.session().await?.texts(HOME).await?;
        anyhow::ensure!(
            !found.is_empty(),
            "there is no schema to make the tables in; see db.schema"
        );
        Ok(())
    }

    async fn session(&self) -> Result<Box<dyn Session>, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let number: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut connection)
            .await?;
        Ok(Box::new(PostgresSession {
            connection,
            number: number.into(),
        }))
    }

    fn insert(&self, shape: Shape, rows: u32, delay: f64) -> String {
        let queue = &self.names.queue;
        let into = format!("INSERT INTO {queue} (type, data, ts)");
        let event = format!("'{EVENT_TYPE}', $1::json, now()");
        match shape {
            Shape::Values | Shape::Procedure => {
                let tuples = tuples(&format!("({event})"), rows);
                format!("{into} VALUES {tuples} RETURNING id")
            }
            Shape::Select => {
                format!("{into} SELECT {event} FROM generate_series(1, {rows}) RETURNING id")
            }
            // The id, in the first column, is drawn before the data is made.
            Shape::Slow => {
                let others = ", (".to_owned() + &event + ")";
                format!(
                    "{into} VALUES ('{EVENT_TYPE}',
                        CASE WHEN pg_sleep({delay}) IS NULL THEN 'null' ELSE $1::json END, now())
                     {} RETURNING id",
                    others.repeat(rows as usize - 1)
                )
            }
            Shape::Trigger => {
                format!("INSERT INTO {queue}_orders (data) VALUES ($1::json) RETURNING first")
            }
            Shape::Function => format!("SELECT {queue}_function($1::json, {rows})"),
            Shape::Chained => format!(
                "WITH other AS (INSERT INTO {} (note) VALUES ('soak') RETURNING note)
                 {into} SELECT {event} FROM other RETURNING id",
                self.names.other
            ),
        }
    }

    fn make_other(&self) -> String {
        format!("CREATE TABLE {} (note text)", self.names.other)
    }

    fn helpers(&self) -> Vec<Helper> {
        vec![self.trigger(), self.function()]
    }

    fn plain_shapes(&self) -> &'static [Shape] {
        &[Shape::Select, Shape::Slow, Shape::Chained]
    }

    fn two_phase(&self) -> Option<TwoPhase> {
        Some(TwoPhase {
            allowed: "SELECT CASE WHEN current_setting('max_prepared_transactions')::int > 0
                THEN 'yes' ELSE 'no' END",
            advice: "set max_prepared_transactions of the server above 0",
            begin: |_name| "BEGIN".to_owned(),
            prepare: |name| vec![format!("PREPARE TRANSACTION '{name}'")],
            decide: |name, commit| {
                let verb = if commit { "COMMIT" } else { "ROLLBACK" };
                format!("{verb} PREPARED '{name}'")
            },
            prepared: "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
        })
    }

    fn kill(&self, session: i64) -> Option<String> {
        Some(format!("SELECT pg_terminate_backend({session})"))
    }

    fn is_open(&self, session: i64) -> String {
        format!("SELECT 'open' FROM pg_stat_activity WHERE pid = {session}")
    }

    fn data(&self) -> &'static str {
        "data::text"
    }

    fn keyed_tables(&self) -> &'static str {
        r"SELECT table_name::text FROM information_schema.columns
          WHERE table_schema = current_schema() AND column_name = 'stream'
            AND table_name LIKE 'evt\_%'"
    }

    fn original(&self, after: i64) -> [String; 3] {
        [
            "BEGIN ISOLATION LEVEL SERIALIZABLE".to_owned(),
            format!(
                "SELECT id, data::text FROM {} WHERE id > {after} LIMIT 1000",
                self.names.queue
            ),
            "COMMIT".to_owned(),
        ]
    }
}

struct PostgresSession {
    connection: PgConnection,
    number: i64,
}

#[async_trait]
impl Session for PostgresSession {
    fn number(&self) -> i64 {
        self.number
    }

    async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    async fn insert(&mut self, sql: &str, data: &str) -> Result<i64, sqlx::Error> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(data);
        let ids: Vec<i64> = query.fetch_all(&mut self.connection).await?;
        ids.into_iter().min().ok_or(sqlx::Error::RowNotFound)
    }

    async fn read(&mut self, sql: &str) -> Result<Vec<(i64, String)>, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        let rows = rows.fetch_all(&mut self.connection).await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    }

    async fn texts(&mut self, sql: &str) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .persistent(false)
            .fetch_all(&mut self.connection)
            .await
    }
}
