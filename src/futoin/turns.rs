//! Whose turn a consumer is (ARCHITECTURE, rule 12).
//!
//! A receiver that loses its consumer comes back at once and without end. If it
//! took the consumer over again, so would the other one. So after a take-over
//! newcomers stand by for a while: they get the consumer when it is free.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

use crate::{event::ConsumerKey, limits, stream::Conflict};

/// When consumers were last taken over from receivers of this process.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<ConsumerKey, Instant>>);

impl Turns {
    /// A receiver of this process has lost the consumer to another one.
    pub(super) fn note_loss(&self, key: &ConsumerKey) {
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.retain(|_, at| at.elapsed() < limits::TAKEOVER_PAUSE);
        lost.insert(key.clone(), Instant::now());
    }

    /// What the next receiver is to do.
    pub(super) fn conflict(&self, key: &ConsumerKey) -> Conflict {
        let lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match lost.get(key) {
            Some(at) if at.elapsed() < limits::TAKEOVER_PAUSE => Conflict::StandBy,
            _ => Conflict::TakeOver,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_lost_it_stands_by_for_a_while() {
        let turns = Turns::default();
        let key = ConsumerKey::from_ident("u:SHOP").expect("valid");
        let other = ConsumerKey::from_ident("u:CART").expect("valid");
        assert_eq!(turns.conflict(&key), Conflict::TakeOver);
        turns.note_loss(&key);
        assert_eq!(turns.conflict(&key), Conflict::StandBy);
        assert_eq!(turns.conflict(&other), Conflict::TakeOver);
        tokio::time::advance(limits::TAKEOVER_PAUSE).await;
        assert_eq!(turns.conflict(&key), Conflict::TakeOver);
    }
}
