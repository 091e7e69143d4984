//! What a subscriber was sent and has not acknowledged.

use std::collections::VecDeque;

use super::segment::Room;
use crate::event::EventId;

/// Groups in flight, bounded by events and bytes.
#[derive(Debug)]
pub(super) struct Window {
    groups: VecDeque<Sent>,
    events: usize,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Sent {
    last_id: EventId,
    events: usize,
    bytes: usize,
}

impl Window {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            groups: VecDeque::new(),
            events: 0,
            bytes: 0,
            max_events,
            max_bytes,
        }
    }

    /// What may be sent now; `None` before an ack. A window with nothing in
    /// flight takes one event whatever its size.
    pub(super) fn room(&self) -> Option<Room> {
        if self.groups.is_empty() {
            return Some(Room {
                events: self.max_events,
                bytes: self.max_bytes,
            });
        }
        let events = self.max_events.saturating_sub(self.events);
        let bytes = self.max_bytes.saturating_sub(self.bytes);
        // An empty group counts as one event, so that they are bounded too.
        (events > 0 && bytes > 0).then_some(Room { events, bytes })
    }

    /// Something was sent.
    pub(super) fn sent(&mut self, last_id: EventId, events: usize, bytes: usize) {
        let events = events.max(1);
        self.groups.push_back(Sent {
            last_id,
            events,
            bytes,
        });
        self.events += events;
        self.bytes += bytes;
    }

    /// Everything up to `id` was acknowledged.
    pub(super) fn acked(&mut self, id: EventId) {
        while let Some(group) = self.groups.pop_front_if(|group| group.last_id <= id) {
            self.events -= group.events;
            self.bytes -= group.bytes;
        }
    }

    /// Whether everything sent was acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(raw: i64) -> EventId {
        EventId::stored(raw)
    }

    #[test]
    fn window_closes_at_its_bound_and_opens_with_acks() {
        let mut window = Window::new(3, 1000);
        window.sent(id(2), 2, 10);
        assert_eq!(window.room().map(|room| room.events), Some(1));
        window.sent(id(3), 1, 10);
        assert!(window.room().is_none());
        window.acked(id(1));
        assert!(
            window.room().is_none(),
            "an ack inside a group opens nothing yet"
        );
        window.acked(id(2));
        assert_eq!(window.room().map(|room| room.events), Some(2));
        window.acked(id(3));
        assert!(window.is_empty());
    }

    #[test]
    fn one_event_larger_than_the_window_travels_alone() {
        let mut window = Window::new(10, 100);
        window.sent(id(1), 1, 5000);
        assert!(window.room().is_none());
        window.acked(id(1));
        assert!(window.room().is_some());
    }
}
