//! One receiver under judgement: what it reported and was not asked for yet.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Map, Value};

use crate::{case, runner::Did};

/// Timers of some languages fire a little early, and delays are rounded.
const ROUNDING: Duration = Duration::from_millis(2);

/// What the handler did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    Handle(i64),
    Handled(i64),
    DeadLetter(i64),
}

/// How a receiver ended.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) error: Option<Map<String, Value>>,
}

pub(crate) struct Receiver {
    pub(crate) spec: case::Receiver,
    pub(crate) work: VecDeque<Work>,
    pub(crate) reconnects: VecDeque<u32>,
    /// The last total of what was dropped.
    pub(crate) dropped: i64,
    pub(crate) ended: Option<End>,
    /// The event whose handler waits for `release`.
    pub(crate) waiting: Option<i64>,
    /// Calls of the dead-letter callback, by event.
    pub(crate) dead_letters: Vec<i64>,
    /// The attempt that the latest report had.
    attempt: u32,
    /// `RetryInfo` of the latest error.
    pub(crate) retry_after: Option<Duration>,
    /// When the service did what ends a session.
    pub(crate) lost_at: Option<Instant>,
    /// No call before it.
    pub(crate) not_before: Option<Instant>,
    /// A session brought a group since the latest report.
    pub(crate) progressed: bool,
    /// The port was shut: nobody knows how often it was tried.
    pub(crate) tries_freely: bool,
}

impl Receiver {
    pub(crate) fn new(spec: case::Receiver) -> Self {
        Self {
            spec,
            work: VecDeque::new(),
            reconnects: VecDeque::new(),
            dropped: 0,
            ended: None,
            waiting: None,
            dead_letters: Vec::new(),
            attempt: 0,
            retry_after: None,
            lost_at: None,
            not_before: None,
            progressed: false,
            tries_freely: false,
        }
    }

    /// Judges a report of the reconnect hook.
    pub(crate) fn reconnects(&mut self, attempt: u32, delay_ms: f64) -> Result<()> {
        let expected = if std::mem::take(&mut self.progressed) {
            1
        } else {
            self.attempt + 1
        };
        ensure!(
            attempt == expected,
            "on_reconnect with attempt {attempt} where {expected} is due",
        );
        self.attempt = attempt;
        let delay = Duration::from_secs_f64(delay_ms.max(0.0) / 1000.0);
        let most = self.spec.delay(attempt);
        let (low, high) = match self.retry_after.take() {
            Some(after) => (after.max(most / 2), after + most),
            None => (most / 2, most),
        };
        ensure!(
            delay + ROUNDING >= low && delay <= high + ROUNDING,
            "on_reconnect, attempt {attempt}: a delay of {delay:?} is outside of [{low:?}, {high:?}]",
        );
        let lost_at = self.lost_at.unwrap_or_else(Instant::now);
        self.not_before = Some((lost_at + delay).checked_sub(ROUNDING).unwrap_or(lost_at));
        self.reconnects.push_back(attempt);
        Ok(())
    }

    /// Judges when it called again.
    pub(crate) fn calls(&mut self, at: Instant) -> Result<()> {
        if let Some(not_before) = self.not_before.take() {
            ensure!(
                at >= not_before,
                "it called {:?} before the delay that it reported was over",
                not_before - at,
            );
        }
        Ok(())
    }

    /// Whether the event is done with this report, as the table says.
    pub(crate) fn is_done(&mut self, did: &Did) -> Option<i64> {
        match *did {
            Did::Handled { id } => Some(id),
            Did::DeadLetter { id } => {
                self.dead_letters.push(id);
                let calls = self.dead_letters.iter().filter(|other| **other == id);
                let failing = self.spec.handling(id).map_or(0, |how| how.dead_letter_fail);
                (calls.count() > failing as usize).then_some(id)
            }
            _ => None,
        }
    }

    /// Whether an event's handler must wait for `release`.
    pub(crate) fn waits_for(&self, event: i64) -> bool {
        self.spec.handling(event).is_some_and(|how| how.wait)
    }

    pub(crate) fn is_reliable(&self) -> bool {
        self.spec.kind == case::Kind::Reliable
    }
}
