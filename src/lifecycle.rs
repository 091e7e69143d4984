//! The life of the process: its tasks, its readiness and its end.
//!
//! Every long-lived task is spawned here, under a name. A task that fails or
//! panics ends the whole process with its error; nothing goes on half alive.
//! The end has an order: readiness off, the fronts drain, then the engine
//! stops, then the caller's close runs, all under one deadline. `stopping` is
//! the polite token, `killed` the hard one. Nothing here knows what the tasks
//! do, and no task is aborted without its token having been cancelled first.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::limits;

/// Whether the service should be given work, with the reason if not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The listeners are open, the store is not known to answer yet.
    Starting,
    /// Calls are served.
    Ready,
    /// Calls would fail; the text says why, for `/readyz`.
    NotReady(String),
    /// The end has begun; never left again.
    Draining,
}

/// What all stages share: the hard token and the first failure.
#[derive(Default)]
struct Shared {
    killed: CancellationToken,
    failed: CancellationToken,
    failure: Mutex<Option<anyhow::Error>>,
    running: Mutex<Vec<&'static str>>,
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
    shared: Arc<Shared>,
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
    fn another_stage(&self) -> Self {
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

/// The stages of the process and its readiness.
pub struct Lifecycle {
    /// Listeners: stopped first, so that nobody is refused half-way.
    pub fronts: Tasks,
    /// The stream and its upkeep: stopped when no front needs them any more.
    pub engine: Tasks,
    readiness: watch::Sender<Readiness>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A process that is starting.
    #[must_use]
    pub fn new() -> Self {
        let fronts = Tasks::new();
        Self {
            engine: fronts.another_stage(),
            fronts,
            readiness: watch::Sender::new(Readiness::Starting),
        }
    }

    /// Follows the readiness.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Changes the readiness; without effect once draining.
    pub fn set_readiness(&self, now: Readiness) {
        self.readiness.send_if_modified(|state| {
            let change = *state != Readiness::Draining && *state != now;
            if change {
                *state = now;
            }
            change
        });
    }

    /// Runs until SIGTERM, SIGINT or the failure of a task, then ends the
    /// stages in order and awaits `close`, all within `deadline`. A second
    /// signal or the deadline ends everything by force.
    ///
    /// # Errors
    ///
    /// The failed task with its cause, the failure of `close`, or that the
    /// end had to be forced.
    pub async fn run_until_signal(
        &self,
        deadline: Duration,
        close: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        self.run(UnixSignals::new()?, deadline, close).await
    }

    async fn run(
        &self,
        mut signals: impl Signals,
        deadline: Duration,
        close: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let shared = &self.fronts.shared;
        tokio::select! {
            biased;
            () = shared.failed.cancelled() => {}
            name = signals.next() => tracing::info!(signal = name, ?deadline, "stopping"),
        }
        let end = Instant::now() + deadline;
        let outcome = tokio::select! {
            biased;
            outcome = self.drain(close) => outcome,
            name = signals.next() => self.kill(&format!("second signal ({name})")).await,
            () = tokio::time::sleep_until(end) => {
                self.kill(&format!("the shutdown deadline of {deadline:?} passed")).await
            }
        };
        match locked(&shared.failure).take() {
            Some(failure) => Err(failure),
            None => outcome,
        }
    }

    async fn drain(&self, close: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        self.set_readiness(Readiness::Draining);
        self.fronts.stop();
        self.fronts.ended().await;
        tracing::debug!("fronts drained");
        self.engine.stop();
        self.engine.ended().await;
        tracing::debug!("engine stopped");
        close.await.context("closing")
    }

    async fn kill(&self, reason: &str) -> anyhow::Result<()> {
        let running = locked(&self.fronts.shared.running).join(", ");
        self.fronts.shared.killed.cancel();
        self.fronts.stop();
        self.engine.stop();
        let all = async {
            self.fronts.ended().await;
            self.engine.ended().await;
        };
        // Who does not even notice this is dropped with the runtime.
        let _ = tokio::time::timeout(limits::KILL_GRACE, all).await;
        Err(anyhow!(
            "ended by force: {reason}; not yet ended: [{running}]"
        ))
    }
}

/// Where the wish to stop comes from.
trait Signals {
    async fn next(&mut self) -> &'static str;
}

struct UnixSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl UnixSignals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("handling SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("handling SIGINT")?,
        })
    }
}

impl Signals for UnixSignals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// These locks guard single assignments, which a panic cannot leave half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Signals that a test sends; the sender dropped means none come.
    struct Sent(mpsc::Receiver<&'static str>);

    impl Signals for Sent {
        async fn next(&mut self) -> &'static str {
            match self.0.recv().await {
                Some(name) => name,
                None => std::future::pending().await,
            }
        }
    }

    fn signals(count: usize) -> Sent {
        let (tx, rx) = mpsc::channel(4);
        for _ in 0..count {
            tx.try_send("TEST").unwrap();
        }
        Sent(rx)
    }

    fn no_close() -> impl Future<Output = anyhow::Result<()>> {
        std::future::ready(Ok(()))
    }

    type Journal = Arc<Mutex<Vec<&'static str>>>;

    fn until_stopped(tasks: &Tasks, name: &'static str, journal: &Journal) {
        let stopping = tasks.stopping();
        let journal = Arc::clone(journal);
        tasks.spawn(name, async move {
            stopping.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            locked(&journal).push(name);
            Ok(())
        });
    }

    #[tokio::test(start_paused = true)]
    async fn stages_end_in_order_then_close() {
        let life = Lifecycle::new();
        let journal = Journal::default();
        let readiness = life.readiness();
        life.set_readiness(Readiness::Ready);
        until_stopped(&life.engine, "engine", &journal);
        until_stopped(&life.fronts, "front", &journal);
        let close = async {
            locked(&journal).push("close");
            Ok(())
        };
        life.run(signals(1), DEADLINE, close).await.unwrap();
        assert_eq!(*locked(&journal), ["front", "engine", "close"]);
        assert_eq!(*readiness.borrow(), Readiness::Draining);
        life.set_readiness(Readiness::Ready);
        assert_eq!(*readiness.borrow(), Readiness::Draining);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_task_stops_the_others_and_is_reported() {
        let life = Lifecycle::new();
        let journal = Journal::default();
        until_stopped(&life.fronts, "front", &journal);
        life.engine
            .spawn("tailer", async { Err(anyhow!("disk on fire")) });
        let error = life
            .run(signals(0), DEADLINE, no_close())
            .await
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "task tailer: disk on fire");
        assert_eq!(*locked(&journal), ["front"]);
    }

    #[tokio::test(start_paused = true)]
    async fn panic_is_a_failure() {
        let life = Lifecycle::new();
        life.engine.spawn("writer", async {
            assert!(DEADLINE.is_zero(), "on purpose");
            Ok(())
        });
        let error = life
            .run(signals(0), DEADLINE, no_close())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "task writer panicked");
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_kills_and_names_who_hung() {
        let life = Lifecycle::new();
        let killed = life.fronts.killed();
        life.fronts.spawn("grpc", async move {
            killed.cancelled().await;
            Ok(())
        });
        let start = Instant::now();
        let error = life
            .run(signals(1), DEADLINE, no_close())
            .await
            .unwrap_err();
        assert_eq!(start.elapsed(), DEADLINE);
        let text = error.to_string();
        assert!(
            text.contains("deadline of 10s") && text.contains("[grpc]"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn second_signal_kills_at_once_even_who_ignores_it() {
        let life = Lifecycle::new();
        life.engine.spawn("stubborn", std::future::pending());
        let start = Instant::now();
        let error = life
            .run(signals(2), DEADLINE, no_close())
            .await
            .unwrap_err();
        assert_eq!(start.elapsed(), limits::KILL_GRACE);
        assert!(error.to_string().contains("second signal"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn close_is_under_the_same_deadline() {
        let life = Lifecycle::new();
        let error = life
            .run(signals(1), DEADLINE, std::future::pending())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("deadline"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn crowd_is_dropped_when_killed() {
        let killed = CancellationToken::new();
        let crowd = Crowd::new(killed.clone());
        crowd.spawn(std::future::pending());
        killed.cancel();
        crowd.ended().await;
    }
}
