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
    was_full: bool,
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
            was_full: false,
        }
    }

    /// What may be sent now; `None` before an ack. A window with nothing in
    /// flight takes one event whatever its size.
    ///
    /// One that was full opens again when half of it is free: a subscriber that
    /// acknowledges small groups would be sent small groups for ever.
    pub(super) fn room(&mut self) -> Option<Room> {
        let events = self.max_events.saturating_sub(self.events);
        let bytes = self.max_bytes.saturating_sub(self.bytes);
        let half_free =
            events >= self.max_events.div_ceil(2) && bytes >= self.max_bytes.div_ceil(2);
        if self.groups.is_empty() {
            self.was_full = false;
            return Some(Room {
                events: self.max_events,
                bytes: self.max_bytes,
            });
        }
        self.was_full &= !half_free;
        (!self.was_full).then_some(Room { events, bytes })
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
        self.was_full |= self.events >= self.max_events || self.bytes >= self.max_bytes;
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
        let mut window = Window::new(4, 1000);
        window.sent(id(2), 2, 10);
        assert_eq!(window.room().map(|room| room.events), Some(2));
        window.sent(id(3), 1, 10);
        window.sent(id(4), 1, 10);
        assert!(window.room().is_none());
        window.acked(id(1));
        assert!(
            window.room().is_none(),
            "an ack inside a group opens nothing yet"
        );
        window.acked(id(2));
        assert_eq!(window.room().map(|room| room.events), Some(2));
        window.acked(id(4));
        assert!(window.is_empty());
    }

    #[test]
    fn full_window_opens_when_half_of_it_is_free() {
        let mut window = Window::new(8, 1000);
        for last in 1..=8 {
            window.sent(id(last), 1, 1);
        }
        for acked in 1..=3 {
            window.acked(id(acked));
            assert!(window.room().is_none(), "{acked} of 8 are free");
        }
        window.acked(id(4));
        assert_eq!(window.room().map(|room| room.events), Some(4));
        window.sent(id(9), 1, 1);
        assert_eq!(window.room().map(|room| room.events), Some(3));
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
