//! The sentinel: looks again at ids that were declared dead.
//!
//! If one of them appears after all, an application or its database has broken
//! the rule that ids come from the sequence inside the INSERT, and consumers
//! that had passed it have lost an event. Nothing but this look can tell. It is
//! taken at an interval while somebody listens or asks, in a task of its own,
//! so that the tailer never waits for it. It knows the last dead ids that this
//! process has seen die: none from before its start, and of those that the
//! frontier passed without reading only what was still missing a moment later.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    dead::{Cause, DeadIds, missing},
    hub::Hub,
    sessions::Sessions,
    tailer_handle::TailerHandle,
};
use crate::{
    error::Error,
    event::EventId,
    limits,
    store::{self, IdRange, Rewound, Store},
    telemetry,
};

/// What to do about consumers that have passed an id which appeared late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatePolicy {
    /// Only say so.
    Alarm,
    /// Move them back to just before it; they see what follows again.
    Rewind,
}

/// How the sentinel behaves.
#[derive(Debug, Clone, Copy)]
pub struct SentinelSettings {
    /// Between two looks.
    pub interval: Duration,
    /// About late ids.
    pub policy: LatePolicy,
}

/// Shared by the tailer, which tells it what died, and its own task.
pub(super) struct Sentinel {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    tailer: Arc<TailerHandle>,
    sessions: Arc<Sessions>,
    settings: SentinelSettings,
    state: Mutex<State>,
    /// The frontier passed ids without reading.
    jumped: Notify,
    /// The tailer has looked at the database, so somebody listens or asks.
    stirred: Notify,
}

struct State {
    dead: DeadIds,
    /// Passed without reading; which of them are dead is to be looked up.
    passed: Vec<(IdRange, Cause)>,
    /// Late ids for which consumers are still to be moved back.
    pending: Vec<EventId>,
    /// The highest late id, and what to tell.
    problem: Option<(EventId, String)>,
    /// Changes when everything was forgotten.
    generation: u64,
}

impl Sentinel {
    pub(super) fn new(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        tailer: Arc<TailerHandle>,
        sessions: Arc<Sessions>,
        settings: SentinelSettings,
    ) -> Self {
        let state = State {
            dead: DeadIds::new(limits::DEAD_RANGES),
            passed: Vec::new(),
            pending: Vec::new(),
            problem: None,
            generation: 0,
        };
        Self {
            store,
            hub,
            tailer,
            sessions,
            settings,
            state: Mutex::new(state),
            jumped: Notify::new(),
            stirred: Notify::new(),
        }
    }

    /// These ids are dead.
    pub(super) fn bury(&self, ranges: impl IntoIterator<Item = IdRange>, cause: Cause) {
        let mut ranges = ranges.into_iter().peekable();
        if ranges.peek().is_some() {
            let mut state = self.state();
            ranges.for_each(|range| state.dead.bury(range, cause));
        }
    }

    /// The frontier went up without reading what it passed.
    pub(super) fn passed(&self, after: EventId, through: EventId, cause: Cause) {
        if through > after {
            self.state().pass(after, through, cause);
            self.jumped.notify_one();
        }
    }

    /// The tailer has looked: a look is paid for.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// Ids may get other events from now on.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.dead.clear();
        state.passed.clear();
        state.pending.clear();
        state.generation += 1;
    }

    /// Ranges of dead ids.
    pub(super) fn remembered(&self) -> usize {
        self.state().dead.len()
    }

    /// What an operator should know, while the late event is there.
    pub(super) async fn problem(&self) -> Result<Option<String>, store::Error> {
        let Some((id, text)) = self.state().problem.clone() else {
            return Ok(None);
        };
        let range = IdRange {
            first: id,
            last: id,
        };
        if self.store.appeared(&[range], 1).await?.is_empty() {
            self.state().problem.take_if(|(late, _)| *late == id);
            return Ok(None);
        }
        Ok(Some(text))
    }

    /// The task.
    pub(super) async fn keep(self: Arc<Self>, stopping: CancellationToken) -> anyhow::Result<()> {
        let mut due = Instant::now() + self.settings.interval;
        loop {
            let look = async {
                sleep_until(due).await;
                self.stirred.notified().await;
            };
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                () = self.jumped.notified() => {
                    self.report(self.look_up_passed().await);
                    let pause = tokio::time::sleep(limits::JUMP_PAUSE);
                    stopping.run_until_cancelled(pause).await;
                }
                () = look => {
                    self.report(self.look().await);
                    due = Instant::now() + self.settings.interval;
                }
            }
        }
    }

    /// A failure is the database's, and logged as such; the next look makes up
    /// for it.
    fn report(&self, outcome: Result<(), store::Error>) {
        if let Err(error) = outcome {
            let _ = self.tailer.failed(error);
        }
    }

    /// Which of the ids that were passed without reading are dead.
    async fn look_up_passed(&self) -> Result<(), store::Error> {
        let (passed, generation) = {
            let mut state = self.state();
            (std::mem::take(&mut state.passed), state.generation)
        };
        let limit = usize::try_from(limits::JUMPED_IDS).unwrap_or(usize::MAX);
        for (range, cause) in passed {
            let visible = self.store.appeared(&[range], limit).await?;
            let mut state = self.state();
            if state.generation == generation {
                for dead in missing(range, visible.into_iter()) {
                    state.dead.bury(dead, cause);
                }
            }
        }
        Ok(())
    }

    /// Looks at dead ids again.
    async fn look(&self) -> Result<(), store::Error> {
        // Of a look that failed.
        self.rewind().await?;
        let look = self.state().dead.next_look(limits::SENTINEL_LOOK_RANGES);
        for ranges in look.chunks(limits::SENTINEL_STATEMENT_RANGES) {
            let found = self.store.appeared(ranges, limits::SENTINEL_FINDS).await?;
            let late = self.state().dead.exhume(&found);
            if !late.is_empty() {
                self.alarm(&late);
            }
        }
        self.rewind().await
    }

    /// Says so in every way there is.
    fn alarm(&self, late: &[(EventId, Cause)]) {
        // What is held in memory lacks them.
        self.hub.distrust();
        metrics::counter!(telemetry::LATE_EVENTS, "database" => self.store.kind())
            .increment(late.len() as u64);
        for cause in [Cause::Proven, Cause::Skipped] {
            let ids: Vec<EventId> = late
                .iter()
                .filter(|(_, why)| *why == cause)
                .map(|(id, _)| *id)
                .collect();
            let Some(highest) = ids.last() else { continue };
            let text = self.describe(&ids, cause);
            tracing::error!(ids = named(&ids), count = ids.len(), "{text}");
            self.state().problem = Some((*highest, text));
        }
        if self.settings.policy == LatePolicy::Rewind {
            self.state().pending.extend(late.iter().map(|(id, _)| *id));
        }
    }

    fn describe(&self, ids: &[EventId], cause: Cause) -> String {
        let ids = named(ids);
        let why = match cause {
            Cause::Proven => format!(
                "appeared after no open transaction could own them; probable cause: {}",
                self.store.late_causes()
            ),
            Cause::Skipped => "were given up by a skip and committed later".to_owned(),
        };
        let then = match self.settings.policy {
            LatePolicy::Alarm => "consumers that had passed them do not get them unless sought",
            LatePolicy::Rewind => "consumers that had passed them are moved back",
        };
        format!("events below the frontier: {ids} {why}; {then}")
    }

    /// Moves consumers back for the late ids that wait for it.
    async fn rewind(&self) -> Result<(), store::Error> {
        let pending = self.state().pending.clone();
        if pending.is_empty() {
            return Ok(());
        }
        // A place from which events are missing would stop its consumer.
        let kept = self.store.bounds().await?.discarded_to;
        let (late, below): (Vec<EventId>, Vec<EventId>) =
            pending.iter().partition(|id| **id > kept);
        if !below.is_empty() {
            tracing::error!(ids = named(&below), discarded_to = %kept,
                "late events lie below what was discarded: nobody can be moved back to them");
        }
        let rewound = if late.is_empty() {
            Vec::new()
        } else {
            self.store.rewind(&late).await?
        };
        self.state().pending.retain(|id| !pending.contains(id));
        self.hub.distrust();
        metrics::counter!(telemetry::CONSUMERS_REWOUND).increment(rewound.len() as u64);
        for one in rewound {
            tracing::warn!(consumer = %one.key, from = %one.from, to = %one.to,
                "moved back before an event that appeared late; it gets what follows again");
            self.fence(&one);
        }
        Ok(())
    }

    /// Ends the session here at once; others notice at their next beat.
    fn fence(&self, rewound: &Rewound) {
        let error = Error::StaleEpoch {
            consumer: rewound.key.ident(),
            given: self.sessions.epoch(&rewound.key).unwrap_or(0),
            current: rewound.epoch,
        };
        self.sessions.fence(&rewound.key, rewound.epoch, error);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes the highest ids of a range; what adjoins goes together.
    fn pass(&mut self, after: EventId, through: EventId, cause: Cause) {
        let first = match self.passed.last() {
            Some((last, known)) if *known == cause && last.last == after => {
                let first = last.first;
                self.passed.pop();
                first
            }
            _ => after.next(),
        };
        let lowest = EventId::stored(through.get() - limits::JUMPED_IDS + 1);
        let range = IdRange {
            first: first.max(lowest),
            last: through,
        };
        self.passed.push((range, cause));
    }
}

/// As `1, 5-9 and 3 more`.
pub(super) fn named(ids: &[EventId]) -> String {
    let runs: Vec<IdRange> = ids
        .chunk_by(|a, b| a.next() == *b)
        .filter_map(|run| {
            Some(IdRange {
                first: *run.first()?,
                last: *run.last()?,
            })
        })
        .collect();
    named_ranges(&runs)
}

/// The same for ranges.
pub(super) fn named_ranges(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for range in ranges.iter().take(limits::NAMED) {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = match (range.first, range.last) {
            (first, last) if first == last => write!(text, "{comma}{first}"),
            (first, last) => write!(text, "{comma}{first}-{last}"),
        };
    }
    let more = ranges.iter().skip(limits::NAMED).map(count).sum::<u64>();
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Ids of a range.
pub(super) fn count(range: &IdRange) -> u64 {
    u64::try_from(range.last.distance_from(range.first.previous())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(raw: i64) -> EventId {
        EventId::stored(raw)
    }

    #[test]
    fn ids_are_named_as_runs_and_not_all_of_them() {
        assert_eq!(named(&[1, 3, 4, 5, 9].map(id)), "1, 3-5, 9");
        let many: Vec<EventId> = (0..25).map(|n| id(n * 2 + 1)).collect();
        assert!(named(&many).ends_with("39 and 5 more"), "{}", named(&many));
    }

    #[test]
    fn passed_ids_are_bounded_and_adjoin() {
        let mut state = State {
            dead: DeadIds::new(9),
            passed: Vec::new(),
            pending: Vec::new(),
            problem: None,
            generation: 0,
        };
        state.pass(id(5), id(7), Cause::Proven);
        state.pass(id(7), id(9), Cause::Proven);
        let first = IdRange {
            first: id(6),
            last: id(9),
        };
        assert_eq!(state.passed, [(first, Cause::Proven)]);
        state.pass(id(9), id(100_009), Cause::Proven);
        let last = IdRange {
            first: id(90_010),
            last: id(100_009),
        };
        assert_eq!(state.passed, [(last, Cause::Proven)]);
        state.pass(id(100_009), id(100_010), Cause::Skipped);
        assert_eq!(state.passed.len(), 2);
    }
}
