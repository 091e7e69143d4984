//! What this process sees of the stream anyway, for whoever draws its course.
//!
//! An observer asks the database nothing: it reads the hub, what the tailer has
//! proven, and how the last look at the consumers found them. Events are in the
//! hub only while somebody listens; an observer that is to see them without
//! anybody else must listen itself, which costs what a subscriber costs.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    ConsumerState, EventStream,
    hub::{Follow, Tip},
    segment::Segment,
    tailer_handle::{Listening, Proven},
};
use crate::{
    event::{ConsumerKey, EventId},
    limits,
};

/// How far consumers are behind, those that are furthest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lags {
    /// The furthest first, at most [`limits::OBSERVED_CONSUMERS`].
    pub furthest: Arc<[Lag]>,
}

/// How far one consumer is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// Which one.
    pub key: ConsumerKey,
    /// Settled ids above its position.
    pub ids: i64,
    /// Age of the oldest settled event that it has not got.
    pub age: Option<Duration>,
}

impl Lags {
    pub(super) fn of(consumers: &[ConsumerState]) -> Self {
        let mut furthest: Vec<_> = consumers.iter().collect();
        furthest.sort_by_key(|state| Reverse(state.lag_ids));
        furthest.truncate(limits::OBSERVED_CONSUMERS);
        let lag = |state: &ConsumerState| Lag {
            key: state.consumer.key.clone(),
            ids: state.lag_ids,
            age: state.lag_age,
        };
        Self {
            furthest: furthest.into_iter().map(lag).collect(),
        }
    }
}

/// What was seen since the look before.
#[derive(Debug)]
pub struct Seen {
    /// Settled events, as runs in id order.
    pub segments: Vec<Arc<Segment>>,
    /// Events that had left the ring before this look.
    pub missed: u64,
    /// Whether somebody listened all the while: what is not seen did not happen.
    pub complete: bool,
    /// The end of the stream, if it was proven anew.
    pub tip: Option<Tip>,
    /// The consumers, if they were looked at.
    pub lags: Option<Lags>,
}

/// See [`EventStream::observer`].
#[derive(Debug)]
pub struct Observer {
    stream: EventStream,
    cursor: EventId,
    /// Events of the ring passed so far.
    passed: u64,
    generation: u64,
    /// Whether somebody listened at the last look.
    followed: bool,
    proven: watch::Receiver<Proven>,
    lags: watch::Receiver<Option<Lags>>,
    listening: Option<Listening>,
}

impl EventStream {
    /// Observes the stream from now on.
    #[must_use]
    pub fn observer(&self) -> Observer {
        let engine = &self.engine;
        let tip = engine.hub.tip();
        Observer {
            stream: self.clone(),
            cursor: tip.frontier,
            passed: engine.hub.published(),
            generation: tip.generation,
            followed: false,
            proven: engine.tailer.proven.subscribe(),
            lags: engine.lags.subscribe(),
            listening: None,
        }
    }
}

impl Observer {
    /// Makes the tailer follow, or leaves that to subscribers.
    pub fn listen(&mut self, on: bool) {
        if on == self.listening.is_some() {
            return;
        }
        self.listening = on.then(|| self.stream.engine.tailer.listen());
    }

    /// What happened since the last call.
    pub fn look(&mut self) -> Seen {
        let engine = Arc::clone(&self.stream.engine);
        let follows = engine.tailer.is_listened_to();
        let mut complete = self.followed && follows;
        self.followed = follows;
        let tip = engine.hub.tip();
        if tip.generation != self.generation {
            self.generation = tip.generation;
            self.cursor = tip.frontier;
            self.passed = engine.hub.published();
            complete = false;
        }
        let (mut segments, mut missed) = (Vec::new(), 0);
        loop {
            match engine.hub.follow(self.cursor) {
                Follow::CaughtUp => break,
                Follow::Behind { floor, published } => {
                    missed += published.saturating_sub(self.passed);
                    complete = false;
                    self.cursor = floor;
                    self.passed = published;
                }
                Follow::Segments(found) => {
                    for segment in found {
                        self.cursor = segment.through();
                        self.passed = segment.published_through();
                        segments.push(segment);
                    }
                }
            }
        }
        let proven = changed(&mut self.proven).is_some_and(|proven| !proven.failed);
        Seen {
            segments,
            missed,
            complete,
            tip: proven.then_some(tip),
            lags: changed(&mut self.lags).flatten(),
        }
    }
}

/// The value, if it is another one than at the last call.
fn changed<T: Clone>(watched: &mut watch::Receiver<T>) -> Option<T> {
    // A sender that is gone means that the process ends.
    let changed = watched.has_changed().unwrap_or(false);
    changed.then(|| watched.borrow_and_update().clone())
}
