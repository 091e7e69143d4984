//! When to say that the frontier waits and for whom, and that it goes on again.
//! The caller brings the time and the transactions.

use std::time::Duration;

use tokio::time::Instant;

use crate::{event::EventId, limits, store::Blocker};

/// How long the frontier has been waiting for the same id.
#[derive(Debug)]
pub(super) struct Stall {
    warn_after: Duration,
    held: Option<Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    id: EventId,
    since: Instant,
    /// Said so often.
    warnings: u32,
    next_warning: Instant,
}

/// Something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// The frontier has been waiting for an id for so long.
    Waits(EventId, Duration),
    /// It goes on, after so long.
    GoesOn(EventId, Duration),
}

impl Stall {
    /// Says it first after `warn_after`, then with growing pauses.
    pub(super) fn new(warn_after: Duration) -> Self {
        Self {
            warn_after,
            held: None,
        }
    }

    /// The id that is waited for, and since when.
    pub(super) fn held(&self) -> Option<(EventId, Instant)> {
        self.held.map(|held| (held.id, held.since))
    }

    /// Takes the lowest id that the frontier waits for, if it waits.
    pub(super) fn note(&mut self, now: Instant, waits_for: Option<EventId>) -> Option<Notice> {
        if self.held.map(|held| held.id) != waits_for {
            let before = std::mem::replace(
                &mut self.held,
                waits_for.map(|id| Held {
                    id,
                    since: now,
                    warnings: 0,
                    next_warning: now + self.warn_after,
                }),
            );
            let before = before.filter(|held| held.warnings > 0)?;
            return Some(Notice::GoesOn(before.id, now - before.since));
        }
        let held = self.held.as_mut().filter(|held| now >= held.next_warning)?;
        let pause = self.warn_after.saturating_mul(2 << held.warnings.min(16));
        held.warnings += 1;
        held.next_warning = now + pause.min(limits::LONGEST_STALL_PAUSE);
        Some(Notice::Waits(held.id, now - held.since))
    }
}

/// Names who may own the id that the frontier waits for.
pub(super) fn warn(id: EventId, waited: Duration, blockers: &[Blocker]) {
    for blocker in blockers.iter().take(limits::NAMED) {
        tracing::warn!(%id, ?waited, session = blocker.session, client = blocker.client,
            age = ?blocker.age, prepared = blocker.prepared,
            "the frontier waits for an open transaction; events behind it are held back");
    }
    if blockers.len() > limits::NAMED {
        let more = blockers.len() - limits::NAMED;
        tracing::warn!(%id, more, "the frontier waits for more transactions than are named");
    }
    if blockers.is_empty() {
        tracing::warn!(%id, ?waited,
            "the frontier waits, but no open transaction is seen; was an id inserted that its \
             sequence has not given out?");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn says_so_with_growing_pauses_and_once_that_it_goes_on() {
        let begun = Instant::now();
        let mut stall = Stall::new(SECOND * 5);
        let (held, next) = (EventId::stored(7), EventId::stored(9));
        let mut said = Vec::new();
        for second in 0..100 {
            if let Some(notice) = stall.note(begun + SECOND * second, Some(held)) {
                said.push(second);
                assert_eq!(notice, Notice::Waits(held, SECOND * second));
            }
        }
        assert_eq!(said, [5, 15, 35, 75]);
        let now = begun + SECOND * 100;
        assert_eq!(
            stall.note(now, Some(next)),
            Some(Notice::GoesOn(held, SECOND * 100))
        );
        assert_eq!(stall.held(), Some((next, now)));
        assert_eq!(stall.note(now + SECOND, None), None);
        assert_eq!(stall.held(), None);
    }

    #[test]
    fn pauses_are_bounded() {
        let mut now = Instant::now();
        let mut stall = Stall::new(SECOND * 5);
        let held = Some(EventId::stored(1));
        let mut last = now;
        for _ in 0..100_000 {
            now += SECOND;
            if stall.note(now, held).is_some() {
                assert!(now - last <= limits::LONGEST_STALL_PAUSE + SECOND * 5);
                last = now;
            }
        }
        assert!(now - last <= limits::LONGEST_STALL_PAUSE);
    }
}
