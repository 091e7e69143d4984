//! The tailer: the one task that moves the frontier and feeds the hub.
//!
//! It follows the tail while somebody listens: woken at once by the writer,
//! and by an adaptive poll for other applications' commits. When nobody
//! listens it rests, and proves the frontier on demand without reading events.
//! After a loss of the database it forgets everything proven, opens the
//! database anew and proves again (ARCHITECTURE, rule 5).

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use rand::Rng as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    dead::Cause,
    frontier::Frontier,
    hub::Hub,
    sentinel::Sentinel,
    skips::Skips,
    stall::{self, Notice, Stall},
    tailer_handle::{DatabaseState, Proven, TailerHandle},
};
use crate::{
    event::EventId,
    store::{self, Effect, Proof, Store, Tail},
    telemetry,
};

/// How often the tail is looked at for other applications' commits.
#[derive(Debug, Clone, Copy)]
pub struct PollIntervals {
    /// While an event came in the last second.
    pub active: Duration,
    /// While one came in the last minute.
    pub recent: Duration,
    /// Later.
    pub idle: Duration,
}

impl PollIntervals {
    const ACTIVE_FOR: Duration = Duration::from_secs(1);
    const RECENT_FOR: Duration = Duration::from_mins(1);

    fn after_quiet(&self, quiet: Duration) -> Duration {
        match quiet {
            quiet if quiet < Self::ACTIVE_FOR => self.active,
            quiet if quiet < Self::RECENT_FOR => self.recent,
            _ => self.idle,
        }
    }
}

/// When the tailer does what.
#[derive(Debug, Clone, Copy)]
pub(super) struct TailerTiming {
    pub intervals: PollIntervals,
    /// A frontier that waits this long for the same id is called by its cause.
    pub gap_warn_after: Duration,
}

/// The task's own state.
pub(super) struct Tailer {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    handle: Arc<TailerHandle>,
    intervals: PollIntervals,
    tail: Box<dyn Tail>,
    tracker: Frontier,
    sentinel: Arc<Sentinel>,
    skips: Skips,
    stall: Stall,
    following: bool,
    last_event: Instant,
    last_save: Instant,
    saved: EventId,
}

/// The saved frontier may be this old: what a start has to prove again.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Pause after a failed look at the database, doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

impl Tailer {
    pub(super) fn new(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        handle: Arc<TailerHandle>,
        sentinel: Arc<Sentinel>,
        timing: TailerTiming,
    ) -> Self {
        let saved = hub.tip().frontier;
        Self {
            tail: store.tail(),
            skips: Skips::new(Arc::clone(&store), Arc::clone(&sentinel)),
            store,
            hub,
            handle,
            intervals: timing.intervals,
            sentinel,
            stall: Stall::new(timing.gap_warn_after),
            tracker: Frontier::new(saved),
            following: false,
            last_event: Instant::now(),
            last_save: Instant::now(),
            saved,
        }
    }

    pub(super) async fn run(mut self, stopping: CancellationToken) -> anyhow::Result<()> {
        let mut pause = RETRY_FIRST;
        loop {
            let listened_to = self.handle.is_listened_to();
            let interval = self.intervals.after_quiet(self.last_event.elapsed());
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                () = self.handle.wake.notified() => {}
                () = sleep(interval), if listened_to => {}
            }
            if self.round().await {
                pause = RETRY_FIRST;
                continue;
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                () = sleep(jittered(pause)) => {}
            }
            pause = (pause * 2).min(RETRY_LONGEST);
            // Try again without waiting for anybody to ask.
            self.handle.wake.notify_one();
        }
        self.save_frontier().await;
        Ok(())
    }

    /// One look at the database; false if it failed.
    async fn round(&mut self) -> bool {
        let ticket = self.handle.requested.load(Ordering::Acquire);
        let outcome = if self.handle.lost.swap(false, Ordering::AcqRel) {
            self.recover().await
        } else {
            self.look().await
        };
        let failed = outcome.is_err();
        if let Err(error) = outcome {
            let lost = matches!(error, store::Error::Lost { .. });
            let _ = self.handle.failed(error);
            if lost {
                self.forget();
            }
        }
        let state = if failed {
            DatabaseState::Away
        } else {
            DatabaseState::Working
        };
        self.handle
            .state
            .send_if_modified(|old| std::mem::replace(old, state) != state);
        let notice = (!failed).then(|| self.note_stall()).flatten();
        self.handle.proven.send_replace(Proven { ticket, failed });
        self.sentinel.stir();
        if let Some(notice) = notice {
            self.say(notice).await;
        }
        if !failed && self.last_save.elapsed() > SAVE_INTERVAL {
            self.save_frontier().await;
        }
        !failed
    }

    async fn look(&mut self) -> Result<(), store::Error> {
        metrics::counter!(telemetry::TAIL_READS).increment(1);
        let listened_to = self.handle.is_listened_to();
        if !(self.following && listened_to) {
            let proof = self.jump().await?;
            // Nothing is read that can be proven without.
            self.following = listened_to && !proof.more;
            if proof.more {
                self.handle.wake.notify_one();
            }
        }
        self.look_for_skips().await?;
        if self.following {
            self.follow().await?;
        }
        self.obey_skip().await
    }

    async fn look_for_skips(&mut self) -> Result<(), store::Error> {
        let asked = self.handle.skipped.swap(false, Ordering::AcqRel);
        let tip = self.hub.tip();
        let waits = tip.frontier < tip.head;
        self.skips.look(tip.frontier, waits, asked).await
    }

    /// Reads what a skip passes, so that what is visible is delivered in order
    /// and what is given up is known. A full buffer needs several rounds.
    async fn obey_skip(&mut self) -> Result<(), store::Error> {
        let reached = |tailer: &Self| (tailer.tracker.settled(), tailer.tracker.scanned());
        loop {
            let before = reached(self);
            let head = self.hub.tip().head;
            if self.skips.pending(before.0, head).is_none() {
                return Ok(());
            }
            self.follow().await?;
            if before == reached(self) {
                return Ok(());
            }
        }
    }

    /// Moves the frontier without reading what nobody follows.
    async fn jump(&mut self) -> Result<Proof, store::Error> {
        let known = self.hub.tip().frontier;
        let proof = self.tail.frontier(known).await?;
        self.check_head(proof.head)?;
        if proof.frontier > known {
            self.last_event = Instant::now();
        }
        self.hub.jump(proof.frontier.max(known), proof.head);
        self.tracker = Frontier::new(proof.frontier.max(known));
        self.sentinel.passed(known, proof.frontier, Cause::Proven);
        Ok(proof)
    }

    /// Publishes everything that is settled by now.
    async fn follow(&mut self) -> Result<(), store::Error> {
        loop {
            let (scanned, gaps) = (self.tracker.scanned(), self.tracker.gaps());
            let full = self.tracker.is_full();
            let read = if full {
                self.tail.recheck(scanned, gaps).await?
            } else {
                self.tail.read(scanned, gaps).await?
            };
            let (head, more) = (read.head, read.more);
            self.check_head(head)?;
            let mut events = self.tracker.take(read);
            self.sentinel.bury(self.tracker.take_dead(), Cause::Proven);
            if !more && let Some(to) = self.skips.pending(self.tracker.settled(), head) {
                // All that is visible was read, above the buffer if it had room.
                let read_to = if full { self.tracker.scanned() } else { to };
                let (passed, given_up) = self.tracker.skip(to.min(read_to));
                events.extend(passed);
                self.skips.obeyed(self.tracker.settled(), given_up);
            }
            if !events.is_empty() {
                self.last_event = Instant::now();
            }
            self.hub.publish(events, self.tracker.settled(), head);
            if !more {
                return Ok(());
            }
        }
    }

    /// Ids that were given out do not vanish, unless the database was restored.
    fn check_head(&self, head: EventId) -> Result<(), store::Error> {
        let known = self.hub.tip().frontier;
        if head >= known {
            return Ok(());
        }
        Err(store::Error::Lost {
            effect: Effect::None,
            cause: format!("the highest id went back from {known} to {head}"),
        })
    }

    /// Opens the database anew and continues from what it holds.
    async fn recover(&mut self) -> Result<(), store::Error> {
        let known = self.forget();
        let outcome = async {
            self.store.reconnect().await?;
            self.store.audit(known).await
        };
        let audit = outcome
            .await
            .inspect_err(|_| self.handle.lost.store(true, Ordering::Release))?;
        metrics::counter!(telemetry::DATABASE_RECONNECTS).increment(1);
        tracing::warn!(frontier = %audit.frontier, head = %audit.head, "database opened anew");
        self.handle.note_audit(&audit);
        if audit.lost_above_head.is_some() {
            self.sentinel.forget();
        }
        self.skips.forget();
        self.tail = self.store.tail();
        self.tracker = Frontier::new(audit.frontier);
        self.hub.forget(audit.frontier);
        self.saved = audit.frontier;
        self.jump().await.map(drop)
    }

    /// Ends whoever reads; returns the frontier that was known.
    fn forget(&mut self) -> EventId {
        let known = self.hub.tip().frontier;
        self.following = false;
        self.hub.forget(known);
        known
    }

    /// Notes whether the frontier waits, before whoever asked is answered.
    fn note_stall(&mut self) -> Option<Notice> {
        let tip = self.hub.tip();
        let waits_for = (tip.frontier < tip.head).then(|| tip.frontier.next());
        let notice = self.stall.note(Instant::now(), waits_for);
        let held = &self.handle.held;
        *held.lock().unwrap_or_else(PoisonError::into_inner) = self.stall.held();
        notice
    }

    /// Says who keeps the frontier waiting, and that it goes on. (`&mut`, for a
    /// tail cannot be shared.)
    async fn say(&mut self, notice: Notice) {
        match notice {
            Notice::GoesOn(id, after) => tracing::info!(%id, ?after, "the frontier goes on"),
            Notice::Waits(id, waited) if self.following => match self.store.blockers().await {
                Ok(blockers) => stall::warn(id, waited, &blockers),
                Err(error) => drop(self.handle.failed(error)),
            },
            Notice::Waits(..) => {}
        }
    }

    async fn save_frontier(&mut self) {
        self.last_save = Instant::now();
        let frontier = self.hub.tip().frontier;
        if frontier == self.saved {
            return;
        }
        match self.store.advance(frontier, &[]).await {
            Ok(_) => self.saved = frontier,
            // Only costs proving it again after a start.
            Err(error) => drop(self.handle.failed(error)),
        }
    }
}

/// Half to all of `pause`, so that replicas do not retry in step.
#[must_use]
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}
