//! Leases, and the writes that carry their fence.

use super::{
    PostgresStore,
    connections::{commit_failed, unavailable},
};
use crate::store::{Claim, Claimed, Error, Fence, upkeep::millis};

impl PostgresStore {
    pub(super) async fn claim_lease(&self, claim: &Claim) -> Result<Claimed, Error> {
        // The same replica goes on under its fence, unless the lease had lapsed.
        // Renewed in the future: the clock was set back.
        const CLAIM: &str = "INSERT INTO evt_leases AS lease
                (stream, task, holder, fence, renewed, lapse)
            SELECT $1, $2, $3, clock.now, clock.now, $4
            FROM (SELECT (date_part('epoch', clock_timestamp()) * 1000)::bigint AS now) AS clock
            ON CONFLICT (stream, task) DO UPDATE SET
                fence = CASE
                    WHEN excluded.renewed - lease.renewed BETWEEN -lease.lapse AND lease.lapse - 1
                    THEN lease.fence ELSE greatest(lease.fence + 1, excluded.renewed) END,
                holder = excluded.holder, renewed = excluded.renewed, lapse = excluded.lapse
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
}
