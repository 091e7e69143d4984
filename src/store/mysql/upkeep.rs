//! Leases, and the writes that carry their fence.

use sqlx::{MySqlConnection, Row, mysql::MySqlRow};

use super::{
    MysqlStore,
    errors::{commit_failed, unavailable},
};
use crate::{
    event::{ConsumerKey, EventId},
    store::{
        Claim, Claimed, Discard, Discardable, Discarded, Error, Expired, Expiry, Fence, Lease,
        upkeep::{Holding, millis},
    },
};

/// A lease as it stands.
struct Standing {
    holder: String,
    fence: i64,
    /// Not lapsed, and not renewed in the future either: then the clock was
    /// set back.
    live: bool,
    now: i64,
}

impl MysqlStore {
    pub(super) async fn claim_lease(&self, claim: &Claim) -> Result<Claimed, Error> {
        const LOOK: &str = "SELECT holder, fence, renewed, lapse,
                CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) AS now_millis
            FROM evt_leases WHERE stream = ? AND task = ?";
        // A look that writes nothing is enough where another one holds it.
        let mut connection = self.connections.read().await?;
        let row = sqlx::query(LOOK)
            .bind(self.stream())
            .bind(claim.task.as_str())
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        drop(connection);
        let own = claim.holder.to_string();
        let other = row.as_ref().map(standing);
        if let Some(other) = other.filter(|other| other.live && other.holder != own) {
            return Ok(Claimed::Taken(other.holder));
        }
        self.transaction(|mut tx| async move {
            let claimed = self.take_lease(&mut tx, claim).await?;
            Ok((tx, claimed))
        })
        .await
    }

    async fn take_lease(
        &self,
        tx: &mut MySqlConnection,
        claim: &Claim,
    ) -> Result<Claimed, sqlx::Error> {
        const MAKE: &str = "INSERT INTO evt_leases
                (stream, task, holder, place, fence, renewed, lapse)
            VALUES (?, ?, '', '', 0, 0, 0) ON DUPLICATE KEY UPDATE task = VALUES(task)";
        const LOCK: &str = "SELECT holder, fence, renewed, lapse,
                CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) AS now_millis
            FROM evt_leases WHERE stream = ? AND task = ? FOR UPDATE";
        const TAKE: &str = "UPDATE evt_leases
            SET holder = ?, place = ?, fence = ?, renewed = ?, lapse = ?
            WHERE stream = ? AND task = ?";
        sqlx::query(MAKE)
            .bind(self.stream())
            .bind(claim.task.as_str())
            .execute(&mut *tx)
            .await?;
        let row = sqlx::query(LOCK)
            .bind(self.stream())
            .bind(claim.task.as_str())
            .fetch_one(&mut *tx)
            .await?;
        let before = standing(&row);
        let own = claim.holder.to_string();
        if before.live && before.holder != own {
            return Ok(Claimed::Taken(before.holder));
        }
        // The same replica goes on under its fence, unless the lease had lapsed.
        let fence = if before.live {
            before.fence
        } else {
            before.now.max(before.fence + 1)
        };
        sqlx::query(TAKE)
            .bind(own)
            .bind(&self.options.common.place)
            .bind(fence)
            .bind(before.now)
            .bind(millis(claim.lapse))
            .bind(self.stream())
            .bind(claim.task.as_str())
            .execute(tx)
            .await?;
        Ok(Claimed::Held(Fence::new(claim.task, fence)))
    }

    pub(super) async fn release_lease(&self, fence: Fence) -> Result<(), Error> {
        const RELEASE: &str = "UPDATE evt_leases SET lapse = 0
            WHERE stream = ? AND task = ? AND fence = ?";
        let mut connection = self.connections.write().await?;
        sqlx::query(RELEASE)
            .bind(self.stream())
            .bind(fence.task().as_str())
            .bind(fence.number())
            .execute(&mut *connection)
            .await
            .map_err(|error| commit_failed(&error))?;
        Ok(())
    }

    /// Whether the tenure goes on; nobody takes the lease over before the
    /// transaction has ended.
    async fn hold_lease(
        &self,
        tx: &mut MySqlConnection,
        fence: Fence,
    ) -> Result<bool, sqlx::Error> {
        const HOLD: &str = "SELECT 1 FROM evt_leases
            WHERE stream = ? AND task = ? AND fence = ? LOCK IN SHARE MODE";
        let held = sqlx::query(HOLD)
            .bind(self.stream())
            .bind(fence.task().as_str())
            .bind(fence.number())
            .fetch_optional(tx)
            .await?;
        Ok(held.is_some())
    }

    pub(super) async fn read_leases(&self) -> Result<Vec<Lease>, Error> {
        const LEASES: &str = "SELECT task, holder, place, fence FROM evt_leases
            WHERE stream = ? AND CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - renewed
                BETWEEN -lapse AND lapse - 1
            ORDER BY task";
        let mut connection = self.connections.read().await?;
        let rows = sqlx::query(LEASES)
            .bind(self.stream())
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let lease = |row: &MySqlRow| Lease {
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

    async fn holding(&self, connection: &mut MySqlConnection) -> Result<Holding, sqlx::Error> {
        const HOLDING: &str = "SELECT e.discarded_to, e.frontier,
                (SELECT CAST(c.last_evt_id AS SIGNED) FROM evt_consumers c
                 ORDER BY c.last_evt_id LIMIT 1) AS slowest,
                EXISTS (SELECT 1 FROM evt_stopped s WHERE s.stream = e.stream) AS stopped,
                EXISTS (SELECT 1 FROM evt_consumers c WHERE c.ident = ?) AS archiver
            FROM evt_stream e WHERE e.stream = ?";
        let row = sqlx::query(self.sql(HOLDING))
            .bind(ConsumerKey::ARCHIVER)
            .bind(self.stream())
            .fetch_one(connection)
            .await?;
        Ok(Holding {
            discarded_to: row.get("discarded_to"),
            frontier: row.get("frontier"),
            slowest: row.get("slowest"),
            stopped: row.get::<i64, _>("stopped") != 0,
            archiver: row.get::<i64, _>("archiver") != 0,
        })
    }

    pub(super) async fn discard_batch(&self, batch: &Discard) -> Result<Discarded, Error> {
        self.transaction(|mut tx| async move {
            let discarded = self.try_discard(&mut tx, batch).await?;
            Ok((tx, discarded))
        })
        .await
    }

    /// Under the lock of the stream's row, which registrations and seeks take
    /// too; each statement has a snapshot of its own. So the position of each
    /// that was before it is seen, and each after it sees what was recorded.
    async fn try_discard(
        &self,
        tx: &mut MySqlConnection,
        batch: &Discard,
    ) -> Result<Discarded, sqlx::Error> {
        const LOCK: &str = "SELECT 1 FROM evt_stream WHERE stream = ? FOR UPDATE";
        const LAST: &str = "SELECT CAST(id AS SIGNED) FROM evt_queue ORDER BY id DESC LIMIT 1";
        const BATCH: &str = "SELECT CAST(id AS SIGNED) AS row_id,
                CAST(COALESCE(? > 0 AND ts > UTC_TIMESTAMP(3) - INTERVAL ? MICROSECOND, 0)
                    AS SIGNED) AS young
            FROM evt_queue WHERE id > ? AND id <= ? ORDER BY id LIMIT ?";
        const RECORD: &str = "UPDATE evt_stream SET discarded_to = ? WHERE stream = ?";
        if !self.hold_lease(tx, batch.fence).await? {
            return Ok(Discarded::Fenced);
        }
        sqlx::query(LOCK)
            .bind(self.stream())
            .fetch_one(&mut *tx)
            .await?;
        let holding = self.holding(tx).await?;
        let low = holding.discarded_to;
        let last: Option<i64> = sqlx::query_scalar(self.sql(LAST))
            .fetch_optional(&mut *tx)
            .await?;
        let high = low + holding.discardable(batch.archiving).ids;
        let found = sqlx::query(self.sql(BATCH))
            .bind(millis(batch.min_age))
            .bind(millis(batch.min_age).saturating_mul(1000))
            .bind(low)
            .bind(high.min(last.unwrap_or(0) - 1))
            .bind(batch.rows as u64)
            .fetch_all(&mut *tx)
            .await?;
        let old = found
            .iter()
            .take_while(|row| row.get::<i64, _>("young") == 0)
            .map(|row| row.get::<i64, _>("row_id"));
        let Some(through) = old.clone().last() else {
            return Ok(Discarded::none(low));
        };
        let count = old.count();
        let more = count >= batch.rows;
        let events = self.delete_rows(tx, low, through, count).await?;
        sqlx::query(RECORD)
            .bind(through)
            .bind(self.stream())
            .execute(tx)
            .await?;
        Ok(Discarded::Gone {
            events,
            discarded_to: EventId::stored(through),
            more,
        })
    }

    /// Deletes the `count` rows above `low` up to `through`.
    ///
    /// The limit ends both statements before they come to the row above, which
    /// may be of an open transaction. Who has locked a row is not waited for:
    /// others wait for the stream's row meanwhile.
    async fn delete_rows(
        &self,
        tx: &mut MySqlConnection,
        low: i64,
        through: i64,
        count: usize,
    ) -> Result<u64, sqlx::Error> {
        const LOCK: &str = "SELECT 1 FROM evt_queue WHERE id > ? AND id <= ?
            ORDER BY id LIMIT ? FOR UPDATE NOWAIT";
        const DELETE: &str = "DELETE FROM evt_queue WHERE id > ? AND id <= ? ORDER BY id LIMIT ?";
        let mut gone = 0;
        for statement in [LOCK, DELETE] {
            let done = sqlx::query(self.sql(statement))
                .bind(low)
                .bind(through)
                .bind(count as u64)
                .execute(&mut *tx)
                .await?;
            gone = done.rows_affected();
        }
        Ok(gone)
    }

    pub(super) async fn expire_consumer(&self, expiry: &Expiry<'_>) -> Result<Expired, Error> {
        self.transaction(|mut tx| async move {
            let expired = self.try_expire(&mut tx, expiry).await?;
            Ok((tx, expired))
        })
        .await
    }

    async fn try_expire(
        &self,
        tx: &mut MySqlConnection,
        expiry: &Expiry<'_>,
    ) -> Result<Expired, sqlx::Error> {
        // A session that is open, or a sign of life that came meanwhile, keeps it.
        const EXPIRE: &str = "DELETE FROM evt_consumers
            WHERE ident = ? AND last_time < UTC_TIMESTAMP(3) - INTERVAL ? MICROSECOND
                AND NOT EXISTS (
                    SELECT 1 FROM evt_sessions s
                    JOIN evt_replicas r ON r.stream = s.stream AND r.replica = s.replica
                    WHERE s.stream = ? AND s.ident = evt_consumers.ident
                        AND s.epoch = evt_consumers.epoch
                        AND r.beat > CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - ?)";
        if !self.hold_lease(tx, expiry.fence).await? {
            return Ok(Expired::Fenced);
        }
        if !self.lock_consumer(tx, expiry.key).await? {
            return Ok(Expired::Kept);
        }
        let removed = sqlx::query(self.sql(EXPIRE))
            .bind(expiry.key.ident())
            .bind(millis(expiry.silent).saturating_mul(1000))
            .bind(self.stream())
            .bind(self.lapse_millis())
            .execute(&mut *tx)
            .await?;
        if removed.rows_affected() == 0 {
            return Ok(Expired::Kept);
        }
        self.forget_consumer(tx, expiry.key).await?;
        Ok(Expired::Removed)
    }
}

fn standing(row: &MySqlRow) -> Standing {
    let (renewed, lapse): (i64, i64) = (row.get("renewed"), row.get("lapse"));
    let now: i64 = row.get("now_millis");
    Standing {
        holder: row.get("holder"),
        fence: row.get("fence"),
        live: (-lapse..lapse).contains(&(now - renewed)),
        now,
    }
}
