//! Adding events: every commit takes all requests that wait for it.

use std::sync::Arc;

use super::{
    batch::{Batcher, Bounds, Lane},
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
use async_trait::async_trait;

/// Callers' end of the writer.
pub(super) type Writer = Batcher<AddLane>;

/// Commits added events.
pub(super) struct AddLane {
    store: Arc<dyn Store>,
    tailer: Arc<TailerHandle>,
}

/// Starts the writer.
pub(super) fn start(store: Arc<dyn Store>, tailer: Arc<TailerHandle>, tasks: &Tasks) -> Writer {
    let bounds = Bounds {
        name: "add queue",
        queue_requests: limits::WRITER_QUEUE_REQUESTS,
        queue_bytes: limits::WRITER_QUEUE_BYTES,
        batch_items: limits::WRITER_BATCH_EVENTS,
        batch_bytes: limits::WRITER_BATCH_BYTES,
    };
    Batcher::start(AddLane { store, tailer }, bounds, tasks)
}

#[async_trait]
impl Lane for AddLane {
    type Request = Append;
    type Answer = IdRuns;

    fn weight(request: &Append) -> (usize, usize) {
        let bytes = request
            .events
            .iter()
            .map(|event| event.data.as_str().len() + Event::OVERHEAD);
        (request.events.len(), bytes.sum())
    }

    async fn commit(&mut self, requests: Vec<Append>) -> Result<Vec<Result<IdRuns, Error>>, Error> {
        let events: usize = requests.iter().map(|request| request.events.len()).sum();
        let outcomes = self
            .store
            .append(&requests)
            .await
            .map_err(|error| self.tailer.failed(error))?;
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
