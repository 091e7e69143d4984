//! What left the active table: read from the warehouse, if there is one.
//!
//! The warehouse is another source of a reader's pages, for places below what
//! the active table says was discarded, and only where its ledger says that
//! nothing is missing. A place that neither has is [`Error::Discarded`], with
//! the place from which reading can go on (ARCHITECTURE, rule 6).

use super::{Engine, EventStream};
use crate::{
    error::Error,
    event::{ConsumerKey, EventId, Moment, Want},
    limits,
    store::{
        self, Page, Span,
        history::{Extent, HistoryPage, Warehouse},
    },
    telemetry,
};

impl Engine {
    /// A page of `span` where everything up to `discarded_to` has left the
    /// active table.
    pub(super) async fn archived_page(
        &self,
        span: &Span<'_>,
        discarded_to: EventId,
    ) -> Result<HistoryPage, Error> {
        let recorded = self.recorded_through(span.after, discarded_to).await?;
        let span = Span {
            through: span.through.min(discarded_to).min(recorded),
            ..*span
        };
        let page = self.warehouse(span.after, discarded_to)?.page(&span).await;
        page.map_err(|error| archive_error(&error))
    }

    /// How far the history reaches without a hole from `after` on.
    pub(super) async fn recorded_through(
        &self,
        after: EventId,
        discarded_to: EventId,
    ) -> Result<EventId, Error> {
        let warehouse = self.warehouse(after, discarded_to)?;
        let range = warehouse
            .range_above(after)
            .await
            .map_err(|error| archive_error(&error))?;
        match range {
            Some(range) if range.first <= after.next() => Ok(range.last),
            hole => Err(Error::Discarded {
                after,
                oldest: hole.map_or(discarded_to, |next| next.first.previous().min(discarded_to)),
            }),
        }
    }

    fn warehouse(&self, after: EventId, oldest: EventId) -> Result<&dyn Warehouse, Error> {
        let warehouse = self.history.as_deref();
        warehouse.ok_or(Error::Discarded { after, oldest })
    }

    /// Everything that is known to be kept, history included, follows this id.
    pub(super) async fn oldest_of_all(&self) -> Result<EventId, Error> {
        let active = self.oldest().await?;
        let Some(history) = self.history.as_deref().filter(|_| active > EventId::START) else {
            return Ok(active);
        };
        let extent = history
            .extent()
            .await
            .map_err(|error| archive_error(&error))?;
        Ok(extent.map_or(active, |extent| extent.first.previous().min(active)))
    }

    /// The place before the lowest id whose `ts` is at or after `time`. Where
    /// older events are gone for good and might belong to it, that is told.
    pub(super) async fn before_time(&self, time: Moment) -> Result<EventId, Error> {
        let discarded_to = self.oldest().await?;
        let mut complete = discarded_to;
        if let Some(history) = self
            .history
            .as_deref()
            .filter(|_| discarded_to > EventId::START)
        {
            let extent = history
                .extent()
                .await
                .map_err(|error| archive_error(&error))?;
            let archived = history
                .first_at(time)
                .await
                .map_err(|error| archive_error(&error))?;
            complete = extent.map_or(discarded_to, |extent| extent.first.previous());
            if let Some(first) = archived.filter(|first| *first <= discarded_to) {
                return before(first, complete, complete.next());
            }
        }
        let frontier = self.hub.tip().frontier;
        let near = self.near_time(time, discarded_to, frontier).await?;
        let first = self.store.first_at(time, near).await;
        let first = first.map_err(|error| self.tailer.failed(error))?;
        let Some(first) = first.filter(|first| *first <= frontier) else {
            return Ok(frontier);
        };
        let lowest = self.event_above(discarded_to, frontier).await?;
        let lowest = lowest.map_or(first, |(lowest, _)| lowest);
        before(first, complete.min(discarded_to), lowest)
    }

    /// A place not far before the events of `time`, found by halving: ids and
    /// times grow together but for transactions that overlap and clocks that
    /// are set, for which [`limits::TIME_LOOK_BACK`] ids more are looked at.
    async fn near_time(
        &self,
        time: Moment,
        lowest: EventId,
        highest: EventId,
    ) -> Result<EventId, Error> {
        let (mut low, mut high) = (lowest.get(), highest.get());
        while high - low > limits::TIME_LOOK_BACK {
            let middle = low + (high - low) / 2;
            match self.event_above(EventId::stored(middle), highest).await? {
                Some((id, ts)) if ts.is_none_or(|ts| ts < time) => low = id.get().min(high),
                _ => high = middle,
            }
        }
        let near = low.saturating_sub(limits::TIME_LOOK_BACK);
        Ok(EventId::stored(near).max(lowest))
    }

    /// The first event kept above `after`, and its time.
    async fn event_above(
        &self,
        after: EventId,
        through: EventId,
    ) -> Result<Option<(EventId, Option<Moment>)>, Error> {
        let span = Span {
            after,
            through,
            want: &Want::All,
            max_events: 1,
            max_bytes: 1,
        };
        let page: Result<Page, _> = self.store.page(&span).await;
        let page = page.map_err(|error| self.tailer.failed(error))?;
        Ok(page.events.first().map(|event| (event.id, event.ts)))
    }
}

impl EventStream {
    /// Where the archiver, which stands at `position`, is to start to make the
    /// history complete; `None`: at its position.
    ///
    /// # Errors
    /// [`Error::BeyondHead`] if the history has ids that were not given out:
    /// the active database was restored.
    pub async fn archive_start(
        &self,
        extent: Option<Extent>,
        position: EventId,
    ) -> Result<Option<EventId>, Error> {
        let archived = extent.map_or(EventId::START, |extent| extent.last);
        self.engine.ensure_settled(archived).await?;
        if archived >= position {
            return Ok(None);
        }
        let oldest = self.engine.oldest().await?;
        if archived < oldest {
            tracing::warn!(archived = %archived, position = %position, kept_after = %oldest,
                "the archive ends before what is kept: what is between is not in it");
        }
        let start = archived.max(oldest);
        Ok((start < position).then_some(start))
    }

    /// Notes why a consumer of this process gets nothing more, for operators;
    /// `None`: it does.
    pub fn note_problem(&self, key: &ConsumerKey, problem: Option<String>) {
        let sessions = &self.engine.sessions;
        match problem {
            Some(problem) => sessions.note_problem(key, problem),
            None => sessions.lift_problem(key),
        }
    }
}

/// The place before `first`; events below `lowest`, the lowest of all, may have
/// belonged to its time if some are gone up to `gone`.
fn before(first: EventId, gone: EventId, lowest: EventId) -> Result<EventId, Error> {
    if first <= lowest && gone > EventId::START {
        return Err(Error::Discarded {
            after: EventId::START,
            oldest: gone,
        });
    }
    Ok(first.previous())
}

/// A failure of the warehouse; the active database is not doubted for it.
fn archive_error(error: &store::Error) -> Error {
    metrics::counter!(telemetry::ARCHIVE_ERRORS, "class" => error.class()).increment(1);
    tracing::warn!(%error, class = error.class(), "the warehouse does not work");
    Error::Archive
}
