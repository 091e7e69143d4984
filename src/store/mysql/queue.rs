//! The queue table: group commit, pages, its ends.

use sqlx::{
    MySql, MySqlConnection, Row,
    mysql::{MySqlArguments, MySqlRow},
    query::Query,
};

use super::{
    MysqlStore,
    errors::{commit_failed, is_data_error, unavailable},
    pooled::WriteTx,
    text,
};
use crate::{
    event::{Event, EventId, EventType, Fault, Moment, NewEvent, Want},
    limits,
    store::{
        Append, Bounds, Error, IdRuns, Page, Refusal, Span,
        discarded::{LowEnd, Seen},
        requests::{KnownRequests, Outcomes},
    },
};

/// Expired request ids that one write removes at most.
const PURGE_ROWS: i64 = 1000;

/// What a statement needs beside the data: per event, and once.
const EVENT_OVERHEAD: usize = 64;
const STATEMENT_OVERHEAD: usize = 32 * 1024;

/// What an event is taken for before any was seen, or when sizes misled: few
/// are looked at then. InnoDB reads all of a large value to tell its size.
pub(super) const CAUTIOUS_SIZE: usize = 64 * 1024;

/// Rows of [`MysqlStore::rows`].
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub events: Vec<Event>,
    /// Set if there may be more: nothing above the last row was read.
    pub cut: bool,
}

/// The low end, and the ends, as one statement shows them.
struct Ends {
    seen: Seen,
    /// Highest id that is visible; 0 if none is.
    highest: i64,
    frontier: i64,
}

impl MysqlStore {
    pub(super) async fn append_requests(&self, requests: &[Append]) -> Result<Outcomes, Error> {
        let events: Vec<&NewEvent> = requests.iter().flat_map(|one| &one.events).collect();
        let named = requests.iter().any(|request| request.request_id.is_some());
        let at_once = !named && self.packets(&events).len() <= 1;
        let together = if at_once {
            self.append_at_once(requests, &events).await?
        } else {
            self.append_in_transaction(requests).await?
        };
        if let Some(outcomes) = together {
            return Ok(outcomes);
        }
        self.transaction(|mut tx| async move {
            let outcomes = self.append_apart(&mut tx, requests).await?;
            Ok((tx, outcomes))
        })
        .await
    }

    /// One statement that is its own transaction: a third of the round trips.
    /// `None` if the database refuses some event.
    async fn append_at_once(
        &self,
        requests: &[Append],
        events: &[&NewEvent],
    ) -> Result<Option<Outcomes>, Error> {
        let mut connection = self.connections.write().await?;
        let mut ids = match self.insert_events(&mut connection, events).await {
            Ok(ids) => ids.into_iter(),
            Err(error) if is_data_error(&error) => return Ok(None),
            Err(error) => return Err(commit_failed(&error)),
        };
        let own = |request: &Append| {
            let own: Vec<i64> = ids.by_ref().take(request.events.len()).collect();
            Ok(IdRuns::collect(&own))
        };
        Ok(Some(requests.iter().map(own).collect()))
    }

    async fn append_in_transaction(&self, requests: &[Append]) -> Result<Option<Outcomes>, Error> {
        let attempt = self.attempt(|mut tx| async move {
            let outcomes = self.append_together(&mut tx, requests).await?;
            Ok((tx, outcomes))
        });
        match attempt.await? {
            Ok(outcomes) => Ok(Some(outcomes)),
            Err(error) if is_data_error(&error) => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// All new events of all requests.
    async fn append_together(
        &self,
        tx: &mut MySqlConnection,
        requests: &[Append],
    ) -> Result<Outcomes, sqlx::Error> {
        let mut known = self.claim_requests(tx, requests).await?;
        let mut fresh = Vec::new();
        let mut events: Vec<&NewEvent> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            if !known.claims(request, index) {
                fresh.push(index);
                events.extend(&request.events);
            }
        }
        let mut ids = self.insert_events(tx, &events).await?.into_iter();
        let mut outcomes = vec![Ok(IdRuns::default()); requests.len()];
        let mut made = Vec::with_capacity(fresh.len());
        for &index in &fresh {
            let request = &requests[index];
            let own: Vec<i64> = ids.by_ref().take(request.events.len()).collect();
            let runs = IdRuns::collect(&own);
            made.push((request, runs.to_text()));
            outcomes[index] = Ok(runs);
        }
        self.remember_requests(tx, &made).await?;
        known.answer_repeats(requests, &mut outcomes);
        Ok(outcomes)
    }

    /// Each request under a savepoint of its own, so that what the database
    /// refuses is refused alone (ARCHITECTURE, rule 9). A data error leaves the
    /// transaction as it is; what would end it is none.
    async fn append_apart(
        &self,
        tx: &mut WriteTx,
        requests: &[Append],
    ) -> Result<Outcomes, sqlx::Error> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            // Takes the place of the one before.
            tx.set_savepoint().await?;
            let alone = std::slice::from_ref(request);
            let outcome = match self.append_together(tx, alone).await {
                Ok(mut outcome) => outcome.remove(0),
                Err(error) if is_data_error(&error) => {
                    tx.return_to_savepoint().await?;
                    Err(Refusal::Data(error.to_string()))
                }
                Err(error) => return Err(error),
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Inserts and returns the ids in the order of `events`.
    async fn insert_events(
        &self,
        connection: &mut MySqlConnection,
        events: &[&NewEvent],
    ) -> Result<Vec<i64>, sqlx::Error> {
        let mut ids = Vec::with_capacity(events.len());
        for packet in self.packets(events) {
            let stored = if self.connections.server().is_on("wsrep_on") {
                self.insert_returning(connection, packet).await?
            } else {
                self.insert_run(connection, packet).await?
            };
            if stored.len() != packet.len() {
                return Err(sqlx::Error::RowNotFound);
            }
            ids.extend(stored);
        }
        Ok(ids)
    }

    /// For an INSERT whose rows are counted beforehand InnoDB reserves the ids
    /// as one run, in every `innodb_autoinc_lock_mode`, and our sessions count
    /// by one.
    async fn insert_run(
        &self,
        connection: &mut MySqlConnection,
        events: &[&NewEvent],
    ) -> Result<Vec<i64>, sqlx::Error> {
        const INSERT: &str = "INSERT INTO evt_queue (type, data, ts) VALUES ROWS";
        let stored = self.insert(INSERT, events).execute(connection).await?;
        let first = i64::try_from(stored.last_insert_id()).unwrap_or(0);
        if first == 0 || stored.rows_affected() != events.len() as u64 {
            return Err(sqlx::Error::RowNotFound);
        }
        Ok((first..).take(events.len()).collect())
    }

    /// A cluster sets the step between ids at any time. It is MariaDB's.
    async fn insert_returning(
        &self,
        connection: &mut MySqlConnection,
        events: &[&NewEvent],
    ) -> Result<Vec<i64>, sqlx::Error> {
        const INSERT: &str = "INSERT INTO evt_queue (type, data, ts) VALUES ROWS
            RETURNING CAST(id AS SIGNED)";
        let rows = self.insert(INSERT, events).fetch_all(connection).await?;
        let mut ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn insert<'q>(
        &self,
        sql: &'static str,
        events: &[&'q NewEvent],
    ) -> Query<'q, MySql, MySqlArguments> {
        let mut insert = self.query_of(sql, "(?, ?, UTC_TIMESTAMP())", events.len());
        for event in events {
            insert = insert.bind(event.kind.as_str()).bind(event.data.as_str());
        }
        insert
    }

    /// Events by statement: none is larger than the server takes.
    fn packets<'a, 'e>(&self, events: &'a [&'e NewEvent]) -> Vec<&'a [&'e NewEvent]> {
        let server = self.connections.server();
        let limit = server.number("max_allowed_packet").unwrap_or(0);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        split(events, limit.saturating_sub(STATEMENT_OVERHEAD))
    }

    /// Claims the request ids of this batch, waiting for other replicas that
    /// are about to store the same ones; returns what was stored under them
    /// before.
    async fn claim_requests(
        &self,
        tx: &mut MySqlConnection,
        requests: &[Append],
    ) -> Result<KnownRequests, sqlx::Error> {
        const CLAIM: &str = "INSERT INTO evt_requests (stream, owner, request, hash, ids, expires)
            VALUES ROWS ON DUPLICATE KEY UPDATE owner = VALUES(owner)";
        const CLAIMED: &str = "(?, ?, ?, ?, '', UNIX_TIMESTAMP() + ?)";
        // A new statement sees what was waited for; claims of our own have no ids yet.
        const KNOWN: &str = "SELECT owner, request, hash, ids FROM evt_requests
            WHERE stream = ? AND (owner, request) IN (ROWS) AND ids <> ''";
        let mut known = KnownRequests::default();
        let mut named: Vec<_> = requests
            .iter()
            .filter_map(|request| Some((request, request.request_id?)))
            .collect();
        if named.is_empty() {
            return Ok(known);
        }
        // In one order, so that two replicas cannot wait for each other.
        named.sort_by_key(|(request, id)| (request.user.clone(), *id));
        named.dedup_by_key(|(request, id)| (request.user.clone(), *id));
        let window = i64::try_from(self.options.common.request_window.as_secs());
        let mut claim = self.query_of(CLAIM, CLAIMED, named.len());
        let mut find = self.query_of(KNOWN, "(?, ?)", named.len());
        find = find.bind(self.stream());
        for (request, id) in &named {
            claim = claim
                .bind(self.stream())
                .bind(request.user.as_str())
                .bind(id.to_string())
                .bind(request.content_hash())
                .bind(window.unwrap_or(i64::MAX / 2));
            find = find.bind(request.user.as_str()).bind(id.to_string());
        }
        claim.execute(&mut *tx).await?;
        for row in find.fetch_all(&mut *tx).await? {
            let (owner, id): (&str, &str) = (row.get("owner"), row.get("request"));
            let request = named
                .iter()
                .find(|(one, own)| one.user.as_str() == owner && own.to_string() == id);
            if let Some((request, id)) = request {
                let runs = IdRuns::from_text(row.get("ids")).unwrap_or_default();
                known.note(request.user.clone(), *id, row.get("hash"), runs);
            }
        }
        self.purge_requests(tx).await?;
        Ok(known)
    }

    /// Completes the claims with the ids that were given out.
    async fn remember_requests(
        &self,
        tx: &mut MySqlConnection,
        made: &[(&Append, String)],
    ) -> Result<(), sqlx::Error> {
        // The rows are there, and locked; this is the UPDATE of many at once
        // that both servers know. `expires` is not touched.
        const REMEMBER: &str =
            "INSERT INTO evt_requests (stream, owner, request, hash, ids, expires)
            VALUES ROWS ON DUPLICATE KEY UPDATE ids = VALUES(ids)";
        let named: Vec<_> = made
            .iter()
            .filter_map(|(request, ids)| Some((*request, request.request_id?, ids.as_str())))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let mut remember = self.query_of(REMEMBER, "(?, ?, ?, '', ?, 0)", named.len());
        for (request, id, ids) in named {
            remember = remember
                .bind(self.stream())
                .bind(request.user.as_str())
                .bind(id.to_string())
                .bind(ids);
        }
        remember.execute(tx).await?;
        Ok(())
    }

    async fn purge_requests(&self, tx: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        const EXPIRED: &str = "SELECT owner, request FROM evt_requests
            WHERE stream = ? AND expires < UNIX_TIMESTAMP()
            ORDER BY expires LIMIT ? FOR UPDATE SKIP LOCKED";
        const PURGE: &str = "DELETE FROM evt_requests
            WHERE stream = ? AND (owner, request) IN (ROWS)";
        let expired = sqlx::query(EXPIRED)
            .bind(self.stream())
            .bind(PURGE_ROWS)
            .fetch_all(&mut *tx)
            .await?;
        if expired.is_empty() {
            return Ok(());
        }
        let mut purge = self.query_of(PURGE, "(?, ?)", expired.len());
        purge = purge.bind(self.stream());
        for row in &expired {
            purge = purge
                .bind(row.get::<&str, _>("owner"))
                .bind(row.get::<&str, _>("request"));
        }
        purge.execute(tx).await?;
        Ok(())
    }

    /// One page, then the low end: what was gone before the rows were read
    /// shows in it.
    pub(super) async fn read_span(&self, span: &Span<'_>) -> Result<Page, Error> {
        let mut connection = self.connections.read().await?;
        let page = self.page_on(&mut connection, span).await;
        page.map_err(|error| unavailable(&error))
    }

    async fn page_on(
        &self,
        connection: &mut MySqlConnection,
        span: &Span<'_>,
    ) -> Result<Page, sqlx::Error> {
        let scan_end = self.scan_end(connection, span).await?;
        let through = scan_end.unwrap_or(span.through);
        let rows = self.rows(connection, &Span { through, ..*span }).await?;
        let asked = self.with_shared(|shared| shared.low_end);
        let ends = self.ends(connection, asked).await?;
        let proven = self.with_shared(|shared| shared.settled);
        // Rows at the end may be gone, but what is settled was there.
        let head = EventId::stored(ends.highest.max(ends.frontier).max(proven));
        let settled = span.through.min(head);
        let low = |low: &mut LowEnd| low.conclude(asked, ends.seen, settled.get());
        let discarded_to = self.with_shared(|shared| low(&mut shared.low_end));
        let through = match (rows.events.last(), scan_end) {
            (Some(last), _) if rows.cut => last.id,
            (_, Some(scan_end)) => scan_end,
            _ => settled.max(span.after),
        };
        Ok(Page {
            events: rows.events,
            through,
            discarded_to,
        })
    }

    /// Where a filtered read stops looking; `None` if it reaches the end.
    async fn scan_end(
        &self,
        connection: &mut MySqlConnection,
        span: &Span<'_>,
    ) -> Result<Option<EventId>, sqlx::Error> {
        const SCAN_END: &str = "SELECT CAST(id AS SIGNED) FROM evt_queue
            WHERE id > ? AND id <= ? ORDER BY id LIMIT 1 OFFSET ?";
        // Without a filter a row more than a page is nobody's business.
        if span.want.is_all() {
            return Ok(None);
        }
        let id: Option<i64> = sqlx::query_scalar(self.sql(SCAN_END))
            .bind(span.after.get())
            .bind(span.through.get())
            .bind(limits::SCAN_ROWS as u64 - 1)
            .fetch_optional(connection)
            .await?;
        Ok(id.map(EventId::stored))
    }

    /// Wanted rows of a span, as many as it allows: chosen by their sizes before
    /// any data is fetched, in steps that begin small where events are large.
    pub(super) async fn rows(
        &self,
        connection: &mut MySqlConnection,
        span: &Span<'_>,
    ) -> Result<Rows, sqlx::Error> {
        let mut rows = Rows::default();
        let (mut after, mut bytes) = (span.after, span.max_bytes);
        loop {
            let room = span.max_events - rows.events.len();
            let typical = self.with_shared(|shared| shared.typical_size);
            let step = (bytes / typical).clamp(1, room);
            let rest = Span { after, ..*span };
            let sizes = self.sizes(connection, &rest, step).await?;
            let taken = fit(&sizes, bytes);
            let Some(&(last, _)) = sizes.get(taken.wrapping_sub(1)) else {
                return Ok(rows);
            };
            let size: usize = sizes[..taken].iter().map(|(_, size)| size).sum();
            self.with_shared(|shared| shared.typical_size = (size / taken).max(1));
            let through = EventId::stored(last);
            let read = self.data(connection, &Span { through, ..rest }).await?;
            rows.events.extend(read);
            after = through;
            bytes = bytes.saturating_sub(size);
            if taken == sizes.len() && sizes.len() < step {
                return Ok(rows);
            }
            if taken < sizes.len() || bytes == 0 || rows.events.len() >= span.max_events {
                rows.cut = true;
                return Ok(rows);
            }
        }
    }

    /// Ids and sizes of the first wanted rows of a span.
    async fn sizes(
        &self,
        connection: &mut MySqlConnection,
        span: &Span<'_>,
        most: usize,
    ) -> Result<Vec<(i64, usize)>, sqlx::Error> {
        // An alias `id` would be what ORDER BY sorts by, without the index.
        const SIZES: &str = "SELECT CAST(id AS SIGNED) AS event_id,
                COALESCE(OCTET_LENGTH(data), 0) + 40 AS size FROM evt_queue
            WHERE id > ? AND id <= ? ORDER BY id LIMIT ?";
        const WANTED: &str = "SELECT CAST(id AS SIGNED) AS event_id,
                COALESCE(OCTET_LENGTH(data), 0) + 40 AS size FROM evt_queue
            WHERE id > ? AND id <= ? AND FIND_IN_SET(CAST(type AS BINARY), ?)
            ORDER BY id LIMIT ?";
        let sql = if span.want.is_all() { SIZES } else { WANTED };
        let mut query = sqlx::query(self.sql(sql))
            .bind(span.after.get())
            .bind(span.through.get());
        if let Some(types) = type_list(span.want) {
            query = query.bind(types);
        }
        // A failure may be one of sizes that misled: the next try is cautious.
        let rows = query
            .bind(most as u64)
            .fetch_all(connection)
            .await
            .inspect_err(|_error| {
                self.with_shared(|shared| shared.typical_size = CAUTIOUS_SIZE);
            })?;
        let size = |row: &MySqlRow| {
            let size: i64 = row.get_unchecked("size");
            (
                row.get("event_id"),
                usize::try_from(size).unwrap_or(usize::MAX),
            )
        };
        Ok(rows.iter().map(size).collect())
    }

    /// The wanted events of a span that is known to be small.
    async fn data(
        &self,
        connection: &mut MySqlConnection,
        span: &Span<'_>,
    ) -> Result<Vec<Event>, sqlx::Error> {
        const DATA: &str = "SELECT CAST(id AS SIGNED) AS event_id, type, data,
                TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ts) DIV 1000 AS millis FROM evt_queue
            WHERE id > ? AND id <= ? ORDER BY id";
        const WANTED: &str = "SELECT CAST(id AS SIGNED) AS event_id, type, data,
                TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ts) DIV 1000 AS millis FROM evt_queue
            WHERE id > ? AND id <= ? AND FIND_IN_SET(CAST(type AS BINARY), ?) ORDER BY id";
        let sql = if span.want.is_all() { DATA } else { WANTED };
        let mut query = sqlx::query(self.sql(sql))
            .bind(span.after.get())
            .bind(span.through.get());
        if let Some(types) = type_list(span.want) {
            query = query.bind(types);
        }
        let rows = query.fetch_all(connection).await?;
        Ok(rows.iter().map(event).collect())
    }

    pub(super) async fn read_first_at(
        &self,
        time: Moment,
        above: EventId,
    ) -> Result<Option<EventId>, Error> {
        const FIRST: &str = "SELECT CAST(id AS SIGNED) FROM evt_queue
            WHERE ts >= TIMESTAMPADD(MICROSECOND, ? * 1000, '1970-01-01') AND id > ?
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

    pub(super) async fn read_bounds(&self) -> Result<Bounds, Error> {
        let asked = self.with_shared(|shared| shared.low_end);
        let mut connection = self.connections.read().await?;
        let ends = self.ends(&mut connection, asked).await;
        let ends = ends.map_err(|error| unavailable(&error))?;
        let (settled, discarded_to) = self.with_shared(|shared| {
            let settled = shared.settled.max(ends.frontier);
            (settled, shared.low_end.conclude(asked, ends.seen, settled))
        });
        Ok(Bounds {
            head: EventId::stored(ends.highest.max(settled)),
            oldest: ends.seen.oldest.map(EventId::stored),
            discarded_to,
        })
    }

    /// Highest id given out, as far as it matters to somebody who knows `known`.
    ///
    /// That is the highest visible one, unless it is below `known`: then rows
    /// were deleted, or ids were set back. The table's counter tells which; it
    /// outlives an empty table and a restart. It is no answer in general, since
    /// a bulk INSERT reserves more ids than it uses.
    pub(super) async fn head(
        &self,
        connection: &mut MySqlConnection,
        known: EventId,
    ) -> Result<EventId, sqlx::Error> {
        const HIGHEST: &str = "SELECT CAST(id AS SIGNED) FROM evt_queue ORDER BY id DESC LIMIT 1";
        const NEXT: &str = "SELECT CAST(AUTO_INCREMENT AS SIGNED) FROM information_schema.TABLES
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'evt_queue'";
        let highest: Option<i64> = sqlx::query_scalar(self.sql(HIGHEST))
            .fetch_optional(&mut *connection)
            .await?;
        let highest = EventId::stored(highest.unwrap_or(0));
        if highest >= known {
            return Ok(highest);
        }
        let next: Option<Option<i64>> = sqlx::query_scalar(self.sql(NEXT))
            .fetch_optional(connection)
            .await?;
        let given_out = EventId::stored(next.flatten().unwrap_or(1) - 1);
        Ok(given_out.min(known).max(highest))
    }

    /// The facts of [`Seen`] in one statement, hence from one snapshot, except
    /// for the next witness: that need only be a row which is there.
    async fn ends(
        &self,
        connection: &mut MySqlConnection,
        asked: LowEnd,
    ) -> Result<Ends, sqlx::Error> {
        const ENDS: &str = "SELECT
            (SELECT CAST(last_evt_id AS SIGNED) FROM evt_consumers
             WHERE last_evt_id > 0 OR epoch > 0 ORDER BY last_evt_id LIMIT 1) AS slowest,
            (SELECT CAST(id AS SIGNED) FROM evt_queue ORDER BY id DESC LIMIT 1) AS highest,
            (SELECT CAST(id AS SIGNED) FROM evt_queue WHERE id > ? ORDER BY id LIMIT 1) AS oldest,
            (SELECT CAST(id AS SIGNED) FROM evt_queue WHERE id = ?) AS witness,
            (SELECT discarded_to FROM evt_stream WHERE stream = ?) AS recorded,
            (SELECT frontier FROM evt_stream WHERE stream = ?) AS frontier";
        const NEXT_WITNESS: &str = "SELECT CAST(id AS SIGNED) FROM evt_queue
            WHERE id > ? ORDER BY id LIMIT 1";
        let row = sqlx::query(self.sql(ENDS))
            .bind(asked.discarded)
            .bind(asked.witness)
            .bind(self.stream())
            .bind(self.stream())
            .fetch_one(&mut *connection)
            .await?;
        let number = |name: &str| row.get::<Option<i64>, _>(name);
        let slowest = number("slowest");
        let above = asked.discarded.max(slowest.unwrap_or(0));
        let next_witness = match number("witness").filter(|witness| *witness > above) {
            Some(witness) => Some(witness),
            None => {
                sqlx::query_scalar(self.sql(NEXT_WITNESS))
                    .bind(above)
                    .fetch_optional(connection)
                    .await?
            }
        };
        Ok(Ends {
            seen: Seen {
                recorded: number("recorded").unwrap_or(0),
                oldest: number("oldest"),
                slowest,
                next_witness,
                witnessed: number("witness").is_some(),
            },
            highest: number("highest").unwrap_or(0),
            frontier: number("frontier").unwrap_or(0),
        })
    }
}

/// Wanted types as one text; `None` for all. A type of ours has no comma.
pub(in crate::store) fn type_list(want: &Want) -> Option<String> {
    let Want::Only(types) = want else { return None };
    let types: Vec<&str> = types.iter().map(EventType::as_str).collect();
    Some(types.join(","))
}

/// How many of these rows fit: those before which there is still room.
pub(in crate::store) fn fit(sizes: &[(i64, usize)], room: usize) -> usize {
    let mut used = 0_usize;
    let fits = |(_, size): &&(i64, usize)| {
        let fits = used < room.max(1);
        used = used.saturating_add(*size);
        fits
    };
    sizes.iter().take_while(fits).count()
}

/// Events in runs that are at most `limit` bytes, or one event.
fn split<'a, 'e>(events: &'a [&'e NewEvent], limit: usize) -> Vec<&'a [&'e NewEvent]> {
    let size = |event: &NewEvent| event.data.as_str().len() + EVENT_OVERHEAD;
    let mut used = events.first().map_or(0, |event| size(event));
    let joins = |_before: &&NewEvent, event: &&NewEvent| {
        used += size(event);
        if used > limit {
            used = size(event);
        }
        used > size(event)
    };
    events.chunk_by(joins).collect()
}

/// A row with `event_id`, `type`, `data` and `millis`.
pub(in crate::store) fn event(row: &MySqlRow) -> Event {
    let (kind, data) = (text(row, 1), text(row, 2));
    let fault = match (&kind, &data) {
        (None, _) => Some(Fault::TypeNotText),
        (_, None) => Some(Fault::DataNotText),
        _ => None,
    };
    Event {
        id: EventId::stored(row.get("event_id")),
        kind: kind.unwrap_or_default().into(),
        data: data.unwrap_or_default().into(),
        ts: row
            .get::<Option<i64>, _>("millis")
            .map(Moment::from_unix_millis),
        fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventData;

    #[test]
    fn rows_fit_while_there_is_room_before_them() {
        let sizes = [(1, 50), (2, 50), (3, 50)];
        assert_eq!(fit(&sizes, 1), 1);
        assert_eq!(fit(&sizes, 50), 1);
        assert_eq!(fit(&sizes, 51), 2);
        assert_eq!(fit(&sizes, 1000), 3);
        // One event always travels.
        assert_eq!(fit(&sizes, 0), 1);
        assert_eq!(fit(&[], 10), 0);
    }

    #[test]
    fn statements_stay_below_the_largest_packet() {
        let event = |length: usize| NewEvent {
            kind: EventType::parse("A").expect("a type"),
            data: EventData::parse("1".repeat(length)).expect("JSON"),
        };
        let events = [10, 10, 300, 10, 10, 10].map(event);
        let events: Vec<&NewEvent> = events.iter().collect();
        let lengths = |limit| {
            split(&events, limit)
                .iter()
                .map(|run| run.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(2 * (10 + EVENT_OVERHEAD)), [2, 1, 2, 1]);
        assert_eq!(lengths(usize::MAX), [6]);
        assert_eq!(lengths(0), [1, 1, 1, 1, 1, 1]);
        assert!(split(&[], 100).is_empty());
    }
}
