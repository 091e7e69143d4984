//! The queue table: group commit, pages, its ends.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore,
    connections::{WriteTx, commit_failed, is_data_error, unavailable},
};
use crate::{
    event::{Event, EventId, EventType, Fault, Moment, NewEvent, Want},
    limits,
    store::{
        Append, Bounds, Error, IdRuns, Page, Refusal, Span,
        requests::{KnownRequests, Outcomes},
    },
};

/// Expired request ids that one write removes at most.
const PURGE_ROWS: i64 = 1000;

/// A page and the head of the same snapshot.
pub(super) struct ReadSpan {
    pub page: Page,
    pub head: EventId,
    /// Whether rows or bytes ran out before the span did.
    pub more: bool,
}

impl SqliteStore {
    pub(super) async fn append_requests(&self, requests: &[Append]) -> Result<Outcomes, Error> {
        if requests.iter().all(|request| request.request_id.is_none())
            && let Some(outcomes) = self.append_at_once(requests).await?
        {
            return Ok(outcomes);
        }
        let mut tx = self.connections.begin().await?;
        let outcomes = match self.append_together(&mut tx, requests).await {
            Ok(outcomes) => outcomes,
            Err(error) if is_data_error(&error) => {
                tx.rollback().await?;
                tx = self.connections.begin().await?;
                self.append_apart(&mut tx, requests)
                    .await
                    .map_err(|error| unavailable(&error))?
            }
            Err(error) => return Err(unavailable(&error)),
        };
        tx.commit().await?;
        Ok(outcomes)
    }

    /// One statement that is its own transaction: one hand-over to the driver's
    /// thread. `None`, and nothing is stored, if the database refuses some
    /// event, or if a trigger might leave one out, which shows too late here.
    async fn append_at_once(&self, requests: &[Append]) -> Result<Option<Outcomes>, Error> {
        const UNLESS_TRIGGERED: &str = " AND NOT EXISTS (SELECT 1 FROM sqlite_schema
            WHERE type = 'trigger' AND tbl_name = 'evt_queue' COLLATE NOCASE)";
        let events: Vec<&NewEvent> = requests.iter().flat_map(|one| &one.events).collect();
        let mut writer = self.connections.write().await?;
        let inserted = loop {
            match self.insert(&mut writer, &events, UNLESS_TRIGGERED).await {
                Err(error) if writer.waits(&error) => {}
                inserted => break inserted,
            }
        };
        let first = match inserted {
            Ok(first) => first,
            Err(error) if is_data_error(&error) => {
                writer.keep();
                return Ok(None);
            }
            Err(error) => return Err(commit_failed(&error)),
        };
        writer.acknowledge()?;
        let mut next = first;
        let own = |request: &Append| Ok(take_ids(&mut next, request));
        Ok(Some(requests.iter().map(own).collect()))
    }

    /// All new events of all requests in one statement.
    async fn append_together(
        &self,
        tx: &mut SqliteConnection,
        requests: &[Append],
    ) -> Result<Outcomes, sqlx::Error> {
        let mut known = self.known_requests(tx, requests).await?;
        let mut fresh = Vec::new();
        let mut events: Vec<&NewEvent> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            if !known.claims(request, index) {
                fresh.push(index);
                events.extend(&request.events);
            }
        }
        let mut next = self.insert(tx, &events, "").await?;
        let mut outcomes = vec![Ok(IdRuns::default()); requests.len()];
        for &index in &fresh {
            let runs = take_ids(&mut next, &requests[index]);
            self.remember_request(tx, &requests[index], &runs).await?;
            outcomes[index] = Ok(runs);
        }
        known.answer_repeats(requests, &mut outcomes);
        Ok(outcomes)
    }

    /// Each request under a savepoint of its own, so that what the database
    /// refuses is refused alone (ARCHITECTURE, rule 9).
    async fn append_apart(
        &self,
        tx: &mut WriteTx<'_>,
        requests: &[Append],
    ) -> Result<Outcomes, sqlx::Error> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            tx.savepoint().await?;
            let alone = std::slice::from_ref(request);
            let outcome = match self.append_together(tx, alone).await {
                Ok(mut outcome) => {
                    tx.release().await?;
                    outcome.remove(0)
                }
                Err(error) if is_data_error(&error) => {
                    tx.undo().await?;
                    Err(Refusal::Data(refusal_text(&error)))
                }
                Err(error) => return Err(error),
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Inserts and returns the first id. The ids of one statement are
    /// consecutive: it holds the file's write lock, and AUTOINCREMENT counts by one.
    /// [`sqlx::Error::RowNotFound`] if a trigger left one out (`RAISE(IGNORE)`),
    /// or `unless` all of them.
    ///
    /// Compiling costs more than inserting, so there are few statements: their
    /// rows are powers of two, and what is not bound is NULL and no row.
    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        events: &[&NewEvent],
        unless: &'static str,
    ) -> Result<i64, sqlx::Error> {
        const INSERT: &str = "INSERT OR ABORT INTO evt_queue (type, data, ts)
            SELECT column1, column2, CURRENT_TIMESTAMP FROM (VALUES ";
        const ROWS: &str = ") WHERE column1 IS NOT NULL";
        if events.is_empty() {
            return Ok(0);
        }
        let names = &self.options.common.names;
        let values = vec!["(?, ?)"; events.len().next_power_of_two()].join(", ");
        let sql = [&*names.apply(INSERT), &values, ROWS, &*names.apply(unless)].concat();
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for event in events {
            query = query.bind(event.kind.as_str()).bind(event.data.as_str());
        }
        let inserted = query.execute(connection).await?;
        if inserted.rows_affected() != events.len() as u64 {
            return Err(sqlx::Error::RowNotFound);
        }
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        Ok(inserted.last_insert_rowid() - count + 1)
    }

    /// What was stored under the request ids of this batch.
    async fn known_requests(
        &self,
        tx: &mut SqliteConnection,
        requests: &[Append],
    ) -> Result<KnownRequests, sqlx::Error> {
        const KNOWN: &str =
            "SELECT hash, ids FROM evt_requests WHERE stream = ?1 AND owner = ?2 AND request = ?3";
        let mut known = KnownRequests::default();
        for request in requests {
            let Some(request_id) = request.request_id else {
                continue;
            };
            let row = sqlx::query(KNOWN)
                .bind(self.stream())
                .bind(request.user.as_str())
                .bind(request_id.to_string())
                .fetch_optional(&mut *tx)
                .await?;
            if let Some(row) = row {
                let ids = IdRuns::from_text(row.get("ids")).unwrap_or_default();
                known.note(request.user.clone(), request_id, row.get("hash"), ids);
            }
        }
        if !requests.iter().all(|request| request.request_id.is_none()) {
            self.purge_requests(tx).await?;
        }
        Ok(known)
    }

    async fn remember_request(
        &self,
        tx: &mut SqliteConnection,
        request: &Append,
        ids: &IdRuns,
    ) -> Result<(), sqlx::Error> {
        const REMEMBER: &str =
            "INSERT INTO evt_requests (stream, owner, request, hash, ids, expires)
            VALUES (?1, ?2, ?3, ?4, ?5, unixepoch() + ?6)";
        let Some(request_id) = request.request_id else {
            return Ok(());
        };
        let window = i64::try_from(self.options.common.request_window.as_secs());
        sqlx::query(REMEMBER)
            .bind(self.stream())
            .bind(request.user.as_str())
            .bind(request_id.to_string())
            .bind(request.content_hash())
            .bind(ids.to_text())
            .bind(window.unwrap_or(i64::MAX / 2))
            .execute(&mut *tx)
            .await?;
        Ok(())
    }

    async fn purge_requests(&self, tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        const PURGE: &str = "DELETE FROM evt_requests WHERE stream = ?1 AND (owner, request) IN
            (SELECT owner, request FROM evt_requests
             WHERE stream = ?1 AND expires < unixepoch() ORDER BY expires LIMIT ?2)";
        sqlx::query(PURGE)
            .bind(self.stream())
            .bind(PURGE_ROWS)
            .execute(&mut *tx)
            .await?;
        Ok(())
    }

    /// One page and the head, from one snapshot.
    ///
    /// The rows are chosen by their sizes first (`octet_length` does not read
    /// the data), so that a page of large events costs no more than it returns.
    pub(super) async fn read_span(&self, span: &Span<'_>) -> Result<ReadSpan, Error> {
        let mut connection = self.connections.read().await?;
        if span.want.is_all() {
            self.read_all(&mut connection, span).await
        } else {
            self.read_wanted(&mut connection, span).await
        }
    }

    /// Without a filter: every look at the tail and every drain, so the running
    /// sum is made only if the page does not fit. The first row holds the ends.
    ///
    /// `LIMIT ?` alone would make SQLite compile the statement anew each time:
    /// it plans by the bound value. It does not look into a sum.
    pub(super) async fn read_all(
        &self,
        connection: &mut SqliteConnection,
        span: &Span<'_>,
    ) -> Result<ReadSpan, Error> {
        const PAGE: &str = "
            WITH sized AS NOT MATERIALIZED (
                SELECT id, octet_length(data) + 40 AS size FROM evt_queue
                WHERE id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4 + 0),
            fit (id) AS MATERIALIZED (
                SELECT CASE WHEN coalesce((SELECT sum(size) FROM sized), 0) <= ?5 THEN ?3
                    ELSE (SELECT max(id) FROM (
                        SELECT id, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size
                            AS before FROM sized)
                        WHERE before < ?5) END)
            SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'evt_queue'), 0),
                (SELECT min(id) FROM evt_queue),
                coalesce((SELECT discarded_to FROM evt_stream WHERE stream = ?1), 0),
                (SELECT id FROM fit)
            UNION ALL SELECT * FROM (
                SELECT id, type, data,
                    CAST(round(unixepoch(ts, 'auto', 'subsec') * 1000) AS INTEGER)
                FROM evt_queue WHERE id > ?2 AND id <= (SELECT id FROM fit)
                ORDER BY id LIMIT ?4 + 0)";
        let rows = sqlx::query(self.sql(PAGE))
            .bind(self.stream())
            .bind(span.after.get())
            .bind(span.through.get())
            .bind(i64::try_from(span.max_events).unwrap_or(i64::MAX))
            .bind(i64::try_from(span.max_bytes.max(1)).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(collect_all(span, &rows))
    }

    /// With a filter: a bounded number of rows is looked at. The cross join keeps
    /// SQLite from scanning before it knows the bound, the cast from making an
    /// index of all types; either would cost as much as the table is long.
    async fn read_wanted(
        &self,
        connection: &mut SqliteConnection,
        span: &Span<'_>,
    ) -> Result<ReadSpan, Error> {
        // A type that was stored as a BLOB is compared as the text it holds, as
        // the hub's readers do.
        const PAGE: &str = "
            WITH ends AS (
                SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'evt_queue'), 0) AS head,
                    (SELECT min(id) FROM evt_queue) AS oldest,
                    coalesce((SELECT discarded_to FROM evt_stream WHERE stream = ?1), 0) AS discarded,
                    (SELECT id FROM evt_queue WHERE id > ?2 AND id <= ?3
                     ORDER BY id LIMIT 1 OFFSET ?5 - 1) AS scan_end),
            sized AS (
                SELECT id, octet_length(data) + 40 AS size FROM ends CROSS JOIN evt_queue
                WHERE id > ?2 AND id <= coalesce(scan_end, ?3)
                    AND CAST(type AS TEXT) IN (SELECT value FROM json_each(?4))
                ORDER BY id LIMIT ?6 + 0),
            chosen AS (
                SELECT id, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
                FROM sized)
            SELECT ends.head, ends.oldest, ends.discarded, ends.scan_end,
                (SELECT count(*) FROM sized) AS found,
                event.id, event.type, event.data, event.millis
            FROM ends LEFT JOIN (
                SELECT chosen.id, type, data,
                    CAST(round(unixepoch(ts, 'auto', 'subsec') * 1000) AS INTEGER) AS millis
                FROM chosen CROSS JOIN evt_queue USING (id) WHERE before < ?7) AS event
            ORDER BY event.id";
        let rows = sqlx::query(self.sql(PAGE))
            .bind(self.stream())
            .bind(span.after.get())
            .bind(span.through.get())
            .bind(want_json(span.want))
            .bind(i64::try_from(limits::SCAN_ROWS).unwrap_or(i64::MAX))
            .bind(i64::try_from(span.max_events).unwrap_or(i64::MAX))
            .bind(i64::try_from(span.max_bytes).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(collect_wanted(span, &rows))
    }

    pub(super) async fn read_first_at(
        &self,
        time: Moment,
        above: EventId,
    ) -> Result<Option<EventId>, Error> {
        const FIRST: &str = "SELECT id FROM evt_queue
            WHERE CAST(round(unixepoch(ts, 'auto', 'subsec') * 1000) AS INTEGER) >= ?1
                AND id > ?2
            ORDER BY id LIMIT 1";
        let mut connection = self.connections.read().await?;
        let id: Option<i64> = sqlx::query_scalar(self.sql(FIRST))
            .bind(time.unix_millis())
            .bind(above.get())
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(id.map(EventId::stored))
    }

    pub(super) async fn read_bounds(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Bounds, Error> {
        const BOUNDS: &str = "SELECT
            coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'evt_queue'), 0) AS head,
            (SELECT min(id) FROM evt_queue) AS oldest,
            coalesce((SELECT discarded_to FROM evt_stream WHERE stream = ?1), 0) AS discarded";
        let row = sqlx::query(self.sql(BOUNDS))
            .bind(self.stream())
            .fetch_one(connection)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(bounds(&row))
    }
}

fn refusal_text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::RowNotFound => "a trigger left it out".to_owned(),
        error => error.to_string(),
    }
}

/// The wanted types as a JSON array; `None` for all.
pub(in crate::store) fn want_json(want: &Want) -> Option<String> {
    let Want::Only(types) = want else { return None };
    let mut json = String::from("[");
    for (index, kind) in types.iter().map(EventType::as_str).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Types have no character that JSON escapes.
        let _ = write!(json, "{comma}\"{kind}\"");
    }
    json.push(']');
    Some(json)
}

fn collect_all(span: &Span<'_>, rows: &[SqliteRow]) -> ReadSpan {
    let Some((ends, rows)) = rows.split_first() else {
        unreachable!("the row of ends is always there");
    };
    let Bounds {
        head, discarded_to, ..
    } = bounds(ends);
    let fit: i64 = ends.get(3);
    let events: Vec<Event> = rows.iter().filter_map(|row| event(row, 0)).collect();
    assert!(
        events.is_sorted_by(|one, next| one.id < next.id),
        "a page is in the order of its ids"
    );
    let more = fit < span.through.get() || events.len() >= span.max_events;
    let through = match events.last() {
        Some(last) if more => last.id,
        _ => span.through.min(head).max(span.after),
    };
    let page = Page {
        events,
        through,
        discarded_to,
    };
    ReadSpan { page, head, more }
}

fn collect_wanted(span: &Span<'_>, rows: &[SqliteRow]) -> ReadSpan {
    let Some(first) = rows.first() else {
        unreachable!("the row of `ends` is always there");
    };
    let Bounds {
        head, discarded_to, ..
    } = bounds(first);
    let found: i64 = first.get("found");
    let scan_end: Option<i64> = first.get("scan_end");
    let events: Vec<Event> = rows.iter().filter_map(|row| event(row, 5)).collect();

    let delivered = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let cut =
        delivered < found || usize::try_from(found).is_ok_and(|found| found >= span.max_events);
    let through = match (events.last(), scan_end) {
        (Some(last), _) if cut => last.id,
        (_, Some(scan_end)) => EventId::stored(scan_end),
        _ => span.through.min(head).max(span.after),
    };
    let page = Page {
        events,
        through,
        discarded_to,
    };
    ReadSpan {
        page,
        head,
        more: cut || scan_end.is_some(),
    }
}

/// The ids of a request, of the consecutive ones from `next` on.
fn take_ids(next: &mut i64, request: &Append) -> IdRuns {
    let first = *next;
    *next += i64::try_from(request.events.len()).unwrap_or(i64::MAX);
    IdRuns::run(EventId::stored(first), EventId::stored(*next - 1))
}

/// Ids are dense in SQLite, so what is below the oldest row was discarded, be
/// it by the original's discarder, which records nothing.
fn bounds(row: &SqliteRow) -> Bounds {
    let head: i64 = row.get(0);
    let oldest: Option<i64> = row.get(1);
    let discarded: i64 = row.get(2);
    let discarded = discarded.max(oldest.map_or(head, |oldest| oldest - 1));
    Bounds {
        head: EventId::stored(head),
        oldest: oldest.map(EventId::stored),
        discarded_to: EventId::stored(discarded),
    }
}

/// The event whose id, type, data and time begin at `column`.
pub(in crate::store) fn event(row: &SqliteRow, column: usize) -> Option<Event> {
    let id: i64 = row.get::<Option<i64>, _>(column)?;
    let kind = text(row, column + 1);
    let data = text(row, column + 2);
    let fault = match (&kind, &data) {
        (None, _) => Some(Fault::TypeNotText),
        (_, None) => Some(Fault::DataNotText),
        _ => None,
    };
    Some(Event {
        id: EventId::stored(id),
        kind: kind.unwrap_or_default(),
        data: data.unwrap_or_default(),
        ts: row
            .get::<Option<i64>, _>(column + 3)
            .map(Moment::from_unix_millis),
        fault,
    })
}

/// A column as text, whatever type the application stored; `None` if it is not UTF-8.
fn text(row: &SqliteRow, column: usize) -> Option<Box<str>> {
    let bytes: &[u8] = row.get_unchecked(column);
    std::str::from_utf8(bytes).ok().map(Into::into)
}
