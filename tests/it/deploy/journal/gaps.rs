//! How long a receiver got nothing while events were added, and how late they
//! came. It is what an application sees: the time that whoever adds needs to find
//! another replica is in it, and so are the receiver's own pauses before it
//! connects again, and waits for a processor.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::Journal;

/// What the replacements of a run cost one receiver.
pub struct Gaps {
    /// The longest time without an event after each replacement began, up to
    /// the next one; the shortest first.
    pub silences: Vec<Duration>,
    /// Between the answer to whoever added an event, and its delivery, at worst.
    pub delay: Duration,
}

impl Gaps {
    pub fn median(&self) -> Duration {
        self.silences[self.silences.len() / 2]
    }

    pub fn longest(&self) -> Duration {
        *self.silences.last().expect("something was replaced")
    }
}

impl Journal {
    /// Of a run whose events were answered so, and whose replacements began at
    /// these times. What was silent before the first counts for the first.
    pub fn gaps(&self, answers: &[(i64, Instant)], replaced: &[Instant]) -> Gaps {
        let handled = self.handled.lock().expect("no panic");
        let (begun, ended) = match answers {
            [(_, begun), .., (_, ended)] => (*begun, *ended),
            _ => panic!("events were added"),
        };
        let times = handled.iter().map(|&(_, time)| time);
        let within = times.filter(|time| (begun..ended).contains(time));
        let times: Vec<_> = [begun].into_iter().chain(within).chain([ended]).collect();
        let mut silences = vec![Duration::ZERO; replaced.len()];
        for pair in times.windows(2) {
            let number = replaced.partition_point(|time| *time <= pair[0]);
            let longest = &mut silences[number.saturating_sub(1)];
            *longest = (pair[1] - pair[0]).max(*longest);
        }
        silences.sort();
        let mut first: HashMap<i64, Instant> = HashMap::new();
        for &(id, time) in &*handled {
            first.entry(id).or_insert(time);
        }
        let delays = answers
            .iter()
            .map(|(id, answered)| first[id].saturating_duration_since(*answered));
        Gaps {
            silences,
            delay: delays.max().unwrap_or_default(),
        }
    }
}
