//! The task that fills the history, from memory alone.
//!
//! What subscribers, scrapes and the page's own questions make known is taken as
//! it comes. While somebody looks, the console listens itself.

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{event::Moment, limits, stream::Observer};

pub(super) async fn run(shared: &Shared, mut observer: Observer, stopping: &CancellationToken) {
    let sampling = async {
        loop {
            let attended = shared.attention.is_there();
            observer.listen(attended);
            if attended {
                tokio::time::sleep(limits::HISTORY_LOOK).await;
            } else {
                shared.attention.wait(limits::HISTORY_LOOK).await;
            }
            let seen = observer.look();
            shared.history().note(Moment::now(), seen);
        }
    };
    // Nothing is lost with it.
    let _: Option<()> = stopping.run_until_cancelled(sampling).await;
}
