//! Ids that appeared below the frontier, and the operator's skips.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    PostgresStore,
    connections::{commit_failed, unavailable},
};
use crate::{
    event::{ConsumerKey, EventId},
    limits,
    store::{Error, IdRange, Rewound, Skip},
};

impl PostgresStore {
    pub(super) async fn read_appeared(
        &self,
        ranges: &[IdRange],
        limit: usize,
    ) -> Result<Vec<EventId>, Error> {
        // LATERAL keeps each range on the primary key.
        const APPEARED: &str = "SELECT hit.id
            FROM unnest($1::bigint[], $2::bigint[]) AS span (low, high)
            CROSS JOIN LATERAL (
                SELECT id FROM evt_queue WHERE id >= span.low AND id <= span.high
                ORDER BY id LIMIT $3) AS hit
            ORDER BY hit.id LIMIT $3";
        let low: Vec<i64> = ranges.iter().map(|range| range.first.get()).collect();
        let high: Vec<i64> = ranges.iter().map(|range| range.last.get()).collect();
        let mut connection = self.connections.read().await?;
        let ids: Vec<i64> = sqlx::query_scalar(self.sql(APPEARED))
            .bind(low)
            .bind(high)
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

    /// Under the locks of all consumers, taken in their order: of two replicas
    /// the second finds the ids noted.
    async fn rewind_in(
        &self,
        tx: &mut PgConnection,
        late: &[EventId],
    ) -> Result<Vec<Rewound>, sqlx::Error> {
        const LOCK: &str = "SELECT ident::text AS ident, last_evt_id
            FROM evt_consumers ORDER BY ident FOR UPDATE";
        // One that the original registered and nobody has used here has no
        // session and no page under way.
        const REWIND: &str = "UPDATE evt_consumers c
            SET last_evt_id = least(c.last_evt_id, $2), epoch = $3
            WHERE (c.epoch > 0 OR c.last_evt_id > $2)
                AND NOT EXISTS (SELECT FROM evt_stopped s WHERE s.stream = $1 AND s.ident = c.ident)
            RETURNING c.ident::text AS ident";
        let locked = sqlx::query(self.sql(LOCK)).fetch_all(&mut *tx).await?;
        let Some(lowest) = self.note_late(tx, late).await? else {
            return Ok(Vec::new());
        };
        let epoch = self.next_epoch(tx).await?;
        // Nobody can be brought before what is discarded.
        let to = EventId::stored(lowest).previous();
        let to = self.discarded_above(tx, to).await?.unwrap_or(to);
        let fenced: Vec<String> = sqlx::query_scalar(self.sql(REWIND))
            .bind(self.stream())
            .bind(to.get())
            .bind(epoch)
            .fetch_all(&mut *tx)
            .await?;
        self.note_rewind(tx, epoch).await?;
        self.note_witness(tx).await?;
        let before: BTreeMap<&str, i64> = locked
            .iter()
            .map(|row| (row.get("ident"), row.get("last_evt_id")))
            .collect();
        let rewound = |ident: &String| {
            let from = EventId::stored(*before.get(ident.as_str())?);
            let key = ConsumerKey::from_ident(ident).filter(|_| from > to)?;
            Some(Rewound {
                key,
                from,
                to,
                epoch,
            })
        };
        Ok(fenced.iter().filter_map(rewound).collect())
    }

    /// The lowest of the ids that were not noted before.
    async fn note_late(
        &self,
        tx: &mut PgConnection,
        late: &[EventId],
    ) -> Result<Option<i64>, sqlx::Error> {
        const NOTE: &str = "INSERT INTO evt_late (stream, id, seen)
            SELECT $1, id, timezone('UTC', now()) FROM unnest($2::bigint[]) AS late (id)
            ORDER BY id ON CONFLICT DO NOTHING RETURNING id";
        const FORGET: &str = "DELETE FROM evt_late WHERE stream = $1 AND id <= (
            SELECT id FROM evt_late WHERE stream = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)";
        let ids: Vec<i64> = late.iter().map(|id| id.get()).collect();
        let fresh: Vec<i64> = sqlx::query_scalar(NOTE)
            .bind(self.stream())
            .bind(ids)
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
        tx: &mut PgConnection,
        epoch: i64,
    ) -> Result<(), sqlx::Error> {
        const NOTE: &str = "INSERT INTO evt_rewinds (stream, epoch) VALUES ($1, $2)
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
        tx: &mut PgConnection,
        head: i64,
    ) -> Result<(), sqlx::Error> {
        const SKIPS: &str = "DELETE FROM evt_skips WHERE stream = $1 AND skip_to > $2";
        const LATE: &str = "DELETE FROM evt_late WHERE stream = $1 AND id > $2";
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
            VALUES ($1, $2, $3, $4, timezone('UTC', now()), $5) ON CONFLICT DO NOTHING";
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
            WHERE stream = $1 ORDER BY skip_to DESC LIMIT $2";
        let mut connection = self.connections.read().await?;
        let rows = sqlx::query(SKIPS)
            .bind(self.stream())
            .bind(limits::KNOWN_SKIPS)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let skip = |row: &PgRow| Skip {
            from: EventId::stored(row.get("skip_from")),
            to: EventId::stored(row.get("skip_to")),
            who: row.get("who"),
            reason: row.get("reason"),
        };
        Ok(rows.iter().map(skip).collect())
    }
}
