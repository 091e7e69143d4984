//! The evidence of what is settled, collected in one order.
//!
//! On a connection of its own and in autocommit: each of S0 (sequence), S1
//! (lock holders) and S2 (rows) has its own snapshot, later than the one
//! before. A broken connection ends the evidence: the tailer makes a new tail.
//! Each answer carries the mark of the session, so that evidence of two servers
//! is never taken for that of one, whatever is between.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};
use tokio::time::{Instant, error::Elapsed, sleep_until, timeout};

use super::{
    PostgresStore,
    connections::unavailable,
    floors::Floors,
    head::Head,
    pooler::{READ_MARK, session_lost, unmixed},
    queue::event,
};
use crate::{
    event::{Event, EventId},
    limits,
    store::{Blocker, Effect, Error, IdRange, Proof, Tail, TailRead},
};

/// S1 costs the server with every lock that is held: sampling shall take at
/// most this part of the time.
const SAMPLE_PAUSE_FACTOR: u32 = 10;

/// But evidence is never older than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The queue and everything that inherits from it: a row inserted straight
/// into a partition locks nothing else.
const RELATIONS: &str = "WITH RECURSIVE relations AS (
        SELECT 'evt_queue'::regclass::oid AS oid
        UNION SELECT inhrelid FROM pg_inherits JOIN relations ON inhparent = relations.oid)
    ";

/// The tail of one PostgreSQL database.
pub(super) struct PostgresTail {
    store: PostgresStore,
    connection: Option<PgConnection>,
    /// What the session was marked with when it was opened.
    mark: String,
    floors: Floors,
    /// Every id up to this one is resolved: the last sample's result.
    proven: i64,
    next_sample: Instant,
}

/// What to do with rows above the highest id looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Above {
    Read,
    Leave,
}

/// Rows of S2.
struct Rows {
    events: Vec<Event>,
    /// Set if there were more: nothing above the last row was read.
    clipped: bool,
}

impl PostgresTail {
    pub(super) fn new(store: PostgresStore) -> Self {
        Self {
            store,
            connection: None,
            mark: String::new(),
            floors: Floors::default(),
            proven: 0,
            next_sample: Instant::now(),
        }
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        if self.connection.is_none() {
            // What was seen through another connection proves nothing.
            self.floors = Floors::default();
            self.proven = 0;
            let (connection, mark) = self.store.connections.apart().await?;
            (self.connection, self.mark) = (Some(connection), mark);
        }
        self.connection.as_mut().ok_or_else(|| Error::Lost {
            effect: Effect::None,
            cause: "no connection".into(),
        })
    }

    fn limit(&self) -> Duration {
        self.store.options.statement_timeout + super::GRACE
    }

    /// Keeps the connection only while it answers: a statement that was given
    /// up half way must not be followed by another.
    fn answered<T>(&mut self, outcome: Result<Result<T, Error>, Elapsed>) -> Result<T, Error> {
        let outcome = outcome.unwrap_or_else(|_elapsed| {
            Err(Error::Lost {
                effect: Effect::None,
                cause: format!("no answer within {:?}", self.limit()),
            })
        });
        if matches!(outcome, Err(Error::Lost { .. })) {
            self.connection = None;
        }
        outcome
    }

    /// Whether the session answered that was opened.
    fn expect_mark(&self, row: &PgRow) -> Result<(), Error> {
        match row.get::<Option<&str>, _>("session") {
            Some(mark) if mark == self.mark => Ok(()),
            _ => Err(session_lost()),
        }
    }

    /// S0.
    async fn last_value(&mut self) -> Result<i64, Error> {
        let (head, before) = (self.store.head(), self.floors.last_value());
        let text = head.sql(self.store.stream(), "$1");
        let sql = format!("SELECT ({text}) AS head, {READ_MARK} AS session");
        let connection = self.connection().await?;
        let query = sqlx::query(AssertSqlSafe(sql));
        let query = match head {
            Head::Rows => query.bind(before.unwrap_or(0)),
            Head::Sequence(_) | Head::LastValue(_) => query,
        };
        let row = query
            .fetch_one(connection)
            .await
            .map_err(|error| unavailable(&error))?;
        self.expect_mark(&row)?;
        let last_value: i64 = row.get("head");
        match before {
            Some(before) if last_value < before => Err(Error::Lost {
                effect: Effect::None,
                cause: format!("the ids went back from {before} to {last_value}"),
            }),
            _ => Ok(last_value),
        }
    }

    /// S1, and what follows from it.
    async fn sample(&mut self, last_value: i64, settled: EventId) -> Result<(), Error> {
        const HOLDERS: &str = "SELECT current_setting('eventstream.session', true) AS session,
            ARRAY(SELECT virtualtransaction FROM pg_locks
                WHERE locktype = 'relation' AND relation IN (SELECT oid FROM relations)
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND mode = 'RowExclusiveLock' AND granted) AS holders";
        let sql = self.store.sql2(RELATIONS, HOLDERS);
        let begun = Instant::now();
        let connection = self.connection().await?;
        let row = sqlx::query(sql)
            .fetch_one(connection)
            .await
            .map_err(|error| unavailable(&error))?;
        self.expect_mark(&row)?;
        let holders: Vec<String> = row.get("holders");
        let pause = begun.elapsed() * SAMPLE_PAUSE_FACTOR;
        self.next_sample = Instant::now() + pause.min(LONGEST_PAUSE);
        self.proven = self.floors.sample(last_value, holders, settled.get());
        self.note_settled(EventId::stored(self.proven));
        Ok(())
    }

    fn note_settled(&self, settled: EventId) {
        let note = |shared: &mut super::Shared| shared.settled = shared.settled.max(settled.get());
        self.store.with_shared(note);
    }

    /// S2.
    async fn rows(
        &mut self,
        after: EventId,
        gaps: &[IdRange],
        above: Above,
    ) -> Result<Rows, Error> {
        // Chosen by stored size before any data is unpacked, then by real size.
        // LATERAL with OFFSET 0 keeps each step on the primary key.
        const ROWS: &str = "
            WITH found AS MATERIALIZED (
                SELECT hit.id, hit.size FROM unnest($1::bigint[], $2::bigint[]) AS span (low, high)
                CROSS JOIN LATERAL (
                    SELECT id, pg_column_size(data) + 40 AS size FROM evt_queue
                    WHERE id >= span.low AND id <= span.high ORDER BY id LIMIT $3) AS hit
                ORDER BY hit.id LIMIT $3),
            near AS (
                SELECT id FROM (
                    SELECT id, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
                    FROM found) AS sized
                WHERE before < $4),
            sized AS (
                SELECT event.*, sum(event.size) OVER (ORDER BY event.id ROWS UNBOUNDED PRECEDING)
                    - event.size AS before
                FROM near CROSS JOIN LATERAL (
                    SELECT id, type::text AS type, data::text AS data,
                        octet_length(data::text) + 40 AS size,
                        CASE WHEN isfinite(ts)
                            THEN round(date_part('epoch', ts) * 1000)::bigint END AS millis
                    FROM evt_queue WHERE id = near.id OFFSET 0) AS event)
            SELECT current_setting('eventstream.session', true) AS session,
                (SELECT count(*) FROM found) AS found, id, type, data, millis
            FROM (SELECT) AS always LEFT JOIN (SELECT * FROM sized WHERE before < $4) AS event ON true
            ORDER BY id";
        let mut low: Vec<i64> = gaps.iter().map(|gap| gap.first.get()).collect();
        let mut high: Vec<i64> = gaps.iter().map(|gap| gap.last.get()).collect();
        if above == Above::Read {
            low.push(after.next().get());
            high.push(EventId::MAX.get());
        }
        let sql = self.store.sql(ROWS);
        let connection = self.connection().await?;
        let rows: Vec<PgRow> = sqlx::query(sql)
            .bind(low)
            .bind(high)
            .bind(i64::try_from(limits::PAGE_EVENTS).unwrap_or(i64::MAX))
            .bind(i64::try_from(limits::PAGE_BYTES).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let Some(first) = rows.first() else {
            unreachable!("the left side of the join is always there");
        };
        self.expect_mark(first)?;
        let found = usize::try_from(first.get::<i64, _>("found")).unwrap_or(usize::MAX);
        let there = |row: &&PgRow| row.get::<Option<i64>, _>("id").is_some();
        let events: Vec<Event> = rows.iter().filter(there).map(event).collect();
        Ok(Rows {
            clipped: events.len() < found || found >= limits::PAGE_EVENTS,
            events,
        })
    }

    async fn prove(&mut self, known: EventId) -> Result<Proof, Error> {
        let last_value = self.last_value().await?;
        let head = EventId::stored(last_value);
        if head <= known && !self.floors.is_first() {
            return Ok(Proof {
                frontier: head,
                head,
                more: false,
            });
        }
        self.sample(last_value, known).await?;
        Ok(Proof {
            frontier: EventId::stored(self.proven).max(known.min(head)),
            head,
            more: false,
        })
    }

    async fn cycle(
        &mut self,
        after: EventId,
        gaps: &[IdRange],
        above: Above,
    ) -> Result<TailRead, Error> {
        let settled = gaps.first().map_or(after, |gap| gap.first.previous());
        let last_value = self.last_value().await?;
        let head = EventId::stored(last_value);
        if gaps.is_empty() && head <= settled && !self.floors.is_first() {
            return Ok(conclude(after, self.proven, head, no_rows(), above));
        }
        if Instant::now() < self.next_sample && !self.floors.is_first() {
            // Rows without a gap need no evidence, only ids above them do.
            let rows = self.rows(after, gaps, above).await?;
            let last = rows.events.last().map(|event| event.id);
            if let Some(last) = last
                && gaps.is_empty()
                && is_contiguous(after, &rows.events)
            {
                self.note_settled(last);
                let read = conclude(after, self.proven, head, rows, above);
                let more = read.more || head > last;
                return Ok(TailRead { more, ..read });
            }
            sleep_until(self.next_sample).await;
        }
        self.sample(last_value, settled).await?;
        let rows = self.rows(after, gaps, above).await?;
        Ok(conclude(after, self.proven, head, rows, above))
    }
}

fn no_rows() -> Rows {
    Rows {
        events: Vec::new(),
        clipped: false,
    }
}

fn is_contiguous(after: EventId, events: &[Event]) -> bool {
    let expected = std::iter::successors(Some(after.next()), |id| Some(id.next()));
    events
        .iter()
        .map(|event| event.id)
        .eq(expected.take(events.len()))
}

/// What a read of `rows` under the evidence `proven` says.
fn conclude(after: EventId, proven: i64, head: EventId, rows: Rows, above: Above) -> TailRead {
    let last = rows.events.last().map_or(after, |event| event.id);
    let proven = EventId::stored(proven);
    // A full page says nothing about what is above its last row, be it among
    // the gaps or behind them.
    let (scanned, dead_through) = if rows.clipped {
        (last.max(after), proven.min(last))
    } else if above == Above::Read {
        (last.max(after).max(proven), proven)
    } else {
        (after, proven.min(after))
    };
    TailRead {
        // Not `last`: without rows that is where the caller stands, and ids that
        // went back must show.
        head: rows.events.last().map_or(head, |event| head.max(event.id)),
        scanned,
        dead_through,
        more: rows.clipped,
        events: rows.events,
    }
}

#[async_trait]
impl Tail for PostgresTail {
    async fn frontier(&mut self, known: EventId) -> Result<Proof, Error> {
        let outcome = timeout(self.limit(), unmixed(Effect::None, self.prove(known))).await;
        self.answered(outcome)
    }

    async fn read(&mut self, after: EventId, gaps: &[IdRange]) -> Result<TailRead, Error> {
        let outcome = timeout(
            self.limit(),
            unmixed(Effect::None, self.cycle(after, gaps, Above::Read)),
        )
        .await;
        self.answered(outcome)
    }

    async fn recheck(&mut self, after: EventId, gaps: &[IdRange]) -> Result<TailRead, Error> {
        let outcome = timeout(
            self.limit(),
            unmixed(Effect::None, self.cycle(after, gaps, Above::Leave)),
        )
        .await;
        self.answered(outcome)
    }
}

impl PostgresStore {
    /// Who holds the lock of a writer, the oldest first. Details of other
    /// roles' sessions need `pg_monitor`.
    pub(super) async fn read_blockers(&self) -> Result<Vec<Blocker>, Error> {
        const BLOCKERS: &str = "
            SELECT coalesce(l.pid::text, p.gid, l.virtualtransaction) AS session,
                concat_ws(' ', nullif(a.application_name, ''), a.usename, a.client_addr,
                    p.owner) AS client,
                l.pid IS NULL AS prepared,
                coalesce(extract(epoch FROM clock_timestamp()
                    - coalesce(a.xact_start, p.prepared)) * 1000, 0)::bigint AS age
            FROM (SELECT DISTINCT virtualtransaction, pid FROM pg_locks
                WHERE locktype = 'relation' AND relation IN (SELECT oid FROM relations)
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND mode = 'RowExclusiveLock' AND granted) AS l
            LEFT JOIN pg_stat_activity a ON a.pid = l.pid
            LEFT JOIN pg_locks x ON l.pid IS NULL AND x.locktype = 'transactionid'
                AND x.virtualtransaction = l.virtualtransaction AND x.pid IS NULL
            LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
            ORDER BY age DESC, session LIMIT 100";
        let mut connection = self.connections.read().await?;
        let rows = sqlx::query(self.sql2(RELATIONS, BLOCKERS))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let blocker = |row: &PgRow| Blocker {
            session: row.get("session"),
            client: row.get("client"),
            age: Duration::from_millis(u64::try_from(row.get::<i64, _>("age")).unwrap_or(0)),
            prepared: row.get("prepared"),
        };
        Ok(rows.iter().map(blocker).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ids: &[i64], clipped: bool) -> Rows {
        let event = |&id: &i64| Event {
            id: EventId::stored(id),
            kind: "T".into(),
            data: "1".into(),
            ts: None,
            fault: None,
        };
        Rows {
            events: ids.iter().map(event).collect(),
            clipped,
        }
    }

    fn read(after: i64, proven: i64, rows: Rows, above: Above) -> (i64, i64, bool) {
        let after = EventId::stored(after);
        let read = conclude(after, proven, EventId::stored(50), rows, above);
        (read.scanned.get(), read.dead_through.get(), read.more)
    }

    #[test]
    fn evidence_reaches_no_further_than_the_rows_that_were_read() {
        assert_eq!(
            read(5, 20, rows(&[7, 9], false), Above::Read),
            (20, 20, false)
        );
        assert_eq!(read(5, 8, rows(&[7, 9], false), Above::Read), (9, 8, false));
        assert_eq!(read(5, 20, rows(&[7, 9], true), Above::Read), (9, 9, true));
        // A page that was filled by gaps.
        assert_eq!(
            read(30, 40, rows(&[7, 9], true), Above::Read),
            (30, 9, true)
        );
        // Only gaps were asked for.
        assert_eq!(
            read(30, 40, rows(&[7, 9], false), Above::Leave),
            (30, 30, false)
        );
    }

    #[test]
    fn contiguity_begins_after_the_cursor() {
        let after = EventId::stored(5);
        assert!(is_contiguous(after, &rows(&[6, 7], false).events));
        assert!(is_contiguous(after, &[]));
        assert!(!is_contiguous(after, &rows(&[7], false).events));
        assert!(!is_contiguous(after, &rows(&[6, 8], false).events));
    }
}
