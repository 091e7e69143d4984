//! The life of the process: its tasks, its readiness and its end.
//!
//! Every long-lived task is spawned here, under a name. A task that fails or
//! panics ends the whole process with its error; nothing goes on half alive.
//! The end has an order: readiness off, the fronts drain, then the engine
//! stops, then the caller's close runs, all under one deadline. `stopping` is
//! the polite token, `killed` the hard one. Nothing here knows what the tasks
//! do, and no task is aborted without its token having been cancelled first.

mod tasks;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use tasks::locked;
pub use tasks::{Crowd, Tasks};

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
        tell_supervisor(NotifyState::Stopping);
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

/// Tells systemd, where it started this process and waits for such news
/// (`Type=notify`); nobody else has set `NOTIFY_SOCKET`.
pub fn tell_supervisor(news: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[news]) {
        tracing::warn!(%error, "cannot tell the supervisor");
    }
}

/// Where the wish to stop comes from.
pub trait Signals: Send {
    /// Waits for the next one; its name, for the log.
    fn next(&mut self) -> impl Future<Output = &'static str> + Send;
}

/// SIGTERM and SIGINT from the moment that this is made. It is made before
/// anything is started: a signal that nobody handles ends the process where
/// it stands.
pub struct UnixSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl UnixSignals {
    /// Handles the signals from now on, inside the runtime.
    ///
    /// # Errors
    ///
    /// If the operating system does not allow it.
    pub fn new() -> anyhow::Result<Self> {
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

#[cfg(test)]
mod tests;
