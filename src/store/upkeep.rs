//! What upkeep asks of a database: leases, and writes that carry their fence.

use std::time::Duration;

use uuid::Uuid;

/// A task that one replica does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Copies events to the warehouse.
    Archive,
    /// Deletes events that everybody has.
    Discard,
    /// Unregisters consumers that show no life.
    Expire,
}

impl Task {
    /// Its name in the database, in metrics and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Discard => "discard",
            Self::Expire => "expire",
        }
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A wish to do a task, or to go on doing it.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Which.
    pub task: Task,
    /// The replica.
    pub holder: Uuid,
    /// For how long it is the holder's alone, by the database's clock.
    pub lapse: Duration,
}

/// Outcome of a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The task is the claimant's. What it writes carries this.
    Held(Fence),
    /// It is this other replica's.
    Taken(String),
}

/// One tenure of a task. Numbers grow from tenure to tenure, for ever: never
/// below the clock, so that a restored copy of the database, which is set back,
/// does not give one out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    task: Task,
    number: i64,
}

impl Fence {
    /// As the database gave it out.
    #[must_use]
    pub fn new(task: Task, number: i64) -> Self {
        Self { task, number }
    }

    /// Which task.
    #[must_use]
    pub fn task(self) -> Task {
        self.task
    }

    /// Higher than that of every tenure before.
    #[must_use]
    pub fn number(self) -> i64 {
        self.number
    }
}

/// Milliseconds, as databases keep durations.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
