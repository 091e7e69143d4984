//! Registrations and positions.
//!
//! Every write of a position carries its conditions in the WHERE: the old
//! position is lower, the epoch is still the caller's, the consumer is not
//! stopped (ARCHITECTURE, rule 3).

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{SqliteStore, connections::unavailable};
use crate::{
    event::{ConsumerKey, EventId, Label, Moment},
    store::{Advance, Advanced, Audit, Consumer, ConsumerPage, Error},
};

/// Columns of a consumer; ?1 is the stream, ?2 the lapse of sessions in ms.
const COLUMNS: &str = "SELECT c.ident, c.last_evt_id, c.epoch,
        unixepoch(c.reg_time, 'auto') * 1000 AS reg_time,
        unixepoch(c.last_time, 'auto') * 1000 AS last_time,
        (SELECT reason FROM evt_stopped s WHERE s.stream = ?1 AND s.ident = c.ident) AS stopped,
        coalesce((SELECT epoch FROM evt_rewinds r WHERE r.stream = ?1), 0) AS rewound,
        (SELECT label FROM evt_sessions s JOIN evt_replicas r USING (stream, replica)
         WHERE s.stream = ?1 AND s.ident = c.ident AND s.epoch = c.epoch
            AND r.beat > unixepoch('subsec') * 1000 - ?2) AS label,
        (SELECT place FROM evt_places p WHERE p.stream = ?1 AND p.ident = c.ident) AS place,
        (SELECT unixepoch(q.ts, 'auto') * 1000 FROM evt_queue q
         WHERE q.id > c.last_evt_id ORDER BY q.id LIMIT 1) AS missing,
        CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now
    FROM evt_consumers c ";

impl SqliteStore {
    pub(super) async fn read_consumer(&self, key: &ConsumerKey) -> Result<Option<Consumer>, Error> {
        let mut connection = self.connections.read().await?;
        self.consumer_row(&mut connection, key)
            .await
            .map_err(|error| unavailable(&error))
    }

    pub(super) async fn consumer_row(
        &self,
        connection: &mut SqliteConnection,
        key: &ConsumerKey,
    ) -> Result<Option<Consumer>, sqlx::Error> {
        const ONE: &str = "WHERE c.ident = ?3";
        let row = sqlx::query(self.sql2(COLUMNS, ONE))
            .bind(self.stream())
            .bind(self.lapse_millis())
            .bind(key.ident())
            .fetch_optional(connection)
            .await?;
        Ok(row.as_ref().and_then(consumer))
    }

    pub(super) async fn read_consumers(
        &self,
        page: &ConsumerPage<'_>,
    ) -> Result<Vec<Consumer>, Error> {
        // An ident is `{user}:{component}`, so a user's own begin with `{user}:`.
        const MANY: &str = "WHERE c.ident > ?3
            AND (?4 IS NULL OR substr(c.ident, 1, length(?4)) = ?4) ORDER BY c.ident LIMIT ?5";
        let mut connection = self.connections.read().await?;
        let mut found = Vec::new();
        let mut after = page.after.to_owned();
        loop {
            let missing = page.limit - found.len();
            let rows = sqlx::query(self.sql2(COLUMNS, MANY))
                .bind(self.stream())
                .bind(self.lapse_millis())
                .bind(&after)
                .bind(page.user.map(|user| format!("{}:", user.as_str())))
                .bind(i64::try_from(missing).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| unavailable(&error))?;
            found.extend(rows.iter().filter_map(consumer));
            // A page is short only at the end: a foreign ident does not count.
            match rows.last() {
                Some(last) if rows.len() == missing && found.len() < page.limit => {
                    after = last.get("ident");
                }
                _ => return Ok(found),
            }
        }
    }

    pub(super) async fn register_consumer(
        &self,
        key: &ConsumerKey,
        start: EventId,
    ) -> Result<(Consumer, bool), Error> {
        const REGISTER: &str = "INSERT INTO evt_consumers
                (ident, last_evt_id, reg_time, last_time, epoch)
            VALUES (?1, ?2, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, ?3)";
        if let Some(existing) = self.read_consumer(key).await? {
            return Ok((existing, false));
        }
        let mut tx = self.connections.begin().await?;
        let outcome: Result<_, sqlx::Error> = async {
            if let Some(existing) = self.consumer_row(&mut tx, key).await? {
                return Ok(Ok((existing, false)));
            }
            if let Some(gone) = self.discarded_above(&mut tx, start).await? {
                return Ok(Err(gone));
            }
            let epoch = self.next_epoch(&mut tx).await?;
            sqlx::query(self.sql(REGISTER))
                .bind(key.ident())
                .bind(start.get())
                .bind(epoch)
                .execute(&mut *tx)
                .await?;
            let made = self
                .consumer_row(&mut tx, key)
                .await?
                .ok_or(sqlx::Error::RowNotFound)?;
            Ok(Ok((made, true)))
        }
        .await;
        let outcome = outcome.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        outcome.map_err(Error::Discarded)
    }

    /// How far the discarder got, if that is above `place`.
    pub(super) async fn discarded_above(
        &self,
        tx: &mut SqliteConnection,
        place: EventId,
    ) -> Result<Option<EventId>, sqlx::Error> {
        const GONE: &str =
            "SELECT discarded_to FROM evt_stream WHERE stream = ?1 AND discarded_to > ?2";
        let gone: Option<i64> = sqlx::query_scalar(GONE)
            .bind(self.stream())
            .bind(place.get())
            .fetch_optional(tx)
            .await?;
        Ok(gone.map(EventId::stored))
    }

    /// Remembers that every id up to `to` may have been discarded.
    async fn note_discarded(
        &self,
        tx: &mut SqliteConnection,
        to: EventId,
    ) -> Result<(), sqlx::Error> {
        const NOTE: &str = "UPDATE evt_stream SET discarded_to = ?2
            WHERE stream = ?1 AND discarded_to < ?2";
        sqlx::query(NOTE)
            .bind(self.stream())
            .bind(to.get())
            .execute(tx)
            .await?;
        Ok(())
    }

    pub(super) async fn remove_consumer(&self, key: &ConsumerKey) -> Result<bool, Error> {
        const REMOVE: &str = "DELETE FROM evt_consumers WHERE ident = ?1";
        let mut tx = self.connections.begin().await?;
        let outcome: Result<_, sqlx::Error> = async {
            let removed = sqlx::query(self.sql(REMOVE))
                .bind(key.ident())
                .execute(&mut *tx)
                .await?;
            self.forget_consumer(&mut tx, key).await?;
            Ok(removed.rows_affected() > 0)
        }
        .await;
        let outcome = outcome.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(outcome)
    }

    /// What is left of a consumer whose row is deleted.
    pub(super) async fn forget_consumer(
        &self,
        tx: &mut SqliteConnection,
        key: &ConsumerKey,
    ) -> Result<(), sqlx::Error> {
        // A later registration must not have an epoch of before.
        self.next_epoch(tx).await?;
        self.forget_session(tx, key).await?;
        self.lift_stop(tx, key).await
    }

    pub(super) async fn seek_consumer(
        &self,
        key: &ConsumerKey,
        to: EventId,
        archived_to: EventId,
    ) -> Result<Option<Consumer>, Error> {
        const SEEK: &str = "UPDATE evt_consumers
            SET last_evt_id = ?2, epoch = ?3, last_time = CURRENT_TIMESTAMP WHERE ident = ?1";
        let mut tx = self.connections.begin().await?;
        let outcome: Result<_, sqlx::Error> = async {
            if let Some(gone) = self.discarded_above(&mut tx, to.max(archived_to)).await? {
                return Ok(Err(gone));
            }
            self.note_discarded(&mut tx, archived_to).await?;
            let epoch = self.next_epoch(&mut tx).await?;
            sqlx::query(self.sql(SEEK))
                .bind(key.ident())
                .bind(to.get())
                .bind(epoch)
                .execute(&mut *tx)
                .await?;
            self.forget_session(&mut tx, key).await?;
            self.lift_stop(&mut tx, key).await?;
            self.note_rewind(&mut tx, epoch).await?;
            Ok(Ok(self.consumer_row(&mut tx, key).await?))
        }
        .await;
        let outcome = outcome.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        outcome.map_err(Error::Discarded)
    }

    pub(super) async fn advance_positions(
        &self,
        frontier: EventId,
        moves: &[Advance],
    ) -> Result<Vec<Advanced>, Error> {
        const SAVE_FRONTIER: &str =
            "UPDATE evt_stream SET frontier = ?2 WHERE stream = ?1 AND frontier < ?2";
        let mut tx = self.connections.begin().await?;
        let outcomes: Result<_, sqlx::Error> = async {
            sqlx::query(SAVE_FRONTIER)
                .bind(self.stream())
                .bind(frontier.get())
                .execute(&mut *tx)
                .await?;
            let mut outcomes = Vec::with_capacity(moves.len());
            for one in moves {
                outcomes.push(self.advance_one(&mut tx, one).await?);
            }
            Ok(outcomes)
        }
        .await;
        let outcomes = outcomes.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(outcomes)
    }

    async fn advance_one(
        &self,
        tx: &mut SqliteConnection,
        one: &Advance,
    ) -> Result<Advanced, sqlx::Error> {
        // A position that does not move is a sign of life, noted once a minute.
        const ADVANCE: &str = "UPDATE evt_consumers
            SET last_evt_id = max(last_evt_id, ?2), last_time = CURRENT_TIMESTAMP
            WHERE ident = ?1 AND (?3 IS NULL OR epoch = ?3)
                AND (last_evt_id < ?2 OR unixepoch(last_time, 'auto') < unixepoch() - 60)
                AND NOT EXISTS (SELECT 1 FROM evt_stopped WHERE stream = ?4 AND ident = ?1)
            RETURNING last_evt_id";
        const STANDING: &str = "SELECT last_evt_id, epoch,
                EXISTS (SELECT 1 FROM evt_stopped WHERE stream = ?2 AND ident = ?1) AS stopped
            FROM evt_consumers WHERE ident = ?1";
        let ident = one.key.ident();
        let moved: Option<i64> = sqlx::query_scalar(self.sql(ADVANCE))
            .bind(&ident)
            .bind(one.to.get())
            .bind(one.epoch)
            .bind(self.stream())
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(position) = moved {
            return Ok(Advanced::At(EventId::stored(position)));
        }
        let row = sqlx::query(self.sql(STANDING))
            .bind(&ident)
            .bind(self.stream())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else {
            return Ok(Advanced::Unknown);
        };
        let (position, epoch, stopped): (i64, i64, bool) =
            (row.get("last_evt_id"), row.get("epoch"), row.get("stopped"));
        Ok(match one.epoch {
            Some(expected) if expected != epoch => Advanced::Stale(epoch),
            _ if stopped => Advanced::Stopped,
            _ => Advanced::At(EventId::stored(position)),
        })
    }

    pub(super) async fn audit_positions(&self, known: EventId) -> Result<Audit, Error> {
        const ENDS: &str = "SELECT
            coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'evt_queue'), 0) AS head,
            (SELECT frontier FROM evt_stream WHERE stream = ?1) AS frontier,
            (SELECT max(last_evt_id) FROM evt_consumers) AS position";
        const STOP: &str = "INSERT INTO evt_stopped (stream, ident, reason)
            SELECT ?1, ident, 'its position ' || last_evt_id || ' is above the highest id ' || ?2
                || ': the database was restored from an older copy; seek it to go on'
            FROM evt_consumers WHERE last_evt_id > ?2 ON CONFLICT DO NOTHING";
        const LOWER: &str = "UPDATE evt_stream SET frontier = min(frontier, ?2) WHERE stream = ?1";
        const STOPPED: &str = "SELECT ident FROM evt_stopped WHERE stream = ?1 ORDER BY ident";
        let stream = self.stream();
        let mut tx = self.connections.begin().await?;
        let audit: Result<_, sqlx::Error> = async {
            let row = sqlx::query(self.sql(ENDS))
                .bind(stream)
                .fetch_one(&mut *tx)
                .await?;
            let head: i64 = row.get("head");
            let saved = row.get::<Option<i64>, _>("frontier").unwrap_or(0);
            let position = row.get::<Option<i64>, _>("position").unwrap_or(0);
            let highest = known.get().max(saved).max(position);
            if highest > head {
                sqlx::query(self.sql(STOP))
                    .bind(stream)
                    .bind(head)
                    .execute(&mut *tx)
                    .await?;
                sqlx::query(LOWER)
                    .bind(stream)
                    .bind(head)
                    .execute(&mut *tx)
                    .await?;
                self.forget_decisions(&mut tx, head).await?;
            }
            let stopped = sqlx::query_scalar(STOPPED)
                .bind(stream)
                .fetch_all(&mut *tx)
                .await?;
            Ok(Audit {
                frontier: EventId::stored(saved.min(head)),
                head: EventId::stored(head),
                lost_above_head: (highest > head).then(|| EventId::stored(highest)),
                stopped,
            })
        }
        .await;
        let audit = audit.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(audit)
    }

    /// A new fencing number from the one counter. It never falls behind the
    /// clock, so that it stays unique although a restored copy is set back.
    pub(super) async fn next_epoch(&self, tx: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
        const NEXT: &str = "UPDATE evt_stream
            SET epoch = max(epoch + 1, CAST(unixepoch('subsec') * 1000 AS INTEGER))
            WHERE stream = ?1 RETURNING epoch";
        sqlx::query_scalar(NEXT)
            .bind(self.stream())
            .fetch_one(tx)
            .await
    }

    async fn lift_stop(
        &self,
        tx: &mut SqliteConnection,
        key: &ConsumerKey,
    ) -> Result<(), sqlx::Error> {
        const LIFT: &str = "DELETE FROM evt_stopped WHERE stream = ?1 AND ident = ?2";
        sqlx::query(LIFT)
            .bind(self.stream())
            .bind(key.ident())
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// `None` for an ident that no service of this kind wrote.
fn consumer(row: &SqliteRow) -> Option<Consumer> {
    let moment = |column: &str| {
        row.get::<Option<i64>, _>(column)
            .map(Moment::from_unix_millis)
    };
    let label: Option<&str> = row.get("label");
    Some(Consumer {
        key: ConsumerKey::from_ident(row.get("ident"))?,
        position: EventId::stored(row.get("last_evt_id")),
        epoch: row.get("epoch"),
        reg_time: moment("reg_time"),
        last_time: moment("last_time"),
        place: row
            .get::<Option<String>, _>("place")
            .filter(|_| label.is_some()),
        session: label.map(|label| Label::parse(label).unwrap_or_default()),
        stopped: row.get("stopped"),
        rewound: row.get("rewound"),
        oldest_missing: moment("missing"),
        now: Moment::from_unix_millis(row.get("now")),
    })
}
