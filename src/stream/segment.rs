//! Runs of settled events, and selections from them.
//!
//! A [`Segment`] is immutable and shared: the ring, every subscriber and every
//! message in flight point at the same events. A front may keep its encoding
//! of a segment beside the events, so that it is made once for all.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::event::{Event, EventId, Fault, Want};

/// All settled events above `after` up to `through` (of a filtered read: all
/// wanted ones).
#[derive(Debug)]
pub struct Segment {
    after: EventId,
    through: EventId,
    events: Vec<Event>,
    bytes: usize,
    /// Whether each event can be delivered.
    sound: bool,
    settled_at: Option<Instant>,
    published_through: u64,
    encoded: OnceLock<Encoded>,
}

/// A front's encoding of a segment's events, one after the other.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// All events.
    pub bytes: Bytes,
    /// Where each event ends in `bytes`.
    pub ends: Vec<usize>,
}

/// What a segment costs beside its events.
const OVERHEAD: usize = 128;

impl Segment {
    /// A segment of `events` inside `(after, through]`.
    #[must_use]
    pub fn new(after: EventId, through: EventId, events: Vec<Event>) -> Self {
        let bytes = OVERHEAD + events.iter().map(Event::size).sum::<usize>();
        Self {
            after,
            through,
            sound: events.iter().all(|event| event.fault.is_none()),
            events,
            bytes,
            settled_at: None,
            published_through: 0,
            encoded: OnceLock::new(),
        }
    }

    pub(super) fn settled_at(self, settled_at: Instant, published_through: u64) -> Self {
        Self {
            settled_at: Some(settled_at),
            published_through,
            ..self
        }
    }

    /// Below the first event.
    #[must_use]
    pub fn after(&self) -> EventId {
        self.after
    }

    /// The last id covered.
    #[must_use]
    pub fn through(&self) -> EventId {
        self.through
    }

    /// Ascending.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Memory of its events, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Events published by this process up to and including this segment's.
    #[must_use]
    pub fn published_through(&self) -> u64 {
        self.published_through
    }

    /// The encoding, made by `encode` at the first call.
    pub fn encoded(&self, encode: impl FnOnce(&[Event]) -> Encoded) -> &Encoded {
        self.encoded.get_or_init(|| encode(&self.events))
    }
}

/// How much a selection may still take.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Events.
    pub events: usize,
    /// Bytes; one event is taken whatever its size if nothing was before.
    pub bytes: usize,
}

/// Events picked from one segment.
#[derive(Debug, Clone)]
pub struct Slice {
    segment: Arc<Segment>,
    picked: Vec<Range<usize>>,
}

impl Slice {
    /// The picked events, ascending.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.picked
            .iter()
            .flat_map(|range| &self.segment.events[range.clone()])
    }

    /// The encoded bytes of the picked events, as few runs as possible.
    pub fn encoded_runs(
        &self,
        encode: impl FnOnce(&[Event]) -> Encoded,
    ) -> impl Iterator<Item = Bytes> {
        let Encoded { bytes, ends } = self.segment.encoded(encode);
        self.picked.iter().map(|range| {
            let start = range.start.checked_sub(1).map_or(0, |before| ends[before]);
            bytes.slice(start..ends[range.end - 1])
        })
    }

    /// When this process learned that the events are settled.
    #[must_use]
    pub fn settled_at(&self) -> Option<Instant> {
        self.segment.settled_at
    }
}

/// A selection in id order, from one or more segments.
#[derive(Debug, Default)]
pub struct Selection {
    slices: Vec<Slice>,
    events: usize,
    bytes: usize,
    reached: EventId,
    full: bool,
    published: u64,
    blocked_by: Option<(EventId, Fault)>,
}

impl Selection {
    /// Nothing picked, standing at `cursor`.
    #[must_use]
    pub fn at(cursor: EventId) -> Self {
        Self {
            reached: cursor,
            ..Self::default()
        }
    }

    /// Picks wanted events of the next segment, as long as there is room. Stops
    /// before an event that cannot be delivered, even if it is the first.
    pub fn pick(&mut self, segment: &Arc<Segment>, want: &Want, room: Room) {
        if self.takes_whole(segment, want, room) {
            return;
        }
        let first = segment
            .events
            .partition_point(|event| event.id <= self.reached);
        let mut picked: Vec<Range<usize>> = Vec::new();
        for (index, event) in segment.events.iter().enumerate().skip(first) {
            // A type that is no text is none that a filter can name.
            if let Some(fault) = event.fault.filter(|_| want.takes(&event.kind)) {
                self.full = true;
                self.blocked_by = (self.events == 0).then_some((event.id, fault));
                break;
            }
            if !want.takes(&event.kind) {
                self.reached = event.id;
                continue;
            }
            let fits = self.events < room.events && self.bytes + event.size() <= room.bytes;
            if !fits && self.events > 0 {
                self.full = true;
                break;
            }
            match picked.last_mut() {
                Some(range) if range.end == index => range.end += 1,
                _ => picked.push(index..index + 1),
            }
            self.events += 1;
            self.bytes += event.size();
            self.reached = event.id;
        }
        if !picked.is_empty() {
            self.slices.push(Slice {
                segment: Arc::clone(segment),
                picked,
            });
        }
        if !self.full {
            self.reached = self.reached.max(segment.through);
        }
        let left = segment.events.len() - segment.events.partition_point(|e| e.id <= self.reached);
        self.published = segment.published_through.saturating_sub(left as u64);
    }

    /// The usual case of a subscriber that follows everything: no look at each
    /// event. False, and nothing is picked, if it is another case.
    fn takes_whole(&mut self, segment: &Arc<Segment>, want: &Want, room: Room) -> bool {
        let (events, bytes) = (segment.events.len(), segment.bytes - OVERHEAD);
        let usual = want.is_all() && segment.sound && self.reached <= segment.after && events > 0;
        if !usual || self.events + events > room.events || self.bytes + bytes > room.bytes {
            return false;
        }
        self.slices.push(Slice {
            segment: Arc::clone(segment),
            picked: std::iter::once(0..events).collect(),
        });
        self.events += events;
        self.bytes += bytes;
        self.reached = segment.through;
        self.published = segment.published_through;
        true
    }

    /// Events published by this process up to [`Self::reached`]; meaningful
    /// only for segments of the ring.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The slices, in id order.
    #[must_use]
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// Number of events.
    #[must_use]
    pub fn count(&self) -> usize {
        self.events
    }

    /// Bytes of the events.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everything up to this id is picked or not wanted.
    #[must_use]
    pub fn reached(&self) -> EventId {
        self.reached
    }

    /// Whether there was no room for more, or an event that cannot be delivered.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The event that cannot be delivered, if nothing could be picked before it.
    #[must_use]
    pub fn blocked_by(&self) -> Option<(EventId, Fault)> {
        self.blocked_by
    }

    /// The picked events, ascending.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.slices.iter().flat_map(Slice::events)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::EventType;

    fn event(id: i64, size: usize, faulty: bool) -> Event {
        Event {
            id: EventId::stored(id),
            kind: "A".into(),
            data: "x".repeat(size).into(),
            ts: None,
            fault: faulty.then_some(Fault::DataNotText),
        }
    }

    proptest! {
        /// A filter that takes everything looks at each event.
        #[test]
        fn segment_is_taken_whole_as_it_would_be_one_by_one(
            sizes in proptest::collection::vec((0usize..50, proptest::bool::weighted(0.02)), 0..20),
            cuts in proptest::collection::vec(1usize..8, 1..5),
            cursor in 0i64..15, events in 1usize..20, bytes in 1usize..1500,
        ) {
            let all: Vec<Event> = (1..).zip(&sizes).map(|(id, &(size, faulty))| event(id, size, faulty)).collect();
            let mut segments = Vec::new();
            let mut rest = all.as_slice();
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                let Some(last) = now.last() else { break };
                let after = now[0].id.previous();
                let segment = Segment::new(after, last.id, now.to_vec());
                let published = u64::try_from(last.id.get()).unwrap();
                segments.push(Arc::new(segment.settled_at(Instant::now(), published)));
                rest = later;
            }
            let select = |want: &Want| {
                let mut selection = Selection::at(EventId::stored(cursor));
                for segment in segments.iter().filter(|segment| segment.through().get() > cursor) {
                    selection.pick(segment, want, Room { events, bytes });
                    if selection.is_full() {
                        break;
                    }
                }
                let ids: Vec<_> = selection.events().map(|event| event.id).collect();
                (ids, selection.count(), selection.bytes(), selection.reached(), selection.is_full(),
                    selection.published(), selection.blocked_by())
            };
            let each = Want::Only([EventType::parse("A").unwrap()].into());
            prop_assert_eq!(select(&Want::All), select(&each));
        }
    }
}
