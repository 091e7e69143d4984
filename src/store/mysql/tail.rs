//! The evidence of what is settled, collected in one order.
//!
//! Two sessions of its own, both in autocommit, so that each statement sees the
//! database as it is when it begins: one at READ COMMITTED for rows, one at READ
//! UNCOMMITTED, which also sees the rows of open transactions. A look is: the
//! rows; if ids are missing, a barrier at the highest row; whether it is passed
//! (`barriers`, `prober`); a dirty read of the missing ids, then of their rows
//! again. What neither read saw below a passed barrier is dead; what only the
//! dirty read saw is an open transaction's. Losing a session ends the evidence.
//!
//! The first proof of an adopted table cannot begin at its end: an open
//! transaction may own any id below. So the ids that the two sessions see are
//! compared from the saved frontier on, in bounded steps that read the primary
//! key alone. Counting would not do: a row that somebody is deleting is missing
//! in the dirty read and would make up for one that is only there.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _, SqlSafeStr as _, SqlStr};
use tokio::time::{Instant, error::Elapsed, sleep_until, timeout};

use super::{
    MysqlStore,
    barriers::Barriers,
    errors::unavailable,
    prober::{Prober, Queue},
    queue::{event, fit},
    server::Isolation,
};
use crate::{
    event::{Event, EventId, Want},
    limits,
    store::{Effect, Error, IdRange, Proof, Span, Tail, TailRead},
};

/// Asking who runs costs the server with every connection: it shall take at
/// most this part of the time.
const SAMPLE_PAUSE_FACTOR: u32 = 20;

/// The same for looking at ids that are missing, while a transaction holds
/// them: less, because each look delays its events.
const GAP_PAUSE_FACTOR: u32 = 10;

/// But evidence is never older than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How often an idle look makes sure that the ids have not been set back.
const HEAD_INTERVAL: Duration = Duration::from_millis(250);

/// Gaps that one look asks about, the lowest first: only those hold events up.
const GAPS: usize = 256;

/// Steps of one proof without reading events: some 100 ms, then it is noted
/// how far it came.
const PROOF_STEPS: usize = 20;

/// The tail of one database.
pub(super) struct MysqlTail {
    store: MysqlStore,
    sessions: Option<Sessions>,
}

/// Everything that is forgotten with the connection.
struct Sessions {
    rows: MySqlConnection,
    dirty: MySqlConnection,
    queue: Queue,
    prober: Prober,
    barriers: Barriers,
    next_sample: Instant,
    next_head: Instant,
    next_gaps: Instant,
}

/// What to do with rows above the highest id looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Above {
    Read,
    Leave,
}

/// Rows that were read, all that there are unless it was cut at the last one.
#[derive(Debug, Default)]
struct Found {
    events: Vec<Event>,
    cut: bool,
}

impl MysqlTail {
    pub(super) fn new(store: MysqlStore) -> Self {
        Self {
            store,
            sessions: None,
        }
    }

    fn limit(&self) -> Duration {
        self.store.options.statement_timeout + super::GRACE
    }

    /// Keeps the sessions only while they answer: a statement that was given up
    /// half way must not be followed by another.
    fn answered<T>(&mut self, outcome: Result<Result<T, Error>, Elapsed>) -> Result<T, Error> {
        let outcome = outcome.unwrap_or_else(|_elapsed| {
            Err(Error::Lost {
                effect: Effect::None,
                cause: format!("no answer within {:?}", self.limit()),
            })
        });
        if matches!(outcome, Err(Error::Lost { .. })) {
            self.sessions = None;
        }
        outcome
    }

    async fn sessions(&mut self) -> Result<&mut Sessions, Error> {
        if self.sessions.is_none() {
            self.sessions = Some(Sessions::open(&self.store).await?);
        }
        self.sessions.as_mut().ok_or_else(|| Error::Lost {
            effect: Effect::None,
            cause: "no connection".into(),
        })
    }

    async fn prove(&mut self, known: EventId) -> Result<Proof, Error> {
        let store = self.store.clone();
        let sessions = self.sessions().await?;
        let head = sessions.head(&store, known).await?;
        if head <= known {
            return Ok(Proof {
                frontier: head,
                head,
                more: false,
            });
        }
        sessions.barriers.raise(head.get());
        sessions.collect_evidence(head).await?;
        let mut frontier = known;
        for _ in 0..PROOF_STEPS {
            let step = sessions.compare(&store, frontier, head).await?;
            frontier = step.settled;
            if frontier < step.compared || frontier >= head {
                store.note_settled(frontier);
                return Ok(Proof {
                    frontier,
                    head,
                    more: false,
                });
            }
        }
        store.note_settled(frontier);
        Ok(Proof {
            frontier,
            head,
            more: true,
        })
    }

    async fn look(
        &mut self,
        after: EventId,
        gaps: &[IdRange],
        above: Above,
    ) -> Result<TailRead, Error> {
        let store = self.store.clone();
        let sessions = self.sessions().await?;
        let found = match above {
            Above::Read => sessions.rows_above(&store, after).await?,
            Above::Leave => Found::default(),
        };
        let scanned = found.events.last().map_or(after, |last| last.id);
        let mut open = gaps.to_vec();
        open.extend(missing(after, &found.events));
        let head = match found.events.last() {
            Some(last) => last.id,
            None => sessions.head_now_and_then(&store, after).await?,
        };
        let mut read = TailRead {
            scanned,
            dead_through: scanned,
            head,
            more: found.cut,
            events: found.events,
        };
        if let Some(first) = open.first() {
            sessions.barriers.raise(scanned.get());
            sleep_until(sessions.next_gaps).await;
            sessions.collect_evidence(scanned).await?;
            let asked = &open[..open.len().min(GAPS)];
            let end = match asked.last() {
                Some(last) if asked.len() < open.len() => last.last,
                _ => scanned,
            };
            let settled = first.first.previous();
            let passed = EventId::stored(sessions.barriers.passed());
            let through = passed.clamp(settled, end);
            let late = sessions.settle(&store, asked, through).await?;
            read.dead_through = late.dead_through(through);
            read.more |= late.found.cut || end < scanned && read.dead_through == end;
            if read.more {
                sessions.next_gaps = Instant::now();
            }
            read.events.extend(late.found.events);
            read.events.sort_unstable_by_key(|event| event.id);
        }
        store.note_settled(read.dead_through);
        Ok(read)
    }
}

/// What the two reads of missing ids saw.
#[derive(Debug, Default)]
struct Late {
    found: Found,
    /// The lowest ids that have a row, committed or not, ascending.
    present: Vec<i64>,
    /// Whether there were more of them.
    present_cut: bool,
}

impl Late {
    /// Every id that was asked about up to this one is dead or was found.
    fn dead_through(&self, asked_through: EventId) -> EventId {
        let mut through = asked_through.get();
        if self.present_cut {
            through = through.min(self.present.last().copied().unwrap_or(0));
        }
        if self.found.cut {
            through = through.min(self.found.events.last().map_or(0, |last| last.id.get()));
        }
        let found: BTreeSet<i64> = self.found.events.iter().map(|row| row.id.get()).collect();
        let open = self.present.iter().find(|id| !found.contains(id));
        EventId::stored(open.map_or(through, |open| through.min(open - 1)))
    }
}

/// One step of [`Sessions::compare`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// Every id up to this one is settled.
    settled: EventId,
    /// How far the ids were compared.
    compared: EventId,
}

impl Sessions {
    async fn open(store: &MysqlStore) -> Result<Self, Error> {
        let connections = &store.connections;
        let rows = connections.apart(Isolation::ReadCommitted).await?;
        let mut dirty = connections.apart(Isolation::ReadUncommitted).await?;
        let queue = Queue::find(&mut dirty, &store.options.common.names).await?;
        let prober = Prober::detect(&mut dirty, &queue).await?;
        let evidence = prober.name();
        tracing::info!(evidence, "evidence of running statements");
        if matches!(prober, Prober::Blind) {
            tracing::warn!(
                "running statements cannot be seen: behind a rolled back id, events wait until \
                 nobody uses the table; grant PROCESS to the user, or install the plugin \
                 metadata_lock_info (MariaDB)"
            );
        }
        Ok(Self {
            rows,
            dirty,
            queue,
            prober,
            barriers: Barriers::default(),
            next_sample: Instant::now(),
            next_head: Instant::now(),
            next_gaps: Instant::now(),
        })
    }

    async fn head(&mut self, store: &MysqlStore, known: EventId) -> Result<EventId, Error> {
        self.next_head = Instant::now() + HEAD_INTERVAL;
        let head = store.head(&mut self.rows, known).await;
        head.map_err(|error| unavailable(&error))
    }

    /// Nothing was found above `after`, so that is the head, unless ids were
    /// set back.
    async fn head_now_and_then(
        &mut self,
        store: &MysqlStore,
        after: EventId,
    ) -> Result<EventId, Error> {
        if Instant::now() < self.next_head {
            return Ok(after);
        }
        self.head(store, after).await
    }

    async fn rows_above(&mut self, store: &MysqlStore, after: EventId) -> Result<Found, Error> {
        let span = Span {
            after,
            through: EventId::MAX,
            want: &Want::All,
            max_events: limits::PAGE_EVENTS,
            max_bytes: limits::PAGE_BYTES,
        };
        let rows = store.rows(&mut self.rows, &span).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        Ok(Found {
            events: rows.events,
            cut: rows.cut,
        })
    }

    /// Passes what can be passed of the barriers up to `needed`.
    async fn collect_evidence(&mut self, needed: EventId) -> Result<(), Error> {
        if self.barriers.passed() >= needed.get() || !self.barriers.are_waiting() {
            return Ok(());
        }
        if self.queue.is_unused(&mut self.dirty).await? {
            self.barriers.nobody_uses_the_table();
            return Ok(());
        }
        let begun = Instant::now();
        if begun < self.next_sample {
            return Ok(());
        }
        let running = self.prober.running(&mut self.dirty, &self.queue).await?;
        self.next_sample = begun + LONGEST_PAUSE.min(begun.elapsed() * SAMPLE_PAUSE_FACTOR);
        if let Some(running) = running {
            self.barriers.sample(&running);
        } else if matches!(self.prober, Prober::Schema) {
            tracing::warn!("the performance schema does not tell everything any more");
            self.prober = Prober::detect(&mut self.dirty, &self.queue).await?;
        }
        Ok(())
    }

    /// The dirty read of those missing ids that are at or below a passed
    /// barrier, then the rows of all.
    async fn settle(
        &mut self,
        store: &MysqlStore,
        asked: &[IdRange],
        passed: EventId,
    ) -> Result<Late, Error> {
        let begun = Instant::now();
        let behind = up_to(asked, passed);
        let mut present = Vec::new();
        if !behind.is_empty() {
            let sql = text(store, "SELECT CAST(id AS SIGNED) FROM", &condition(&behind));
            present = ids(&mut self.dirty, sql).await?;
        }
        let found = self.late_rows(store, &condition(asked)).await?;
        let pause = begun.elapsed() * GAP_PAUSE_FACTOR;
        self.next_gaps = Instant::now() + pause.min(LONGEST_PAUSE);
        Ok(Late {
            found,
            present_cut: present.len() >= limits::PAGE_EVENTS,
            present,
        })
    }

    /// Rows of missing ids that are committed by now: chosen by their sizes
    /// before any data is fetched.
    async fn late_rows(&mut self, store: &MysqlStore, ranges: &str) -> Result<Found, Error> {
        const SIZES: &str = "SELECT CAST(id AS SIGNED),
            CAST(COALESCE(OCTET_LENGTH(data), 0) + 40 AS SIGNED) FROM";
        const DATA: &str = "SELECT CAST(id AS SIGNED) AS event_id, type, data,
            TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ts) DIV 1000 AS millis FROM";
        let rows = sqlx::raw_sql(text(store, SIZES, ranges)).fetch_all(&mut self.rows);
        let rows = rows.await.map_err(|error| unavailable(&error))?;
        let sizes: Vec<(i64, usize)> = rows
            .iter()
            .map(|row| {
                (
                    row.get(0),
                    usize::try_from(row.get::<i64, _>(1)).unwrap_or(0),
                )
            })
            .collect();
        let taken = fit(&sizes, limits::PAGE_BYTES);
        if taken == 0 {
            return Ok(Found::default());
        }
        let ids: Vec<String> = sizes[..taken]
            .iter()
            .map(|(id, _)| id.to_string())
            .collect();
        let chosen = format!("id IN ({})", ids.join(", "));
        let rows = sqlx::raw_sql(text(store, DATA, &chosen)).fetch_all(&mut self.rows);
        let rows = rows.await.map_err(|error| unavailable(&error))?;
        Ok(Found {
            events: rows.iter().map(event).collect(),
            cut: taken < sizes.len() || sizes.len() >= limits::PAGE_EVENTS,
        })
    }

    /// Compares the ids above `from` that both sessions see, as many as a step
    /// takes: first those of all transactions, then those that are committed.
    async fn compare(
        &mut self,
        store: &MysqlStore,
        from: EventId,
        head: EventId,
    ) -> Result<Step, Error> {
        let passed = self.barriers.passed();
        let (present, through) = ids_between(store, &mut self.dirty, from, head).await?;
        let (visible, through) = ids_between(store, &mut self.rows, from, through).await?;
        let settled = settled(from.get(), through.get(), passed, &present, &visible);
        Ok(Step {
            settled: EventId::stored(settled),
            compared: through,
        })
    }
}

/// The lowest ids of rows above `from` up to `through`, and how far they reach.
async fn ids_between(
    store: &MysqlStore,
    connection: &mut MySqlConnection,
    from: EventId,
    through: EventId,
) -> Result<(Vec<i64>, EventId), Error> {
    const IDS: &str = "SELECT CAST(id AS SIGNED) FROM evt_queue FORCE INDEX (PRIMARY)
        WHERE id > ? AND id <= ? ORDER BY id LIMIT ?";
    let ids: Vec<i64> = sqlx::query_scalar(store.sql(IDS))
        .bind(from.get())
        .bind(through.get())
        .bind(limits::SCAN_ROWS as u64)
        .fetch_all(connection)
        .await
        .map_err(|error| unavailable(&error))?;
    let reached = match ids.last() {
        Some(&last) if ids.len() >= limits::SCAN_ROWS => EventId::stored(last),
        _ => through,
    };
    Ok((ids, reached))
}

async fn ids(connection: &mut MySqlConnection, sql: SqlStr) -> Result<Vec<i64>, Error> {
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await;
    let rows = rows.map_err(|error| unavailable(&error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// `select` of the rows of the queue that meet `condition`, in id order and at
/// most a page.
fn text(store: &MysqlStore, select: &str, condition: &str) -> SqlStr {
    let queue = &store.options.common.names.queue;
    AssertSqlSafe(format!(
        "{select} {queue} FORCE INDEX (PRIMARY) WHERE {condition} ORDER BY id LIMIT {}",
        limits::PAGE_EVENTS
    ))
    .into_sql_str()
}

pub(super) fn condition(ranges: &[IdRange]) -> String {
    let range = |range: &IdRange| format!("id BETWEEN {} AND {}", range.first, range.last);
    ranges.iter().map(range).collect::<Vec<_>>().join(" OR ")
}

/// The ids above `after` that are missing between `events`.
fn missing(after: EventId, events: &[Event]) -> Vec<IdRange> {
    let mut next = after.next();
    let mut gaps = Vec::new();
    for event in events {
        if event.id > next {
            gaps.push(IdRange {
                first: next,
                last: event.id.previous(),
            });
        }
        next = event.id.next();
    }
    gaps
}

/// The part of the gaps that is at or below `through`.
fn up_to(gaps: &[IdRange], through: EventId) -> Vec<IdRange> {
    gaps.iter()
        .take_while(|gap| gap.first <= through)
        .map(|gap| IdRange {
            first: gap.first,
            last: gap.last.min(through),
        })
        .collect()
}

/// The highest id up to `through` below which every id above `from` is settled:
/// `visible`, or not `present` although its barrier is `passed`.
fn settled(from: i64, through: i64, passed: i64, present: &[i64], visible: &[i64]) -> i64 {
    let committed: BTreeSet<i64> = visible.iter().copied().collect();
    let open = present
        .iter()
        .find(|id| **id <= through && !committed.contains(id));
    let proven = if passed >= through {
        through
    } else {
        // Without a gap nothing needs to be proven.
        let mut end = from.max(passed);
        while committed.contains(&(end + 1)) {
            end += 1;
        }
        end.min(through)
    };
    open.map_or(proven, |open| proven.min(open - 1))
}

#[async_trait]
impl Tail for MysqlTail {
    async fn frontier(&mut self, known: EventId) -> Result<Proof, Error> {
        let outcome = timeout(self.limit(), self.prove(known)).await;
        self.answered(outcome)
    }

    async fn read(&mut self, after: EventId, gaps: &[IdRange]) -> Result<TailRead, Error> {
        let outcome = timeout(self.limit(), self.look(after, gaps, Above::Read)).await;
        self.answered(outcome)
    }

    async fn recheck(&mut self, after: EventId, gaps: &[IdRange]) -> Result<TailRead, Error> {
        let outcome = timeout(self.limit(), self.look(after, gaps, Above::Leave)).await;
        self.answered(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(ids: &[i64]) -> Vec<Event> {
        let event = |&id: &i64| Event {
            id: EventId::stored(id),
            kind: "T".into(),
            data: "1".into(),
            ts: None,
            fault: None,
        };
        ids.iter().map(event).collect()
    }

    fn gaps(ranges: &[(i64, i64)]) -> Vec<IdRange> {
        let range = |&(first, last): &(i64, i64)| IdRange {
            first: EventId::stored(first),
            last: EventId::stored(last),
        };
        ranges.iter().map(range).collect()
    }

    #[test]
    fn missing_ids_are_ranges() {
        let missing = |after, ids: &[i64]| missing(EventId::stored(after), &events(ids));
        assert_eq!(missing(5, &[6, 7]), gaps(&[]));
        assert_eq!(missing(5, &[]), gaps(&[]));
        assert_eq!(
            missing(5, &[7, 8, 1_000_000]),
            gaps(&[(6, 6), (9, 999_999)])
        );
    }

    #[test]
    fn gaps_are_asked_about_as_far_as_the_barrier_is_passed() {
        let open = gaps(&[(3, 3), (5, 9), (12, 12)]);
        let asked = |through| up_to(&open, EventId::stored(through));
        assert_eq!(asked(2), gaps(&[]));
        assert_eq!(asked(7), gaps(&[(3, 3), (5, 7)]));
        assert_eq!(asked(50), open);
        assert_eq!(
            condition(&asked(7)),
            "id BETWEEN 3 AND 3 OR id BETWEEN 5 AND 7"
        );
    }

    #[test]
    fn row_that_only_a_dirty_read_sees_is_open() {
        let dead_through = |found: &[i64], cut, present: &[i64], present_cut| {
            let late = Late {
                found: Found {
                    events: events(found),
                    cut,
                },
                present: present.to_vec(),
                present_cut,
            };
            late.dead_through(EventId::stored(20)).get()
        };
        assert_eq!(dead_through(&[], false, &[], false), 20);
        assert_eq!(dead_through(&[7], false, &[7, 9, 12], false), 8);
        assert_eq!(dead_through(&[7, 9, 12], false, &[7, 9, 12], false), 20);
        // Somebody deletes it: it is there until that is committed.
        assert_eq!(dead_through(&[7], false, &[], false), 20);
        // What was not read to its end says nothing above.
        assert_eq!(dead_through(&[7], true, &[7, 9, 12], false), 7);
        assert_eq!(dead_through(&[7, 9], false, &[7, 9], true), 9);
    }

    #[test]
    fn ids_are_settled_up_to_the_first_that_may_still_appear() {
        // All passed: what nobody sees is dead.
        assert_eq!(settled(0, 9, 9, &[2, 9], &[2, 9]), 9);
        assert_eq!(settled(0, 9, 9, &[2, 5, 9], &[2, 9]), 4);
        // Not passed: as far as nothing is missing.
        assert_eq!(settled(0, 9, 0, &[1, 2, 9], &[1, 2, 9]), 2);
        assert_eq!(settled(0, 9, 4, &[5, 6, 9], &[5, 6, 9]), 6);
        assert_eq!(settled(0, 9, 4, &[3, 5, 6], &[5, 6]), 2);
        assert_eq!(settled(7, 9, 0, &[], &[]), 7);
        // One is being deleted, one is open: as many, and not the same.
        assert_eq!(settled(0, 9, 9, &[4, 9], &[2, 9]), 3);
    }
}
