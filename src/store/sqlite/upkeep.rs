//! Leases, and the writes that carry their fence.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{SqliteStore, connections::unavailable};
use crate::{
    event::{ConsumerKey, EventId},
    store::{
        Claim, Claimed, Discard, Discardable, Discarded, Error, Expired, Expiry, Fence, Lease,
        upkeep::{Holding, millis},
    },
};

impl SqliteStore {
    pub(super) async fn claim_lease(&self, claim: &Claim) -> Result<Claimed, Error> {
        // The same replica goes on under its fence, unless the lease had lapsed.
        // Renewed in the future: the clock was set back.
        const CLAIM: &str = "INSERT INTO evt_leases AS lease
                (stream, task, holder, place, fence, renewed, lapse)
            SELECT ?1, ?2, ?3, ?5, now, now, ?4
            FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now) WHERE true
            ON CONFLICT (stream, task) DO UPDATE SET
                fence = CASE WHEN excluded.renewed - renewed BETWEEN -lapse AND lapse - 1
                    THEN fence ELSE max(fence + 1, excluded.renewed) END,
                holder = excluded.holder, place = excluded.place, renewed = excluded.renewed,
                lapse = excluded.lapse
            WHERE holder = excluded.holder
                OR excluded.renewed - renewed NOT BETWEEN -lapse AND lapse - 1
            RETURNING fence";
        if let Some(other) = self.other_holder(claim).await? {
            return Ok(Claimed::Taken(other));
        }
        let mut tx = self.connections.begin().await?;
        let fence: Option<i64> = sqlx::query_scalar(CLAIM)
            .bind(self.stream())
            .bind(claim.task.as_str())
            .bind(claim.holder.to_string())
            .bind(millis(claim.lapse))
            .bind(&self.options.common.place)
            .fetch_optional(&mut *tx)
            .await
            .map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        match fence {
            Some(number) => Ok(Claimed::Held(Fence::new(claim.task, number))),
            // It was taken since the look.
            None => Ok(Claimed::Taken(
                self.other_holder(claim).await?.unwrap_or_default(),
            )),
        }
    }

    /// Who else does the task; a look that writes nothing.
    async fn other_holder(&self, claim: &Claim) -> Result<Option<String>, Error> {
        const HOLDER: &str = "SELECT holder FROM evt_leases
            WHERE stream = ?1 AND task = ?2 AND holder <> ?3
                AND CAST(unixepoch('subsec') * 1000 AS INTEGER) - renewed
                    BETWEEN -lapse AND lapse - 1";
        let mut connection = self.connections.read().await?;
        sqlx::query_scalar(HOLDER)
            .bind(self.stream())
            .bind(claim.task.as_str())
            .bind(claim.holder.to_string())
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))
    }

    pub(super) async fn release_lease(&self, fence: Fence) -> Result<(), Error> {
        const RELEASE: &str = "UPDATE evt_leases SET lapse = 0
            WHERE stream = ?1 AND task = ?2 AND fence = ?3";
        let mut tx = self.connections.begin().await?;
        sqlx::query(RELEASE)
            .bind(self.stream())
            .bind(fence.task().as_str())
            .bind(fence.number())
            .execute(&mut *tx)
            .await
            .map_err(|error| unavailable(&error))?;
        tx.commit().await
    }

    /// Whether the tenure goes on. To be asked inside the transaction that it
    /// is to cover, which holds the file's write lock.
    async fn is_held(&self, tx: &mut SqliteConnection, fence: Fence) -> Result<bool, sqlx::Error> {
        const HELD: &str = "SELECT EXISTS (SELECT 1 FROM evt_leases
            WHERE stream = ?1 AND task = ?2 AND fence = ?3)";
        sqlx::query_scalar(HELD)
            .bind(self.stream())
            .bind(fence.task().as_str())
            .bind(fence.number())
            .fetch_one(tx)
            .await
    }

    pub(super) async fn read_leases(&self) -> Result<Vec<Lease>, Error> {
        const LEASES: &str = "SELECT task, holder, place, fence FROM evt_leases
            WHERE stream = ?1 AND CAST(unixepoch('subsec') * 1000 AS INTEGER) - renewed
                BETWEEN -lapse AND lapse - 1
            ORDER BY task";
        let mut connection = self.connections.read().await?;
        let rows = sqlx::query(LEASES)
            .bind(self.stream())
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let lease = |row: &SqliteRow| Lease {
            task: row.get("task"),
            holder: row.get("holder"),
            place: row.get("place"),
            fence: row.get("fence"),
        };
        Ok(rows.iter().map(lease).collect())
    }

    pub(super) async fn read_discardable(&self, archiving: bool) -> Result<Discardable, Error> {
        let mut connection = self.connections.read().await?;
        let holding = self.holding(&mut connection).await;
        let holding = holding.map_err(|error| unavailable(&error))?;
        Ok(holding.discardable(archiving))
    }

    async fn holding(&self, connection: &mut SqliteConnection) -> Result<Holding, sqlx::Error> {
        const HOLDING: &str = "SELECT discarded_to, frontier,
                (SELECT min(last_evt_id) FROM evt_consumers) AS slowest,
                EXISTS (SELECT 1 FROM evt_stopped s WHERE s.stream = ?1) AS stopped,
                EXISTS (SELECT 1 FROM evt_consumers WHERE ident = ?2) AS archiver
            FROM evt_stream WHERE stream = ?1";
        let row = sqlx::query(self.sql(HOLDING))
            .bind(self.stream())
            .bind(ConsumerKey::ARCHIVER)
            .fetch_one(connection)
            .await?;
        Ok(Holding {
            discarded_to: row.get("discarded_to"),
            frontier: row.get("frontier"),
            slowest: row.get("slowest"),
            stopped: row.get("stopped"),
            archiver: row.get("archiver"),
        })
    }

    pub(super) async fn discard_batch(&self, batch: &Discard) -> Result<Discarded, Error> {
        let mut tx = self.connections.begin().await?;
        let discarded = self.try_discard(&mut tx, batch).await;
        let discarded = discarded.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(discarded)
    }

    async fn try_discard(
        &self,
        tx: &mut SqliteConnection,
        batch: &Discard,
    ) -> Result<Discarded, sqlx::Error> {
        // The last row stays; an age that is no time is old enough.
        const BATCH: &str = "WITH batch AS MATERIALIZED (
                SELECT id, ?4 > 0 AND coalesce(unixepoch(ts, 'auto', 'subsec') * 1000
                    > unixepoch('subsec') * 1000 - ?4, false) AS young
                FROM evt_queue
                WHERE id > ?1 AND id <= ?2 AND id < (SELECT max(id) FROM evt_queue)
                ORDER BY id LIMIT ?3 + 0)
            SELECT count(*) AS found, EXISTS (SELECT 1 FROM batch WHERE young) AS young,
                max(id) FILTER (WHERE id < coalesce(
                    (SELECT min(id) FROM batch WHERE young), ?2 + 1)) AS through
            FROM batch";
        const DELETE: &str = "DELETE FROM evt_queue WHERE id > ?1 AND id <= ?2";
        const RECORD: &str = "UPDATE evt_stream SET discarded_to = ?2 WHERE stream = ?1";
        if !self.is_held(tx, batch.fence).await? {
            return Ok(Discarded::Fenced);
        }
        let holding = self.holding(tx).await?;
        let low = holding.discarded_to;
        let row = sqlx::query(self.sql(BATCH))
            .bind(low)
            .bind(low + holding.discardable(batch.archiving).ids)
            .bind(i64::try_from(batch.rows).unwrap_or(i64::MAX))
            .bind(millis(batch.min_age))
            .fetch_one(&mut *tx)
            .await?;
        let (found, young): (i64, bool) = (row.get("found"), row.get("young"));
        let Some(through) = row.get::<Option<i64>, _>("through") else {
            return Ok(Discarded::none(low));
        };
        let gone = sqlx::query(self.sql(DELETE))
            .bind(low)
            .bind(through)
            .execute(&mut *tx)
            .await?;
        sqlx::query(RECORD)
            .bind(self.stream())
            .bind(through)
            .execute(tx)
            .await?;
        Ok(Discarded::Gone {
            events: gone.rows_affected(),
            discarded_to: EventId::stored(through),
            more: !young && usize::try_from(found).is_ok_and(|found| found >= batch.rows),
        })
    }

    pub(super) async fn expire_consumer(&self, expiry: &Expiry<'_>) -> Result<Expired, Error> {
        // A session that is open, or a sign of life that came meanwhile, keeps it.
        const EXPIRE: &str = "DELETE FROM evt_consumers AS c
            WHERE ident = ?2 AND unixepoch(last_time, 'auto', 'subsec') * 1000
                    < unixepoch('subsec') * 1000 - ?3
                AND NOT EXISTS (
                    SELECT 1 FROM evt_sessions s JOIN evt_replicas r USING (stream, replica)
                    WHERE s.stream = ?1 AND s.ident = c.ident AND s.epoch = c.epoch
                        AND r.beat > unixepoch('subsec') * 1000 - ?4)";
        let mut tx = self.connections.begin().await?;
        let outcome: Result<_, sqlx::Error> = async {
            if !self.is_held(&mut tx, expiry.fence).await? {
                return Ok(Expired::Fenced);
            }
            let removed = sqlx::query(self.sql(EXPIRE))
                .bind(self.stream())
                .bind(expiry.key.ident())
                .bind(millis(expiry.silent))
                .bind(self.lapse_millis())
                .execute(&mut *tx)
                .await?;
            if removed.rows_affected() == 0 {
                return Ok(Expired::Kept);
            }
            self.forget_consumer(&mut tx, expiry.key).await?;
            Ok(Expired::Removed)
        }
        .await;
        let outcome = outcome.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(outcome)
    }
}
