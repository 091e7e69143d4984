//! The lease of one task: claimed, renewed while its task is done, given back.
//!
//! Who holds it is decided in the database, by the database's clock. What is
//! known here may be late (this process may have been stopped), so nothing
//! relies on it: every write of a task carries the fence in its SQL.

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    error::Error,
    store::{Claim, Claimed, Fence},
    stream::{EventStream, jittered},
    telemetry,
};

/// Two lost renewals must not end a tenure.
const BEATS_PER_LAPSE: u32 = 3;

/// Keeps one lease for as long as anybody looks at it.
pub(super) struct Keeper {
    stream: EventStream,
    claim: Claim,
    held: watch::Sender<Option<Fence>>,
    renewed: Instant,
}

impl Keeper {
    /// And where to see whether the lease is held.
    pub(super) fn new(stream: EventStream, claim: Claim) -> (Self, watch::Receiver<Option<Fence>>) {
        let (held, seen) = watch::channel(None);
        let keeper = Self {
            stream,
            claim,
            held,
            renewed: Instant::now(),
        };
        (keeper, seen)
    }

    /// Until nobody looks any more; then the lease is given back.
    pub(super) async fn keep(mut self) {
        self.show(false);
        loop {
            let claimed = self.stream.claim(&self.claim).await;
            self.note(claimed);
            let beat = self.claim.lapse / BEATS_PER_LAPSE;
            tokio::select! {
                biased;
                () = self.held.closed() => break,
                // Replicas that started together need not ask together.
                () = sleep(jittered(beat)) => {}
            }
        }
        let held = *self.held.borrow();
        if let Some(fence) = held {
            self.set(None);
            // It lapses by itself if this fails.
            let _ = self.stream.release(fence).await;
        }
    }

    fn note(&mut self, claimed: Result<Claimed, Error>) {
        match claimed {
            Ok(Claimed::Held(fence)) => {
                self.renewed = Instant::now();
                self.set(Some(fence));
            }
            Ok(Claimed::Taken(holder)) => {
                tracing::debug!(task = %self.claim.task, holder, "another replica does it");
                self.set(None);
            }
            // Renewed too long ago for it to be still ours.
            Err(_) if self.renewed.elapsed() >= self.claim.lapse => self.set(None),
            Err(_) => {}
        }
    }

    fn set(&self, now: Option<Fence>) {
        let task = self.claim.task;
        let before = self.held.send_replace(now);
        if before == now {
            return;
        }
        if let Some(fence) = now {
            tracing::info!(%task, fence = fence.number(), "lease taken");
        } else {
            tracing::info!(%task, "lease ended");
        }
        self.show(now.is_some());
    }

    fn show(&self, held: bool) {
        let task = self.claim.task.as_str();
        metrics::gauge!(telemetry::UPKEEP_LEASE, "task" => task).set(f64::from(u8::from(held)));
    }
}
