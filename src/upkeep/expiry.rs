//! Expiry: consumers that show no life are named, then unregistered.
//!
//! One that is gone for good would hold all events for ever. Off unless there
//! are rules. An open session, a poll and an acknowledgement are signs of life
//! (`last_time`, which the original keeps too). Whether there was one is asked
//! again in the statement that removes the consumer. The archiver never goes.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;

use super::{Chore, Failure, Next};
use crate::{
    event::{ConsumerKey, Pattern},
    limits,
    store::{Expired, Expiry, Fence, Task},
    stream::{ConsumerState, EventStream},
    telemetry,
};

/// What happens to consumers whose name matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryRule {
    /// Names, `{user}:{component}`; `*` is any text.
    pub pattern: Pattern,
    /// Named in the log and in a metric after this long without life.
    pub warn: Option<Duration>,
    /// Unregistered after this long.
    pub unregister: Option<Duration>,
}

/// The chore.
#[derive(Debug)]
pub struct Expirer {
    stream: EventStream,
    rules: Vec<ExpiryRule>,
    /// Named already; not again before they show life.
    warned: HashSet<ConsumerKey>,
}

/// What is due for one consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Warning,
    Removal(Duration),
}

impl Expirer {
    /// For one stream; the first rule that matches decides.
    #[must_use]
    pub fn new(stream: EventStream, rules: Vec<ExpiryRule>) -> Self {
        Self {
            stream,
            rules,
            warned: HashSet::new(),
        }
    }

    /// Often enough that a rule is late by a tenth of its time at most.
    fn period(&self) -> Duration {
        let times = self
            .rules
            .iter()
            .flat_map(|rule| [rule.warn, rule.unregister]);
        let shortest = times.flatten().min().unwrap_or(limits::EXPIRY_LOOK);
        (shortest / 10).clamp(limits::EXPIRY_LOOK_SHORTEST, limits::EXPIRY_LOOK)
    }

    fn due(&self, state: &ConsumerState) -> (Duration, Due) {
        let consumer = &state.consumer;
        let ident = consumer.key.ident();
        let silent = consumer
            .last_time
            .filter(|_| consumer.session.is_none() && ident != ConsumerKey::ARCHIVER)
            .map_or(Duration::ZERO, |last| last.until(consumer.now));
        let due = match self.rules.iter().find(|rule| rule.pattern.matches(&ident)) {
            Some(rule) => match rule.unregister {
                Some(after) if silent > after => Due::Removal(after),
                _ if rule.warn.is_some_and(|after| silent > after) => Due::Warning,
                _ => Due::Nothing,
            },
            None => Due::Nothing,
        };
        (silent, due)
    }

    async fn look_at(&mut self, state: &ConsumerState, fence: Fence) -> Result<bool, Failure> {
        let key = &state.consumer.key;
        let (silent, due) = self.due(state);
        match due {
            Due::Nothing => {
                self.warned.remove(key);
            }
            Due::Warning => {
                if self.warned.insert(key.clone()) {
                    tracing::warn!(consumer = %key, ?silent, held_ids = state.lag_ids,
                        "consumer shows no life");
                }
            }
            Due::Removal(after) => {
                let expiry = Expiry {
                    fence,
                    key,
                    silent: after,
                };
                match self.stream.expire(&expiry).await? {
                    Expired::Fenced => return Err(Failure::Fenced),
                    Expired::Kept => {}
                    Expired::Removed => {
                        self.warned.remove(key);
                        metrics::counter!(telemetry::CONSUMERS_EXPIRED).increment(1);
                        tracing::warn!(consumer = %key, ?silent, position = %state.consumer.position,
                            held_ids = state.lag_ids, "consumer unregistered, it showed no life");
                    }
                }
            }
        }
        Ok(due == Due::Warning)
    }
}

#[async_trait]
impl Chore for Expirer {
    fn task(&self) -> Task {
        Task::Expire
    }

    async fn tick(&mut self, fence: Fence) -> Result<Next, Failure> {
        let consumers = self.stream.all_consumers().await?;
        let mut silent = 0;
        for state in &consumers {
            silent += u32::from(self.look_at(state, fence).await?);
        }
        metrics::gauge!(telemetry::CONSUMERS_SILENT).set(f64::from(silent));
        let known: HashSet<_> = consumers.iter().map(|state| &state.consumer.key).collect();
        self.warned.retain(|key| known.contains(key));
        Ok(Next::After(self.period()))
    }
}
