//! Push sessions and the heartbeats they depend on.

use std::collections::HashMap;

use sqlx::{MySqlConnection, Row};
use uuid::Uuid;

use super::{
    MysqlStore,
    errors::{commit_failed, unavailable},
};
use crate::{
    event::{ConsumerKey, EventId},
    store::{Error, NewSession, Opening, Standing},
};

/// Replicas that were silent for this many lapses are forgotten.
const FORGET_AFTER_LAPSES: i64 = 10;

/// Sessions that one statement removes.
const CLOSED_AT_ONCE: usize = 100;

/// A consumer's epoch, and its session's epoch and acknowledgement.
type Epochs = (i64, Option<i64>, Option<i64>);

impl MysqlStore {
    pub(super) async fn insert_session(&self, session: &NewSession) -> Result<Opening, Error> {
        self.transaction(|mut tx| async move {
            let opening = self.try_open(&mut tx, session).await?;
            Ok((tx, opening))
        })
        .await
    }

    async fn try_open(
        &self,
        tx: &mut MySqlConnection,
        session: &NewSession,
    ) -> Result<Opening, sqlx::Error> {
        const TAKE: &str = "UPDATE evt_consumers
            SET epoch = ?, last_time = UTC_TIMESTAMP() WHERE ident = ?";
        const OPEN: &str = "INSERT INTO evt_sessions
                (stream, ident, session, replica, epoch, acked, label)
            VALUES (?, ?, ?, ?, ?, 0, ?)
            ON DUPLICATE KEY UPDATE session = VALUES(session), replica = VALUES(replica),
                epoch = VALUES(epoch), acked = 0, label = VALUES(label)";
        const PLACE: &str = "INSERT INTO evt_places (stream, ident, place) VALUES (?, ?, ?)
            ON DUPLICATE KEY UPDATE place = VALUES(place)";
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
            .bind(epoch)
            .bind(session.key.ident())
            .execute(&mut *tx)
            .await?;
        sqlx::query(self.sql(OPEN))
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
        // A session's id is its own, so this finds nothing but the pairs.
        const CLOSE: &str = "DELETE FROM evt_sessions
            WHERE stream = ? AND ident IN (ROWS) AND session IN (ROWS)";
        let mut ended: Vec<(String, String)> = sessions
            .iter()
            .map(|(key, id)| (key.ident(), id.to_string()))
            .collect();
        ended.sort();
        let mut connection = self.connections.write().await?;
        for ended in ended.chunks(CLOSED_AT_ONCE) {
            let mut close = self.query_of(CLOSE, "?", ended.len()).bind(self.stream());
            for (ident, _) in ended {
                close = close.bind(ident);
            }
            for (_, session) in ended {
                close = close.bind(session);
            }
            close
                .execute(&mut *connection)
                .await
                .map_err(|error| commit_failed(&error))?;
        }
        Ok(())
    }

    pub(super) async fn forget_session(
        &self,
        tx: &mut MySqlConnection,
        key: &ConsumerKey,
    ) -> Result<(), sqlx::Error> {
        const FORGET: &str = "DELETE FROM evt_sessions WHERE stream = ? AND ident = ?";
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
        let mut connection = self.connections.write().await?;
        self.note_life(&mut connection, sessions)
            .await
            .map_err(|error| commit_failed(&error))?;
        self.beat_replica(&mut connection, replica)
            .await
            .map_err(|error| commit_failed(&error))?;
        let standings = self.standings(&mut connection, sessions).await;
        standings.map_err(|error| unavailable(&error))
    }

    /// An open session is a sign of life, noted once a minute, one row at a time.
    async fn note_life(
        &self,
        connection: &mut MySqlConnection,
        sessions: &[(ConsumerKey, i64)],
    ) -> Result<(), sqlx::Error> {
        // Looked for without locks: hardly ever is there one.
        const QUIET: &str = "SELECT ident, epoch FROM evt_consumers
            WHERE ident IN (ROWS) AND last_time < UTC_TIMESTAMP() - INTERVAL 1 MINUTE";
        const LIFE: &str = "UPDATE evt_consumers SET last_time = UTC_TIMESTAMP()
            WHERE ident = ? AND epoch = ?";
        if sessions.is_empty() {
            return Ok(());
        }
        let mut query = self.query_of(QUIET, "?", sessions.len());
        for (key, _) in sessions {
            query = query.bind(key.ident());
        }
        let rows = query.fetch_all(&mut *connection).await?;
        let quiet: HashMap<String, i64> = rows
            .iter()
            .map(|row| (row.get("ident"), row.get("epoch")))
            .collect();
        for (key, epoch) in sessions {
            if quiet.get(&key.ident()) == Some(epoch) {
                sqlx::query(self.sql(LIFE))
                    .bind(key.ident())
                    .bind(epoch)
                    .execute(&mut *connection)
                    .await?;
            }
        }
        Ok(())
    }

    async fn standings(
        &self,
        connection: &mut MySqlConnection,
        sessions: &[(ConsumerKey, i64)],
    ) -> Result<Vec<Standing>, sqlx::Error> {
        const STANDINGS: &str = "SELECT c.ident, c.epoch, s.epoch AS session_epoch, s.acked
            FROM evt_consumers c
            LEFT JOIN evt_sessions s ON s.stream = ? AND s.ident = c.ident
            WHERE c.ident IN (ROWS)";
        if sessions.is_empty() {
            return Ok(Vec::new());
        }
        let idents: Vec<String> = sessions.iter().map(|(key, _)| key.ident()).collect();
        let mut query = self
            .query_of(STANDINGS, "?", idents.len())
            .bind(self.stream());
        for ident in &idents {
            query = query.bind(ident);
        }
        let rows = query.fetch_all(connection).await?;
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
        const CREDIT: &str = "UPDATE evt_sessions SET acked = ?
            WHERE stream = ? AND ident = ? AND epoch = COALESCE(?, epoch) AND acked < ?";
        let mut connection = self.connections.write().await?;
        sqlx::query(CREDIT)
            .bind(acked.get())
            .bind(self.stream())
            .bind(key.ident())
            .bind(epoch)
            .bind(acked.get())
            .execute(&mut *connection)
            .await
            .map_err(|error| commit_failed(&error))?;
        Ok(())
    }

    async fn beat_replica(
        &self,
        connection: &mut MySqlConnection,
        replica: Uuid,
    ) -> Result<(), sqlx::Error> {
        const BEAT: &str = "INSERT INTO evt_replicas (stream, replica, beat)
            VALUES (?, ?, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED))
            ON DUPLICATE KEY UPDATE beat = VALUES(beat)";
        // Looked for without locks: hardly ever is there one.
        const SILENT: &str = "SELECT replica FROM evt_replicas
            WHERE stream = ? AND beat < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - ?
            ORDER BY replica LIMIT 100";
        const FORGET: &str = "DELETE FROM evt_replicas WHERE stream = ? AND replica = ?
            AND beat < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - ?";
        let lapse = self.lapse_millis().saturating_mul(FORGET_AFTER_LAPSES);
        sqlx::query(BEAT)
            .bind(self.stream())
            .bind(replica.to_string())
            .execute(&mut *connection)
            .await?;
        let silent: Vec<String> = sqlx::query_scalar(SILENT)
            .bind(self.stream())
            .bind(lapse)
            .fetch_all(&mut *connection)
            .await?;
        for replica in silent {
            sqlx::query(FORGET)
                .bind(self.stream())
                .bind(replica)
                .bind(lapse)
                .execute(&mut *connection)
                .await?;
        }
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
