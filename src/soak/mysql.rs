//! Applications on MySQL and MariaDB.

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, MySqlConnection, Row as _,
    mysql::{MySqlConnectOptions, MySqlRow},
};

use super::{
    engine::{EVENT_TYPE, Engine, Helper, Scratch, Session, TwoPhase, tuples},
    plan::Shape,
};
use crate::store::mysql::MysqlUrl;

pub(super) struct Mysql {
    place: String,
    options: MySqlConnectOptions,
    names: Scratch,
}

impl Mysql {
    pub(super) fn new(url: &MysqlUrl, names: Scratch) -> Self {
        Self {
            place: url.to_string(),
            options: url.connect_options().disable_statement_logging(),
            names,
        }
    }

    /// Where nothing else tells it, the lowest id is left in a variable.
    fn trigger(&self) -> Helper {
        let queue = &self.names.queue;
        Helper {
            shape: Shape::Trigger,
            make: vec![
                format!("CREATE TABLE {queue}_orders (data TEXT)"),
                format!(
                    "CREATE TRIGGER {queue}_trigger AFTER INSERT ON {queue}_orders FOR EACH ROW
                     BEGIN
                        INSERT INTO {queue} (type, data, ts)
                            VALUES ('{EVENT_TYPE}', NEW.data, UTC_TIMESTAMP());
                        SET @soak_first = LAST_INSERT_ID();
                     END"
                ),
            ],
            drop: vec![format!("DROP TABLE IF EXISTS {queue}_orders")],
        }
    }

    fn procedure(&self) -> Helper {
        let queue = &self.names.queue;
        Helper {
            shape: Shape::Procedure,
            make: vec![format!(
                "CREATE PROCEDURE {queue}_procedure(event TEXT, events INT)
                 BEGIN
                    SET @soak_first = NULL;
                    WHILE events > 0 DO
                        INSERT INTO {queue} (type, data, ts)
                            VALUES ('{EVENT_TYPE}', event, UTC_TIMESTAMP());
                        SET @soak_first = IFNULL(@soak_first, LAST_INSERT_ID());
                        SET events = events - 1;
                    END WHILE;
                 END"
            )],
            drop: vec![format!("DROP PROCEDURE IF EXISTS {queue}_procedure")],
        }
    }
}

#[async_trait]
impl Engine for Mysql {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    async fn session(&self) -> Result<Box<dyn Session>, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let number = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS SIGNED)")
            .fetch_one(&mut connection)
            .await?;
        Ok(Box::new(MysqlSession { connection, number }))
    }

    fn insert(&self, shape: Shape, rows: u32, delay: f64) -> String {
        let queue = &self.names.queue;
        let into = format!("INSERT INTO {queue} (type, data, ts)");
        let event = format!("'{EVENT_TYPE}', ?, UTC_TIMESTAMP()");
        let tuple = format!("({event})");
        match shape {
            Shape::Select => format!(
                "{into} SELECT {event} FROM (WITH RECURSIVE counted (n) AS (
                    SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {rows})
                 SELECT n FROM counted) AS numbers"
            ),
            // All ids are reserved at the first row: the others wait without one.
            Shape::Slow => {
                let slow = format!("('{EVENT_TYPE}', IF(SLEEP({delay}), ?, ?), UTC_TIMESTAMP())");
                let mut all = vec![tuple.as_str(); rows as usize];
                all[rows as usize / 2] = &slow;
                format!("{into} VALUES {}", all.join(", "))
            }
            Shape::Trigger => format!("INSERT INTO {queue}_orders (data) VALUES (?)"),
            Shape::Procedure => format!("CALL {queue}_procedure(?, {rows})"),
            Shape::Values | Shape::Function | Shape::Chained => {
                format!("{into} VALUES {}", tuples(&tuple, rows))
            }
        }
    }

    fn make_other(&self) -> String {
        format!("CREATE TABLE {} (note TEXT)", self.names.other)
    }

    fn helpers(&self) -> Vec<Helper> {
        vec![self.trigger(), self.procedure()]
    }

    fn plain_shapes(&self) -> &'static [Shape] {
        &[Shape::Select, Shape::Slow]
    }

    fn two_phase(&self) -> Option<TwoPhase> {
        Some(TwoPhase {
            allowed: "SELECT 'yes'",
            advice: "on MySQL the role needs XA_RECOVER_ADMIN",
            begin: |name| format!("XA START '{name}'"),
            prepare: |name| vec![format!("XA END '{name}'"), format!("XA PREPARE '{name}'")],
            decide: |name, commit| {
                let verb = if commit { "COMMIT" } else { "ROLLBACK" };
                format!("XA {verb} '{name}'")
            },
            prepared: "XA RECOVER",
        })
    }

    fn kill(&self, session: i64) -> Option<String> {
        Some(format!("KILL CONNECTION {session}"))
    }

    fn is_open(&self, session: i64) -> String {
        format!("SELECT 'open' FROM information_schema.PROCESSLIST WHERE ID = {session}")
    }

    fn keyed_tables(&self) -> &'static str {
        r"SELECT TABLE_NAME FROM information_schema.COLUMNS
          WHERE TABLE_SCHEMA = DATABASE() AND COLUMN_NAME = 'stream'
            AND TABLE_NAME LIKE 'evt\_%'"
    }

    fn original(&self, after: i64) -> [String; 3] {
        [
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; START TRANSACTION".to_owned(),
            format!(
                "SELECT id, data FROM {} WHERE id > {after} LIMIT 1000",
                self.names.queue
            ),
            "COMMIT".to_owned(),
        ]
    }

    fn original_waits(&self) -> bool {
        true
    }
}

struct MysqlSession {
    connection: MySqlConnection,
    number: i64,
}

#[async_trait]
impl Session for MysqlSession {
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
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for _ in sql.matches('?') {
            query = query.bind(data);
        }
        let done = query.execute(&mut self.connection).await?;
        match done.last_insert_id() {
            // Of a trigger or a procedure.
            0 => {
                sqlx::query_scalar("SELECT CAST(@soak_first AS SIGNED)")
                    .fetch_one(&mut self.connection)
                    .await
            }
            first => Ok(first.cast_signed()),
        }
    }

    async fn read(&mut self, sql: &str) -> Result<Vec<(i64, String)>, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        let rows = rows.fetch_all(&mut self.connection).await?;
        rows.iter()
            // The id is unsigned, and far below the sign.
            .map(|row| Ok((row.try_get_unchecked(0)?, text(row, 1)?)))
            .collect()
    }

    async fn texts(&mut self, sql: &str) -> Result<Vec<String>, sqlx::Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql));
        let rows = rows.fetch_all(&mut self.connection).await?;
        // What XA RECOVER says of a transaction ends with its name.
        rows.iter().map(|row| text(row, row.len() - 1)).collect()
    }
}

/// Names in the server's own tables come as bytes.
fn text(row: &MySqlRow, column: usize) -> Result<String, sqlx::Error> {
    let bytes: Vec<u8> = row.try_get_unchecked(column)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
