//! Registrations and positions.
//!
//! Every write of a position carries its conditions in the WHERE: the old
//! position is lower, the epoch is still the caller's, the consumer is not
//! stopped (ARCHITECTURE, rule 3). Rows are locked in one order everywhere:
//! consumers by ident, then `evt_stream`, then what hangs on a consumer.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    PostgresStore,
    connections::{WriteTx, unavailable},
};
use crate::{
    event::{ConsumerKey, EventId, Label, Moment},
    store::{Advance, Advanced, Audit, Consumer, ConsumerPage, Error},
};

/// Columns of a consumer; $1 is the stream, $2 the lapse of sessions in ms.
const COLUMNS: &str = "SELECT c.ident::text AS ident, c.last_evt_id, c.epoch,
        floor(date_part('epoch', c.reg_time))::bigint * 1000 AS reg_time,
        floor(date_part('epoch', c.last_time))::bigint * 1000 AS last_time,
        (SELECT reason FROM evt_stopped s WHERE s.stream = $1 AND s.ident = c.ident) AS stopped,
        coalesce((SELECT epoch FROM evt_rewinds r WHERE r.stream = $1), 0) AS rewound,
        (SELECT label FROM evt_sessions s JOIN evt_replicas r USING (stream, replica)
         WHERE s.stream = $1 AND s.ident = c.ident AND s.epoch = c.epoch
            AND r.beat > date_part('epoch', clock_timestamp()) * 1000 - $2) AS label,
        (SELECT place FROM evt_places p WHERE p.stream = $1 AND p.ident = c.ident) AS place,
        (SELECT CASE WHEN isfinite(q.ts) THEN floor(date_part('epoch', q.ts))::bigint * 1000 END
         FROM evt_queue q WHERE q.id > c.last_evt_id ORDER BY q.id LIMIT 1) AS missing,
        (date_part('epoch', clock_timestamp()) * 1000)::bigint AS now
    FROM evt_consumers c ";

/// A consumer's row under our lock.
struct Locked {
    position: i64,
    epoch: i64,
    /// Whether its last sign of life is more than a minute old.
    quiet: bool,
    /// Where the moves of this batch bring it; `None`: nothing to write.
    target: Option<i64>,
}

impl PostgresStore {
    pub(super) async fn read_consumer(&self, key: &ConsumerKey) -> Result<Option<Consumer>, Error> {
        let mut connection = self.connections.read().await?;
        self.consumer_row(&mut connection, key)
            .await
            .map_err(|error| unavailable(&error))
    }

    pub(super) async fn consumer_row(
        &self,
        connection: &mut PgConnection,
        key: &ConsumerKey,
    ) -> Result<Option<Consumer>, sqlx::Error> {
        const ONE: &str = "WHERE c.ident = $3";
        let row = sqlx::query(self.sql2(COLUMNS, ONE))
            .bind(self.stream())
            .bind(self.lapse_millis())
            .bind(key.ident())
            .fetch_optional(connection)
            .await?;
        Ok(row.as_ref().and_then(consumer))
    }

    /// Locks a consumer's row to the end of the transaction; false if there is
    /// none. What is read after it is what it is.
    pub(super) async fn lock_consumer(
        &self,
        tx: &mut PgConnection,
        key: &ConsumerKey,
    ) -> Result<bool, sqlx::Error> {
        const LOCK: &str = "SELECT 1 FROM evt_consumers WHERE ident = $1 FOR UPDATE";
        let row = sqlx::query(self.sql(LOCK))
            .bind(key.ident())
            .fetch_optional(tx)
            .await?;
        Ok(row.is_some())
    }

    pub(super) async fn read_consumers(
        &self,
        page: &ConsumerPage<'_>,
    ) -> Result<Vec<Consumer>, Error> {
        // An ident is `{user}:{component}`, so a user's own begin with `{user}:`.
        // By code points, whatever the database's collation is.
        const MANY: &str = "WHERE c.ident COLLATE \"C\" > $3
            AND ($4::text IS NULL OR left(c.ident, length($4)) = $4)
            ORDER BY c.ident COLLATE \"C\" LIMIT $5";
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
        // The epoch follows: the consumer's row is locked before the stream's.
        const REGISTER: &str = "INSERT INTO evt_consumers
                (ident, last_evt_id, reg_time, last_time, epoch)
            VALUES ($1, $2, timezone('UTC', now()), timezone('UTC', now()), 0)
            ON CONFLICT (ident) DO NOTHING";
        const BEGIN_EPOCH: &str = "UPDATE evt_consumers SET epoch = $2 WHERE ident = $1";
        // Also because every attempt to insert uses up one of the 32 767 ids
        // that a serial2 has.
        if let Some(existing) = self.read_consumer(key).await? {
            return Ok((existing, false));
        }
        let mut tx = self.connections.begin().await?;
        let outcome: Result<_, sqlx::Error> = async {
            let made = sqlx::query(self.sql(REGISTER))
                .bind(key.ident())
                .bind(start.get())
                .execute(&mut *tx)
                .await?;
            let created = made.rows_affected() == 1;
            if created {
                let epoch = self.next_epoch(&mut tx).await?;
                if let Some(gone) = self.discarded_above(&mut tx, start).await? {
                    return Ok(Err(gone));
                }
                sqlx::query(self.sql(BEGIN_EPOCH))
                    .bind(key.ident())
                    .bind(epoch)
                    .execute(&mut *tx)
                    .await?;
            }
            self.note_witness(&mut tx).await?;
            let row = self.consumer_row(&mut tx, key).await?;
            Ok(Ok((row.ok_or(sqlx::Error::RowNotFound)?, created)))
        }
        .await;
        let outcome = outcome.map_err(|error| unavailable(&error))?;
        self.settle(tx, outcome).await
    }

    /// Commits, unless the place asked for was discarded meanwhile.
    async fn settle<T>(&self, tx: WriteTx, outcome: Result<T, EventId>) -> Result<T, Error> {
        match outcome {
            Ok(done) => tx.commit().await.map(|()| done),
            Err(gone) => {
                tx.rollback().await?;
                Err(Error::Discarded(gone))
            }
        }
    }

    /// How far the discarder got, if that is above `place`. To be asked under
    /// the lock of the stream's row: nothing more is discarded before the end
    /// of the transaction.
    pub(super) async fn discarded_above(
        &self,
        tx: &mut PgConnection,
        place: EventId,
    ) -> Result<Option<EventId>, sqlx::Error> {
        const GONE: &str =
            "SELECT discarded_to FROM evt_stream WHERE stream = $1 AND discarded_to > $2";
        let gone: Option<i64> = sqlx::query_scalar(GONE)
            .bind(self.stream())
            .bind(place.get())
            .fetch_optional(tx)
            .await?;
        Ok(gone.map(EventId::stored))
    }

    /// Remembers that every id up to `to` may have been discarded.
    async fn note_discarded(&self, tx: &mut PgConnection, to: EventId) -> Result<(), sqlx::Error> {
        const NOTE: &str = "UPDATE evt_stream SET discarded_to = $2
            WHERE stream = $1 AND discarded_to < $2";
        sqlx::query(NOTE)
            .bind(self.stream())
            .bind(to.get())
            .execute(tx)
            .await?;
        Ok(())
    }

    pub(super) async fn remove_consumer(&self, key: &ConsumerKey) -> Result<bool, Error> {
        const REMOVE: &str = "DELETE FROM evt_consumers WHERE ident = $1";
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
        tx: &mut PgConnection,
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
            SET last_evt_id = $2, epoch = $3, last_time = timezone('UTC', now())
            WHERE ident = $1";
        let mut tx = self.connections.begin().await?;
        let outcome: Result<_, sqlx::Error> = async {
            if !self.lock_consumer(&mut tx, key).await? {
                return Ok(Ok(None));
            }
            let epoch = self.next_epoch(&mut tx).await?;
            if let Some(gone) = self.discarded_above(&mut tx, to.max(archived_to)).await? {
                return Ok(Err(gone));
            }
            self.note_discarded(&mut tx, archived_to).await?;
            sqlx::query(self.sql(SEEK))
                .bind(key.ident())
                .bind(to.get())
                .bind(epoch)
                .execute(&mut *tx)
                .await?;
            self.forget_session(&mut tx, key).await?;
            self.lift_stop(&mut tx, key).await?;
            self.note_rewind(&mut tx, epoch).await?;
            self.note_witness(&mut tx).await?;
            Ok(Ok(self.consumer_row(&mut tx, key).await?))
        }
        .await;
        let outcome = outcome.map_err(|error| unavailable(&error))?;
        self.settle(tx, outcome).await
    }

    pub(super) async fn advance_positions(
        &self,
        frontier: EventId,
        moves: &[Advance],
    ) -> Result<Vec<Advanced>, Error> {
        let mut tx = self.connections.begin().await?;
        let outcomes: Result<_, sqlx::Error> = async {
            let mut rows = self.lock_positions(&mut tx, moves).await?;
            let stopped = self.save_frontier(&mut tx, frontier).await?;
            let outcomes = moves
                .iter()
                .map(|one| decide(&mut rows, &stopped, one))
                .collect();
            self.write_positions(&mut tx, &rows).await?;
            if moves.is_empty() {
                self.note_witness(&mut tx).await?;
            }
            Ok(outcomes)
        }
        .await;
        let outcomes = outcomes.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(outcomes)
    }

    /// Every consumer of a batch, locked in the order of idents.
    async fn lock_positions(
        &self,
        tx: &mut PgConnection,
        moves: &[Advance],
    ) -> Result<BTreeMap<String, Locked>, sqlx::Error> {
        const LOCK: &str = "SELECT ident::text AS ident, last_evt_id, epoch,
                last_time < timezone('UTC', now()) - interval '1 minute' AS quiet
            FROM evt_consumers WHERE ident = ANY ($1) ORDER BY ident FOR UPDATE";
        if moves.is_empty() {
            return Ok(BTreeMap::new());
        }
        let idents: Vec<String> = moves.iter().map(|one| one.key.ident()).collect();
        let rows = sqlx::query(self.sql(LOCK))
            .bind(idents)
            .fetch_all(tx)
            .await?;
        let locked = |row: &PgRow| {
            let locked = Locked {
                position: row.get("last_evt_id"),
                epoch: row.get("epoch"),
                quiet: row.get("quiet"),
                target: None,
            };
            (row.get("ident"), locked)
        };
        Ok(rows.iter().map(locked).collect())
    }

    /// Saves the frontier and returns the consumers that are stopped.
    async fn save_frontier(
        &self,
        tx: &mut PgConnection,
        frontier: EventId,
    ) -> Result<Vec<String>, sqlx::Error> {
        const SAVE: &str = "WITH saved AS (
                UPDATE evt_stream SET frontier = greatest(frontier, $2),
                    discarded_to = greatest(discarded_to, $3)
                WHERE stream = $1 AND (frontier < $2 OR discarded_to < $3))
            SELECT ident FROM evt_stopped WHERE stream = $1 ORDER BY ident";
        let discarded = self.with_shared(|shared| shared.low_end.discarded);
        sqlx::query_scalar(SAVE)
            .bind(self.stream())
            .bind(frontier.get())
            .bind(discarded)
            .fetch_all(tx)
            .await
    }

    async fn write_positions(
        &self,
        tx: &mut PgConnection,
        rows: &BTreeMap<String, Locked>,
    ) -> Result<(), sqlx::Error> {
        // The witness follows the slowest position in the same statement; see
        // `note_witness`, which reads what is stored.
        const ADVANCE: &str = "WITH moves AS MATERIALIZED (
                SELECT * FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS m (ident, target, epoch)),
            moved AS (
                UPDATE evt_consumers c
                SET last_evt_id = greatest(c.last_evt_id, m.target),
                    last_time = timezone('UTC', now())
                FROM moves m
                WHERE c.ident = m.ident AND c.epoch = m.epoch AND c.last_evt_id <= m.target
                    AND NOT EXISTS (SELECT FROM evt_stopped s
                        WHERE s.stream = $1 AND s.ident = c.ident)
                RETURNING 1),
            low AS (SELECT least((SELECT min(target) FROM moves), (
                SELECT last_evt_id FROM evt_consumers
                WHERE (last_evt_id > 0 OR epoch > 0) AND ident <> ALL ($2)
                ORDER BY last_evt_id LIMIT 1)) AS slowest),
            noted AS (
                UPDATE evt_stream s SET witness = next.id
                FROM (SELECT slowest, (SELECT id FROM evt_queue WHERE id > slowest
                    ORDER BY id LIMIT 1) AS id FROM low) AS next
                WHERE s.stream = $1 AND s.witness < next.id
                    AND (s.witness <= greatest(next.slowest, s.discarded_to)
                        OR EXISTS (SELECT FROM evt_queue q WHERE q.id = s.witness)))
            SELECT count(*) FROM moved";
        let moved = rows
            .iter()
            .filter_map(|(ident, row)| Some((ident.as_str(), row.target?, row.epoch)));
        let (mut idents, mut targets, mut epochs) = (Vec::new(), Vec::new(), Vec::new());
        for (ident, target, epoch) in moved {
            idents.push(ident);
            targets.push(target);
            epochs.push(epoch);
        }
        if idents.is_empty() {
            return Ok(());
        }
        let expected = idents.len();
        let written: i64 = sqlx::query_scalar(self.sql(ADVANCE))
            .bind(self.stream())
            .bind(idents)
            .bind(targets)
            .bind(epochs)
            .fetch_one(tx)
            .await?;
        if usize::try_from(written) == Ok(expected) {
            Ok(())
        } else {
            // A stop that was set meanwhile: nothing of this batch is written.
            Err(sqlx::Error::RowNotFound)
        }
    }

    /// Saves the lowest row above the slowest position, which must not vanish
    /// (see `discarded`). One that did vanish is kept until that was concluded.
    pub(super) async fn note_witness(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        const NOTE: &str = "UPDATE evt_stream s SET witness = next.id
            FROM (SELECT slowest, (SELECT id FROM evt_queue WHERE id > slowest
                    ORDER BY id LIMIT 1) AS id
                FROM (SELECT last_evt_id AS slowest FROM evt_consumers
                    WHERE last_evt_id > 0 OR epoch > 0 ORDER BY last_evt_id LIMIT 1) AS low) AS next
            WHERE s.stream = $1 AND s.witness <> next.id
                AND (s.witness <= greatest(next.slowest, s.discarded_to)
                    OR EXISTS (SELECT FROM evt_queue q WHERE q.id = s.witness))";
        sqlx::query(self.sql(NOTE))
            .bind(self.stream())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// What [`Self::note_witness`] saved before this process.
    pub(super) async fn saved_witness(&self) -> Result<i64, Error> {
        const WITNESS: &str = "SELECT coalesce(max(witness), 0) FROM evt_stream WHERE stream = $1";
        let mut connection = self.connections.read().await?;
        sqlx::query_scalar(WITNESS)
            .bind(self.stream())
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))
    }

    pub(super) async fn audit_positions(&self, known: EventId) -> Result<Audit, Error> {
        const ENDS: &str = "SELECT
            (SELECT frontier FROM evt_stream WHERE stream = $1) AS frontier,
            (SELECT last_evt_id FROM evt_consumers
             ORDER BY last_evt_id DESC LIMIT 1) AS position";
        const STOP: &str = "INSERT INTO evt_stopped (stream, ident, reason)
            SELECT $1, ident, 'its position ' || last_evt_id || ' is above the highest id '
                || $2::bigint || ': the database was restored from an older copy; seek it to go on'
            FROM evt_consumers WHERE last_evt_id > $2 ORDER BY ident ON CONFLICT DO NOTHING";
        const LOWER: &str = "UPDATE evt_stream
            SET frontier = least(frontier, $2), discarded_to = least(discarded_to, $2), witness = 0
            WHERE stream = $1";
        const STOPPED: &str = "SELECT ident FROM evt_stopped WHERE stream = $1 ORDER BY ident";
        let stream = self.stream();
        let mut tx = self.connections.begin().await?;
        let audit: Result<_, sqlx::Error> = async {
            let row = sqlx::query(self.sql(ENDS))
                .bind(stream)
                .fetch_one(&mut *tx)
                .await?;
            // Later than the positions: an id that is drawn meanwhile is below it.
            let head = self.read_head(&mut tx, known.get()).await?;
            let saved = row.get::<Option<i64>, _>("frontier").unwrap_or(0);
            let position = row.get::<Option<i64>, _>("position").unwrap_or(0);
            let highest = known.get().max(saved).max(position);
            if highest > head {
                sqlx::query(LOWER)
                    .bind(stream)
                    .bind(head)
                    .execute(&mut *tx)
                    .await?;
                sqlx::query(self.sql(STOP))
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

    /// A new fencing number from the one counter; the stream's row is locked to
    /// the end of the transaction. It never falls behind the clock, so that it
    /// stays unique although a restored copy is set back.
    pub(super) async fn next_epoch(&self, tx: &mut PgConnection) -> Result<i64, sqlx::Error> {
        const NEXT: &str = "UPDATE evt_stream
            SET epoch = greatest(epoch + 1, (date_part('epoch', clock_timestamp()) * 1000)::bigint)
            WHERE stream = $1 RETURNING epoch";
        sqlx::query_scalar(NEXT)
            .bind(self.stream())
            .fetch_one(tx)
            .await
    }

    async fn lift_stop(&self, tx: &mut PgConnection, key: &ConsumerKey) -> Result<(), sqlx::Error> {
        const LIFT: &str = "DELETE FROM evt_stopped WHERE stream = $1 AND ident = $2";
        sqlx::query(LIFT)
            .bind(self.stream())
            .bind(key.ident())
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// What one move comes to, under the locks; later ones of the same consumer
/// see it.
fn decide(rows: &mut BTreeMap<String, Locked>, stopped: &[String], one: &Advance) -> Advanced {
    let ident = one.key.ident();
    let Some(row) = rows.get_mut(&ident) else {
        return Advanced::Unknown;
    };
    if one.epoch.is_some_and(|epoch| epoch != row.epoch) {
        return Advanced::Stale(row.epoch);
    }
    if stopped.contains(&ident) {
        return Advanced::Stopped;
    }
    let to = one.to.get();
    // A position that does not move is a sign of life, noted once a minute.
    if to > row.position || row.quiet {
        row.position = row.position.max(to);
        row.target = Some(row.position);
        row.quiet = false;
    }
    Advanced::At(EventId::stored(row.position))
}

/// `None` for an ident that no service of this kind wrote.
fn consumer(row: &PgRow) -> Option<Consumer> {
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
