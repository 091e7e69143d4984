//! Upkeep: what must be done in one replica at a time, and the one driver of it.
//!
//! A [`Chore`] does a bounded piece of work at each tick and says when to come
//! back. The driver ticks it while this replica holds the task's lease, retries
//! what failed, and stops at the end of a tick. A chore that is switched off
//! has no driver, and so costs no query.

mod archiver;
mod discarder;
mod expiry;
mod lease;

use std::time::Duration;

use async_trait::async_trait;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use self::lease::Keeper;
pub use self::{
    archiver::{Archiver, BatchLimits as ArchiveLimits},
    discarder::{Discarder, Discarding},
    expiry::{Expirer, ExpiryRule},
};
use crate::{
    error::Error,
    lifecycle::Tasks,
    store::{Claim, Fence, Task},
    stream::{EventStream, jittered},
    telemetry,
};

/// Work that one replica does at a time, in bounded pieces.
#[async_trait]
pub trait Chore: Send + 'static {
    /// Whose lease it needs.
    fn task(&self) -> Task;

    /// Does a piece of work. All that it writes carries `fence`, because
    /// another replica may have the lease by now; a fence that differs from the
    /// last tick's begins another tenure. Dropped when the lease is lost.
    async fn tick(&mut self, fence: Fence) -> Result<Next, Failure>;

    /// Ends early the wait that a tick has asked for.
    async fn wake(&mut self) {
        std::future::pending::<()>().await;
    }
}

/// When a chore is to be ticked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to do.
    Now,
    /// Later.
    After(Duration),
}

/// Why a tick failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A write was refused: another replica holds the lease by now.
    #[error("another replica holds the lease")]
    Fenced,
    /// It may work later.
    #[error("{0}")]
    Retry(String),
    /// Somebody must act; it is tried again all the same, rarely.
    #[error("{0}")]
    Stuck(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Retry(error.to_string())
    }
}

/// Pause after a failed tick, doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Starts a chore: from now on this replica does it whenever it holds the
/// lease, which is good for `lapse` after each renewal.
pub fn start(chore: impl Chore, stream: &EventStream, lapse: Duration, tasks: &Tasks) {
    let task = chore.task();
    metrics::counter!(telemetry::UPKEEP_ERRORS, "task" => task.as_str()).increment(0);
    let claim = Claim {
        task,
        holder: stream.replica(),
        lapse,
    };
    let (keeper, held) = Keeper::new(stream.clone(), claim);
    let driver = Driver {
        chore,
        held,
        pause: RETRY_FIRST,
    };
    let stopping = tasks.stopping();
    tasks.spawn(task.as_str(), async move {
        // The driver's end lets go of the lease.
        tokio::join!(keeper.keep(), driver.run(stopping));
        Ok(())
    });
}

struct Driver<C> {
    chore: C,
    held: watch::Receiver<Option<Fence>>,
    pause: Duration,
}

impl<C: Chore> Driver<C> {
    async fn run(mut self, stopping: CancellationToken) {
        while let Some(Ok(fence)) = stopping.run_until_cancelled(tenure(&mut self.held)).await {
            self.serve(fence, &stopping).await;
        }
    }

    /// One tenure. A tick is never cut by the end of the process, only by the
    /// loss of the lease.
    async fn serve(&mut self, fence: Fence, stopping: &CancellationToken) {
        while !stopping.is_cancelled() {
            let mut held = self.held.clone();
            let outcome = tokio::select! {
                biased;
                () = lost(&mut held, fence) => return,
                outcome = self.chore.tick(fence) => outcome,
            };
            let well = outcome.is_ok();
            let wait = self.pause_after(outcome);
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = lost(&mut held, fence) => return,
                () = sleep(wait) => {}
                () = self.chore.wake(), if well => {}
            }
        }
    }

    fn pause_after(&mut self, outcome: Result<Next, Failure>) -> Duration {
        let failure = match outcome {
            Ok(next) => {
                self.pause = RETRY_FIRST;
                return match next {
                    Next::Now => Duration::ZERO,
                    Next::After(wait) => wait,
                };
            }
            Err(failure) => failure,
        };
        let task = self.chore.task();
        metrics::counter!(telemetry::UPKEEP_ERRORS, "task" => task.as_str()).increment(1);
        match &failure {
            // The keeper will see it at its next renewal.
            Failure::Fenced => tracing::warn!(%task, "{failure}"),
            Failure::Retry(_) => tracing::warn!(%task, %failure, "will be tried again"),
            Failure::Stuck(_) => {
                tracing::error!(%task, %failure, "somebody must act");
                self.pause = RETRY_LONGEST;
            }
        }
        let pause = jittered(self.pause);
        self.pause = (self.pause * 2).min(RETRY_LONGEST);
        pause
    }
}

/// Waits for the lease.
async fn tenure(
    held: &mut watch::Receiver<Option<Fence>>,
) -> Result<Fence, watch::error::RecvError> {
    let fence = *held.wait_for(Option::is_some).await?;
    Ok(fence.expect("just seen"))
}

/// Waits until the lease is not held any more under this fence.
async fn lost(held: &mut watch::Receiver<Option<Fence>>, fence: Fence) {
    let _ = held.wait_for(|now| *now != Some(fence)).await;
}
