//! The ring of recent settled events, shared by all subscribers of a process.
//!
//! The tailer alone publishes; everybody else reads. The ring is bounded by
//! bytes and never waits for a reader: who falls behind its floor is told so
//! and reads from the store (reliable) or jumps (live). Joining is free of
//! races, because a reader is given segments only if it stands inside the ring.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};

use super::segment::Segment;
use crate::event::{Event, EventId};

/// Shared by the tailer and all readers.
#[derive(Debug)]
pub struct Hub {
    ring: Mutex<Ring>,
    tip: watch::Sender<Tip>,
}

/// Where the stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Highest settled id.
    pub frontier: EventId,
    /// Highest id given out, settled or not.
    pub head: EventId,
    /// Changes whenever everything known had to be forgotten.
    pub generation: u64,
}

#[derive(Debug)]
struct Ring {
    segments: VecDeque<Arc<Segment>>,
    /// Segments cover `(floor, frontier]` without a hole.
    floor: EventId,
    bytes: usize,
    capacity: usize,
    /// Events ever published.
    published: u64,
}

/// What the ring has for a reader.
#[derive(Debug)]
pub enum Follow {
    /// Segments that continue where the reader stands.
    Segments(Vec<Arc<Segment>>),
    /// The reader stands at the frontier.
    CaughtUp,
    /// The ring begins after this id, above where the reader stands.
    Behind {
        /// Its floor.
        floor: EventId,
        /// Events published before the floor.
        published: u64,
    },
}

/// Segments handed out at once: a reader takes a group, not the ring.
const SEGMENTS_AT_ONCE: usize = 64;

impl Hub {
    /// An empty ring at `frontier`, of at most `capacity` bytes.
    #[must_use]
    pub fn new(frontier: EventId, capacity: usize) -> Self {
        let ring = Ring {
            segments: VecDeque::new(),
            floor: frontier,
            bytes: 0,
            capacity,
            published: 0,
        };
        let tip = Tip {
            frontier,
            head: frontier,
            generation: 0,
        };
        Self {
            ring: Mutex::new(ring),
            tip: watch::Sender::new(tip),
        }
    }

    /// The end of the stream as it is known now.
    #[must_use]
    pub fn tip(&self) -> Tip {
        *self.tip.borrow()
    }

    /// Signals every change of the tip.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    /// Bytes and events in the ring.
    #[must_use]
    pub fn usage(&self) -> (usize, usize) {
        let ring = self.ring();
        (
            ring.bytes,
            ring.segments
                .iter()
                .map(|segment| segment.events().len())
                .sum(),
        )
    }

    /// Events published so far: the measure of what a live reader missed.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.ring().published
    }

    /// Appends the settled events up to `frontier`.
    pub(super) fn publish(&self, events: Vec<Event>, frontier: EventId, head: EventId) {
        let before = self.tip();
        if frontier > before.frontier {
            let mut ring = self.ring();
            ring.published += events.len() as u64;
            let segment = Segment::new(before.frontier, frontier, events)
                .settled_at(Instant::now(), ring.published);
            ring.push(Arc::new(segment));
        }
        let tip = Tip {
            frontier,
            head: head.max(frontier),
            ..before
        };
        self.tip
            .send_if_modified(|old| std::mem::replace(old, tip) != tip);
    }

    /// Moves to `frontier` without the events in between: nobody follows. The
    /// tip goes first: a reader between the two sees a ring that has nothing
    /// for it yet, not one that has left it behind a frontier it does not know.
    pub(super) fn jump(&self, frontier: EventId, head: EventId) {
        let tip = Tip {
            frontier,
            head: head.max(frontier),
            generation: self.tip().generation,
        };
        self.tip
            .send_if_modified(|old| std::mem::replace(old, tip) != tip);
        self.ring().clear(frontier);
    }

    /// An event below the frontier may be missing from the ring: whoever is
    /// not at the end of it reads from the store. Anybody may call this.
    pub(super) fn distrust(&self) {
        let mut ring = self.ring();
        let end = ring
            .segments
            .back()
            .map_or(ring.floor, |last| last.through());
        ring.clear(end);
    }

    /// Forgets everything: whoever reads must start over.
    pub(super) fn forget(&self, frontier: EventId) {
        self.ring().clear(frontier);
        self.tip.send_modify(|tip| {
            *tip = Tip {
                frontier,
                head: frontier,
                generation: tip.generation + 1,
            };
        });
    }

    /// What comes after `cursor`.
    #[must_use]
    pub fn follow(&self, cursor: EventId) -> Follow {
        let ring = self.ring();
        if cursor < ring.floor {
            let published = ring.segments.front().map_or(ring.published, |first| {
                first.published_through() - first.events().len() as u64
            });
            return Follow::Behind {
                floor: ring.floor,
                published,
            };
        }
        let first = ring
            .segments
            .partition_point(|segment| segment.through() <= cursor);
        if first == ring.segments.len() {
            return Follow::CaughtUp;
        }
        Follow::Segments(
            ring.segments
                .range(first..)
                .take(SEGMENTS_AT_ONCE)
                .cloned()
                .collect(),
        )
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, segment: Arc<Segment>) {
        self.bytes += segment.bytes();
        self.segments.push_back(segment);
        while self.bytes > self.capacity && self.segments.len() > 1 {
            let Some(oldest) = self.segments.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
            self.floor = oldest.through();
        }
    }

    fn clear(&mut self, floor: EventId) {
        self.segments = VecDeque::new();
        self.bytes = 0;
        self.floor = floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: i64) -> Event {
        Event {
            id: EventId::stored(id),
            kind: "T".into(),
            data: "x".repeat(100).into(),
            ts: None,
            fault: None,
        }
    }

    fn publish(hub: &Hub, id: i64) {
        hub.publish(vec![event(id)], EventId::stored(id), EventId::stored(id));
    }

    #[test]
    fn reader_inside_the_ring_gets_what_follows_and_one_below_is_told() {
        let hub = Hub::new(EventId::stored(5), 1000);
        publish(&hub, 6);
        publish(&hub, 8);
        let Follow::Segments(segments) = hub.follow(EventId::stored(6)) else {
            panic!("inside the ring");
        };
        assert_eq!(segments.len(), 1);
        assert_eq!(segments[0].events()[0].id.get(), 8);
        assert!(matches!(hub.follow(EventId::stored(8)), Follow::CaughtUp));
        let Follow::Behind { floor, published } = hub.follow(EventId::stored(4)) else {
            panic!("below the ring");
        };
        assert_eq!((floor.get(), published), (5, 0));
    }

    #[test]
    fn ring_is_bounded_and_counts_what_it_dropped() {
        let hub = Hub::new(EventId::START, 500);
        for id in 1..=100 {
            publish(&hub, id);
        }
        assert!(hub.usage().0 <= 500);
        let Follow::Behind { floor, published } = hub.follow(EventId::START) else {
            panic!("dropped");
        };
        assert_eq!(u64::try_from(floor.get()).ok(), Some(published));
        assert_eq!(hub.published(), 100);
    }

    #[test]
    fn an_event_larger_than_the_ring_still_passes_through() {
        let hub = Hub::new(EventId::START, 10);
        publish(&hub, 1);
        assert!(matches!(hub.follow(EventId::START), Follow::Segments(_)));
    }

    #[test]
    fn distrusted_ring_leaves_who_is_behind_to_the_store() {
        let hub = Hub::new(EventId::stored(5), 1000);
        publish(&hub, 6);
        publish(&hub, 8);
        hub.distrust();
        let Follow::Behind { floor, published } = hub.follow(EventId::stored(6)) else {
            panic!("the ring is empty");
        };
        assert_eq!((floor.get(), published), (8, 2));
        assert!(matches!(hub.follow(EventId::stored(8)), Follow::CaughtUp));
        publish(&hub, 9);
        assert!(matches!(
            hub.follow(EventId::stored(8)),
            Follow::Segments(_)
        ));
    }

    #[test]
    fn forgetting_changes_the_generation() {
        let hub = Hub::new(EventId::stored(9), 1000);
        publish(&hub, 10);
        hub.forget(EventId::stored(3));
        assert_eq!(
            hub.tip(),
            Tip {
                frontier: EventId::stored(3),
                head: EventId::stored(3),
                generation: 1
            }
        );
        assert!(matches!(hub.follow(EventId::stored(3)), Follow::CaughtUp));
    }
}
