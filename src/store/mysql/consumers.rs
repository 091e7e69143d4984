//! Registrations and positions.
//!
//! Every write of a position carries its conditions in the WHERE: the old
//! position is lower, the epoch is still the caller's, the consumer is not
//! stopped (ARCHITECTURE, rule 3). Rows are locked in one order everywhere:
//! consumers by ident, then `evt_stream`, then what hangs on a consumer.
//!
//! An adopted column may not tell letters apart by case. So a row is found by
//! the column's own rules, which its index follows, and taken for the consumer
//! only if its ident is the same to the letter.

use std::collections::{BTreeMap, btree_map::Entry};

use sqlx::{MySqlConnection, Row, mysql::MySqlRow};

use super::{
    MysqlStore,
    errors::{is_duplicate, unavailable},
};
use crate::{
    event::{ConsumerKey, EventId, Label, Moment},
    store::{Advance, Advanced, Audit, Consumer, ConsumerPage, Error},
};

/// Columns of a consumer; the stream twice, the lapse of sessions in ms, and the
/// stream twice more.
const COLUMNS: &str = "SELECT c.ident, CAST(c.last_evt_id AS SIGNED) AS reached, c.epoch,
        TIMESTAMPDIFF(SECOND, '1970-01-01', c.reg_time) * 1000 AS reg_millis,
        TIMESTAMPDIFF(SECOND, '1970-01-01', c.last_time) * 1000 AS last_millis,
        (SELECT s.reason FROM evt_stopped s WHERE s.stream = ? AND s.ident = c.ident) AS stopped,
        (SELECT s.label FROM evt_sessions s
         JOIN evt_replicas r ON r.stream = s.stream AND r.replica = s.replica
         WHERE s.stream = ? AND s.ident = c.ident AND s.epoch = c.epoch
            AND r.beat > CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - ?) AS label,
        CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) AS now_millis,
        COALESCE((SELECT epoch FROM evt_rewinds r WHERE r.stream = ?), 0) AS rewound,
        (SELECT p.place FROM evt_places p WHERE p.stream = ? AND p.ident = c.ident) AS place
    FROM evt_consumers c ";

/// A consumer's row under our lock.
struct Locked {
    /// Its primary key, which finds it again.
    row: i64,
    position: i64,
    epoch: i64,
    /// Whether its last sign of life is more than a minute old.
    quiet: bool,
    /// Where the moves of this batch bring it; `None`: nothing to write.
    target: Option<i64>,
}

impl MysqlStore {
    pub(super) async fn read_consumer(&self, key: &ConsumerKey) -> Result<Option<Consumer>, Error> {
        let mut connection = self.connections.read().await?;
        self.consumer_row(&mut connection, key)
            .await
            .map_err(|error| unavailable(&error))
    }

    pub(super) async fn consumer_row(
        &self,
        connection: &mut MySqlConnection,
        key: &ConsumerKey,
    ) -> Result<Option<Consumer>, sqlx::Error> {
        const ONE: &str = "WHERE c.ident = ?";
        let row = sqlx::query(self.sql2(COLUMNS, ONE))
            .bind(self.stream())
            .bind(self.stream())
            .bind(self.lapse_millis())
            .bind(self.stream())
            .bind(self.stream())
            .bind(key.ident())
            .fetch_optional(&mut *connection)
            .await?;
        let found = row.as_ref().and_then(consumer);
        let Some(mut found) = found.filter(|found| found.key == *key) else {
            return Ok(None);
        };
        found.oldest_missing = self.missing_after(connection, found.position).await?;
        Ok(Some(found))
    }

    /// `ts` of the oldest kept event above a position. A statement of its own:
    /// inside another one the servers would not use the primary key for it.
    async fn missing_after(
        &self,
        connection: &mut MySqlConnection,
        position: EventId,
    ) -> Result<Option<Moment>, sqlx::Error> {
        const MISSING: &str = "SELECT TIMESTAMPDIFF(SECOND, '1970-01-01', ts) * 1000
            FROM evt_queue WHERE id > ? ORDER BY id LIMIT 1";
        let millis: Option<Option<i64>> = sqlx::query_scalar(self.sql(MISSING))
            .bind(position.get())
            .fetch_optional(connection)
            .await?;
        Ok(millis.flatten().map(Moment::from_unix_millis))
    }

    /// Locks a consumer's row to the end of the transaction; false if there is
    /// none. What is read after it is what it is.
    pub(super) async fn lock_consumer(
        &self,
        tx: &mut MySqlConnection,
        key: &ConsumerKey,
    ) -> Result<bool, sqlx::Error> {
        const LOCK: &str = "SELECT ident FROM evt_consumers WHERE ident = ? FOR UPDATE";
        let found: Option<String> = sqlx::query_scalar(self.sql(LOCK))
            .bind(key.ident())
            .fetch_optional(tx)
            .await?;
        Ok(found.is_some_and(|found| found == key.ident()))
    }

    pub(super) async fn read_consumers(
        &self,
        page: &ConsumerPage<'_>,
    ) -> Result<Vec<Consumer>, Error> {
        // An ident is `{user}:{component}`, so a user's own begin with `{user}:`.
        // By bytes of UTF-8, whatever the column's collation is.
        const MANY: &str = "WHERE CAST(CONVERT(c.ident USING utf8mb4) AS BINARY) > ?
            AND LEFT(CAST(CONVERT(c.ident USING utf8mb4) AS BINARY), ?) = ?
            ORDER BY CAST(CONVERT(c.ident USING utf8mb4) AS BINARY) LIMIT ?";
        let mut connection = self.connections.read().await?;
        let own = page.user.map(|user| format!("{}:", user.as_str()));
        let own = own.unwrap_or_default().into_bytes();
        let mut found = Vec::new();
        let mut after = page.after.to_owned();
        loop {
            let missing = page.limit - found.len();
            let rows = sqlx::query(self.sql2(COLUMNS, MANY))
                .bind(self.stream())
                .bind(self.stream())
                .bind(self.lapse_millis())
                .bind(self.stream())
                .bind(self.stream())
                .bind(after.into_bytes())
                .bind(own.len() as u64)
                .bind(&own)
                .bind(missing as u64)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| unavailable(&error))?;
            found.extend(rows.iter().filter_map(consumer));
            // A page is short only at the end: a foreign ident does not count.
            match rows.last() {
                Some(last) if rows.len() == missing && found.len() < page.limit => {
                    after = last.get("ident");
                }
                _ => break,
            }
        }
        let told = self.tell_missing(&mut connection, &mut found).await;
        told.map_err(|error| unavailable(&error))?;
        Ok(found)
    }

    /// Fills in what each of these waits for; most stand at few places.
    async fn tell_missing(
        &self,
        connection: &mut MySqlConnection,
        consumers: &mut [Consumer],
    ) -> Result<(), sqlx::Error> {
        let mut told: BTreeMap<EventId, Option<Moment>> = BTreeMap::new();
        for consumer in consumers {
            consumer.oldest_missing = match told.entry(consumer.position) {
                Entry::Occupied(told) => *told.get(),
                Entry::Vacant(new) => {
                    *new.insert(self.missing_after(connection, consumer.position).await?)
                }
            };
        }
        Ok(())
    }

    pub(super) async fn register_consumer(
        &self,
        key: &ConsumerKey,
        start: EventId,
    ) -> Result<(Consumer, bool), Error> {
        // Also because every attempt to insert uses up one of the 32 767 ids
        // that a SMALLINT has.
        if let Some(existing) = self.read_consumer(key).await? {
            return Ok((existing, false));
        }
        let made = self.transaction(|mut tx| async move {
            let made = self.try_register(&mut tx, key, start).await?;
            Ok((tx, made))
        });
        made.await?.map_err(Error::Discarded)?.ok_or_else(|| {
            Error::Contract(format!(
                "a consumer is registered whose name differs from {key} only in what the collation \
                 of {}.ident does not tell apart, such as upper and lower case; eventstream \
                 migrate --widen makes it tell",
                self.options.common.names.consumers
            ))
        })
    }

    /// `None` if another consumer has what is the same name to the column.
    async fn try_register(
        &self,
        tx: &mut MySqlConnection,
        key: &ConsumerKey,
        start: EventId,
    ) -> Result<Result<Option<(Consumer, bool)>, EventId>, sqlx::Error> {
        // The epoch follows: the consumer's row is locked before the stream's.
        const REGISTER: &str = "INSERT INTO evt_consumers
                (ident, last_evt_id, reg_time, last_time, epoch)
            VALUES (?, ?, UTC_TIMESTAMP(), UTC_TIMESTAMP(), 0)";
        const BEGIN_EPOCH: &str = "UPDATE evt_consumers SET epoch = ? WHERE ident = ?";
        const HELD: &str = "SELECT 1 FROM evt_consumers WHERE ident = ?";
        const UNDO: &str = "DELETE FROM evt_consumers WHERE ident = ?";
        let made = sqlx::query(self.sql(REGISTER))
            .bind(key.ident())
            .bind(start.get())
            .execute(&mut *tx)
            .await;
        let duplicate = match made {
            Ok(_) => None,
            Err(error) if is_duplicate(&error) => Some(error),
            Err(error) => return Err(error),
        };
        if duplicate.is_none() {
            let epoch = self.next_epoch(tx).await?;
            if let Some(gone) = self.discarded_above(tx, start).await? {
                sqlx::query(self.sql(UNDO))
                    .bind(key.ident())
                    .execute(tx)
                    .await?;
                return Ok(Err(gone));
            }
            sqlx::query(self.sql(BEGIN_EPOCH))
                .bind(epoch)
                .bind(key.ident())
                .execute(&mut *tx)
                .await?;
            self.note_witness(tx).await?;
        }
        if let Some(row) = self.consumer_row(tx, key).await? {
            return Ok(Ok(Some((row, duplicate.is_none()))));
        }
        let held = sqlx::query(self.sql(HELD))
            .bind(key.ident())
            .fetch_optional(tx)
            .await?;
        match duplicate {
            // Not the name: the primary key has run out.
            Some(error) if held.is_none() => Err(error),
            _ => Ok(Ok(None)),
        }
    }

    /// How far the discarder got, if that is above `place`. To be asked under
    /// the lock of the stream's row: nothing more is discarded before the end
    /// of the transaction.
    pub(super) async fn discarded_above(
        &self,
        tx: &mut MySqlConnection,
        place: EventId,
    ) -> Result<Option<EventId>, sqlx::Error> {
        const GONE: &str =
            "SELECT discarded_to FROM evt_stream WHERE stream = ? AND discarded_to > ?";
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
        tx: &mut MySqlConnection,
        to: EventId,
    ) -> Result<(), sqlx::Error> {
        const NOTE: &str = "UPDATE evt_stream SET discarded_to = ?
            WHERE stream = ? AND discarded_to < ?";
        sqlx::query(NOTE)
            .bind(to.get())
            .bind(self.stream())
            .bind(to.get())
            .execute(tx)
            .await?;
        Ok(())
    }

    pub(super) async fn remove_consumer(&self, key: &ConsumerKey) -> Result<bool, Error> {
        const REMOVE: &str = "DELETE FROM evt_consumers WHERE ident = ?";
        self.transaction(|mut tx| async move {
            let found = self.lock_consumer(&mut tx, key).await?;
            if found {
                sqlx::query(self.sql(REMOVE))
                    .bind(key.ident())
                    .execute(&mut *tx)
                    .await?;
            }
            self.forget_consumer(&mut tx, key).await?;
            Ok((tx, found))
        })
        .await
    }

    /// What is left of a consumer whose row is deleted.
    pub(super) async fn forget_consumer(
        &self,
        tx: &mut MySqlConnection,
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
            SET last_evt_id = ?, epoch = ?, last_time = UTC_TIMESTAMP() WHERE ident = ?";
        let sought = self.transaction(|mut tx| async move {
            if !self.lock_consumer(&mut tx, key).await? {
                return Ok((tx, Ok(None)));
            }
            let epoch = self.next_epoch(&mut tx).await?;
            let kept_after = to.max(archived_to);
            if let Some(gone) = self.discarded_above(&mut tx, kept_after).await? {
                return Ok((tx, Err(gone)));
            }
            self.note_discarded(&mut tx, archived_to).await?;
            sqlx::query(self.sql(SEEK))
                .bind(to.get())
                .bind(epoch)
                .bind(key.ident())
                .execute(&mut *tx)
                .await?;
            self.forget_session(&mut tx, key).await?;
            self.lift_stop(&mut tx, key).await?;
            self.note_rewind(&mut tx, epoch).await?;
            self.note_witness(&mut tx).await?;
            let sought = self.consumer_row(&mut tx, key).await?;
            Ok((tx, Ok(sought)))
        });
        sought.await?.map_err(Error::Discarded)
    }

    pub(super) async fn advance_positions(
        &self,
        frontier: EventId,
        moves: &[Advance],
    ) -> Result<Vec<Advanced>, Error> {
        self.transaction(|mut tx| async move {
            let mut rows = self.lock_positions(&mut tx, moves).await?;
            let stopped = self.save_frontier(&mut tx, frontier).await?;
            let outcomes = moves
                .iter()
                .map(|one| decide(&mut rows, &stopped, one))
                .collect();
            self.write_positions(&mut tx, &rows).await?;
            self.note_witness(&mut tx).await?;
            Ok((tx, outcomes))
        })
        .await
    }

    /// Every consumer of a batch, locked in the order of idents.
    async fn lock_positions(
        &self,
        tx: &mut MySqlConnection,
        moves: &[Advance],
    ) -> Result<BTreeMap<String, Locked>, sqlx::Error> {
        const LOCK: &str = "SELECT CAST(id AS SIGNED) AS row_id, ident,
                CAST(last_evt_id AS SIGNED) AS reached, epoch,
                CAST(last_time < UTC_TIMESTAMP() - INTERVAL 1 MINUTE AS SIGNED) AS quiet
            FROM evt_consumers WHERE ident IN (ROWS) ORDER BY ident FOR UPDATE";
        if moves.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut query = self.query_of(LOCK, "?", moves.len());
        for one in moves {
            query = query.bind(one.key.ident());
        }
        let rows = query.fetch_all(tx).await?;
        let locked = |row: &MySqlRow| {
            let locked = Locked {
                row: row.get("row_id"),
                position: row.get("reached"),
                epoch: row.get("epoch"),
                quiet: row.get::<Option<i64>, _>("quiet") == Some(1),
                target: None,
            };
            (row.get("ident"), locked)
        };
        Ok(rows.iter().map(locked).collect())
    }

    /// Saves the frontier and returns the consumers that are stopped.
    async fn save_frontier(
        &self,
        tx: &mut MySqlConnection,
        frontier: EventId,
    ) -> Result<Vec<String>, sqlx::Error> {
        const SAVE: &str = "UPDATE evt_stream
            SET frontier = GREATEST(frontier, ?), discarded_to = GREATEST(discarded_to, ?)
            WHERE stream = ? AND (frontier < ? OR discarded_to < ?)";
        const STOPPED: &str = "SELECT ident FROM evt_stopped WHERE stream = ? ORDER BY ident";
        let discarded = self.with_shared(|shared| shared.low_end.discarded);
        sqlx::query(SAVE)
            .bind(frontier.get())
            .bind(discarded)
            .bind(self.stream())
            .bind(frontier.get())
            .bind(discarded)
            .execute(&mut *tx)
            .await?;
        sqlx::query_scalar(STOPPED)
            .bind(self.stream())
            .fetch_all(tx)
            .await
    }

    async fn write_positions(
        &self,
        tx: &mut MySqlConnection,
        rows: &BTreeMap<String, Locked>,
    ) -> Result<(), sqlx::Error> {
        // Many rows in one statement of one text: numbers travel as JSON.
        const ADVANCE: &str = "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
                row_id INT PATH '$[0]', target BIGINT PATH '$[1]', epoch BIGINT PATH '$[2]'
            )) AS moved STRAIGHT_JOIN evt_consumers c ON c.id = moved.row_id
            SET c.last_evt_id = moved.target, c.last_time = UTC_TIMESTAMP()
            WHERE c.epoch = moved.epoch AND c.last_evt_id <= moved.target
                AND NOT EXISTS (
                    SELECT 1 FROM evt_stopped s WHERE s.stream = ? AND s.ident = c.ident)";
        let moved: Vec<String> = rows
            .values()
            .filter_map(|row| Some(format!("[{},{},{}]", row.row, row.target?, row.epoch)))
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        let written = sqlx::query(self.sql(ADVANCE))
            .bind(format!("[{}]", moved.join(",")))
            .bind(self.stream())
            .execute(tx)
            .await?;
        // Rows that were found count, be they changed or not.
        if written.rows_affected() == moved.len() as u64 {
            Ok(())
        } else {
            // A stop that was set meanwhile: nothing of this batch is written.
            Err(sqlx::Error::RowNotFound)
        }
    }

    pub(super) async fn audit_positions(&self, known: EventId) -> Result<Audit, Error> {
        self.transaction(|mut tx| async move {
            let audit = self.try_audit(&mut tx, known).await?;
            Ok((tx, audit))
        })
        .await
    }

    async fn try_audit(
        &self,
        tx: &mut MySqlConnection,
        known: EventId,
    ) -> Result<Audit, sqlx::Error> {
        const FRONTIER: &str = "SELECT frontier FROM evt_stream WHERE stream = ?";
        const POSITION: &str = "SELECT CAST(last_evt_id AS SIGNED) FROM evt_consumers
            ORDER BY last_evt_id DESC LIMIT 1";
        const STOP: &str = "INSERT INTO evt_stopped (stream, ident, reason)
            SELECT ?, c.ident, CONCAT('its position ', c.last_evt_id, ' is above the highest id ',
                ?, ': the database was restored from an older copy; seek it to go on')
            FROM evt_consumers c WHERE c.last_evt_id > ? ORDER BY c.ident
            ON DUPLICATE KEY UPDATE reason = evt_stopped.reason";
        const LOWER: &str = "UPDATE evt_stream
            SET frontier = LEAST(frontier, ?), discarded_to = LEAST(discarded_to, ?),
                witness = 0
            WHERE stream = ?";
        const STOPPED: &str = "SELECT ident FROM evt_stopped WHERE stream = ? ORDER BY ident";
        let saved: Option<i64> = sqlx::query_scalar(FRONTIER)
            .bind(self.stream())
            .fetch_optional(&mut *tx)
            .await?;
        let saved = EventId::stored(saved.unwrap_or(0));
        let position: Option<i64> = sqlx::query_scalar(self.sql(POSITION))
            .fetch_optional(&mut *tx)
            .await?;
        let position = EventId::stored(position.unwrap_or(0));
        let highest = known.max(saved).max(position);
        // Later than the positions: an id that is drawn meanwhile is below it.
        let head = self.head(tx, highest).await?;
        if highest > head {
            sqlx::query(LOWER)
                .bind(head.get())
                .bind(head.get())
                .bind(self.stream())
                .execute(&mut *tx)
                .await?;
            sqlx::query(self.sql(STOP))
                .bind(self.stream())
                .bind(head.get())
                .bind(head.get())
                .execute(&mut *tx)
                .await?;
            self.forget_decisions(tx, head).await?;
        }
        let stopped = sqlx::query_scalar(STOPPED)
            .bind(self.stream())
            .fetch_all(tx)
            .await?;
        Ok(Audit {
            frontier: saved.min(head),
            head,
            lost_above_head: (highest > head).then_some(highest),
            stopped,
        })
    }

    /// A new fencing number from the one counter; the stream's row is locked to
    /// the end of the transaction. It never falls behind the clock, so that it
    /// stays unique although a restored copy is set back.
    pub(super) async fn next_epoch(&self, tx: &mut MySqlConnection) -> Result<i64, sqlx::Error> {
        // What LAST_INSERT_ID is given comes back with the answer.
        const NEXT: &str = "UPDATE evt_stream SET epoch = LAST_INSERT_ID(
                GREATEST(epoch + 1, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)))
            WHERE stream = ?";
        let next = sqlx::query(NEXT).bind(self.stream()).execute(tx).await?;
        match i64::try_from(next.last_insert_id()) {
            Ok(epoch) if epoch > 0 => Ok(epoch),
            _ => Err(sqlx::Error::RowNotFound),
        }
    }

    async fn lift_stop(
        &self,
        tx: &mut MySqlConnection,
        key: &ConsumerKey,
    ) -> Result<(), sqlx::Error> {
        const LIFT: &str = "DELETE FROM evt_stopped WHERE stream = ? AND ident = ?";
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
fn consumer(row: &MySqlRow) -> Option<Consumer> {
    let moment = |column: &str| {
        row.get::<Option<i64>, _>(column)
            .map(Moment::from_unix_millis)
    };
    let label: Option<&str> = row.get("label");
    Some(Consumer {
        key: ConsumerKey::from_ident(row.get("ident"))?,
        position: EventId::stored(row.get("reached")),
        epoch: row.get("epoch"),
        reg_time: moment("reg_millis"),
        last_time: moment("last_millis"),
        place: row
            .get::<Option<String>, _>("place")
            .filter(|_| label.is_some()),
        session: label.map(|label| Label::parse(label).unwrap_or_default()),
        stopped: row.get("stopped"),
        oldest_missing: None,
        now: Moment::from_unix_millis(row.get("now_millis")),
        rewound: row.get("rewound"),
    })
}
