//! Positions: acks of many consumers are coalesced into one transaction, and
//! an ack is answered when that is durable. The frontier is saved along.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    batch::{Batcher, Bounds, Lane},
    hub::Hub,
    tailer_handle::TailerHandle,
};
use crate::{
    error::Error,
    event::EventId,
    lifecycle::Tasks,
    limits,
    store::{Advance, Advanced, Store},
    telemetry,
};

/// Callers' end of the positions.
pub(super) type Positions = Batcher<AckLane>;

/// Commits positions.
pub(super) struct AckLane {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    tailer: Arc<TailerHandle>,
}

/// Starts the lane.
pub(super) fn start(
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    tailer: Arc<TailerHandle>,
    tasks: &Tasks,
) -> Positions {
    let bounds = Bounds {
        name: "ack queue",
        queue_requests: limits::ACK_QUEUE_REQUESTS,
        queue_bytes: limits::ACK_QUEUE_REQUESTS,
        batch_items: limits::ACK_BATCH_REQUESTS,
        batch_bytes: limits::ACK_BATCH_REQUESTS,
    };
    Batcher::start(AckLane { store, hub, tailer }, bounds, tasks)
}

#[async_trait]
impl Lane for AckLane {
    type Request = Advance;
    type Answer = EventId;

    fn weight(_request: &Advance) -> (usize, usize) {
        (1, 1)
    }

    async fn commit(
        &mut self,
        requests: Vec<Advance>,
    ) -> Result<Vec<Result<EventId, Error>>, Error> {
        let frontier = self.hub.tip().frontier;
        // Rule 2 of ARCHITECTURE: no position passes the frontier. Callers made
        // sure, but a reconnect may have set it back since.
        let settled = |request: &&Advance| request.to <= frontier;
        let moves: Vec<Advance> = requests.iter().filter(settled).cloned().collect();
        let advanced = self.store.advance(frontier, &moves).await;
        let advanced = advanced.map_err(|error| self.tailer.failed(error))?;
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        metrics::histogram!(telemetry::ACK_BATCH_SIZE).record(requests.len() as f64);
        metrics::counter!(telemetry::ACKS).increment(requests.len() as u64);
        let mut advanced = advanced.into_iter().peekable();
        let outcome = |request: &Advance| {
            let id = request.to;
            let outcome = advanced.next_if(|_| id <= frontier);
            outcome.map_or(Err(Error::NotSettled { id, frontier }), |outcome| {
                answer(outcome, request)
            })
        };
        Ok(requests.iter().map(outcome).collect())
    }
}

fn answer(outcome: Advanced, request: &Advance) -> Result<EventId, Error> {
    let consumer = request.key.ident();
    match outcome {
        Advanced::At(position) => Ok(position),
        Advanced::Stale(current) => Err(Error::StaleEpoch {
            consumer,
            given: request.epoch.unwrap_or(0),
            current,
        }),
        Advanced::Stopped => Err(Error::ConsumerStopped {
            consumer,
            reason: "an operator must seek it to go on".into(),
        }),
        Advanced::Unknown => Err(Error::NotRegistered { consumer }),
    }
}
