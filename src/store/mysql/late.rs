//! Ids that appeared below the frontier, and the operator's skips.

use sqlx::{AssertSqlSafe, MySqlConnection, Row, mysql::MySqlRow};

use super::{
    MysqlStore,
    errors::{commit_failed, unavailable},
    tail::condition,
};
use crate::{
    event::{ConsumerKey, EventId},
    limits,
    store::{Error, IdRange, Rewound, Skip},
};

/// Ranges of one statement: few enough for the optimizer to take each from the
/// primary key.
const RANGES: usize = 256;

impl MysqlStore {
    pub(super) async fn read_appeared(
        &self,
        ranges: &[IdRange],
        limit: usize,
    ) -> Result<Vec<EventId>, Error> {
        let queue = &self.options.common.names.queue;
        let mut connection = self.connections.read().await?;
        let mut found = Vec::new();
        for chunk in ranges.chunks(RANGES) {
            let missing = limit - found.len();
            if missing == 0 {
                break;
            }
            let sql = format!(
                "SELECT CAST(id AS SIGNED) FROM {queue} FORCE INDEX (PRIMARY)
                 WHERE {} ORDER BY id LIMIT {missing}",
                condition(chunk)
            );
            // Not kept prepared: the text is another one each time.
            let ids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
                .persistent(false)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| unavailable(&error))?;
            found.extend(ids.into_iter().map(EventId::stored));
        }
        // The ranges come in any order.
        found.sort_unstable();
        Ok(found)
    }

    pub(super) async fn rewind_consumers(&self, late: &[EventId]) -> Result<Vec<Rewound>, Error> {
        self.transaction(|mut tx| async move {
            let rewound = self.rewind_in(&mut tx, late).await?;
            Ok((tx, rewound))
        })
        .await
    }

    /// Under the locks of all consumers, taken in their order: of two replicas
    /// the second finds the ids noted.
    async fn rewind_in(
        &self,
        tx: &mut MySqlConnection,
        late: &[EventId],
    ) -> Result<Vec<Rewound>, sqlx::Error> {
        const LOCK: &str = "SELECT ident, CAST(last_evt_id AS SIGNED) AS reached
            FROM evt_consumers ORDER BY ident FOR UPDATE";
        const STOPPED: &str = "SELECT ident FROM evt_stopped WHERE stream = ?";
        // One that the original registered and nobody has used here has no
        // session and no page under way.
        const REWIND: &str = "UPDATE evt_consumers
            SET last_evt_id = LEAST(last_evt_id, ?), epoch = ?
            WHERE (epoch > 0 OR last_evt_id > ?) AND NOT EXISTS (
                SELECT 1 FROM evt_stopped s WHERE s.stream = ? AND s.ident = evt_consumers.ident)";
        let locked = sqlx::query(self.sql(LOCK)).fetch_all(&mut *tx).await?;
        let Some(lowest) = self.note_late(tx, late).await? else {
            return Ok(Vec::new());
        };
        let epoch = self.next_epoch(tx).await?;
        // Nobody can be brought before what is discarded.
        let to = EventId::stored(lowest).previous();
        let to = self.discarded_above(tx, to).await?.unwrap_or(to);
        let stopped: Vec<String> = sqlx::query_scalar(STOPPED)
            .bind(self.stream())
            .fetch_all(&mut *tx)
            .await?;
        sqlx::query(self.sql(REWIND))
            .bind(to.get())
            .bind(epoch)
            .bind(to.get())
            .bind(self.stream())
            .execute(&mut *tx)
            .await?;
        self.note_rewind(tx, epoch).await?;
        self.note_witness(tx).await?;
        let rewound = |row: &MySqlRow| {
            let ident: String = row.get("ident");
            let from = EventId::stored(row.get("reached"));
            let moved = from > to && !stopped.contains(&ident);
            let key = ConsumerKey::from_ident(&ident).filter(|_| moved)?;
            Some(Rewound {
                key,
                from,
                to,
                epoch,
            })
        };
        Ok(locked.iter().filter_map(rewound).collect())
    }

    /// The lowest of the ids that were not noted before.
    async fn note_late(
        &self,
        tx: &mut MySqlConnection,
        late: &[EventId],
    ) -> Result<Option<i64>, sqlx::Error> {
        // Asked for first: what an INSERT that changes nothing counts as differs
        // between servers and flags of the client.
        const NOTED: &str = "SELECT id FROM evt_late WHERE stream = ? AND id IN (ROWS)";
        const NOTE: &str = "INSERT INTO evt_late (stream, id, seen) VALUES ROWS
            ON DUPLICATE KEY UPDATE seen = evt_late.seen";
        const LAST_KEPT: &str = "SELECT id FROM evt_late WHERE stream = ?
            ORDER BY id DESC LIMIT 1 OFFSET ?";
        const FORGET: &str = "DELETE FROM evt_late WHERE stream = ? AND id <= ?";
        if late.is_empty() {
            return Ok(None);
        }
        let mut find = self.query_of(NOTED, "?", late.len()).bind(self.stream());
        let mut note = self.query_of(NOTE, "(?, ?, UTC_TIMESTAMP())", late.len());
        for id in late {
            find = find.bind(id.get());
            note = note.bind(self.stream()).bind(id.get());
        }
        let rows = find.fetch_all(&mut *tx).await?;
        let noted: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
        let fresh = late.iter().map(|id| id.get());
        let lowest = fresh.filter(|id| !noted.contains(id)).min();
        note.execute(&mut *tx).await?;
        let beyond: Option<i64> = sqlx::query_scalar(LAST_KEPT)
            .bind(self.stream())
            .bind(limits::KEPT_LATE_IDS)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(id) = beyond {
            sqlx::query(FORGET)
                .bind(self.stream())
                .bind(id)
                .execute(tx)
                .await?;
        }
        Ok(lowest)
    }

    /// Tells every replica that what it holds in memory may lack an event.
    pub(super) async fn note_rewind(
        &self,
        tx: &mut MySqlConnection,
        epoch: i64,
    ) -> Result<(), sqlx::Error> {
        const NOTE: &str = "INSERT INTO evt_rewinds (stream, epoch) VALUES (?, ?)
            ON DUPLICATE KEY UPDATE epoch = ?";
        sqlx::query(NOTE)
            .bind(self.stream())
            .bind(epoch)
            .bind(epoch)
            .execute(tx)
            .await?;
        Ok(())
    }

    /// After a restore: ids above the head will mean other events.
    pub(super) async fn forget_decisions(
        &self,
        tx: &mut MySqlConnection,
        head: EventId,
    ) -> Result<(), sqlx::Error> {
        const SKIPS: &str = "DELETE FROM evt_skips WHERE stream = ? AND skip_to > ?";
        const LATE: &str = "DELETE FROM evt_late WHERE stream = ? AND id > ?";
        for sql in [SKIPS, LATE] {
            sqlx::query(sql)
                .bind(self.stream())
                .bind(head.get())
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }

    /// Saves the lowest row above the slowest position, which must not vanish
    /// (see `discarded`). One that did vanish is kept until that was concluded.
    pub(super) async fn note_witness(&self, tx: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        const SAVED: &str = "SELECT witness, discarded_to,
                (SELECT CAST(last_evt_id AS SIGNED) FROM evt_consumers
                 WHERE last_evt_id > 0 OR epoch > 0 ORDER BY last_evt_id LIMIT 1) AS slowest
            FROM evt_stream WHERE stream = ?";
        const NEXT: &str = "SELECT CAST(id AS SIGNED) FROM evt_queue WHERE id > ?
            ORDER BY id LIMIT 1";
        const THERE: &str = "SELECT CAST(id AS SIGNED) FROM evt_queue WHERE id = ?";
        const NOTE: &str = "UPDATE evt_stream SET witness = ? WHERE stream = ?";
        let saved = sqlx::query(self.sql(SAVED))
            .bind(self.stream())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(saved) = saved else { return Ok(()) };
        let Some(slowest) = saved.get::<Option<i64>, _>("slowest") else {
            return Ok(());
        };
        let witness: i64 = saved.get("witness");
        let next: Option<i64> = sqlx::query_scalar(self.sql(NEXT))
            .bind(slowest)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(next) = next.filter(|next| *next != witness) else {
            return Ok(());
        };
        if witness > slowest.max(saved.get("discarded_to")) {
            let there: Option<i64> = sqlx::query_scalar(self.sql(THERE))
                .bind(witness)
                .fetch_optional(&mut *tx)
                .await?;
            if there.is_none() {
                return Ok(());
            }
        }
        sqlx::query(NOTE)
            .bind(next)
            .bind(self.stream())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// What [`Self::note_witness`] saved before this process.
    pub(super) async fn saved_witness(&self) -> Result<i64, Error> {
        const WITNESS: &str = "SELECT witness FROM evt_stream WHERE stream = ?";
        let mut connection = self.connections.read().await?;
        let saved = sqlx::query_scalar(WITNESS)
            .bind(self.stream())
            .fetch_optional(&mut *connection)
            .await;
        Ok(saved.map_err(|error| unavailable(&error))?.unwrap_or(0))
    }

    pub(super) async fn insert_skip(&self, skip: &Skip) -> Result<(), Error> {
        const INSERT: &str = "INSERT INTO evt_skips
                (stream, skip_to, skip_from, who, made, reason)
            VALUES (?, ?, ?, ?, UTC_TIMESTAMP(), ?)
            ON DUPLICATE KEY UPDATE reason = evt_skips.reason";
        let mut connection = self.connections.write().await?;
        sqlx::query(INSERT)
            .bind(self.stream())
            .bind(skip.to.get())
            .bind(skip.from.get())
            .bind(&skip.who)
            .bind(&skip.reason)
            .execute(&mut *connection)
            .await
            .map_err(|error| commit_failed(&error))?;
        Ok(())
    }

    pub(super) async fn read_skips(&self) -> Result<Vec<Skip>, Error> {
        const SKIPS: &str = "SELECT skip_from, skip_to, who, reason FROM evt_skips
            WHERE stream = ? ORDER BY skip_to DESC LIMIT ?";
        let mut connection = self.connections.read().await?;
        let rows = sqlx::query(SKIPS)
            .bind(self.stream())
            .bind(limits::KNOWN_SKIPS)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let skip = |row: &MySqlRow| Skip {
            from: EventId::stored(row.get("skip_from")),
            to: EventId::stored(row.get("skip_to")),
            who: row.get("who"),
            reason: row.get("reason"),
        };
        Ok(rows.iter().map(skip).collect())
    }
}
