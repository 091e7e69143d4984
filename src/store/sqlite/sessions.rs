//! Push sessions and the heartbeats they depend on.

use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::{SqliteStore, connections::unavailable};
use crate::{
    event::{ConsumerKey, EventId},
    store::{Error, NewSession, Opening, Standing},
};

/// Replicas that were silent for this many lapses are forgotten.
const FORGET_AFTER_LAPSES: i64 = 10;

impl SqliteStore {
    pub(super) async fn insert_session(&self, session: &NewSession) -> Result<Opening, Error> {
        let mut tx = self.connections.begin().await?;
        let opening = self
            .try_open(&mut tx, session)
            .await
            .map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(opening)
    }

    async fn try_open(
        &self,
        tx: &mut SqliteConnection,
        session: &NewSession,
    ) -> Result<Opening, sqlx::Error> {
        const TAKE: &str = "UPDATE evt_consumers SET epoch = ?2, last_time = CURRENT_TIMESTAMP
            WHERE ident = ?1";
        const OPEN: &str = "INSERT OR REPLACE INTO evt_sessions
                (stream, ident, session, replica, epoch, acked, label)
            VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)";
        const PLACE: &str = "INSERT OR REPLACE INTO evt_places (stream, ident, place)
            VALUES (?1, ?2, ?3)";
        let Some(found) = self.consumer_row(tx, &session.key).await? else {
            return Ok(Opening::Unknown);
        };
        if let Some(label) = found.session.clone().filter(|_| session.yields) {
            return Ok(Opening::Occupied(label));
        }
        if found.stopped.is_some() {
            return Ok(Opening::Opened(found));
        }
        self.beat_replica(tx, session.replica).await?;
        let epoch = self.next_epoch(tx).await?;
        sqlx::query(self.sql(TAKE))
            .bind(session.key.ident())
            .bind(epoch)
            .execute(&mut *tx)
            .await?;
        sqlx::query(OPEN)
            .bind(self.stream())
            .bind(session.key.ident())
            .bind(session.id.to_string())
            .bind(session.replica.to_string())
            .bind(epoch)
            .bind(session.label.as_str())
            .execute(&mut *tx)
            .await?;
        sqlx::query(PLACE)
            .bind(self.stream())
            .bind(session.key.ident())
            .bind(&self.options.common.place)
            .execute(&mut *tx)
            .await?;
        let opened = self.consumer_row(tx, &session.key).await?;
        opened.map(Opening::Opened).ok_or(sqlx::Error::RowNotFound)
    }

    pub(super) async fn delete_sessions(
        &self,
        sessions: &[(ConsumerKey, Uuid)],
    ) -> Result<(), Error> {
        const CLOSE: &str =
            "DELETE FROM evt_sessions WHERE stream = ?1 AND ident = ?2 AND session = ?3";
        let mut tx = self.connections.begin().await?;
        for (key, id) in sessions {
            sqlx::query(CLOSE)
                .bind(self.stream())
                .bind(key.ident())
                .bind(id.to_string())
                .execute(&mut *tx)
                .await
                .map_err(|error| unavailable(&error))?;
        }
        tx.commit().await
    }

    pub(super) async fn forget_session(
        &self,
        tx: &mut SqliteConnection,
        key: &ConsumerKey,
    ) -> Result<(), sqlx::Error> {
        const FORGET: &str = "DELETE FROM evt_sessions WHERE stream = ?1 AND ident = ?2";
        sqlx::query(FORGET)
            .bind(self.stream())
            .bind(key.ident())
            .execute(tx)
            .await?;
        Ok(())
    }

    pub(super) async fn renew_heartbeat(
        &self,
        replica: Uuid,
        sessions: &[(ConsumerKey, i64)],
    ) -> Result<Vec<Standing>, Error> {
        let mut tx = self.connections.begin().await?;
        let standings: Result<Vec<Standing>, sqlx::Error> = async {
            self.note_life(&mut tx, sessions).await?;
            self.beat_replica(&mut tx, replica).await?;
            let mut standings = Vec::with_capacity(sessions.len());
            for (key, epoch) in sessions {
                standings.push(self.standing(&mut tx, key, *epoch).await?);
            }
            Ok(standings)
        }
        .await;
        let standings = standings.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(standings)
    }

    /// An open session is a sign of life, noted once a minute.
    async fn note_life(
        &self,
        tx: &mut SqliteConnection,
        sessions: &[(ConsumerKey, i64)],
    ) -> Result<(), sqlx::Error> {
        const LIFE: &str = "UPDATE evt_consumers SET last_time = CURRENT_TIMESTAMP
            WHERE ident = ?1 AND epoch = ?2 AND unixepoch(last_time, 'auto') < unixepoch() - 60";
        for (key, epoch) in sessions {
            sqlx::query(self.sql(LIFE))
                .bind(key.ident())
                .bind(epoch)
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }

    async fn standing(
        &self,
        tx: &mut SqliteConnection,
        key: &ConsumerKey,
        epoch: i64,
    ) -> Result<Standing, sqlx::Error> {
        const STANDING: &str = "SELECT c.epoch, s.epoch AS session_epoch, s.acked
            FROM evt_consumers c
            LEFT JOIN evt_sessions s ON s.stream = ?1 AND s.ident = c.ident
            WHERE c.ident = ?2";
        let row = sqlx::query(self.sql(STANDING))
            .bind(self.stream())
            .bind(key.ident())
            .fetch_optional(tx)
            .await?;
        let Some(row) = row else {
            return Ok(Standing::Stale(0));
        };
        let current: i64 = row.get("epoch");
        Ok(match row.get::<Option<i64>, _>("session_epoch") {
            Some(session) if session == epoch && current == epoch => Standing::Current {
                acked: EventId::stored(row.get("acked")),
            },
            Some(session) if session > epoch && current == session => Standing::TakenOver,
            _ => Standing::Stale(current),
        })
    }

    pub(super) async fn credit_session(
        &self,
        key: &ConsumerKey,
        epoch: Option<i64>,
        acked: EventId,
    ) -> Result<(), Error> {
        const CREDIT: &str = "UPDATE evt_sessions SET acked = ?4
            WHERE stream = ?1 AND ident = ?2 AND (?3 IS NULL OR epoch = ?3) AND acked < ?4";
        let mut tx = self.connections.begin().await?;
        sqlx::query(CREDIT)
            .bind(self.stream())
            .bind(key.ident())
            .bind(epoch)
            .bind(acked.get())
            .execute(&mut *tx)
            .await
            .map_err(|error| unavailable(&error))?;
        tx.commit().await
    }

    async fn beat_replica(
        &self,
        tx: &mut SqliteConnection,
        replica: Uuid,
    ) -> Result<(), sqlx::Error> {
        const BEAT: &str = "INSERT INTO evt_replicas (stream, replica, beat)
            VALUES (?1, ?2, CAST(unixepoch('subsec') * 1000 AS INTEGER))
            ON CONFLICT (stream, replica) DO UPDATE SET beat = excluded.beat";
        const FORGET: &str = "DELETE FROM evt_replicas
            WHERE stream = ?1 AND beat < unixepoch('subsec') * 1000 - ?2";
        sqlx::query(BEAT)
            .bind(self.stream())
            .bind(replica.to_string())
            .execute(&mut *tx)
            .await?;
        sqlx::query(FORGET)
            .bind(self.stream())
            .bind(self.lapse_millis().saturating_mul(FORGET_AFTER_LAPSES))
            .execute(&mut *tx)
            .await?;
        Ok(())
    }
}
