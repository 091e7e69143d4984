//! What upkeep asks of a database: leases, and writes that carry their fence.

use std::time::Duration;

use uuid::Uuid;

use crate::event::{ConsumerKey, EventId};

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

/// Who does a task now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which.
    pub task: String,
    /// The replica.
    pub holder: String,
    /// What it calls itself.
    pub place: String,
    /// Its fencing number.
    pub fence: i64,
}

/// A batch to delete, from the low end.
#[derive(Debug, Clone, Copy)]
pub struct Discard {
    /// Of [`Task::Discard`].
    pub fence: Fence,
    /// Rows at most.
    pub rows: usize,
    /// Events younger than this, and what is above them, are kept.
    pub min_age: Duration,
    /// Whether nothing may go before the archiver is registered.
    pub archiving: bool,
}

/// Outcome of a [`Discard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// As many rows are gone, perhaps none.
    Gone {
        /// How many.
        events: u64,
        /// Every id at or below it is gone.
        discarded_to: EventId,
        /// Whether rows ran out before the batch did.
        more: bool,
    },
    /// Another replica holds the lease; nothing was deleted.
    Fenced,
}

impl Discarded {
    /// Nothing was there to delete.
    pub(super) fn none(discarded_to: i64) -> Self {
        Self::Gone {
            events: 0,
            discarded_to: EventId::stored(discarded_to),
            more: false,
        }
    }
}

/// What could be discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discardable {
    /// Ids that everybody has and that are not discarded; gaps count.
    pub ids: i64,
    /// What keeps everything, whatever the positions are.
    pub hold: Option<Hold>,
}

/// Why nothing at all may be discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// There is no consumer.
    NobodyRegistered,
    /// A consumer is stopped: where it will go on is not known.
    ConsumerStopped,
    /// Archiving is on, and the archiver has not begun.
    ArchiverMissing,
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NobodyRegistered => "no consumer is registered",
            Self::ConsumerStopped => "a consumer is stopped",
            Self::ArchiverMissing => "the archiver has not begun",
        })
    }
}

/// The facts that decide what may be discarded, as one snapshot shows them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holding {
    /// Recorded: gone up to here.
    pub discarded_to: i64,
    /// Saved: settled up to here.
    pub frontier: i64,
    /// Lowest position of all consumers.
    pub slowest: Option<i64>,
    /// Whether a consumer is stopped.
    pub stopped: bool,
    /// Whether the archiver is registered.
    pub archiver: bool,
}

impl Holding {
    /// What follows from them.
    pub(super) fn discardable(self, archiving: bool) -> Discardable {
        let hold = match self.slowest {
            None => Some(Hold::NobodyRegistered),
            Some(_) if self.stopped => Some(Hold::ConsumerStopped),
            Some(_) if archiving && !self.archiver => Some(Hold::ArchiverMissing),
            Some(_) => None,
        };
        let through = self.slowest.unwrap_or(0).min(self.frontier);
        Discardable {
            ids: match hold {
                None => (through - self.discarded_to).max(0),
                Some(_) => 0,
            },
            hold,
        }
    }
}

/// A consumer to unregister if it shows no life.
#[derive(Debug, Clone, Copy)]
pub struct Expiry<'a> {
    /// Of [`Task::Expire`].
    pub fence: Fence,
    /// Which.
    pub key: &'a ConsumerKey,
    /// No sign of life for this long.
    pub silent: Duration,
}

/// Outcome of an [`Expiry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// It is unregistered.
    Removed,
    /// It showed life, or is gone already.
    Kept,
    /// Another replica holds the lease; nothing was done.
    Fenced,
}

/// Milliseconds, as databases keep durations.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
