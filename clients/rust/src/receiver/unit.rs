//! What a handler gets in one call: an event, or a group.

use std::slice;

use crate::event::{Event, Group};

pub(crate) trait Unit: Clone {
    /// The group in units, each with the position that is reached by it.
    fn of(group: Group) -> impl Iterator<Item = (Self, i64)>;

    /// Never empty.
    fn events(&self) -> &[Event];
}

impl Unit for Event {
    /// The last event covers what was filtered out behind it.
    fn of(group: Group) -> impl Iterator<Item = (Self, i64)> {
        let last = group.events.len().saturating_sub(1);
        let events = group.events.into_iter().enumerate();
        events.map(move |(index, event)| {
            let position = if index == last {
                group.last_id
            } else {
                event.id()
            };
            (event, position)
        })
    }

    fn events(&self) -> &[Event] {
        slice::from_ref(self)
    }
}

impl Unit for Group {
    fn of(group: Group) -> impl Iterator<Item = (Self, i64)> {
        let position = group.last_id;
        let group = (!group.events.is_empty()).then_some(group);
        group.into_iter().map(move |group| (group, position))
    }

    fn events(&self) -> &[Event] {
        &self.events
    }
}
