//! Group commit: requests that arrive while one batch is being committed form
//! the next one. Nobody waits for a timer when the store is idle.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{error::Error, lifecycle::Tasks};

/// What a batch is made of and how it is committed.
#[async_trait]
pub(super) trait Lane: Send + 'static {
    /// One caller's part.
    type Request: Send + Sync + 'static;
    /// What the caller gets after the commit.
    type Answer: Send + 'static;

    /// Items and bytes of a request, for the bounds.
    fn weight(request: &Self::Request) -> (usize, usize);

    /// Commits all requests; the answers are in their order. The outer error
    /// is everybody's.
    async fn commit(
        &mut self,
        requests: Vec<Self::Request>,
    ) -> Result<Vec<Result<Self::Answer, Error>>, Error>;
}

/// Bounds of a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Names the queue to a caller that finds it full.
    pub name: &'static str,
    /// Requests waiting.
    pub queue_requests: usize,
    /// Their bytes.
    pub queue_bytes: usize,
    /// Items in one commit, give or take one request.
    pub batch_items: usize,
    /// Bytes in one commit, give or take one request.
    pub batch_bytes: usize,
}

/// The callers' end of a lane.
#[derive(Debug)]
pub(super) struct Batcher<L: Lane> {
    bounds: Bounds,
    queue: mpsc::Sender<Pending<L>>,
    bytes: Arc<Semaphore>,
}

struct Pending<L: Lane> {
    request: L::Request,
    answer: oneshot::Sender<Result<L::Answer, Error>>,
    _bytes: OwnedSemaphorePermit,
}

impl<L: Lane> Batcher<L> {
    /// Starts the lane's one task.
    pub(super) fn start(lane: L, bounds: Bounds, tasks: &Tasks) -> Self {
        let (queue, requests) = mpsc::channel(bounds.queue_requests);
        let bytes = Arc::new(Semaphore::new(bounds.queue_bytes));
        tasks.spawn(bounds.name, run(lane, bounds, requests, tasks.stopping()));
        Self {
            bounds,
            queue,
            bytes,
        }
    }

    /// Waits until the request's batch was committed. Once queued, the request
    /// is carried out even if the caller goes away.
    pub(super) async fn submit(&self, request: L::Request) -> Result<L::Answer, Error> {
        let full = || Error::overloaded(self.bounds.name);
        let (_, bytes) = L::weight(&request);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.bytes)
            .try_acquire_many_owned(bytes)
            .map_err(|_full| full())?;
        let (answer, answered) = oneshot::channel();
        let pending = Pending {
            request,
            answer,
            _bytes: bytes,
        };
        self.queue.try_send(pending).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => full(),
            mpsc::error::TrySendError::Closed(_) => Error::Draining,
        })?;
        answered.await.unwrap_or(Err(Error::Draining))
    }
}

async fn run<L: Lane>(
    mut lane: L,
    bounds: Bounds,
    mut requests: mpsc::Receiver<Pending<L>>,
    stopping: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let first = tokio::select! {
            biased;
            () = stopping.cancelled(), if !requests.is_closed() => {
                // What is queued is still carried out.
                requests.close();
                continue;
            }
            first = requests.recv() => first,
        };
        let Some(first) = first else { return Ok(()) };
        let (mut items, mut bytes) = L::weight(&first.request);
        let mut batch = vec![first.request];
        let mut answers = vec![first.answer];
        while items < bounds.batch_items && bytes < bounds.batch_bytes {
            let Ok(next) = requests.try_recv() else { break };
            let (more_items, more_bytes) = L::weight(&next.request);
            items += more_items;
            bytes += more_bytes;
            batch.push(next.request);
            answers.push(next.answer);
        }
        match lane.commit(batch).await {
            Ok(outcomes) => {
                debug_assert_eq!(outcomes.len(), answers.len(), "one answer per request");
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // A caller that went away does not matter.
                    let _ = answer.send(outcome);
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}
