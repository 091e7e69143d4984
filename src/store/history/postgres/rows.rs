//! Rows of the history and of its ledger.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::PostgresWarehouse;
use crate::{
    event::{Event, EventId, Moment, Want},
    limits,
    store::{
        Error, Span,
        history::{
            Batch, Extent, HistoryPage, Rejection, Stored,
            ledger::{Digest, Entry, Range},
        },
        postgres::{
            connections::{Connections, is_data_error, unavailable},
            queue,
        },
    },
};

impl PostgresWarehouse {
    pub(super) async fn store_batch(
        &self,
        live: &Connections,
        batch: &Batch,
    ) -> Result<Result<Stored, Rejection>, Error> {
        let mut tx = live.begin().await?;
        match self.store_in(&mut tx, batch).await {
            Ok(Ok(stored)) => {
                tx.commit().await?;
                Ok(Ok(stored))
            }
            Ok(Err(rejection)) => {
                tx.rollback().await?;
                Ok(Err(rejection))
            }
            Err(error) if is_data_error(&error) => {
                tx.rollback().await?;
                Ok(Err(batch.refused(error.to_string())))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn store_in(
        &self,
        tx: &mut PgConnection,
        batch: &Batch,
    ) -> Result<Result<Stored, Rejection>, sqlx::Error> {
        // One at a time: what is read of the ledger is still so when it is written.
        const LOCK: &str =
            "SELECT pg_advisory_xact_lock(hashtextextended('evt_archived:' || $1, 0))";
        sqlx::query(LOCK)
            .bind(&self.options.table)
            .execute(&mut *tx)
            .await?;
        let known = self.touched(tx, batch).await?;
        let new_ground = known.iter().all(|range| range.last <= batch.after());
        let events: Vec<&Event> = batch.events().iter().collect();
        let entries = if new_ground && self.insert(tx, &events).await? == events.len() {
            Ok(batch.fresh_entries())
        } else {
            let existing = self.existing(tx, batch).await?;
            batch.entries(&existing)
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if !new_ground {
            let fresh = |(event, entry): (_, &Entry)| entry.fresh.then_some(event);
            let fresh: Vec<&Event> = events.into_iter().zip(&entries).filter_map(fresh).collect();
            self.insert(tx, &fresh).await?;
        }
        let (ranges, stored) = batch.record(&entries, &known);
        self.write_ranges(tx, &ranges).await?;
        Ok(Ok(stored))
    }

    /// Ranges that overlap the batch or end where it begins.
    async fn touched(
        &self,
        tx: &mut PgConnection,
        batch: &Batch,
    ) -> Result<Vec<Range>, sqlx::Error> {
        const TOUCHED: &str = "SELECT first_id, last_id, events, checksum, newest FROM evt_archived
            WHERE history = $1 AND first_id <= $3 AND last_id >= $2 AND first_id >= coalesce((
                SELECT max(first_id) FROM evt_archived WHERE history = $1 AND first_id <= $2), 0)
            ORDER BY first_id";
        let rows = sqlx::query(TOUCHED)
            .bind(&self.options.table)
            .bind(batch.after().get())
            .bind(batch.through().get())
            .fetch_all(tx)
            .await?;
        rows.iter().map(range).collect()
    }

    /// Rows that were not there before.
    async fn insert(&self, tx: &mut PgConnection, events: &[&Event]) -> Result<usize, sqlx::Error> {
        const INSERT: &str = "INSERT INTO evt_history (id, type, data, ts)
            SELECT id, type, data::json, CASE WHEN millis IS NULL THEN 'infinity'
                ELSE timestamp 'epoch' + millis * interval '1 millisecond' END
            FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[])
                AS event (id, type, data, millis)
            ORDER BY id ON CONFLICT (id) DO NOTHING";
        if events.is_empty() {
            return Ok(0);
        }
        let ids: Vec<i64> = events.iter().map(|event| event.id.get()).collect();
        let kinds: Vec<&str> = events.iter().map(|event| &*event.kind).collect();
        let data: Vec<&str> = events.iter().map(|event| &*event.data).collect();
        let millis: Vec<Option<i64>> = events
            .iter()
            .map(|event| event.ts.map(Moment::unix_millis))
            .collect();
        let inserted = sqlx::query(self.sql(INSERT))
            .bind(ids)
            .bind(kinds)
            .bind(data)
            .bind(millis)
            .execute(tx)
            .await?;
        Ok(usize::try_from(inserted.rows_affected()).unwrap_or(usize::MAX))
    }

    /// Rows that have the id of an event of the batch.
    async fn existing(
        &self,
        tx: &mut PgConnection,
        batch: &Batch,
    ) -> Result<Vec<Event>, sqlx::Error> {
        const EXISTING: &str = "SELECT id, type::text AS type, data::text AS data,
                CASE WHEN isfinite(ts)
                    THEN round(date_part('epoch', ts) * 1000)::bigint END AS millis
            FROM evt_history WHERE id = ANY ($1) ORDER BY id";
        let ids: Vec<i64> = batch.events().iter().map(|event| event.id.get()).collect();
        let rows = sqlx::query(self.sql(EXISTING))
            .bind(ids)
            .fetch_all(tx)
            .await?;
        Ok(rows.iter().map(queue::event).collect())
    }

    async fn write_ranges(
        &self,
        tx: &mut PgConnection,
        ranges: &[Range],
    ) -> Result<(), sqlx::Error> {
        const WRITE: &str = "INSERT INTO evt_archived
                (history, first_id, last_id, events, checksum, newest, archived)
            VALUES ($1, $2, $3, $4, $5, $6, timezone('UTC', now()))
            ON CONFLICT (history, first_id) DO UPDATE SET last_id = excluded.last_id,
                events = excluded.events, checksum = excluded.checksum,
                newest = excluded.newest, archived = excluded.archived";
        for range in ranges {
            sqlx::query(WRITE)
                .bind(&self.options.table)
                .bind(range.first.get())
                .bind(range.last.get())
                .bind(i64::try_from(range.events).unwrap_or(i64::MAX))
                .bind(range.checksum.to_hex())
                .bind(range.newest.map(Moment::unix_millis))
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }

    pub(super) async fn record_rows(
        &self,
        live: &Connections,
        through: EventId,
        limit: usize,
    ) -> Result<usize, Error> {
        const LOWEST: &str = "SELECT id FROM evt_history ORDER BY id LIMIT 1";
        // A look first: usually there is nothing to do, and nothing to lock.
        let mut connection = live.read().await?;
        let lowest: Option<i64> = sqlx::query_scalar(self.sql(LOWEST))
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        drop(connection);
        let Some(lowest) = lowest else { return Ok(0) };
        let end = self.read_extent(live).await?.map(|extent| extent.last);
        let span = Span {
            after: end.unwrap_or(EventId::stored(lowest).previous()),
            through,
            want: &Want::All,
            max_events: limit,
            max_bytes: limits::WRITER_BATCH_BYTES,
        };
        let page = self.read_page(live, &span).await?;
        let Some(last) = page.events.last() else {
            return Ok(0);
        };
        let mut batch = Batch::new(span.after);
        batch.extend(last.id, page.events);
        // The rows are there already, so this compares and records them.
        let stored = self.store_batch(live, &batch).await?;
        stored.map_err(|rejection| Error::Contract(rejection.to_string()))?;
        Ok(batch.events().len())
    }

    /// Rows are chosen by their stored size before any data is unpacked, then
    /// by their real size; see the queue's pages.
    pub(super) async fn read_page(
        &self,
        live: &Connections,
        span: &Span<'_>,
    ) -> Result<HistoryPage, Error> {
        const PAGE: &str = "WITH scan AS MATERIALIZED (
                SELECT (SELECT id FROM evt_history WHERE id > $1 AND id <= $2
                    ORDER BY id LIMIT 1 OFFSET $4 - 1) AS scan_end),
            found AS MATERIALIZED (
                SELECT id, pg_column_size(data) + 40 AS size FROM evt_history
                WHERE id > $1 AND id <= (SELECT coalesce(scan_end, $2) FROM scan)
                    AND ($3::text[] IS NULL OR type::text = ANY ($3))
                ORDER BY id LIMIT $5),
            near AS (
                SELECT id FROM (
                    SELECT id, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
                    FROM found) AS sized
                WHERE before < $6),
            sized AS (
                SELECT event.*, sum(event.size) OVER (ORDER BY event.id ROWS UNBOUNDED PRECEDING)
                    - event.size AS before
                FROM near CROSS JOIN LATERAL (
                    SELECT id, type::text AS type, data::text AS data,
                        octet_length(data::text) + 40 AS size,
                        CASE WHEN isfinite(ts)
                            THEN round(date_part('epoch', ts) * 1000)::bigint END AS millis
                    FROM evt_history WHERE id = near.id OFFSET 0) AS event)
            SELECT scan.scan_end, (SELECT count(*) FROM found) AS found,
                event.id, event.type, event.data, event.millis
            FROM scan LEFT JOIN (SELECT * FROM sized WHERE before < $6) AS event ON true
            ORDER BY event.id";
        // Without a filter a row more than a page is nobody's business.
        let scan_rows = if span.want.is_all() {
            span.max_events
        } else {
            limits::SCAN_ROWS
        };
        let mut connection = live.read().await?;
        let rows = sqlx::query(self.sql(PAGE))
            .bind(span.after.get())
            .bind(span.through.get())
            .bind(queue::want_list(span.want))
            .bind(i64::try_from(scan_rows).unwrap_or(i64::MAX))
            .bind(i64::try_from(span.max_events).unwrap_or(i64::MAX))
            .bind(i64::try_from(span.max_bytes.max(1)).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let Some(first) = rows.first() else {
            unreachable!("the row of `scan` is always there");
        };
        let (scan_end, found): (Option<i64>, i64) = (first.get("scan_end"), first.get("found"));
        let is_event = |row: &&PgRow| row.get::<Option<i64>, _>("id").is_some();
        let events = rows.iter().filter(is_event).map(queue::event).collect();
        Ok(HistoryPage::read(span, events, found, scan_end))
    }

    pub(super) async fn read_range_above(
        &self,
        live: &Connections,
        after: EventId,
    ) -> Result<Option<Range>, Error> {
        const ABOVE: &str = "SELECT first_id, last_id, events, checksum, newest FROM evt_archived
            WHERE history = $1 AND last_id > $2 AND first_id >= coalesce((
                SELECT max(first_id) FROM evt_archived WHERE history = $1 AND first_id <= $2 + 1), 0)
            ORDER BY first_id LIMIT 1";
        let mut connection = live.read().await?;
        let row = sqlx::query(ABOVE)
            .bind(&self.options.table)
            .bind(after.get())
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let range = row.as_ref().map(range).transpose();
        range.map_err(|error| unavailable(&error))
    }

    /// By the ranges' newest times first, then inside one range.
    pub(super) async fn read_first_at(
        &self,
        live: &Connections,
        time: Moment,
    ) -> Result<Option<EventId>, Error> {
        const RANGE: &str = "SELECT first_id, last_id FROM evt_archived
            WHERE history = $1 AND newest >= $2 AND first_id > $3 ORDER BY first_id LIMIT 1";
        const FIRST: &str = "SELECT id FROM evt_history WHERE id >= $1 AND id <= $2
            AND ts >= timestamp 'epoch' + $3 * interval '1 millisecond' AND isfinite(ts)
            ORDER BY id LIMIT 1";
        let mut connection = live.read().await?;
        let mut above = -1;
        loop {
            let range: Option<(i64, i64)> = sqlx::query_as(RANGE)
                .bind(&self.options.table)
                .bind(time.unix_millis())
                .bind(above)
                .fetch_optional(&mut *connection)
                .await
                .map_err(|error| unavailable(&error))?;
            let Some((first, last)) = range else {
                return Ok(None);
            };
            let id: Option<i64> = sqlx::query_scalar(self.sql(FIRST))
                .bind(first)
                .bind(last)
                .bind(time.unix_millis())
                .fetch_optional(&mut *connection)
                .await
                .map_err(|error| unavailable(&error))?;
            if let Some(id) = id {
                return Ok(Some(EventId::stored(id)));
            }
            above = first;
        }
    }

    pub(super) async fn read_extent(&self, live: &Connections) -> Result<Option<Extent>, Error> {
        const EXTENT: &str = "SELECT
            (SELECT first_id FROM evt_archived WHERE history = $1 ORDER BY first_id LIMIT 1),
            (SELECT last_id FROM evt_archived WHERE history = $1 ORDER BY first_id DESC LIMIT 1)";
        let mut connection = live.read().await?;
        let ends: (Option<i64>, Option<i64>) = sqlx::query_as(EXTENT)
            .bind(&self.options.table)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let (Some(first), Some(last)) = ends else {
            return Ok(None);
        };
        Ok(Some(Extent {
            first: EventId::stored(first),
            last: EventId::stored(last),
        }))
    }

    pub(super) async fn read_ranges(
        &self,
        live: &Connections,
        first: EventId,
        limit: usize,
    ) -> Result<Vec<Range>, Error> {
        const RANGES: &str = "SELECT first_id, last_id, events, checksum, newest FROM evt_archived
            WHERE history = $1 AND first_id >= $2 ORDER BY first_id LIMIT $3";
        let mut connection = live.read().await?;
        let rows = sqlx::query(RANGES)
            .bind(&self.options.table)
            .bind(first.get())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let ranges: Result<_, sqlx::Error> = rows.iter().map(range).collect();
        ranges.map_err(|error| unavailable(&error))
    }

    pub(super) async fn count_rows(
        &self,
        live: &Connections,
        after: EventId,
        through: EventId,
    ) -> Result<u64, Error> {
        const COUNT: &str = "SELECT count(*) FROM evt_history WHERE id > $1 AND id <= $2";
        let mut connection = live.read().await?;
        let count: i64 = sqlx::query_scalar(self.sql(COUNT))
            .bind(after.get())
            .bind(through.get())
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(count.unsigned_abs())
    }
}

/// A row of the ledger.
fn range(row: &PgRow) -> Result<Range, sqlx::Error> {
    let checksum: &str = row.try_get("checksum")?;
    Ok(Range {
        first: EventId::stored(row.try_get("first_id")?),
        last: EventId::stored(row.try_get("last_id")?),
        events: row.try_get::<i64, _>("events")?.unsigned_abs(),
        checksum: Digest::from_hex(checksum).unwrap_or_default(),
        newest: row
            .try_get::<Option<i64>, _>("newest")?
            .map(Moment::from_unix_millis),
    })
}
