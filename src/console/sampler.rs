//! The task that fills the history, from memory alone while nobody looks.
//!
//! What subscribers and scrapes make known is taken as it comes. While somebody
//! looks, the console listens itself, and sees to it that the consumers are
//! looked at once in a slot.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{event::Moment, limits};

pub(super) async fn run(shared: &Shared, stopping: &CancellationToken) {
    let sampling = async {
        let mut observer = shared.stream.observer();
        let mut lags_at: Option<Instant> = None;
        loop {
            let attended = shared.attention.is_there();
            observer.listen(attended);
            if attended {
                tokio::time::sleep(limits::HISTORY_LOOK).await;
            } else {
                shared.attention.wait(limits::HISTORY_LOOK).await;
            }
            let seen = observer.look();
            if seen.lags.is_some() {
                lags_at = Some(Instant::now());
            }
            shared.history().note(Moment::now(), seen);
            if attended && lags_at.is_none_or(|at| at.elapsed() >= limits::HISTORY_SLOT) {
                // A database that is away shows on the page by itself.
                let _ = shared.glance().await;
            }
        }
    };
    // Nothing is lost with it.
    let _: Option<()> = stopping.run_until_cancelled(sampling).await;
}
