//! Named tasks in stages, and crowds of short ones. Every task of the service
//! is spawned in this file. Named tasks are the process: one that fails or
//! panics ends it. Those of a crowd belong to a peer, whose trouble is its own.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::anyhow;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// What all stages share: the hard token and the first failure.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) killed: CancellationToken,
    pub(super) failed: CancellationToken,
    pub(super) failure: Mutex<Option<anyhow::Error>>,
    pub(super) running: Mutex<Vec<&'static str>>,
}

impl Shared {
    fn fail(&self, error: anyhow::Error) {
        tracing::error!(error = format!("{error:#}"), "a task failed, stopping");
        locked(&self.failure).get_or_insert(error);
        self.failed.cancel();
    }
}

/// The tasks of one stage. Clones are the same stage.
#[derive(Clone, Default)]
pub struct Tasks {
    pub(super) shared: Arc<Shared>,
    stopping: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// A stage of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A stage that is stopped separately but killed and failing together
    /// with this one.
    pub(super) fn another_stage(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            ..Self::default()
        }
    }

    /// Starts a task that runs until [`Self::stopping`], or until its work is
    /// done. An error or a panic of it ends the process.
    pub fn spawn(
        &self,
        name: &'static str,
        future: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let watch = Watch::new(name, Arc::clone(&self.shared));
        let task = async move {
            let outcome = future.await;
            watch.end(outcome);
        };
        self.tracker
            .spawn(task.instrument(tracing::info_span!("task", name)));
    }

    /// Cancelled when this stage shall finish what it has begun and end.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Cancelled when there is no time left to finish anything.
    #[must_use]
    pub fn killed(&self) -> CancellationToken {
        self.shared.killed.clone()
    }

    /// Asks the tasks of this stage to end.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits until every task of this stage has ended.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Reports how a task ended, a panic included: then it is dropped unended.
struct Watch {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Watch {
    fn new(name: &'static str, shared: Arc<Shared>) -> Self {
        locked(&shared.running).push(name);
        Self { name, shared }
    }

    fn end(self, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => tracing::debug!("ended"),
            Err(error) => self
                .shared
                .fail(error.context(format!("task {}", self.name))),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(anyhow!("task {} panicked", self.name));
        }
        let mut running = locked(&self.shared.running);
        if let Some(index) = running.iter().position(|name| *name == self.name) {
            running.swap_remove(index);
        }
    }
}

/// A crowd of short tasks of one owner, such as the connections of a listener
/// and the requests on them. A panic of one is that one's own affair.
#[derive(Clone)]
pub struct Crowd {
    killed: CancellationToken,
    tracker: TaskTracker,
}

impl Crowd {
    /// A crowd that is dropped where it stands when the token is cancelled.
    #[must_use]
    pub fn new(killed: CancellationToken) -> Self {
        Self {
            killed,
            tracker: TaskTracker::new(),
        }
    }

    /// Starts one more, inside the current tracing span.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let killed = self.killed.clone();
        let task = async move {
            killed.run_until_cancelled(future).await;
        };
        self.tracker.spawn(task.in_current_span());
    }

    /// Waits until all have ended.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// hyper starts the requests of an HTTP/2 connection through this.
impl<F> hyper::rt::Executor<F> for Crowd
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}

/// These locks guard single assignments, which a panic cannot leave half done.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
