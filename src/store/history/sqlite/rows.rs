//! Rows of the history and of its ledger.

use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};

use super::SqliteWarehouse;
use crate::{
    event::{Event, EventId, Moment, Want},
    limits,
    store::{
        Error, Span,
        history::{
            Batch, Extent, HistoryPage, Rejection, Stored,
            ledger::{Digest, Entry, Range},
        },
        sqlite::{
            connections::{Connections, is_data_error, unavailable},
            queue,
        },
    },
};

/// Rows of one INSERT, as many as stay compiled; see the queue's.
const INSERT_ROWS: usize = 256;

/// What SQLite's clock functions can write: the years 0 to 9999.
const TIMES: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

impl SqliteWarehouse {
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

    /// Holds the file's write lock, so nobody else changes rows or ledger.
    async fn store_in(
        &self,
        tx: &mut SqliteConnection,
        batch: &Batch,
    ) -> Result<Result<Stored, Rejection>, sqlx::Error> {
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
        tx: &mut SqliteConnection,
        batch: &Batch,
    ) -> Result<Vec<Range>, sqlx::Error> {
        const TOUCHED: &str = "SELECT first_id, last_id, events, checksum, newest FROM evt_archived
            WHERE history = ?1 AND first_id <= ?3 AND last_id >= ?2 AND first_id >= coalesce((
                SELECT max(first_id) FROM evt_archived WHERE history = ?1 AND first_id <= ?2), 0)
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
    async fn insert(
        &self,
        tx: &mut SqliteConnection,
        events: &[&Event],
    ) -> Result<usize, sqlx::Error> {
        const INSERT: &str = "INSERT INTO evt_history (id, type, data, ts)
            SELECT column1, column2, column3, CASE
                WHEN column4 IS NULL THEN ''
                WHEN column4 % 1000 = 0 THEN datetime(column4 / 1000, 'unixepoch')
                ELSE strftime('%Y-%m-%d %H:%M:%f', column4 / 1000.0, 'unixepoch') END
            FROM (VALUES ";
        const ROW: &str = "(?, ?, ?, ?)";
        const END: &str = ") WHERE true ON CONFLICT DO NOTHING";
        let mut inserted = 0;
        let mut rest = events;
        while !rest.is_empty() {
            let rows = (rest.len().min(INSERT_ROWS) + 1).next_power_of_two() / 2;
            let (chunk, after) = rest.split_at(rows);
            rest = after;
            let mut sql = self.options.apply(INSERT);
            sql.push_str(&vec![ROW; chunk.len()].join(", "));
            sql.push_str(END);
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for event in chunk {
                query = query
                    .bind(event.id.get())
                    .bind(&*event.kind)
                    .bind(&*event.data)
                    .bind(
                        event
                            .ts
                            .map(Moment::unix_millis)
                            .filter(|ts| TIMES.contains(ts)),
                    );
            }
            inserted += query.execute(&mut *tx).await?.rows_affected();
        }
        Ok(usize::try_from(inserted).unwrap_or(usize::MAX))
    }

    /// Rows that have the id of an event of the batch.
    async fn existing(
        &self,
        tx: &mut SqliteConnection,
        batch: &Batch,
    ) -> Result<Vec<Event>, sqlx::Error> {
        const EXISTING: &str = "SELECT id, type, data,
                CAST(round(unixepoch(ts, 'auto', 'subsec') * 1000) AS INTEGER)
            FROM evt_history WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id";
        let ids: Vec<i64> = batch.events().iter().map(|event| event.id.get()).collect();
        let rows = sqlx::query(self.sql(EXISTING))
            .bind(format!("{ids:?}"))
            .fetch_all(tx)
            .await?;
        Ok(rows.iter().filter_map(|row| queue::event(row, 0)).collect())
    }

    async fn write_ranges(
        &self,
        tx: &mut SqliteConnection,
        ranges: &[Range],
    ) -> Result<(), sqlx::Error> {
        const WRITE: &str = "INSERT INTO evt_archived
                (history, first_id, last_id, events, checksum, newest, archived)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, CURRENT_TIMESTAMP)
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
        const LOWEST: &str = "SELECT min(id) FROM evt_history";
        // A look first: usually there is nothing to do, and nothing to lock.
        let mut connection = live.read().await?;
        let lowest: Option<i64> = sqlx::query_scalar(self.sql(LOWEST))
            .fetch_one(&mut *connection)
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

    /// The rows are chosen by their sizes first, a bounded number of them is
    /// looked at; see the queue's pages.
    pub(super) async fn read_page(
        &self,
        live: &Connections,
        span: &Span<'_>,
    ) -> Result<HistoryPage, Error> {
        const PAGE: &str = "
            WITH scan AS MATERIALIZED (
                SELECT (SELECT id FROM evt_history WHERE id > ?1 AND id <= ?2
                    ORDER BY id LIMIT 1 OFFSET ?4 - 1) AS scan_end),
            sized AS (
                SELECT id, octet_length(data) + 40 AS size FROM scan CROSS JOIN evt_history
                WHERE id > ?1 AND id <= coalesce(scan_end, ?2)
                    AND (?3 IS NULL OR CAST(type AS TEXT) IN (SELECT value FROM json_each(?3)))
                ORDER BY id LIMIT ?5 + 0),
            chosen AS (
                SELECT id, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
                FROM sized)
            SELECT scan.scan_end, (SELECT count(*) FROM sized) AS found,
                event.id, event.type, event.data, event.millis
            FROM scan LEFT JOIN (
                SELECT chosen.id, type, data,
                    CAST(round(unixepoch(ts, 'auto', 'subsec') * 1000) AS INTEGER) AS millis
                FROM chosen CROSS JOIN evt_history USING (id) WHERE before < ?6) AS event
            ORDER BY event.id";
        let mut connection = live.read().await?;
        let rows = sqlx::query(self.sql(PAGE))
            .bind(span.after.get())
            .bind(span.through.get())
            .bind(queue::want_json(span.want))
            .bind(i64::try_from(limits::SCAN_ROWS).unwrap_or(i64::MAX))
            .bind(i64::try_from(span.max_events).unwrap_or(i64::MAX))
            .bind(i64::try_from(span.max_bytes.max(1)).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let Some(first) = rows.first() else {
            unreachable!("the row of `scan` is always there");
        };
        let (scan_end, found): (Option<i64>, i64) = (first.get("scan_end"), first.get("found"));
        let events = rows.iter().filter_map(|row| queue::event(row, 2)).collect();
        Ok(HistoryPage::read(span, events, found, scan_end))
    }

    pub(super) async fn read_range_above(
        &self,
        live: &Connections,
        after: EventId,
    ) -> Result<Option<Range>, Error> {
        const ABOVE: &str = "SELECT first_id, last_id, events, checksum, newest FROM evt_archived
            WHERE history = ?1 AND last_id > ?2 AND first_id >= coalesce((
                SELECT max(first_id) FROM evt_archived WHERE history = ?1 AND first_id <= ?2 + 1), 0)
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
            WHERE history = ?1 AND newest >= ?2 AND first_id > ?3 ORDER BY first_id LIMIT 1";
        const FIRST: &str = "SELECT id FROM evt_history WHERE id >= ?1 AND id <= ?2
            AND CAST(round(unixepoch(ts, 'auto', 'subsec') * 1000) AS INTEGER) >= ?3
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
            (SELECT first_id FROM evt_archived WHERE history = ?1 ORDER BY first_id LIMIT 1),
            (SELECT last_id FROM evt_archived WHERE history = ?1 ORDER BY first_id DESC LIMIT 1)";
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
            WHERE history = ?1 AND first_id >= ?2 ORDER BY first_id LIMIT ?3 + 0";
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
        const COUNT: &str = "SELECT count(*) FROM evt_history WHERE id > ?1 AND id <= ?2";
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
fn range(row: &SqliteRow) -> Result<Range, sqlx::Error> {
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
