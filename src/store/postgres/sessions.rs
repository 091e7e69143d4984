//! Push sessions and the heartbeats they depend on.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{
    PostgresStore,
    connections::{commit_failed, unavailable},
};
use crate::{
    event::{ConsumerKey, EventId},
    store::{Error, NewSession, Opening, Standing},
};

/// Replicas that were silent for this many lapses are forgotten.
const FORGET_AFTER_LAPSES: i64 = 10;

/// A consumer's epoch, and its session's epoch and acknowledgement.
type Epochs = (i64, Option<i64>, Option<i64>);

impl PostgresStore {
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
        tx: &mut PgConnection,
        session: &NewSession,
    ) -> Result<Opening, sqlx::Error> {
        const TAKE: &str = "UPDATE evt_consumers
            SET epoch = $2, last_time = timezone('UTC', now()) WHERE ident = $1";
        const OPEN: &str = "INSERT INTO evt_sessions
                (stream, ident, session, replica, epoch, acked, label)
            VALUES ($1, $2, $3, $4, $5, 0, $6)
            ON CONFLICT (stream, ident) DO UPDATE SET session = excluded.session,
                replica = excluded.replica, epoch = excluded.epoch, acked = 0,
                label = excluded.label";
        const PLACE: &str = "INSERT INTO evt_places (stream, ident, place) VALUES ($1, $2, $3)
            ON CONFLICT (stream, ident) DO UPDATE SET place = excluded.place";
        // Of two replicas that open at once the second sees the first one's.
        if !self.lock_consumer(tx, &session.key).await? {
            return Ok(Opening::Unknown);
        }
        let Some(found) = self.consumer_row(tx, &session.key).await? else {
            return Ok(Opening::Unknown);
        };
        if let Some(label) = found.session.clone().filter(|_| session.yields) {
            return Ok(Opening::Occupied(label));
        }
        if found.stopped.is_some() {
            return Ok(Opening::Opened(found));
        }
        let epoch = self.next_epoch(tx).await?;
        self.beat_replica(tx, session.replica).await?;
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
        // Locked in one order, so that two replicas cannot wait for each other.
        const CLOSE: &str = "DELETE FROM evt_sessions
            WHERE (stream, ident) IN (
                SELECT s.stream, s.ident FROM evt_sessions s
                JOIN unnest($2::text[], $3::text[]) AS ended (ident, session)
                    ON s.ident = ended.ident AND s.session = ended.session
                WHERE s.stream = $1 ORDER BY s.ident FOR UPDATE OF s)";
        let (idents, ids): (Vec<String>, Vec<String>) = sessions
            .iter()
            .map(|(key, id)| (key.ident(), id.to_string()))
            .unzip();
        let mut connection = self.connections.write().await?;
        sqlx::query(CLOSE)
            .bind(self.stream())
            .bind(idents)
            .bind(ids)
            .execute(&mut *connection)
            .await
            .map_err(|error| commit_failed(&error))?;
        Ok(())
    }

    pub(super) async fn forget_session(
        &self,
        tx: &mut PgConnection,
        key: &ConsumerKey,
    ) -> Result<(), sqlx::Error> {
        const FORGET: &str = "DELETE FROM evt_sessions WHERE stream = $1 AND ident = $2";
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
        let standings: Result<_, sqlx::Error> = async {
            self.note_life(&mut tx, sessions).await?;
            self.beat_replica(&mut tx, replica).await?;
            self.standings(&mut tx, sessions).await
        }
        .await;
        let standings = standings.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(standings)
    }

    /// An open session is a sign of life, noted once a minute.
    async fn note_life(
        &self,
        tx: &mut PgConnection,
        sessions: &[(ConsumerKey, i64)],
    ) -> Result<(), sqlx::Error> {
        const LIFE: &str = "UPDATE evt_consumers SET last_time = timezone('UTC', now())
            WHERE ident IN (
                SELECT c.ident FROM evt_consumers c
                JOIN unnest($1::text[], $2::bigint[]) AS open (ident, epoch)
                    ON c.ident = open.ident AND c.epoch = open.epoch
                WHERE c.last_time < timezone('UTC', now()) - interval '1 minute'
                ORDER BY c.ident FOR UPDATE OF c)";
        let (idents, epochs): (Vec<String>, Vec<i64>) = sessions
            .iter()
            .map(|(key, epoch)| (key.ident(), *epoch))
            .unzip();
        sqlx::query(self.sql(LIFE))
            .bind(idents)
            .bind(epochs)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn standings(
        &self,
        tx: &mut PgConnection,
        sessions: &[(ConsumerKey, i64)],
    ) -> Result<Vec<Standing>, sqlx::Error> {
        const STANDINGS: &str = "SELECT c.ident::text AS ident, c.epoch,
                s.epoch AS session_epoch, s.acked
            FROM evt_consumers c
            LEFT JOIN evt_sessions s ON s.stream = $1 AND s.ident = c.ident
            WHERE c.ident = ANY ($2) ORDER BY c.ident";
        let idents: Vec<String> = sessions.iter().map(|(key, _)| key.ident()).collect();
        let rows = sqlx::query(self.sql(STANDINGS))
            .bind(self.stream())
            .bind(&idents)
            .fetch_all(tx)
            .await?;
        let stored: HashMap<String, Epochs> = rows
            .iter()
            .map(|row| {
                let epochs = (row.get("epoch"), row.get("session_epoch"), row.get("acked"));
                (row.get("ident"), epochs)
            })
            .collect();
        let own = sessions.iter().zip(&idents);
        Ok(own
            .map(|((_, epoch), ident)| standing(*epoch, stored.get(ident)))
            .collect())
    }

    pub(super) async fn credit_session(
        &self,
        key: &ConsumerKey,
        epoch: Option<i64>,
        acked: EventId,
    ) -> Result<(), Error> {
        const CREDIT: &str = "UPDATE evt_sessions SET acked = $4
            WHERE stream = $1 AND ident = $2 AND ($3::bigint IS NULL OR epoch = $3)
                AND acked < $4";
        let mut connection = self.connections.write().await?;
        sqlx::query(CREDIT)
            .bind(self.stream())
            .bind(key.ident())
            .bind(epoch)
            .bind(acked.get())
            .execute(&mut *connection)
            .await
            .map_err(|error| commit_failed(&error))?;
        Ok(())
    }

    async fn beat_replica(&self, tx: &mut PgConnection, replica: Uuid) -> Result<(), sqlx::Error> {
        const BEAT: &str = "INSERT INTO evt_replicas (stream, replica, beat)
            VALUES ($1, $2, (date_part('epoch', clock_timestamp()) * 1000)::bigint)
            ON CONFLICT (stream, replica) DO UPDATE SET beat = excluded.beat";
        const FORGET: &str = "DELETE FROM evt_replicas WHERE (stream, replica) IN (
            SELECT stream, replica FROM evt_replicas
            WHERE stream = $1 AND beat < date_part('epoch', clock_timestamp()) * 1000 - $2
            ORDER BY replica FOR UPDATE SKIP LOCKED)";
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

fn standing(epoch: i64, stored: Option<&Epochs>) -> Standing {
    let Some(&(current, session, acked)) = stored else {
        return Standing::Stale(0);
    };
    match session {
        Some(session) if session == epoch && current == epoch => Standing::Current {
            acked: EventId::stored(acked.unwrap_or(0)),
        },
        Some(session) if session > epoch && current == session => Standing::TakenOver,
        _ => Standing::Stale(current),
    }
}
