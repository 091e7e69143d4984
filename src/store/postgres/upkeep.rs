//! Leases, and the writes that carry their fence.

use sqlx::{AssertSqlSafe, PgConnection, Row, SqlSafeStr as _, SqlStr, postgres::PgRow};

use super::{
    PostgresStore,
    connections::{commit_failed, unavailable},
};
use crate::{
    event::{ConsumerKey, EventId},
    store::{
        Claim, Claimed, Discard, Discardable, Discarded, Error, Expired, Expiry, Fence, Lease,
        upkeep::{Holding, millis},
    },
};

impl PostgresStore {
    pub(super) async fn claim_lease(&self, claim: &Claim) -> Result<Claimed, Error> {
        // The same replica goes on under its fence, unless the lease had lapsed.
        // Renewed in the future: the clock was set back.
        const CLAIM: &str = "INSERT INTO evt_leases AS lease
                (stream, task, holder, place, fence, renewed, lapse)
            SELECT $1, $2, $3, $5, clock.now, clock.now, $4
            FROM (SELECT (date_part('epoch', clock_timestamp()) * 1000)::bigint AS now) AS clock
            ON CONFLICT (stream, task) DO UPDATE SET
                fence = CASE
                    WHEN excluded.renewed - lease.renewed BETWEEN -lease.lapse AND lease.lapse - 1
                    THEN lease.fence ELSE greatest(lease.fence + 1, excluded.renewed) END,
                holder = excluded.holder, place = excluded.place, renewed = excluded.renewed,
                lapse = excluded.lapse
            WHERE lease.holder = excluded.holder
                OR excluded.renewed - lease.renewed NOT BETWEEN -lease.lapse AND lease.lapse - 1
            RETURNING fence";
        if let Some(other) = self.other_holder(claim).await? {
            return Ok(Claimed::Taken(other));
        }
        let mut connection = self.connections.write().await?;
        let fence: Option<i64> = sqlx::query_scalar(CLAIM)
            .bind(self.stream())
            .bind(claim.task.as_str())
            .bind(claim.holder.to_string())
            .bind(millis(claim.lapse))
            .bind(&self.options.common.place)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| commit_failed(&error))?;
        drop(connection);
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
            WHERE stream = $1 AND task = $2 AND holder <> $3
                AND (date_part('epoch', clock_timestamp()) * 1000)::bigint - renewed
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
            WHERE stream = $1 AND task = $2 AND fence = $3";
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

    pub(super) async fn read_leases(&self) -> Result<Vec<Lease>, Error> {
        const LEASES: &str = "SELECT task, holder, place, fence FROM evt_leases
            WHERE stream = $1 AND (date_part('epoch', clock_timestamp()) * 1000)::bigint - renewed
                BETWEEN -lapse AND lapse - 1
            ORDER BY task";
        let mut connection = self.connections.read().await?;
        let rows = sqlx::query(LEASES)
            .bind(self.stream())
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let lease = |row: &PgRow| Lease {
            task: row.get("task"),
            holder: row.get("holder"),
            place: row.get("place"),
            fence: row.get("fence"),
        };
        Ok(rows.iter().map(lease).collect())
    }

    pub(super) async fn read_discardable(&self, archiving: bool) -> Result<Discardable, Error> {
        const HOLDING: &str = "SELECT discarded_to, frontier,
                (SELECT last_evt_id FROM evt_consumers ORDER BY last_evt_id LIMIT 1) AS slowest,
                EXISTS (SELECT FROM evt_stopped s WHERE s.stream = $1) AS stopped,
                EXISTS (SELECT FROM evt_consumers WHERE ident = $2) AS archiver
            FROM evt_stream WHERE stream = $1";
        let mut connection = self.connections.read().await?;
        let row = sqlx::query(self.sql(HOLDING))
            .bind(self.stream())
            .bind(ConsumerKey::ARCHIVER)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let holding = Holding {
            discarded_to: row.get("discarded_to"),
            frontier: row.get("frontier"),
            slowest: row.get("slowest"),
            stopped: row.get("stopped"),
            archiver: row.get("archiver"),
        };
        Ok(holding.discardable(archiving))
    }

    pub(super) async fn discard_batch(&self, batch: &Discard) -> Result<Discarded, Error> {
        let mut connection = self.connections.write().await?;
        let rows = sqlx::raw_sql(self.batch_sql(batch))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| commit_failed(&error))?;
        // The rows of the locking statements come first.
        let Some(row) = rows.last().filter(|_| rows.len() == 3) else {
            return Ok(Discarded::Fenced);
        };
        let low: i64 = row.get("low");
        let Some(through) = row.get::<Option<i64>, _>("through") else {
            return Ok(Discarded::none(low));
        };
        let (found, young): (i64, bool) = (row.get("found"), row.get("young"));
        let gone: i64 = row.get("gone");
        Ok(Discarded::Gone {
            events: u64::try_from(gone).unwrap_or(0),
            discarded_to: EventId::stored(through),
            more: !young && usize::try_from(found).is_ok_and(|found| found >= batch.rows),
        })
    }

    /// One message with a whole transaction, so that a process which is stopped
    /// in the middle leaves no lock behind. Each statement has a snapshot of
    /// its own: the last one is later than the lock on the stream's row, which
    /// registrations and seeks take too, so it sees the position of each that
    /// was before it, and each after it sees what it recorded.
    ///
    /// Its lock on the queue counts as evidence of a writer like any other: a
    /// trigger of the application's may well insert when rows are deleted. So
    /// it holds the frontier for some milliseconds, and where an application
    /// has locked a row for not much longer: then the batch is given up.
    fn batch_sql(&self, batch: &Discard) -> SqlStr {
        const BATCH: &str = "SET LOCAL lock_timeout = '500ms';
            SELECT FROM evt_leases
            WHERE stream = STREAM AND task = 'discard' AND fence = FENCE FOR SHARE;
            SELECT FROM evt_stream WHERE stream = STREAM FOR NO KEY UPDATE;
            SET LOCAL lock_timeout = '50ms';
            WITH ends AS MATERIALIZED (
                SELECT stream.discarded_to AS low, least(stream.frontier,
                    (SELECT last_evt_id FROM evt_consumers ORDER BY last_evt_id LIMIT 1),
                    (SELECT id - 1 FROM evt_queue ORDER BY id DESC LIMIT 1)) AS high
                FROM evt_stream stream WHERE stream.stream = STREAM
                    AND EXISTS (SELECT FROM evt_leases
                        WHERE stream = STREAM AND task = 'discard' AND fence = FENCE)),
            batch AS MATERIALIZED (
                SELECT found.id, found.young FROM ends CROSS JOIN LATERAL (
                    SELECT id, AGE > 0 AND isfinite(ts) AND ts > timezone('UTC', now())
                        - AGE * interval '1 millisecond' AS young
                    FROM evt_queue WHERE id > ends.low AND id <= ends.high
                    ORDER BY id LIMIT ROWS) AS found
                WHERE EXISTS (SELECT FROM evt_consumers)
                    AND NOT EXISTS (SELECT FROM evt_stopped WHERE stream = STREAM)
                    AND (NOT ARCHIVING
                        OR EXISTS (SELECT FROM evt_consumers WHERE ident = 'ARCHIVER'))),
            cut AS MATERIALIZED (
                SELECT max(id) AS through FROM batch
                WHERE id < coalesce((SELECT min(id) FROM batch WHERE young), ID_MAX + 1)),
            gone AS (
                DELETE FROM evt_queue
                WHERE id > (SELECT low FROM ends) AND id <= (SELECT through FROM cut)
                RETURNING id),
            recorded AS (
                UPDATE evt_stream SET discarded_to = cut.through FROM cut
                WHERE stream = STREAM AND cut.through IS NOT NULL)
            SELECT ends.low, cut.through, (SELECT count(*) FROM batch) AS found,
                EXISTS (SELECT FROM batch WHERE young) AS young,
                (SELECT count(*) FROM gone) AS gone
            FROM ends CROSS JOIN cut";
        let sql = self.options.common.names.apply(BATCH);
        let sql = sql
            .replace("STREAM", &format!("'{}'", self.stream()))
            .replace("FENCE", &batch.fence.number().to_string())
            .replace("AGE", &format!("{}::bigint", millis(batch.min_age)))
            .replace("ROWS", &batch.rows.to_string())
            .replace("ARCHIVING", &batch.archiving.to_string())
            .replace("ID_MAX", &EventId::MAX.get().to_string())
            .replace("'ARCHIVER'", &format!("'{}'", ConsumerKey::ARCHIVER));
        AssertSqlSafe(sql).into_sql_str()
    }

    /// Whether the tenure goes on; nobody takes the lease over before the
    /// transaction has ended.
    async fn hold_lease(&self, tx: &mut PgConnection, fence: Fence) -> Result<bool, sqlx::Error> {
        const HOLD: &str = "SELECT 1 FROM evt_leases
            WHERE stream = $1 AND task = $2 AND fence = $3 FOR SHARE";
        let held = sqlx::query(HOLD)
            .bind(self.stream())
            .bind(fence.task().as_str())
            .bind(fence.number())
            .fetch_optional(tx)
            .await?;
        Ok(held.is_some())
    }

    pub(super) async fn expire_consumer(&self, expiry: &Expiry<'_>) -> Result<Expired, Error> {
        // A session that is open, or a sign of life that came meanwhile, keeps
        // it: whoever shows life changes the row, so it is looked at again.
        const EXPIRE: &str = "DELETE FROM evt_consumers c
            WHERE c.ident = $2
                AND c.last_time < timezone('UTC', now()) - $3 * interval '1 millisecond'
                AND NOT EXISTS (
                    SELECT FROM evt_sessions s JOIN evt_replicas r USING (stream, replica)
                    WHERE s.stream = $1 AND s.ident = c.ident AND s.epoch = c.epoch
                        AND r.beat > date_part('epoch', clock_timestamp()) * 1000 - $4)";
        let mut tx = self.connections.begin().await?;
        let outcome: Result<_, sqlx::Error> = async {
            if !self.hold_lease(&mut tx, expiry.fence).await? {
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
