//! Which statements run that may use the queue, asked of whatever the server
//! offers.
//!
//! Three ways, found out by trying them, never by a version: the plugin
//! `metadata_lock_info` of MariaDB, the performance schema, the list of
//! processes. Each names at least everybody who may be between getting an id
//! and storing its row; whatever cannot be told counts as running. Answers are
//! taken as text, whatever the types of the columns are, and judged by pure
//! functions.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, MySqlConnection, Row as _, mysql::MySqlRow};

use super::{
    barriers::{Ages, Statement},
    errors::{number, unavailable},
};
use crate::store::{Error, Names};

/// Rows of one result; NULL is `None`.
pub(super) type Answer = Vec<Vec<Option<String>>>;

/// The queue as the server calls it, which may be in other letters than in
/// the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queue {
    database: String,
    table: String,
}

/// A way to ask.
#[derive(Debug)]
pub(super) enum Prober {
    /// MariaDB's plugin tells who holds a lock on the table, and for how long.
    Plugin(Ages),
    /// The performance schema tells who holds a lock on the table, and which
    /// statement it runs.
    Schema,
    /// The list of processes tells who runs anything at all.
    List,
    /// The same list without the privilege to see everybody in it.
    Blind,
}

/// Rows of a lock that reads only.
pub(super) const READERS: &str = "('MDL_INTENTION_EXCLUSIVE', 'MDL_SHARED', 'MDL_SHARED_HIGH_PRIO',
    'MDL_SHARED_READ', 'MDL_SHARED_READ_ONLY', 'INTENTION_EXCLUSIVE', 'SHARED',
    'SHARED_HIGH_PRIO', 'SHARED_READ', 'SHARED_READ_ONLY')";

/// What the plugin's ages are measured by: a lock of our own, whose age is a
/// clock of the server that never goes back.
const CLOCK: &str = "SELECT MAX(LOCK_TIME_MS) FROM information_schema.METADATA_LOCK_INFO
    WHERE THREAD_ID = CONNECTION_ID() AND LOCK_TYPE = 'User lock'";

/// Parts of the performance schema without which it does not tell everything:
/// the instruments that are off, and the locks that it had no room for.
const COMPLETE: &str = "SELECT COUNT(*) FROM performance_schema.setup_instruments
    WHERE ENABLED <> 'YES' AND (NAME = 'wait/lock/metadata/sql/mdl' OR NAME LIKE 'statement/%');
    SHOW GLOBAL STATUS LIKE 'Performance_schema_metadata_lock_lost'";

impl Queue {
    pub(super) async fn find(
        connection: &mut MySqlConnection,
        names: &Names,
    ) -> Result<Self, Error> {
        let sql = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
             WHERE TABLE_SCHEMA = DATABASE() AND LOWER(TABLE_NAME) = LOWER('{name}')
             ORDER BY TABLE_NAME <> '{name}' LIMIT 1",
            name = names.queue
        );
        let answer = answered(connection, sql).await?;
        match answer.as_slice() {
            [row] => Ok(Self {
                database: cell(row, 0).unwrap_or_default(),
                table: cell(row, 1).unwrap_or_default(),
            }),
            _ => Err(Error::Contract(format!(
                "{} is not a table that the user can see",
                names.queue
            ))),
        }
    }

    /// Whether nobody has the table open. What the server does not tell is not so.
    pub(super) async fn is_unused(&self, connection: &mut MySqlConnection) -> Result<bool, Error> {
        let sql = format!(
            "SHOW OPEN TABLES FROM `{}` LIKE '{}'",
            self.database.replace('`', "``"),
            self.table.replace('_', "\\_")
        );
        Ok(is_unused(&answered(connection, sql).await?, &self.table))
    }

    /// A condition on columns of the plugin or the performance schema. Names
    /// that differ in letters only make it true for too many.
    pub(super) fn is_in(&self, database: &str, table: &str) -> String {
        format!(
            "LOWER({database}) = LOWER('{}') AND LOWER({table}) = LOWER('{}')",
            self.database.replace('\'', "''"),
            self.table
        )
    }
}

impl Prober {
    /// The best way that this server and this user have.
    pub(super) async fn detect(
        connection: &mut MySqlConnection,
        queue: &Queue,
    ) -> Result<Self, Error> {
        // Taken for as long as the connection lives. Where it cannot be taken
        // (Galera), statements of one connection are not told apart.
        const TAKE: &str = "SELECT GET_LOCK(CONCAT('eventstream ', CONNECTION_ID()), 0)";
        const TRANSACTIONS: &str = "SELECT COUNT(*) FROM information_schema.INNODB_TRX";
        if told(connection, CLOCK.to_owned()).await?.is_some() {
            told(connection, TAKE.to_owned()).await?;
            return Ok(Self::Plugin(Ages::default()));
        }
        let locks = told(connection, Self::Schema.question(queue)).await?;
        let complete = told(connection, COMPLETE.to_owned()).await?;
        if locks.is_some() && complete.is_some_and(|answer| is_complete(&answer)) {
            return Ok(Self::Schema);
        }
        // Denied without PROCESS, where the list of processes is silently cut.
        let sees_everybody = told(connection, TRANSACTIONS.to_owned()).await?.is_some();
        Ok(if sees_everybody {
            Self::List
        } else {
            Self::Blind
        })
    }

    /// For the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Plugin(_) => "metadata_lock_info",
            Self::Schema => "performance_schema",
            Self::List => "processlist",
            Self::Blind => "none",
        }
    }

    /// Everything that may run on the queue; `None` if that cannot be told.
    pub(super) async fn running(
        &mut self,
        connection: &mut MySqlConnection,
        queue: &Queue,
    ) -> Result<Option<BTreeSet<Statement>>, Error> {
        let question = self.question(queue);
        match self {
            Self::Plugin(ages) => {
                let mut answer = answered(connection, format!("{CLOCK}; {question}")).await?;
                let locks = answer.split_off(answer.len().min(1));
                let clock = answer.first().and_then(|row| value(row, 0));
                Ok(locked_for(&locks).map(|locks| ages.tell_apart(clock, locks)))
            }
            Self::Schema => {
                let statements = statements(&answered(connection, question).await?);
                let complete = answered(connection, COMPLETE.to_owned()).await?;
                Ok(statements.filter(|_| is_complete(&complete)))
            }
            Self::List => Ok(statements(&answered(connection, question).await?)),
            Self::Blind => Ok(None),
        }
    }

    fn question(&self, queue: &Queue) -> String {
        match self {
            // Joined from the left: whose process is not visible may run.
            Self::Plugin(_) => format!(
                "SELECT m.THREAD_ID, MAX(m.LOCK_TIME_MS)
                 FROM information_schema.METADATA_LOCK_INFO m
                 LEFT JOIN information_schema.PROCESSLIST p ON p.ID = m.THREAD_ID
                 WHERE {} AND m.LOCK_MODE NOT IN {READERS}
                     AND NOT (COALESCE(p.COMMAND, '') = 'Sleep' AND p.INFO IS NULL)
                 GROUP BY m.THREAD_ID",
                queue.is_in("m.TABLE_SCHEMA", "m.TABLE_NAME")
            ),
            Self::Schema => format!(
                "SELECT m.OWNER_THREAD_ID, COALESCE(MAX(e.EVENT_ID), 0)
                 FROM performance_schema.metadata_locks m
                 LEFT JOIN performance_schema.threads t ON t.THREAD_ID = m.OWNER_THREAD_ID
                 LEFT JOIN performance_schema.events_statements_current e
                     ON e.THREAD_ID = m.OWNER_THREAD_ID AND e.NESTING_EVENT_LEVEL = 0
                 WHERE m.OBJECT_TYPE = 'TABLE' AND {} AND m.LOCK_TYPE NOT IN {READERS}
                     AND NOT (COALESCE(t.PROCESSLIST_COMMAND, '') = 'Sleep'
                         AND t.PROCESSLIST_INFO IS NULL)
                 GROUP BY m.OWNER_THREAD_ID",
                queue.is_in("m.OBJECT_SCHEMA", "m.OBJECT_NAME")
            ),
            // Its number of a query changes in triggers, so it is not asked for.
            Self::List | Self::Blind => "SELECT ID, 0 FROM information_schema.PROCESSLIST
                 WHERE NOT (COMMAND = 'Sleep' AND INFO IS NULL) AND ID <> CONNECTION_ID()
                     AND COMMAND NOT IN ('Daemon', 'Slave_IO')
                     AND COMMAND NOT LIKE 'Binlog Dump%'"
                .to_owned(),
        }
    }
}

/// All rows of all results.
async fn ask(connection: &mut MySqlConnection, sql: String) -> Result<Answer, sqlx::Error> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(cells).collect())
}

/// The same where the server must answer.
async fn answered(connection: &mut MySqlConnection, sql: String) -> Result<Answer, Error> {
    ask(connection, sql)
        .await
        .map_err(|error| unavailable(&error))
}

/// Whether the server answers, and what; an error that ends the connection is one.
pub(super) async fn told(
    connection: &mut MySqlConnection,
    sql: String,
) -> Result<Option<Answer>, Error> {
    match ask(connection, sql).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match unavailable(&error) {
            Error::Unavailable { .. } if number(&error).is_some() => Ok(None),
            failure => Err(failure),
        },
    }
}

fn cells(row: &MySqlRow) -> Vec<Option<String>> {
    let cell = |at| {
        let bytes: Option<&[u8]> = row.try_get_unchecked(at).ok()?;
        Some(String::from_utf8_lossy(bytes?).into_owned())
    };
    (0..row.len()).map(cell).collect()
}

pub(super) fn cell(row: &[Option<String>], at: usize) -> Option<String> {
    row.get(at)?.clone()
}

pub(super) fn value(row: &[Option<String>], at: usize) -> Option<u64> {
    row.get(at)?.as_ref()?.parse().ok()
}

/// `Database`, `Table`, `In_use`, `Name_locked`.
fn is_unused(answer: &Answer, table: &str) -> bool {
    let mut ours = answer.iter().filter(|row| {
        let name = row.get(1).and_then(Option::as_deref);
        name.is_some_and(|name| name.eq_ignore_ascii_case(table))
    });
    let first = ours.next();
    first.is_some_and(|row| value(row, 2) == Some(0)) && ours.all(|row| value(row, 2) == Some(0))
}

/// Thread and age; `None` if a row does not say who.
fn locked_for(answer: &Answer) -> Option<Vec<(u64, Option<u64>)>> {
    let lock = |row: &Vec<Option<String>>| Some((value(row, 0)?, value(row, 1)));
    answer.iter().map(lock).collect()
}

/// Thread and number; `None` if a row does not say who. A number that cannot
/// be read is one that never changes.
fn statements(answer: &Answer) -> Option<BTreeSet<Statement>> {
    let statement = |row: &Vec<Option<String>>| {
        let (thread, number) = (value(row, 0)?, value(row, 1).unwrap_or(0));
        Some(Statement { thread, number })
    };
    answer.iter().map(statement).collect()
}

/// The answers to [`COMPLETE`].
fn is_complete(answer: &Answer) -> bool {
    match answer.as_slice() {
        [off, lost] => value(off, 0) == Some(0) && value(lost, 1) == Some(0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rows: &[&[Option<&str>]]) -> Answer {
        let row = |row: &&[Option<&str>]| row.iter().map(|cell| cell.map(str::to_owned)).collect();
        rows.iter().map(row).collect()
    }

    #[test]
    fn table_is_unused_only_if_the_server_says_so() {
        let row = |in_use| [Some("shop"), Some("evt_queue"), in_use, Some("0")];
        assert!(is_unused(&answer(&[&row(Some("0"))]), "evt_queue"));
        assert!(is_unused(&answer(&[&row(Some("0"))]), "EVT_Queue"));
        for other in [Some("1"), None, Some("?")] {
            assert!(!is_unused(&answer(&[&row(other)]), "evt_queue"));
            let both = answer(&[&row(Some("0")), &row(other)]);
            assert!(!is_unused(&both, "evt_queue"));
        }
        assert!(!is_unused(&answer(&[]), "evt_queue"));
        let other = answer(&[&[Some("shop"), Some("evtXqueue"), Some("0"), Some("0")]]);
        assert!(!is_unused(&other, "evt_queue"));
    }

    #[test]
    fn who_cannot_be_read_makes_the_sample_worthless() {
        let told = |cells: [Option<&str>; 2]| statements(&answer(&[&cells]));
        let statement = |thread, number| Some([Statement { thread, number }].into());
        assert_eq!(told([Some("52"), Some("190")]), statement(52, 190));
        assert_eq!(told([Some("52"), None]), statement(52, 0));
        assert_eq!(told([None, Some("190")]), None);
        assert_eq!(told([Some("-"), Some("190")]), None);
        assert_eq!(statements(&answer(&[])), Some(BTreeSet::new()));
        let locks = locked_for(&answer(&[&[Some("7"), Some("12")], &[Some("8"), None]]));
        assert_eq!(locks, Some(vec![(7, Some(12)), (8, None)]));
    }

    #[test]
    fn performance_schema_is_believed_only_while_it_is_complete() {
        let lost = |count| [Some("Performance_schema_metadata_lock_lost"), Some(count)];
        let told = |off: &str, count| is_complete(&answer(&[&[Some(off)], &lost(count)]));
        assert!(told("0", "0"));
        assert!(!told("1", "0"));
        assert!(!told("0", "3"));
        assert!(!is_complete(&answer(&[&[Some("0")]])));
    }

    #[test]
    fn wildcards_and_quotes_in_names_stay_names() {
        let queue = Queue {
            database: "it's".into(),
            table: "evt_queue".into(),
        };
        let condition = queue.is_in("d", "t");
        assert_eq!(
            condition,
            "LOWER(d) = LOWER('it''s') AND LOWER(t) = LOWER('evt_queue')"
        );
    }
}
