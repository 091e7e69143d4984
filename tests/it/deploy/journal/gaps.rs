//! How long a receiver got nothing.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::Journal;

/// How long nothing came, at worst.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gaps {
    /// Between two events.
    pub silence: Duration,
    /// Between the answer to whoever added an event, and its delivery.
    pub delay: Duration,
}

impl Journal {
    /// The longest time without an event while `answers` came, and from an
    /// answer to its event.
    pub fn gaps(&self, answers: &[(i64, Instant)]) -> Gaps {
        let handled = self.handled.lock().expect("no panic");
        let (Some(&(_, begun)), Some(&(_, ended))) = (answers.first(), answers.last()) else {
            return Gaps::default();
        };
        let times = handled.iter().map(|&(_, time)| time);
        let mut times: Vec<_> = times.filter(|time| (begun..ended).contains(time)).collect();
        times.push(ended);
        let silences = times.windows(2).map(|pair| pair[1] - pair[0]);
        let mut first: HashMap<i64, Instant> = HashMap::new();
        for &(id, time) in &*handled {
            first.entry(id).or_insert(time);
        }
        let delays = answers
            .iter()
            .map(|(id, answered)| first[id].saturating_duration_since(*answered));
        Gaps {
            silence: silences.max().unwrap_or_default(),
            delay: delays.max().unwrap_or_default(),
        }
    }
}
