//! Ids that appeared below the frontier, and the operator's skips.

use sqlx::{AssertSqlSafe, MySqlConnection, Row, mysql::MySqlRow};

use super::{
    MysqlStore,
    errors::{commit_failed, unavailable},
};
use crate::{
    event::{ConsumerKey, EventId},
    limits,
    store::{Error, IdRange, Rewound, Skip},
};

/// A consumer's row under our lock.
struct Locked {
    ident: String,
    position: i64,
    epoch: i64,
}

impl MysqlStore {
    pub(super) async fn read_appeared(
        &self,
        ranges: &[IdRange],
        limit: usize,
    ) -> Result<Vec<EventId>, Error> {
        const APPEARED: &str = "SELECT CAST(id AS SIGNED) FROM evt_queue WHERE ";
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        // As constants the ranges are all looked up in the primary key.
        let inside: Vec<String> = ranges
            .iter()
            .map(|range| format!("id BETWEEN {} AND {}", range.first, range.last))
            .collect();
        let names = &self.options.common.names;
        let (head, inside) = (names.apply(APPEARED), inside.join(" OR "));
        let sql = AssertSqlSafe(format!("{head}{inside} ORDER BY id LIMIT ?"));
        let mut connection = self.connections.read().await?;
        let ids: Vec<i64> = sqlx::query_scalar(sql)
            .bind(limit as u64)
            .persistent(false)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(ids.into_iter().map(EventId::stored).collect())
    }

    pub(super) async fn rewind_consumers(&self, late: &[EventId]) -> Result<Vec<Rewound>, Error> {
        if late.is_empty() {
            return Ok(Vec::new());
        }
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
        const STOPPED: &str = "SELECT ident FROM evt_stopped WHERE stream = ? ORDER BY ident";
        // One that the original registered and nobody has used here has no
        // session and no page under way.
        const REWIND: &str = "UPDATE evt_consumers c
            SET c.last_evt_id = LEAST(c.last_evt_id, ?), c.epoch = ?
            WHERE (c.epoch > 0 OR c.last_evt_id > ?) AND NOT EXISTS (
                SELECT 1 FROM evt_stopped s WHERE s.stream = ? AND s.ident = c.ident)";
        let mut fenced = self.lock_consumers(tx).await?;
        let Some(lowest) = self.note_late(tx, late).await? else {
            return Ok(Vec::new());
        };
        let to = lowest.previous();
        let epoch = self.next_epoch(tx).await?;
        let stopped: Vec<String> = sqlx::query_scalar(STOPPED)
            .bind(self.stream())
            .fetch_all(&mut *tx)
            .await?;
        fenced.retain(|one| {
            (one.epoch > 0 || one.position > to.get()) && !stopped.contains(&one.ident)
        });
        let written = sqlx::query(self.sql(REWIND))
            .bind(to.get())
            .bind(epoch)
            .bind(to.get())
            .bind(self.stream())
            .execute(&mut *tx)
            .await?;
        if written.rows_affected() != fenced.len() as u64 {
            // A stop that was set meanwhile: nothing of this is written.
            return Err(sqlx::Error::RowNotFound);
        }
        self.note_rewind(tx, epoch).await?;
        let rewound = |one: &Locked| {
            let from = EventId::stored(one.position);
            let key = ConsumerKey::from_ident(&one.ident).filter(|_| from > to)?;
            Some(Rewound {
                key,
                from,
                to,
                epoch,
            })
        };
        Ok(fenced.iter().filter_map(rewound).collect())
    }

    async fn lock_consumers(&self, tx: &mut MySqlConnection) -> Result<Vec<Locked>, sqlx::Error> {
        const LOCK: &str = "SELECT ident, CAST(last_evt_id AS SIGNED) AS reached, epoch
            FROM evt_consumers ORDER BY ident FOR UPDATE";
        let locked = |row: &MySqlRow| Locked {
            ident: row.get("ident"),
            position: row.get("reached"),
            epoch: row.get("epoch"),
        };
        let rows = sqlx::query(self.sql(LOCK)).fetch_all(tx).await?;
        Ok(rows.iter().map(locked).collect())
    }

    /// The lowest of the ids that were not noted before.
    async fn note_late(
        &self,
        tx: &mut MySqlConnection,
        late: &[EventId],
    ) -> Result<Option<EventId>, sqlx::Error> {
        const NOTED: &str = "SELECT id FROM evt_late WHERE stream = ? AND id IN (ROWS)";
        const NOTE: &str = "INSERT INTO evt_late (stream, id, seen) VALUES ROWS
            ON DUPLICATE KEY UPDATE seen = seen";
        const OLDEST_KEPT: &str = "SELECT id FROM evt_late
            WHERE stream = ? ORDER BY id DESC LIMIT 1 OFFSET ?";
        const FORGET: &str = "DELETE FROM evt_late WHERE stream = ? AND id <= ?";
        let mut find = self.query_of(NOTED, "?", late.len()).bind(self.stream());
        let mut note = self.query_of(NOTE, "(?, ?, UTC_TIMESTAMP())", late.len());
        for id in late {
            find = find.bind(id.get());
            note = note.bind(self.stream()).bind(id.get());
        }
        let rows = find.fetch_all(&mut *tx).await?;
        let noted: Vec<i64> = rows.iter().map(|row| row.get("id")).collect();
        let fresh = late.iter().filter(|id| !noted.contains(&id.get()));
        let lowest = fresh.min().copied();
        note.execute(&mut *tx).await?;
        let last_out: Option<i64> = sqlx::query_scalar(OLDEST_KEPT)
            .bind(self.stream())
            .bind(limits::KEPT_LATE_IDS)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(last_out) = last_out {
            sqlx::query(FORGET)
                .bind(self.stream())
                .bind(last_out)
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
            ON DUPLICATE KEY UPDATE epoch = VALUES(epoch)";
        sqlx::query(NOTE)
            .bind(self.stream())
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

    pub(super) async fn insert_skip(&self, skip: &Skip) -> Result<(), Error> {
        const INSERT: &str = "INSERT INTO evt_skips (stream, skip_to, skip_from, who, made, reason)
            VALUES (?, ?, ?, ?, UTC_TIMESTAMP(), ?) ON DUPLICATE KEY UPDATE skip_to = skip_to";
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
