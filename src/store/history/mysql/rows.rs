//! Rows of the history and of its ledger.

use std::sync::atomic::Ordering;

use sqlx::{MySqlConnection, Row, mysql::MySqlRow};

use super::MysqlWarehouse;
use crate::{
    event::{Event, EventId, Moment, Want},
    limits,
    store::{
        Error, Span,
        history::{
            Batch, Extent, HistoryPage, Rejection, Stored,
            ledger::{Digest, Entry, Range},
        },
        mysql::{
            connections::Connections,
            errors::{commit_failed, is_data_error, is_duplicate, unavailable},
            queue,
        },
    },
};

/// Rows of one INSERT.
const INSERT_ROWS: usize = 500;

/// Rows whose sizes are asked for at once.
const SIZE_STEP: usize = 100;

impl MysqlWarehouse {
    pub(super) async fn store_batch(
        &self,
        live: &Connections,
        batch: &Batch,
    ) -> Result<Result<Stored, Rejection>, Error> {
        let whole_seconds = self.whole_seconds.load(Ordering::Acquire);
        let coarse = whole_seconds.then(|| batch.in_whole_seconds());
        let batch = coarse.as_ref().unwrap_or(batch);
        let mut tx = live.begin().await?;
        match self.store_in(live, &mut tx, batch).await {
            Ok(Ok(stored)) => {
                let committed = tx.commit().await;
                committed.map_err(|error| commit_failed(&error))?;
                Ok(Ok(stored))
            }
            // What is not committed is rolled back.
            Ok(Err(rejection)) => Ok(Err(rejection)),
            Err(error) if is_data_error(&error) => Ok(Err(batch.refused(error.to_string()))),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn store_in(
        &self,
        live: &Connections,
        tx: &mut MySqlConnection,
        batch: &Batch,
    ) -> Result<Result<Stored, Rejection>, sqlx::Error> {
        // One at a time: what is read of the ledger is still so when it is written.
        const LOCK: &str = "SELECT version FROM evt_migrations
            WHERE stream = ? AND version = 1 FOR UPDATE";
        sqlx::query(LOCK)
            .bind(&self.options.table)
            .execute(&mut *tx)
            .await?;
        let known = self.touched(tx, batch).await?;
        let new_ground = known.iter().all(|range| range.last <= batch.after());
        let events: Vec<&Event> = batch.events().iter().collect();
        let entries = if new_ground && self.insert_new(live, tx, &events).await? {
            Ok(batch.fresh_entries())
        } else {
            let existing = self.existing(tx, batch).await?;
            batch.entries(&existing)
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if !new_ground || entries.iter().any(|entry| !entry.fresh) {
            let fresh = |(event, entry): (_, &Entry)| entry.fresh.then_some(event);
            let fresh: Vec<&Event> = events.into_iter().zip(&entries).filter_map(fresh).collect();
            self.insert(live, tx, &fresh).await?;
        }
        let (ranges, stored) = batch.record(&entries, &known);
        self.write_ranges(tx, &ranges).await?;
        Ok(Ok(stored))
    }

    /// Inserts all, unless one is there already; what was inserted before it
    /// stays, as rows that are there.
    async fn insert_new(
        &self,
        live: &Connections,
        tx: &mut MySqlConnection,
        events: &[&Event],
    ) -> Result<bool, sqlx::Error> {
        match self.insert(live, tx, events).await {
            Ok(()) => Ok(true),
            Err(error) if is_duplicate(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ranges that overlap the batch or end where it begins.
    async fn touched(
        &self,
        tx: &mut MySqlConnection,
        batch: &Batch,
    ) -> Result<Vec<Range>, sqlx::Error> {
        const TOUCHED: &str = "SELECT first_id, last_id, events, checksum, newest FROM evt_archived
            WHERE history = ? AND first_id <= ? AND last_id >= ? AND first_id >= COALESCE((
                SELECT max(first_id) FROM evt_archived WHERE history = ? AND first_id <= ?), 0)
            ORDER BY first_id";
        let rows = sqlx::query(TOUCHED)
            .bind(&self.options.table)
            .bind(batch.through().get())
            .bind(batch.after().get())
            .bind(&self.options.table)
            .bind(batch.after().get())
            .fetch_all(tx)
            .await?;
        rows.iter().map(range).collect()
    }

    /// Rows that are not there, in statements that the server takes.
    async fn insert(
        &self,
        live: &Connections,
        tx: &mut MySqlConnection,
        events: &[&Event],
    ) -> Result<(), sqlx::Error> {
        const INSERT: &str = "INSERT INTO evt_history (id, type, data, ts) VALUES ROWS";
        const ROW: &str = "(?, ?, ?, COALESCE(
            TIMESTAMPADD(MICROSECOND, ? * 1000, '1970-01-01 00:00:00.000'), 0))";
        let packet = live.server().number("max_allowed_packet").unwrap_or(0);
        let limit = usize::try_from(packet).unwrap_or(usize::MAX) / 2;
        let mut rest = events;
        while !rest.is_empty() {
            let mut used = 0;
            let fits = |event: &&&Event| {
                used += event.size();
                used <= limit
            };
            let count = rest.iter().take_while(fits).count();
            let (chunk, after) = rest.split_at(count.clamp(1, INSERT_ROWS.min(rest.len())));
            rest = after;
            let mut insert = self.query_of(INSERT, ROW, chunk.len());
            for event in chunk {
                insert = insert
                    .bind(event.id.get())
                    .bind(&*event.kind)
                    .bind(&*event.data)
                    .bind(event.ts.map(Moment::unix_millis));
            }
            insert.execute(&mut *tx).await?;
        }
        Ok(())
    }

    /// Rows that have the id of an event of the batch.
    async fn existing(
        &self,
        tx: &mut MySqlConnection,
        batch: &Batch,
    ) -> Result<Vec<Event>, sqlx::Error> {
        const EXISTING: &str = "SELECT CAST(id AS SIGNED) AS event_id, type, data,
                TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ts) DIV 1000 AS millis
            FROM evt_history WHERE id IN (ROWS) ORDER BY id";
        if batch.events().is_empty() {
            return Ok(Vec::new());
        }
        let mut query = self.query_of(EXISTING, "?", batch.events().len());
        for event in batch.events() {
            query = query.bind(event.id.get());
        }
        let rows = query.fetch_all(tx).await?;
        Ok(rows.iter().map(queue::event).collect())
    }

    async fn write_ranges(
        &self,
        tx: &mut MySqlConnection,
        ranges: &[Range],
    ) -> Result<(), sqlx::Error> {
        const WRITE: &str = "INSERT INTO evt_archived
                (history, first_id, last_id, events, checksum, newest, archived)
            VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP())
            ON DUPLICATE KEY UPDATE last_id = VALUES(last_id), events = VALUES(events),
                checksum = VALUES(checksum), newest = VALUES(newest), archived = VALUES(archived)";
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
        const LOWEST: &str = "SELECT CAST(id AS SIGNED) FROM evt_history ORDER BY id LIMIT 1";
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

    /// Rows are chosen by their sizes before any data is fetched, in steps:
    /// InnoDB reads all of a large value to tell its size.
    pub(super) async fn read_page(
        &self,
        live: &Connections,
        span: &Span<'_>,
    ) -> Result<HistoryPage, Error> {
        let mut connection = live.read().await?;
        let page = self.page_on(&mut connection, span).await;
        page.map_err(|error| unavailable(&error))
    }

    async fn page_on(
        &self,
        connection: &mut MySqlConnection,
        span: &Span<'_>,
    ) -> Result<HistoryPage, sqlx::Error> {
        const DATA: &str = "SELECT CAST(id AS SIGNED) AS event_id, type, data,
                TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ts) DIV 1000 AS millis
            FROM evt_history WHERE id > ? AND id <= ?
                AND (? IS NULL OR FIND_IN_SET(CAST(type AS BINARY), ?)) ORDER BY id";
        let types = queue::type_list(span.want);
        let scan_end = self.scan_end(connection, span).await?;
        let through = scan_end.unwrap_or(span.through.get());
        let sizes = self.sizes(connection, span, through).await?;
        let taken = queue::fit(&sizes, span.max_bytes);
        let found = i64::try_from(sizes.len()).unwrap_or(i64::MAX);
        let Some(&(last, _)) = sizes.get(taken.wrapping_sub(1)) else {
            return Ok(HistoryPage::read(span, Vec::new(), found, scan_end));
        };
        let rows = sqlx::query(self.sql(DATA))
            .bind(span.after.get())
            .bind(last)
            .bind(types.as_deref())
            .bind(types.as_deref())
            .fetch_all(connection)
            .await?;
        let events = rows.iter().map(queue::event).collect();
        Ok(HistoryPage::read(span, events, found, scan_end))
    }

    /// Where a filtered read stops looking.
    async fn scan_end(
        &self,
        connection: &mut MySqlConnection,
        span: &Span<'_>,
    ) -> Result<Option<i64>, sqlx::Error> {
        const SCAN_END: &str = "SELECT CAST(id AS SIGNED) FROM evt_history
            WHERE id > ? AND id <= ? ORDER BY id LIMIT 1 OFFSET ?";
        if span.want.is_all() {
            return Ok(None);
        }
        sqlx::query_scalar(self.sql(SCAN_END))
            .bind(span.after.get())
            .bind(span.through.get())
            .bind(limits::SCAN_ROWS as u64 - 1)
            .fetch_optional(connection)
            .await
    }

    /// Ids and sizes of wanted rows, until they are more than fit.
    async fn sizes(
        &self,
        connection: &mut MySqlConnection,
        span: &Span<'_>,
        through: i64,
    ) -> Result<Vec<(i64, usize)>, sqlx::Error> {
        // An alias `id` would be what ORDER BY sorts by, without the index.
        const SIZES: &str = "SELECT CAST(id AS SIGNED) AS event_id,
                CAST(OCTET_LENGTH(data) + 40 AS SIGNED) AS size
            FROM evt_history WHERE id > ? AND id <= ?
                AND (? IS NULL OR FIND_IN_SET(CAST(type AS BINARY), ?)) ORDER BY id LIMIT ?";
        let types = queue::type_list(span.want);
        let mut sizes: Vec<(i64, usize)> = Vec::new();
        let mut after = span.after.get();
        loop {
            let room = span.max_events - sizes.len();
            let step = SIZE_STEP.min(room);
            let rows = sqlx::query(self.sql(SIZES))
                .bind(after)
                .bind(through)
                .bind(types.as_deref())
                .bind(types.as_deref())
                .bind(step as u64)
                .fetch_all(&mut *connection)
                .await?;
            for row in &rows {
                let size: i64 = row.get("size");
                after = row.get("event_id");
                sizes.push((after, usize::try_from(size).unwrap_or(usize::MAX)));
            }
            let full = queue::fit(&sizes, span.max_bytes) < sizes.len();
            if full || rows.len() < step || sizes.len() >= span.max_events {
                return Ok(sizes);
            }
        }
    }

    pub(super) async fn read_range_above(
        &self,
        live: &Connections,
        after: EventId,
    ) -> Result<Option<Range>, Error> {
        const ABOVE: &str = "SELECT first_id, last_id, events, checksum, newest FROM evt_archived
            WHERE history = ? AND last_id > ? AND first_id >= COALESCE((
                SELECT max(first_id) FROM evt_archived WHERE history = ? AND first_id <= ? + 1), 0)
            ORDER BY first_id LIMIT 1";
        let mut connection = live.read().await?;
        let row = sqlx::query(ABOVE)
            .bind(&self.options.table)
            .bind(after.get())
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
            WHERE history = ? AND newest >= ? AND first_id > ? ORDER BY first_id LIMIT 1";
        const FIRST: &str = "SELECT CAST(id AS SIGNED) FROM evt_history WHERE id >= ? AND id <= ?
            AND TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ts) DIV 1000 >= ?
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
            (SELECT first_id FROM evt_archived WHERE history = ? ORDER BY first_id LIMIT 1),
            (SELECT last_id FROM evt_archived WHERE history = ? ORDER BY first_id DESC LIMIT 1)";
        let mut connection = live.read().await?;
        let ends: (Option<i64>, Option<i64>) = sqlx::query_as(EXTENT)
            .bind(&self.options.table)
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
            WHERE history = ? AND first_id >= ? ORDER BY first_id LIMIT ?";
        let mut connection = live.read().await?;
        let rows = sqlx::query(RANGES)
            .bind(&self.options.table)
            .bind(first.get())
            .bind(limit as u64)
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
        const COUNT: &str = "SELECT count(*) FROM evt_history WHERE id > ? AND id <= ?";
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
fn range(row: &MySqlRow) -> Result<Range, sqlx::Error> {
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
