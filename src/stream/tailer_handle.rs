//! Everybody else's end of the tailer: waking it, waiting for it, and reporting
//! to it what a call saw of the database.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use tokio::{
    sync::{Notify, watch},
    time::{Duration, Instant, timeout},
};

use crate::{
    error::Error,
    event::EventId,
    limits,
    store::{self, Audit, Effect},
    telemetry,
};

/// Everybody else's end of the tailer.
#[derive(Debug)]
pub(super) struct TailerHandle {
    pub(super) wake: Notify,
    pub(super) requested: AtomicU64,
    pub(super) proven: watch::Sender<Proven>,
    pub(super) listeners: AtomicUsize,
    pub(super) lost: AtomicBool,
    /// An operator has just decided to skip.
    pub(super) skipped: AtomicBool,
    /// The id that the frontier waits for, and since when.
    pub(super) held: Mutex<Option<(EventId, Instant)>>,
    pub(super) state: watch::Sender<DatabaseState>,
    /// A restore: the highest id lost, and what to tell.
    problem: Mutex<Option<(EventId, String)>>,
}

/// The last finished round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Proven {
    /// Requests up to this one are answered.
    pub(super) ticket: u64,
    pub(super) failed: bool,
}

/// Whether the database works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseState {
    /// It does.
    Working,
    /// It does not; calls are answered with `UNAVAILABLE`.
    Away,
}

impl TailerHandle {
    pub(super) fn new() -> Self {
        Self {
            wake: Notify::new(),
            requested: AtomicU64::new(0),
            proven: watch::Sender::new(Proven::default()),
            listeners: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
            skipped: AtomicBool::new(false),
            held: Mutex::new(None),
            state: watch::Sender::new(DatabaseState::Working),
            problem: Mutex::new(None),
        }
    }

    /// Own events were committed.
    pub(super) fn committed(&self) {
        if self.is_listened_to() {
            self.wake.notify_one();
        }
    }

    /// Makes the tailer follow for as long as the guard lives.
    pub(super) fn listen(self: &Arc<Self>) -> Listening {
        if self.listeners.fetch_add(1, Ordering::AcqRel) == 0 {
            // It rests without a timer. What was committed since its last look
            // woke nobody, because nobody listened.
            self.wake.notify_one();
        }
        Listening {
            tailer: Arc::clone(self),
        }
    }

    /// Whether events are read as they settle.
    pub(super) fn is_listened_to(&self) -> bool {
        self.listeners.load(Ordering::Acquire) > 0
    }

    /// Waits until the frontier was proven anew, by a look at the database
    /// that began after this call. Callers share a look.
    pub(super) async fn prove(&self) -> Result<(), Error> {
        let mut proven = self.proven.subscribe();
        let ticket = self.requested.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake.notify_one();
        let answered = timeout(
            limits::PROVE_TIMEOUT,
            proven.wait_for(|proven| proven.ticket >= ticket),
        );
        match answered.await {
            Ok(Ok(proven)) if !proven.failed => Ok(()),
            _ => Err(Error::Database {
                effect: Effect::None,
            }),
        }
    }

    /// An operator's skip was recorded: the next look obeys it.
    pub(super) fn skipped(&self) {
        self.skipped.store(true, Ordering::Release);
    }

    /// The lowest id that the frontier waits for, and for how long this process
    /// has seen it wait.
    pub(super) fn held(&self) -> Option<(EventId, Duration)> {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.map(|(id, since)| (id, since.elapsed()))
    }

    /// Reports a failure of the database, as what the caller gets.
    pub(super) fn failed(&self, error: store::Error) -> Error {
        if matches!(error, store::Error::Lost { .. }) {
            self.lost.store(true, Ordering::Release);
            self.wake.notify_one();
        }
        error.into()
    }

    /// Whether the database works, and every change of it.
    pub(super) fn database(&self) -> watch::Receiver<DatabaseState> {
        self.state.subscribe()
    }

    /// What an operator should know about the stream as a whole: a restore,
    /// until nobody is stopped by it and its lost ids have been given out anew.
    pub(super) fn problem(&self, head: EventId, anybody_stopped: bool) -> Option<String> {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.take_if(|(lost, _)| !anybody_stopped && head >= *lost);
        problem.as_ref().map(|(_, text)| text.clone())
    }

    /// Notes what an audit found, loudly if something was lost.
    pub(super) fn note_audit(&self, audit: &Audit) {
        let Some(lost) = audit.lost_above_head else {
            return;
        };
        metrics::counter!(telemetry::RESTORES_DETECTED).increment(1);
        let text = format!(
            "ids up to {lost} were known but the highest id is {}: the database was restored from \
             an older copy; consumers above it are stopped",
            audit.head
        );
        tracing::error!(lost_above_head = %lost, head = %audit.head, stopped = ?audit.stopped,
            "restore detected");
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        *problem = Some((lost, text));
    }
}

/// Somebody listens; see [`TailerHandle::listen`].
#[derive(Debug)]
pub(super) struct Listening {
    tailer: Arc<TailerHandle>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.tailer.listeners.fetch_sub(1, Ordering::AcqRel);
    }
}
