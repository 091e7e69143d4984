//! Who holds events back: for people, never evidence.
//!
//! The server's ways to tell differ as for `prober`, and so does how much each
//! says: who has a lock on the queue (plugin, performance schema), or who has
//! changed anything at all (InnoDB's list of transactions). Those that are
//! prepared and have no session are in a list of their own.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use sqlx::{MySqlConnection, Row as _};
use tokio::time::Instant;

use super::{
    MysqlStore,
    errors::unavailable,
    prober::{Answer, Queue, READERS, cell, told, value},
};
use crate::store::{Blocker, Error};

/// More than anybody reads.
const MOST: usize = 100;

/// `CONVERT_TZ` because this list is in the zone of the server.
const TRANSACTIONS: &str = "SELECT x.trx_mysql_thread_id, CONCAT_WS('@', p.USER, p.HOST),
        1000 * TIMESTAMPDIFF(SECOND, CONVERT_TZ(x.trx_started, 'SYSTEM', '+00:00'),
            UTC_TIMESTAMP())
    FROM information_schema.INNODB_TRX x
    JOIN information_schema.PROCESSLIST p ON p.ID = x.trx_mysql_thread_id
    WHERE x.trx_rows_modified > 0";

/// The same answer is given for so long: InnoDB makes its list anew only if
/// nobody has asked for it for 100 ms.
const MEMORY: Duration = Duration::from_millis(250);

/// What was told when.
pub(super) type Told = Option<(Instant, Vec<Blocker>)>;

impl MysqlStore {
    pub(super) async fn read_blockers(&self) -> Result<Vec<Blocker>, Error> {
        let mut connection = self.connections.read().await?;
        if !self.is_held_back(&mut connection).await? {
            return Ok(Vec::new());
        }
        let told_before = self.with_shared(|shared| shared.blockers.clone());
        if let Some((_, blockers)) = told_before.filter(|(when, _)| when.elapsed() < MEMORY) {
            return Ok(blockers);
        }
        let blockers = self.ask_for_blockers(&mut connection).await?;
        let told = Some((Instant::now(), blockers.clone()));
        self.with_shared(|shared| shared.blockers = told);
        Ok(blockers)
    }

    async fn ask_for_blockers(
        &self,
        connection: &mut MySqlConnection,
    ) -> Result<Vec<Blocker>, Error> {
        let queue = Queue::find(connection, &self.options.common.names).await?;
        let changing = told(connection, TRANSACTIONS.to_owned()).await?;
        let writing = match told(connection, by_plugin(&queue)).await? {
            None => told(connection, by_schema(&queue)).await?,
            told => told,
        };
        let prepared = told(connection, "XA RECOVER".to_owned()).await?;
        let mut blockers = sessions(writing, changing);
        blockers.extend(transactions(&prepared.unwrap_or_default()));
        blockers.sort_by_key(|blocker| Reverse((blocker.age, blocker.prepared)));
        blockers.truncate(MOST);
        Ok(blockers)
    }

    /// Whether there is a row above what is proven, committed or not.
    async fn is_held_back(&self, connection: &mut MySqlConnection) -> Result<bool, Error> {
        const NEXT_IS_DIRTY: &str = "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED";
        const HIGHEST: &str =
            "SELECT CAST(id AS SIGNED) FROM evt_queue ORDER BY evt_queue.id DESC LIMIT 1";
        let highest = async {
            sqlx::raw_sql(NEXT_IS_DIRTY)
                .execute(&mut *connection)
                .await?;
            let row = sqlx::raw_sql(self.sql(HIGHEST))
                .fetch_optional(connection)
                .await?;
            Ok(row.map_or(0, |row| row.get(0)))
        };
        let highest: i64 = highest.await.map_err(|error| unavailable(&error))?;
        Ok(highest > self.with_shared(|shared| shared.settled))
    }
}

fn by_plugin(queue: &Queue) -> String {
    format!(
        "SELECT m.THREAD_ID, CONCAT_WS('@', MAX(p.USER), MAX(p.HOST)), MAX(m.LOCK_TIME_MS)
         FROM information_schema.METADATA_LOCK_INFO m
         LEFT JOIN information_schema.PROCESSLIST p ON p.ID = m.THREAD_ID
         WHERE {} AND m.LOCK_MODE NOT IN {READERS} GROUP BY m.THREAD_ID",
        queue.is_in("m.TABLE_SCHEMA", "m.TABLE_NAME")
    )
}

fn by_schema(queue: &Queue) -> String {
    format!(
        "SELECT t.PROCESSLIST_ID, CONCAT_WS('@', t.PROCESSLIST_USER, t.PROCESSLIST_HOST), NULL
         FROM performance_schema.metadata_locks m
         JOIN performance_schema.threads t ON t.THREAD_ID = m.OWNER_THREAD_ID
         WHERE m.OBJECT_TYPE = 'TABLE' AND {} AND m.LOCK_TYPE NOT IN {READERS}
             AND m.LOCK_STATUS = 'GRANTED'",
        queue.is_in("m.OBJECT_SCHEMA", "m.OBJECT_NAME")
    )
}

/// Sessions that write to the queue, with what is known of their transactions;
/// without such a list, all that have changed something.
fn sessions(writing: Option<Answer>, changing: Option<Answer>) -> Vec<Blocker> {
    let age = |row: &Vec<Option<String>>| value(row, 2).map(Duration::from_millis);
    let changing = changing.unwrap_or_default();
    let ages: BTreeMap<_, _> = changing
        .iter()
        .filter_map(|row| Some((value(row, 0)?, age(row)?)))
        .collect();
    let blocker = |row: &Vec<Option<String>>| {
        let thread = value(row, 0)?;
        let known = age(row).or_else(|| ages.get(&thread).copied());
        Some(Blocker {
            session: thread.to_string(),
            client: cell(row, 1).unwrap_or_default(),
            age: known.unwrap_or_default(),
            prepared: false,
        })
    };
    let rows = writing.unwrap_or(changing);
    rows.iter().filter_map(blocker).collect()
}

/// `formatID`, two lengths and the two parts of the name.
fn transactions(answer: &Answer) -> impl Iterator<Item = Blocker> {
    answer.iter().map(|row| Blocker {
        session: cell(row, 3).unwrap_or_default(),
        client: String::new(),
        age: Duration::ZERO,
        prepared: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rows: &[[Option<&str>; 3]]) -> Answer {
        let row = |row: &[Option<&str>; 3]| row.map(|cell| cell.map(str::to_owned)).to_vec();
        rows.iter().map(row).collect()
    }

    fn named(blockers: &[Blocker]) -> Vec<(&str, &str, u128)> {
        let of = blockers.iter();
        of.map(|one| {
            (
                one.session.as_str(),
                one.client.as_str(),
                one.age.as_millis(),
            )
        })
        .collect()
    }

    #[test]
    fn what_is_not_told_is_left_open() {
        let plugin = Some(answer(&[[
            Some("7"),
            Some("shop@10.0.0.1:5000"),
            Some("1500"),
        ]]));
        let schema = Some(answer(&[
            [Some("7"), Some("shop@10.0.0.1"), None],
            [None; 3],
        ]));
        let changing = Some(answer(&[
            [Some("7"), Some("shop@10.0.0.1:5000"), Some("2000")],
            [Some("8"), Some("else@10.0.0.2:5000"), Some("9000")],
        ]));
        assert_eq!(
            named(&sessions(plugin, changing.clone())),
            [("7", "shop@10.0.0.1:5000", 1500)]
        );
        assert_eq!(
            named(&sessions(schema.clone(), changing.clone())),
            [("7", "shop@10.0.0.1", 2000)]
        );
        assert_eq!(named(&sessions(schema, None)), [("7", "shop@10.0.0.1", 0)]);
        assert_eq!(sessions(None, changing).len(), 2);
        assert_eq!(sessions(None, None), []);
    }
}
