//! The discarder: deletes settled events that every registered consumer has.
//!
//! What may go is decided in the deleting transaction, by the positions that
//! it sees (`Store::discard`); here is only when, and how much at a time. A
//! batch is small, so that nobody waits for it noticeably: it shrinks when it
//! fails or takes long, and grows again.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Chore, Failure, Next};
use crate::{
    limits,
    store::{Discard, Discarded, Fence, Hold, Task},
    stream::EventStream,
    telemetry,
};

/// How the discarder works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discarding {
    /// A run at least this often.
    pub poll_period: Duration,
    /// Rows of one batch at most.
    pub limit_at_once: usize,
    /// Between two batches, at least.
    pub pause: Duration,
    /// A run before its time when so many ids can go; 0: never.
    pub threshold: i64,
    /// Younger events stay.
    pub min_age: Duration,
    /// Whether the archiver must be there before anything goes.
    pub archiving: bool,
}

/// The chore.
#[derive(Debug)]
pub struct Discarder {
    stream: EventStream,
    settings: Discarding,
    tenure: Option<Fence>,
    /// When the next run begins.
    due: Instant,
    run: Option<Run>,
    /// Rows of the next batch.
    rows: usize,
    hold: Option<Hold>,
}

/// A run: batches until nothing is left.
#[derive(Debug, Clone, Copy)]
struct Run {
    begun: Instant,
    events: u64,
}

impl Discarder {
    /// For one stream.
    #[must_use]
    pub fn new(stream: EventStream, settings: Discarding) -> Self {
        Self {
            stream,
            settings,
            tenure: None,
            due: Instant::now(),
            run: None,
            rows: settings.limit_at_once,
            hold: None,
        }
    }

    /// Whether a run shall begin now; if not, when to look again.
    async fn look(&mut self) -> Result<Option<Next>, Failure> {
        let now = Instant::now();
        let until_due = self.due.saturating_duration_since(now);
        let watched = self.settings.threshold > 0;
        if !watched && !until_due.is_zero() {
            return Ok(Some(Next::After(until_due)));
        }
        if until_due.is_zero() {
            self.stream.save_frontier().await?;
        }
        let found = self.stream.discardable(self.settings.archiving).await?;
        self.note_hold(found.hold);
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        metrics::gauge!(telemetry::DISCARDABLE_IDS).set(found.ids as f64);
        let plenty = watched && found.ids >= self.settings.threshold;
        if until_due.is_zero() || plenty {
            self.run = Some(Run {
                begun: now,
                events: 0,
            });
            return Ok(None);
        }
        Ok(Some(Next::After(until_due.min(limits::DISCARD_LOOK))))
    }

    fn note_hold(&mut self, hold: Option<Hold>) {
        if let Some(why) = hold.filter(|_| hold != self.hold) {
            tracing::info!(%why, "nothing is discarded");
        }
        self.hold = hold;
    }

    async fn batch(&mut self, fence: Fence) -> Result<Next, Failure> {
        let batch = Discard {
            fence,
            rows: self.rows,
            min_age: self.settings.min_age,
            archiving: self.settings.archiving,
        };
        let begun = Instant::now();
        let discarded = self.stream.discard(&batch).await;
        let took = begun.elapsed();
        self.resize(discarded.is_ok() && took < limits::DISCARD_BATCH_TIME);
        match discarded? {
            Discarded::Fenced => Err(Failure::Fenced),
            Discarded::Gone {
                events,
                discarded_to,
                more,
            } => {
                metrics::counter!(telemetry::DISCARDED_EVENTS).increment(events);
                let run = self.run.get_or_insert(Run { begun, events: 0 });
                run.events += events;
                if more {
                    // At most half of the time.
                    return Ok(Next::After(self.settings.pause.max(took)));
                }
                let run = *run;
                self.run = None;
                self.due = Instant::now() + self.settings.poll_period;
                if run.events > 0 {
                    tracing::info!(events = run.events, %discarded_to,
                        elapsed = ?run.begun.elapsed(), "discarded");
                }
                Ok(Next::Now)
            }
        }
    }

    fn resize(&mut self, easy: bool) {
        self.rows = if easy {
            (self.rows * 2).min(self.settings.limit_at_once)
        } else {
            (self.rows / 2).max(1)
        };
    }
}

#[async_trait]
impl Chore for Discarder {
    fn task(&self) -> Task {
        Task::Discard
    }

    async fn tick(&mut self, fence: Fence) -> Result<Next, Failure> {
        if self.tenure.replace(fence) != Some(fence) {
            self.due = Instant::now();
            self.run = None;
        }
        if self.run.is_none()
            && let Some(later) = self.look().await?
        {
            return Ok(later);
        }
        self.batch(fence).await
    }
}
