//! Leases, and the writes that carry their fence.

use super::{SqliteStore, connections::unavailable};
use crate::store::{Claim, Claimed, Error, Fence, upkeep::millis};

impl SqliteStore {
    pub(super) async fn claim_lease(&self, claim: &Claim) -> Result<Claimed, Error> {
        // The same replica goes on under its fence, unless the lease had lapsed.
        // Renewed in the future: the clock was set back.
        const CLAIM: &str = "INSERT INTO evt_leases AS lease
                (stream, task, holder, fence, renewed, lapse)
            SELECT ?1, ?2, ?3, now, now, ?4
            FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now) WHERE true
            ON CONFLICT (stream, task) DO UPDATE SET
                fence = CASE WHEN excluded.renewed - renewed BETWEEN -lapse AND lapse - 1
                    THEN fence ELSE max(fence + 1, excluded.renewed) END,
                holder = excluded.holder, renewed = excluded.renewed, lapse = excluded.lapse
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
}
