//! The queue table: group commit, pages, its ends.

use sqlx::{
    Acquire as _, AssertSqlSafe, PgConnection, Row, SqlSafeStr as _, error::DatabaseError,
    postgres::PgRow,
};

use super::{
    PostgresStore,
    connections::{WriteTx, commit_failed, is_data_error, unavailable},
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

impl PostgresStore {
    pub(super) async fn append_requests(&self, requests: &[Append]) -> Result<Outcomes, Error> {
        let together = if requests.iter().all(|request| request.request_id.is_none()) {
            self.append_at_once(requests).await?
        } else {
            self.append_in_transaction(requests).await?
        };
        if let Some(outcomes) = together {
            return Ok(outcomes);
        }
        let mut tx = self.connections.begin().await?;
        let outcomes = self.append_apart(&mut tx, requests).await;
        let outcomes = outcomes.map_err(|error| unavailable(&error))?;
        tx.commit().await?;
        Ok(outcomes)
    }

    /// One statement that is its own transaction: one round trip, and the lock
    /// that holds the frontier back is free at once. `None` if the database
    /// refuses some event.
    async fn append_at_once(&self, requests: &[Append]) -> Result<Option<Outcomes>, Error> {
        let events: Vec<&NewEvent> = requests.iter().flat_map(|one| &one.events).collect();
        let mut writer = self.connections.writer().await?;
        let inserted = match self.insert_events(&mut writer, &events).await {
            Ok(ids) => Some(ids),
            Err(error) if is_data_error(&error) => None,
            Err(error) => return Err(commit_failed(&error)),
        };
        writer.keep();
        let Some(ids) = inserted else { return Ok(None) };
        let mut ids = ids.into_iter();
        let own = |request: &Append| {
            let own: Vec<i64> = ids.by_ref().take(request.events.len()).collect();
            Ok(IdRuns::collect(&own))
        };
        Ok(Some(requests.iter().map(own).collect()))
    }

    async fn append_in_transaction(&self, requests: &[Append]) -> Result<Option<Outcomes>, Error> {
        let mut tx = self.connections.begin().await?;
        match self.append_together(&mut tx, requests).await {
            Ok(outcomes) => {
                tx.commit().await?;
                Ok(Some(outcomes))
            }
            Err(error) if is_data_error(&error) => {
                tx.rollback().await?;
                Ok(None)
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// All new events of all requests in one statement.
    async fn append_together(
        &self,
        tx: &mut PgConnection,
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
        let ids = self.insert_events(tx, &events).await?;
        let mut ids = ids.into_iter();
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
    /// refuses is refused alone (ARCHITECTURE, rule 9).
    async fn append_apart(
        &self,
        tx: &mut WriteTx,
        requests: &[Append],
    ) -> Result<Outcomes, sqlx::Error> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            let mut savepoint = tx.savepoint().await?;
            let alone = std::slice::from_ref(request);
            let connection = savepoint.acquire().await?;
            let outcome = match self.append_together(connection, alone).await {
                Ok(mut outcome) => {
                    savepoint.commit().await?;
                    outcome.remove(0)
                }
                Err(error) if is_data_error(&error) => {
                    savepoint.rollback().await?;
                    Err(Refusal::Data(refusal_text(&error)))
                }
                Err(error) => return Err(error),
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Inserts and returns the ids in the order of `events`: a statement draws
    /// them in the order of its rows, but other sessions draw in between, and
    /// RETURNING promises no order. All or none are stored: a trigger that
    /// leaves a row out makes the division fail.
    async fn insert_events(
        &self,
        connection: &mut PgConnection,
        events: &[&NewEvent],
    ) -> Result<Vec<i64>, sqlx::Error> {
        const INSERT: &str = "WITH stored AS (
                INSERT INTO evt_queue (type, data, ts)
                SELECT type, data::json, timezone('UTC', now())
                FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS event (type, data, place)
                ORDER BY place
                RETURNING id)
            SELECT id, 1 / (count(*) OVER () = $3)::int AS complete FROM stored ORDER BY id";
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        let data: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
        let rows = sqlx::query(self.sql(INSERT))
            .bind(kinds)
            .bind(data)
            .bind(i64::try_from(events.len()).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await?;
        if rows.len() != events.len() {
            return Err(sqlx::Error::RowNotFound);
        }
        Ok(rows.iter().map(|row| row.get("id")).collect())
    }

    /// Claims the request ids of this batch, waiting for other replicas that
    /// are about to store the same ones; returns what was stored under them
    /// before.
    async fn claim_requests(
        &self,
        tx: &mut PgConnection,
        requests: &[Append],
    ) -> Result<KnownRequests, sqlx::Error> {
        // In one order, so that two replicas cannot wait for each other.
        const CLAIM: &str = "INSERT INTO evt_requests (stream, owner, request, hash, ids, expires)
            SELECT $1, owner, request, hash, '', extract(epoch FROM now())::bigint + $5
            FROM unnest($2::text[], $3::text[], $4::bytea[]) AS claim (owner, request, hash)
            ORDER BY owner, request
            ON CONFLICT DO NOTHING RETURNING owner, request";
        const KNOWN: &str = "SELECT known.owner, known.request, known.hash, known.ids
            FROM unnest($2::text[], $3::text[]) AS claim (owner, request)
            JOIN evt_requests known ON known.stream = $1
                AND known.owner = claim.owner AND known.request = claim.request
            WHERE known.ids <> ''";
        let mut known = KnownRequests::default();
        let named: Vec<_> = requests
            .iter()
            .filter_map(|request| Some((request, request.request_id?)))
            .collect();
        if named.is_empty() {
            return Ok(known);
        }
        let owners: Vec<&str> = named.iter().map(|(one, _)| one.user.as_str()).collect();
        let ids: Vec<String> = named.iter().map(|(_, id)| id.to_string()).collect();
        let hashes: Vec<Vec<u8>> = named.iter().map(|(one, _)| one.content_hash()).collect();
        let window = i64::try_from(self.options.common.request_window.as_secs());
        let claimed = sqlx::query(CLAIM)
            .bind(self.stream())
            .bind(&owners)
            .bind(&ids)
            .bind(hashes)
            .bind(window.unwrap_or(i64::MAX / 2))
            .fetch_all(&mut *tx)
            .await?;
        if claimed.len() < named.len() {
            // A new statement sees what was waited for.
            let rows = sqlx::query(KNOWN)
                .bind(self.stream())
                .bind(&owners)
                .bind(&ids)
                .fetch_all(&mut *tx)
                .await?;
            for row in rows {
                let (owner, id): (&str, &str) = (row.get("owner"), row.get("request"));
                let request = named
                    .iter()
                    .zip(&ids)
                    .find(|((one, _), text)| one.user.as_str() == owner && text.as_str() == id);
                if let Some(((request, id), _)) = request {
                    let runs = IdRuns::from_text(row.get("ids")).unwrap_or_default();
                    known.note(request.user.clone(), *id, row.get("hash"), runs);
                }
            }
        }
        self.purge_requests(tx).await?;
        Ok(known)
    }

    /// Completes the claims with the ids that were given out.
    async fn remember_requests(
        &self,
        tx: &mut PgConnection,
        made: &[(&Append, String)],
    ) -> Result<(), sqlx::Error> {
        const REMEMBER: &str = "UPDATE evt_requests SET ids = made.ids
            FROM unnest($2::text[], $3::text[], $4::text[]) AS made (owner, request, ids)
            WHERE stream = $1 AND evt_requests.owner = made.owner
                AND evt_requests.request = made.request";
        let named: Vec<_> = made
            .iter()
            .filter_map(|(request, ids)| Some((*request, request.request_id?, ids.as_str())))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let owners: Vec<&str> = named.iter().map(|(one, ..)| one.user.as_str()).collect();
        let requests: Vec<String> = named.iter().map(|(_, id, _)| id.to_string()).collect();
        let ids: Vec<&str> = named.iter().map(|(.., ids)| *ids).collect();
        sqlx::query(REMEMBER)
            .bind(self.stream())
            .bind(owners)
            .bind(requests)
            .bind(ids)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn purge_requests(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        const PURGE: &str = "DELETE FROM evt_requests WHERE (stream, owner, request) IN (
            SELECT stream, owner, request FROM evt_requests
            WHERE stream = $1 AND expires < extract(epoch FROM now())
            ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)";
        sqlx::query(PURGE)
            .bind(self.stream())
            .bind(PURGE_ROWS)
            .execute(tx)
            .await?;
        Ok(())
    }

    /// One page and the low end, from one snapshot. Rows are chosen by their
    /// stored size before any data is unpacked, then by their real size.
    pub(super) async fn read_span(&self, span: &Span<'_>) -> Result<Page, Error> {
        const PAGE: &str = ", scan AS MATERIALIZED (
                SELECT (SELECT id FROM evt_queue WHERE id > $4 AND id <= $5
                    ORDER BY id LIMIT 1 OFFSET $7 - 1) AS scan_end),
            found AS MATERIALIZED (
                SELECT id, pg_column_size(data) + 40 AS size FROM evt_queue
                WHERE id > $4 AND id <= (SELECT coalesce(scan_end, $5) FROM scan)
                    AND ($6::text[] IS NULL OR type::text = ANY ($6))
                ORDER BY id LIMIT $8),
            near AS (
                SELECT id FROM (
                    SELECT id, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
                    FROM found) AS sized
                WHERE before < $9),
            sized AS (
                SELECT event.*, sum(event.size) OVER (ORDER BY event.id ROWS UNBOUNDED PRECEDING)
                    - event.size AS before
                FROM near CROSS JOIN LATERAL (
                    SELECT id, type::text AS type, data::text AS data,
                        octet_length(data::text) + 40 AS size,
                        CASE WHEN isfinite(ts)
                            THEN round(date_part('epoch', ts) * 1000)::bigint END AS millis
                    FROM evt_queue WHERE id = near.id OFFSET 0) AS event)
            SELECT low.*, scan.scan_end, (SELECT count(*) FROM found) AS found,
                event.id, event.type, event.data, event.millis
            FROM low CROSS JOIN scan LEFT JOIN (SELECT * FROM sized WHERE before < $9) AS event ON true
            ORDER BY event.id";
        // Without a filter a row more than a page is nobody's business.
        let scan_rows = if span.want.is_all() {
            span.max_events
        } else {
            limits::SCAN_ROWS
        };
        let asked = self.with_shared(|shared| shared.low_end);
        let mut connection = self.connections.read().await?;
        let rows = sqlx::query(self.low_end_sql(PAGE))
            .bind(self.stream())
            .bind(asked.discarded)
            .bind(asked.witness)
            .bind(span.after.get())
            .bind(span.through.get())
            .bind(want_list(span.want))
            .bind(i64::try_from(scan_rows).unwrap_or(i64::MAX))
            .bind(i64::try_from(span.max_events).unwrap_or(i64::MAX))
            .bind(i64::try_from(span.max_bytes).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let Some(first) = rows.first() else {
            unreachable!("the row of `low` is always there");
        };
        let settled = span.through.min(EventId::stored(first.get("head")));
        let discarded_to = self.conclude_low_end(asked, first, settled);
        Ok(collect_page(span, &rows, discarded_to))
    }

    pub(super) async fn read_first_at(
        &self,
        time: Moment,
        above: EventId,
    ) -> Result<Option<EventId>, Error> {
        const FIRST: &str = "SELECT id FROM evt_queue
            WHERE ts >= timezone('UTC', to_timestamp($1::double precision / 1000)) AND id > $2
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
        const BOUNDS: &str = "SELECT * FROM low";
        let asked = self.with_shared(|shared| shared.low_end);
        let mut connection = self.connections.read().await?;
        let row = sqlx::query(self.low_end_sql(BOUNDS))
            .bind(self.stream())
            .bind(asked.discarded)
            .bind(asked.witness)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let proven = self.with_shared(|shared| shared.settled);
        let settled = EventId::stored(proven.max(row.get("frontier")));
        let low = self.conclude_low_end(asked, &row, settled);
        Ok(Bounds {
            head: EventId::stored(row.get("head")),
            oldest: row.get::<Option<i64>, _>("oldest").map(EventId::stored),
            discarded_to: low,
        })
    }

    /// A statement that can use `low`, the facts of [`Seen`]; $1 is the stream,
    /// $2 and $3 are [`LowEnd`].
    fn low_end_sql(&self, end: &'static str) -> sqlx::SqlStr {
        const LOW: &str = "WITH slow AS MATERIALIZED (
                SELECT (SELECT last_evt_id FROM evt_consumers
                    WHERE last_evt_id > 0 OR epoch > 0
                    ORDER BY last_evt_id LIMIT 1) AS slowest),
            low AS MATERIALIZED (SELECT slow.slowest, (HEAD) AS head,
                coalesce(stream.discarded_to, 0) AS recorded,
                coalesce(stream.frontier, 0) AS frontier,
                (SELECT id FROM evt_queue WHERE id > $2 ORDER BY id LIMIT 1) AS oldest,
                (SELECT id FROM evt_queue
                 WHERE id > greatest($2, (SELECT coalesce(slowest, 0) FROM slow))
                 ORDER BY id LIMIT 1) AS next_witness,
                EXISTS (SELECT FROM evt_queue WHERE id = $3) AS witnessed
            FROM slow LEFT JOIN evt_stream stream ON stream.stream = $1) ";
        let names = &self.options.common.names;
        let head = self.head().sql(self.stream(), "0");
        let low = names.apply(LOW).replace("HEAD", &head);
        AssertSqlSafe(format!("{low}{}", names.apply(end))).into_sql_str()
    }

    fn conclude_low_end(&self, asked: LowEnd, row: &PgRow, through: EventId) -> EventId {
        let seen = Seen {
            recorded: row.get("recorded"),
            oldest: row.get("oldest"),
            slowest: row.get("slowest"),
            next_witness: row.get("next_witness"),
            witnessed: row.get("witnessed"),
        };
        self.with_shared(|shared| shared.low_end.conclude(asked, seen, through.get()))
    }
}

fn refusal_text(error: &sqlx::Error) -> String {
    let state = error.as_database_error().and_then(DatabaseError::code);
    match (error, state.as_deref()) {
        // See `insert_events`.
        (sqlx::Error::RowNotFound, _) | (_, Some("22012")) => "a trigger left it out".to_owned(),
        _ => error.to_string(),
    }
}

/// The wanted types; `None` for all.
pub(in crate::store) fn want_list(want: &Want) -> Option<Vec<&str>> {
    let Want::Only(types) = want else { return None };
    Some(types.iter().map(EventType::as_str).collect())
}

fn collect_page(span: &Span<'_>, rows: &[PgRow], discarded_to: EventId) -> Page {
    let found: i64 = rows.first().map_or(0, |row| row.get("found"));
    let scan_end: Option<i64> = rows.first().and_then(|row| row.get("scan_end"));
    let head = EventId::stored(rows.first().map_or(0, |row| row.get("head")));
    let events: Vec<Event> = rows
        .iter()
        .filter(|row| row.get::<Option<i64>, _>("id").is_some())
        .map(event)
        .collect();
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    let cut = events.len() < found || found >= span.max_events;
    let through = match (events.last(), scan_end) {
        (Some(last), _) if cut => last.id,
        (_, Some(scan_end)) => EventId::stored(scan_end),
        _ => span.through.min(head).max(span.after),
    };
    Page {
        events,
        through,
        discarded_to,
    }
}

/// A row with `id`, `type`, `data` and `millis`.
pub(in crate::store) fn event(row: &PgRow) -> Event {
    let kind = text(row, "type");
    let data = text(row, "data");
    let fault = match (&kind, &data) {
        (None, _) => Some(Fault::TypeNotText),
        (_, None) => Some(Fault::DataNotText),
        _ => None,
    };
    Event {
        id: EventId::stored(row.get("id")),
        kind: kind.unwrap_or_default(),
        data: data.unwrap_or_default(),
        ts: row
            .get::<Option<i64>, _>("millis")
            .map(Moment::from_unix_millis),
        fault,
    }
}

/// A column as text; `None` if it is NULL or not UTF-8, as it can be in a
/// database whose encoding is `SQL_ASCII`.
fn text(row: &PgRow, column: &str) -> Option<Box<str>> {
    let bytes: Option<&[u8]> = row.get_unchecked(column);
    std::str::from_utf8(bytes?).ok().map(Into::into)
}
