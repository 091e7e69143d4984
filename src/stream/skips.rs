//! Skips: an operator lets the frontier pass ids whose transaction cannot be
//! ended. The decision is a row in the database, which every replica obeys when
//! its own frontier waits; nothing is read while it does not.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    EventStream,
    dead::Cause,
    sentinel::{Sentinel, count, named_ranges},
};
use crate::{
    error::Error,
    event::{EventId, User},
    limits,
    store::{self, Blocker, IdRange, Skip, Store},
    telemetry,
};

/// The decisions that the tailer knows.
pub(super) struct Skips {
    store: Arc<dyn Store>,
    sentinel: Arc<Sentinel>,
    /// The one that reaches highest.
    highest: Option<Skip>,
    last_look: Option<Instant>,
}

impl Skips {
    pub(super) fn new(store: Arc<dyn Store>, sentinel: Arc<Sentinel>) -> Self {
        Self {
            store,
            sentinel,
            highest: None,
            last_look: None,
        }
    }

    /// Reads the decisions: first when anything is read at all, then while the
    /// frontier waits, at an interval or when one was just made here.
    pub(super) async fn look(
        &mut self,
        frontier: EventId,
        waits: bool,
        asked: bool,
    ) -> Result<(), store::Error> {
        let due = self
            .last_look
            .is_none_or(|last| asked || waits && last.elapsed() >= limits::SKIP_LOOK);
        if !due {
            return Ok(());
        }
        let skips = self.store.skips().await?;
        if self.last_look.is_none() {
            // Obeyed by another process, or before a restart: what they gave up
            // may still be in an open transaction.
            for skip in skips.iter().filter(|skip| skip.to <= frontier) {
                self.sentinel.passed(skip.from, skip.to, Cause::Skipped);
            }
        }
        self.last_look = Some(Instant::now());
        self.highest = skips.into_iter().next();
        Ok(())
    }

    /// Where a skip asks the frontier to be, if that is above where it is. Ids
    /// that were not given out are none of its business: they went back.
    pub(super) fn pending(&self, frontier: EventId, head: EventId) -> Option<EventId> {
        let to = self.highest.as_ref()?.to;
        (to > frontier && to <= head).then_some(to)
    }

    /// The frontier has passed these ids because of the skip.
    pub(super) fn obeyed(&self, frontier: EventId, given_up: Vec<IdRange>) {
        let Some(skip) = &self.highest else { return };
        let lost: u64 = given_up.iter().map(count).sum();
        metrics::counter!(telemetry::IDS_SKIPPED).increment(lost);
        if frontier >= skip.to {
            metrics::counter!(telemetry::SKIPS_OBEYED).increment(1);
        }
        tracing::error!(to = %skip.to, %frontier, given_up = named_ranges(&given_up), count = lost,
            who = skip.who, reason = skip.reason,
            "an operator's skip lets the frontier pass ids that may still appear; events with \
             these ids are lost");
        self.sentinel.bury(given_up, Cause::Skipped);
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.highest = None;
        self.last_look = None;
    }
}

/// What a skip has done.
#[derive(Debug, Clone)]
pub struct Skipped {
    /// The frontier before.
    pub before: EventId,
    /// The frontier after, here; other replicas follow within a second or two
    /// of somebody listening or asking there.
    pub after: EventId,
    /// Transactions that were open.
    pub blockers: Vec<Blocker>,
}

impl EventStream {
    /// Lets the frontier pass every id up to `to`, for ever and in every
    /// replica. Events up to there that are not visible yet are lost.
    ///
    /// # Errors
    /// [`Error::InvalidField`] unless `to` is above the frontier and was given out.
    pub async fn skip_frontier(
        &self,
        user: &User,
        to: EventId,
        reason: String,
    ) -> Result<Skipped, Error> {
        let engine = &self.engine;
        let failed = |error| engine.tailer.failed(error);
        let _listening = engine.tailer.listen();
        let mut tip = engine.hub.watch();
        engine.tailer.prove().await?;
        let before = engine.hub.tip().frontier;
        // Not the highest visible id, which an application may have chosen: ids
        // that were not given out yet cannot be given up.
        let head = engine.store.bounds().await.map_err(failed)?.head;
        check_skip(to, before, head)?;
        let blockers = engine.store.blockers().await.map_err(failed)?;
        let skip = Skip {
            from: before,
            to,
            who: user.as_str().to_owned(),
            reason,
        };
        engine.store.skip(&skip).await.map_err(failed)?;
        tracing::warn!(%to, frontier = %before, who = skip.who, reason = skip.reason,
            "skip of the frontier recorded");
        engine.tailer.skipped();
        engine.tailer.prove().await?;
        let passed = tip.wait_for(|tip| tip.frontier >= to);
        // It is recorded and will be obeyed, whatever is reported here.
        let _ = tokio::time::timeout(limits::PROVE_TIMEOUT, passed).await;
        Ok(Skipped {
            before,
            after: engine.hub.tip().frontier,
            blockers,
        })
    }
}

fn check_skip(to: EventId, frontier: EventId, head: EventId) -> Result<(), Error> {
    let rule = if frontier >= head {
        format!("is not needed: nothing holds the frontier back, it is at the highest id {head}")
    } else if to <= frontier {
        format!("must be above the frontier {frontier}")
    } else if to > head {
        format!("must be at most the highest id {head} that was given out")
    } else {
        return Ok(());
    };
    Err(Error::invalid("to", rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_that_wait_can_be_skipped() {
        let id = EventId::stored;
        for (to, frontier, head, rule) in [
            (5, 5, 9, "must be above the frontier 5"),
            (10, 5, 9, "must be at most the highest id 9"),
            (9, 9, 9, "nothing holds the frontier back"),
        ] {
            let refusal = check_skip(id(to), id(frontier), id(head)).unwrap_err();
            assert!(refusal.to_string().contains(rule), "{refusal}");
        }
        assert_eq!(check_skip(id(9), id(5), id(9)), Ok(()));
    }
}
