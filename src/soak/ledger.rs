//! What the writers know: every transaction, how it ended and when, with the
//! lowest id that it owned. Times are since the beginning of the run, by the
//! one monotonic clock of this process.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Names a transaction; the data of each of its events.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub(super) struct Tag {
    pub(super) writer: u32,
    pub(super) number: u64,
}

impl Tag {
    pub(super) fn to_json(self) -> String {
        let Self { writer, number } = self;
        format!(r#"{{"writer": {writer}, "number": {number}}}"#)
    }

    pub(super) fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// How a transaction ended, as far as its writer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    RolledBack,
    /// The session was gone: the table tells.
    Unknown,
}

/// A transaction, or the part of one that a savepoint undid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tag: Tag,
    pub(super) outcome: Outcome,
    /// Events that are there if it committed.
    pub(super) rows: u32,
    /// Lowest id it owned; `None` if none was told before the session was gone.
    pub(super) first: Option<i64>,
    /// When its end was known, so that it had ended by then.
    pub(super) ended: Duration,
}

/// What all writers write down.
pub(super) struct Ledger {
    begun: Instant,
    entries: Mutex<Vec<Entry>>,
    trouble: Mutex<BTreeMap<String, u64>>,
    committed: AtomicU64,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            entries: Mutex::default(),
            trouble: Mutex::default(),
            committed: AtomicU64::new(0),
        }
    }

    /// Since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn note(&self, entry: Entry) {
        if entry.outcome == Outcome::Committed {
            self.committed
                .fetch_add(entry.rows.into(), Ordering::Relaxed);
        }
        locked(&self.entries).push(entry);
    }

    /// An error that nobody had arranged.
    pub(super) fn trouble(&self, error: &sqlx::Error) {
        *locked(&self.trouble).entry(error.to_string()).or_default() += 1;
    }

    /// Events that were certainly committed so far.
    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Everything, once the writers have ended.
    pub(super) fn entries(&self) -> Vec<Entry> {
        locked(&self.entries).clone()
    }

    /// Errors and how often each came.
    pub(super) fn troubles(&self) -> BTreeMap<String, u64> {
        locked(&self.trouble).clone()
    }
}

/// These locks guard single changes, which a panic cannot leave half done.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
