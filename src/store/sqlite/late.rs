//! Ids that appeared below the frontier, and the operator's skips. Ids are
//! dense here, so that can only be an id that an application chose itself, in a
//! hole that another chosen id has left.

use serde_json::json;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{SqliteStore, connections::unavailable};
use crate::{
    event::{ConsumerKey, EventId},
    limits,
    store::{Effect, Error, IdRange, Rewound, Skip},
};

impl SqliteStore {
    pub(super) async fn read_appeared(
        &self,
        ranges: &[IdRange],
        limit: usize,
    ) -> Result<Vec<EventId>, Error> {
        // CROSS JOIN keeps this order of loops, and so each range on the key.
        const APPEARED: &str = "SELECT q.id
            FROM json_each(?1) AS span CROSS JOIN evt_queue q
            WHERE q.id BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]')
            ORDER BY q.id LIMIT ?2";
        self.connections.check_file(Effect::None)?;
        let spans = ranges
            .iter()
            .map(|range| json!([range.first.get(), range.last.get()]));
        let mut connection = self.connections.read().await?;
        let ids: Vec<i64> = sqlx::query_scalar(self.sql(APPEARED))
            .bind(spans.collect::<serde_json::Value>().to_string())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(ids.into_iter().map(EventId::stored).collect())
    }

    pub(super) async fn rewind_consumers(&self, late: &[EventId]) -> Result<Vec<Rewound>, Error> {
        let mut tx = self.connections.begin().await?;
        let rewound = self.rewind_in(&mut tx, late).await;
        let rewound = rewound.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(rewound)
    }

    async fn rewind_in(
        &self,
        tx: &mut SqliteConnection,
        late: &[EventId],
    ) -> Result<Vec<Rewound>, sqlx::Error> {
        const PASSED: &str = "SELECT ident, last_evt_id FROM evt_consumers c
            WHERE last_evt_id > ?2 AND NOT EXISTS (
                SELECT 1 FROM evt_stopped s WHERE s.stream = ?1 AND s.ident = c.ident)
            ORDER BY ident";
        // One that the original registered and nobody has used here has no
        // session and no page under way.
        const REWIND: &str = "UPDATE evt_consumers
            SET last_evt_id = min(last_evt_id, ?2), epoch = ?3
            WHERE (epoch > 0 OR last_evt_id > ?2) AND NOT EXISTS (
                SELECT 1 FROM evt_stopped s WHERE s.stream = ?1 AND s.ident = evt_consumers.ident)";
        let Some(lowest) = self.note_late(tx, late).await? else {
            return Ok(Vec::new());
        };
        let epoch = self.next_epoch(tx).await?;
        // Nobody can be brought before what is discarded.
        let to = EventId::stored(lowest).previous();
        let to = self.discarded_above(tx, to).await?.unwrap_or(to);
        let passed = sqlx::query(self.sql(PASSED))
            .bind(self.stream())
            .bind(to.get())
            .fetch_all(&mut *tx)
            .await?;
        sqlx::query(self.sql(REWIND))
            .bind(self.stream())
            .bind(to.get())
            .bind(epoch)
            .execute(&mut *tx)
            .await?;
        self.note_rewind(tx, epoch).await?;
        let rewound = |row: &SqliteRow| {
            Some(Rewound {
                key: ConsumerKey::from_ident(row.get("ident"))?,
                from: EventId::stored(row.get("last_evt_id")),
                to,
                epoch,
            })
        };
        Ok(passed.iter().filter_map(rewound).collect())
    }

    /// The lowest of the ids that were not noted before.
    async fn note_late(
        &self,
        tx: &mut SqliteConnection,
        late: &[EventId],
    ) -> Result<Option<i64>, sqlx::Error> {
        const NOTE: &str = "INSERT INTO evt_late (stream, id, seen)
            SELECT ?1, value, CURRENT_TIMESTAMP FROM json_each(?2) WHERE true
            ON CONFLICT DO NOTHING RETURNING id";
        const FORGET: &str = "DELETE FROM evt_late WHERE stream = ?1 AND id <= (
            SELECT id FROM evt_late WHERE stream = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
        let ids = late.iter().map(|id| json!(id.get()));
        let fresh: Vec<i64> = sqlx::query_scalar(NOTE)
            .bind(self.stream())
            .bind(ids.collect::<serde_json::Value>().to_string())
            .fetch_all(&mut *tx)
            .await?;
        sqlx::query(FORGET)
            .bind(self.stream())
            .bind(limits::KEPT_LATE_IDS)
            .execute(tx)
            .await?;
        Ok(fresh.into_iter().min())
    }

    /// Tells every replica that what it holds in memory may lack an event.
    pub(super) async fn note_rewind(
        &self,
        tx: &mut SqliteConnection,
        epoch: i64,
    ) -> Result<(), sqlx::Error> {
        const NOTE: &str = "INSERT INTO evt_rewinds (stream, epoch) VALUES (?1, ?2)
            ON CONFLICT (stream) DO UPDATE SET epoch = excluded.epoch";
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
        tx: &mut SqliteConnection,
        head: i64,
    ) -> Result<(), sqlx::Error> {
        const SKIPS: &str = "DELETE FROM evt_skips WHERE stream = ?1 AND skip_to > ?2";
        const LATE: &str = "DELETE FROM evt_late WHERE stream = ?1 AND id > ?2";
        for sql in [SKIPS, LATE] {
            sqlx::query(sql)
                .bind(self.stream())
                .bind(head)
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }

    pub(super) async fn insert_skip(&self, skip: &Skip) -> Result<(), Error> {
        const INSERT: &str = "INSERT INTO evt_skips (stream, skip_to, skip_from, who, made, reason)
            VALUES (?1, ?2, ?3, ?4, CURRENT_TIMESTAMP, ?5) ON CONFLICT DO NOTHING";
        let mut tx = self.connections.begin().await?;
        sqlx::query(INSERT)
            .bind(self.stream())
            .bind(skip.to.get())
            .bind(skip.from.get())
            .bind(&skip.who)
            .bind(&skip.reason)
            .execute(&mut *tx)
            .await
            .map_err(|error| unavailable(&error))?;
        tx.commit().await
    }

    pub(super) async fn read_skips(&self) -> Result<Vec<Skip>, Error> {
        const SKIPS: &str = "SELECT skip_from, skip_to, who, reason FROM evt_skips
            WHERE stream = ?1 ORDER BY skip_to DESC LIMIT ?2";
        let mut connection = self.connections.read().await?;
        let rows = sqlx::query(SKIPS)
            .bind(self.stream())
            .bind(limits::KNOWN_SKIPS)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let skip = |row: &SqliteRow| Skip {
            from: EventId::stored(row.get("skip_from")),
            to: EventId::stored(row.get("skip_to")),
            who: row.get("who"),
            reason: row.get("reason"),
        };
        Ok(rows.iter().map(skip).collect())
    }
}
