//! Logging that stays readable while the same thing happens again and again.
//!
//! A database that is away fails every call, and a flood of connections is refused
//! one by one: one line in an interval is enough, if it says for how many it
//! stands. Metrics count all of them. It takes no lock: it stands where things are
//! worst.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::limits;

/// Lets one warning through per [`limits::WARNING_INTERVAL`] and counts the
/// others. One for each kind of warning, which may be a `static`.
#[derive(Debug, Default)]
pub struct Sparingly {
    start: OnceLock<Instant>,
    /// Milliseconds after `start` from which the next one is due.
    next: AtomicU64,
    unsaid: AtomicU64,
}

impl Sparingly {
    /// Nothing was said yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            start: OnceLock::new(),
            next: AtomicU64::new(0),
            unsaid: AtomicU64::new(0),
        }
    }

    /// If a warning is due: how many were left out since the last one.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        let now = millis(self.start.get_or_init(Instant::now).elapsed());
        let next = now.saturating_add(millis(limits::WARNING_INTERVAL));
        let due = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
                (at <= now).then_some(next)
            });
        if due.is_err() {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_per_interval_tells_how_many_it_stands_for() {
        let warnings = Sparingly::new();
        assert_eq!(warnings.due(), Some(0));
        for _ in 0..1000 {
            assert_eq!(warnings.due(), None);
        }
        tokio::time::advance(limits::WARNING_INTERVAL).await;
        assert_eq!(warnings.due(), Some(1000));
        assert_eq!(warnings.due(), None);
    }
}
