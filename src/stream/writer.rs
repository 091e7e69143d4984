//! Adding events: every commit takes all requests that wait for it.

use std::sync::Arc;

use async_trait::async_trait;
use opentelemetry::trace::SpanContext;

use super::{
    batch::{Batcher, Bounds, Lane},
    journeys::Journeys,
    tailer_handle::TailerHandle,
};
use crate::{
    error::Error,
    event::Event,
    lifecycle::Tasks,
    limits,
    store::{Append, IdRuns, Refusal, Store},
    telemetry,
};

/// Callers' end of the writer.
pub(super) type Writer = Batcher<AddLane>;

/// Events to add.
pub(super) struct Adding {
    pub append: Append,
    /// The span that adds them, if anybody will see it.
    pub origin: Option<SpanContext>,
}

/// Commits added events.
pub(super) struct AddLane {
    store: Arc<dyn Store>,
    tailer: Arc<TailerHandle>,
    journeys: Option<Arc<Journeys>>,
}

impl AddLane {
    pub(super) fn new(
        store: Arc<dyn Store>,
        tailer: Arc<TailerHandle>,
        journeys: Option<Arc<Journeys>>,
    ) -> Self {
        Self {
            store,
            tailer,
            journeys,
        }
    }
}

/// Starts the writer.
pub(super) fn start(lane: AddLane, tasks: &Tasks) -> Writer {
    let bounds = Bounds {
        name: "add queue",
        queue_requests: limits::WRITER_QUEUE_REQUESTS,
        queue_bytes: limits::WRITER_QUEUE_BYTES,
        batch_items: limits::WRITER_BATCH_EVENTS,
        batch_bytes: limits::WRITER_BATCH_BYTES,
    };
    Batcher::start(lane, bounds, tasks)
}

#[async_trait]
impl Lane for AddLane {
    type Request = Adding;
    type Answer = IdRuns;

    fn weight(request: &Adding) -> (usize, usize) {
        let events = &request.append.events;
        let bytes = events
            .iter()
            .map(|event| event.data.as_str().len() + Event::OVERHEAD);
        (events.len(), bytes.sum())
    }

    async fn commit(&mut self, requests: Vec<Adding>) -> Result<Vec<Result<IdRuns, Error>>, Error> {
        let (requests, origins): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| (request.append, request.origin))
            .unzip();
        let events: usize = requests.iter().map(|request| request.events.len()).sum();
        let journeys = self.journeys.as_ref();
        let committing = journeys.map(|journeys| journeys.commit());
        let outcomes = self
            .store
            .append(&requests)
            .await
            .map_err(|error| self.tailer.failed(error))?;
        if let Some(committing) = committing {
            let added = origins.iter().zip(&outcomes);
            let added = added.filter_map(|(origin, outcome)| {
                let ids = outcome.as_ref().ok()?.iter().collect();
                Some((origin.as_ref()?, ids))
            });
            committing.done(added, events);
        }
        self.tailer.committed();
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        metrics::histogram!(telemetry::ADD_BATCH_EVENTS).record(events as f64);
        let added = outcomes.iter().flatten().flat_map(IdRuns::iter).count();
        metrics::counter!(telemetry::EVENTS_ADDED).increment(added as u64);
        Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.map_err(Error::from))
            .collect())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::RequestIdReused => Self::RequestIdReused,
            Refusal::Data(_) => Self::EventRefused {
                reason: refusal.to_string(),
            },
        }
    }
}
