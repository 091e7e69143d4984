//! The last hour, in slots of ten seconds: pure, bounded, and honest about
//! what was not seen.
//!
//! A slot is there if anything is known of its time. Events are known only
//! while somebody listens, so a slot says whether that was so all the while
//! (`watched`); the number of ids that passed unseen is no substitute, because
//! neither their time nor their number of events is known.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{
    event::{Event, EventType, Moment},
    limits,
    stream::{Lags, Seen, Tip},
};

/// The slots, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    slots: VecDeque<Slot>,
    /// Types that some slot tells apart.
    types: BTreeSet<Arc<str>>,
}

/// Ten seconds.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Its beginning.
    pub(super) at: Moment,
    /// Whether every event that settled then was counted.
    pub(super) watched: bool,
    /// By type, in the order of their first event.
    pub(super) counts: Vec<(Arc<str>, Tally)>,
    /// Of more types than are told apart, and of what is no type.
    pub(super) other: Tally,
    /// Events that were too many to be looked at.
    pub(super) missed: u64,
    /// The end of the stream, as last proven.
    pub(super) tip: Option<Tip>,
    /// The consumers, as last seen.
    pub(super) lags: Option<Lags>,
}

/// How many events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) events: u64,
    /// Of their data.
    pub(super) bytes: u64,
}

impl Tally {
    fn count(&mut self, event: &Event) {
        self.events += 1;
        self.bytes += event.data.len() as u64;
    }
}

impl History {
    /// Adds what was seen since the last call.
    pub(super) fn note(&mut self, now: Moment, seen: Seen) {
        let silent = seen.segments.is_empty() && seen.missed == 0 && !seen.complete;
        if silent && seen.tip.is_none() && seen.lags.is_none() {
            return;
        }
        self.open(now, seen.complete);
        for event in seen.segments.iter().flat_map(|run| run.events()) {
            self.count(event);
        }
        let Some(slot) = self.slots.back_mut() else {
            return;
        };
        slot.watched &= seen.complete;
        slot.missed += seen.missed;
        slot.tip = seen.tip.or(slot.tip);
        slot.lags = seen.lags.or_else(|| slot.lags.take());
    }

    /// Slots that begin at `from` or later, oldest first.
    pub(super) fn since(&self, from: Moment) -> impl Iterator<Item = &Slot> {
        let first = self.slots.partition_point(|slot| slot.at < from);
        self.slots.range(first..)
    }

    /// Makes the last slot that of `now`.
    fn open(&mut self, now: Moment, watched: bool) {
        let length = i64::try_from(limits::HISTORY_SLOT.as_millis()).unwrap_or(i64::MAX);
        let begin = |back: i64| {
            let number = now.unix_millis().div_euclid(length) - back;
            Moment::from_unix_millis(number * length)
        };
        // A clock that was put back writes the time between once more.
        while self.slots.back().is_some_and(|last| last.at > begin(0)) {
            self.slots.pop_back();
        }
        let slots = i64::try_from(limits::HISTORY_SLOTS).unwrap_or(i64::MAX);
        while self
            .slots
            .front()
            .is_some_and(|first| first.at <= begin(slots))
        {
            self.slots.pop_front();
        }
        if self.slots.back().is_none_or(|last| last.at < begin(0)) {
            self.slots.push_back(Slot {
                at: begin(0),
                watched,
                counts: Vec::new(),
                other: Tally::default(),
                missed: 0,
                tip: None,
                lags: None,
            });
        }
    }

    fn count(&mut self, event: &Event) {
        let Some(slot) = self.slots.back_mut() else {
            return;
        };
        let known = slot
            .counts
            .iter_mut()
            .find(|(name, _)| **name == *event.kind);
        if let Some((_, tally)) = known {
            tally.count(event);
        } else if let Some(name) = name(&mut self.types, &event.kind) {
            let mut tally = Tally::default();
            tally.count(event);
            slot.counts.push((name, tally));
        } else {
            slot.other.count(event);
        }
    }
}

/// The type's name, shared by all slots; `None` if it is none or one too many.
fn name(types: &mut BTreeSet<Arc<str>>, kind: &str) -> Option<Arc<str>> {
    if let Some(known) = types.get(kind) {
        return Some(Arc::clone(known));
    }
    EventType::parse(kind).ok()?;
    if types.len() >= limits::OBSERVED_TYPES {
        // Slots that have left the hour may have been the last to name one.
        types.retain(|name| Arc::strong_count(name) > 1);
    }
    if types.len() >= limits::OBSERVED_TYPES {
        return None;
    }
    let name: Arc<str> = kind.into();
    types.insert(Arc::clone(&name));
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::EventId, stream::Segment};

    const SLOT: i64 = 10_000;

    fn seen(kinds: &[&str], complete: bool) -> Seen {
        let events: Vec<_> = (1..)
            .zip(kinds)
            .map(|(id, kind)| Event {
                id: EventId::stored(id),
                kind: (*kind).into(),
                data: "12345".into(),
                ts: None,
                fault: None,
            })
            .collect();
        let segment = Segment::new(EventId::START, EventId::stored(1000), events);
        Seen {
            segments: vec![Arc::new(segment)],
            missed: 0,
            complete,
            tip: None,
            lags: None,
        }
    }

    fn nothing(complete: bool) -> Seen {
        Seen {
            segments: Vec::new(),
            ..seen(&[], complete)
        }
    }

    fn at(millis: i64) -> Moment {
        Moment::from_unix_millis(millis)
    }

    fn all(history: &History) -> Vec<&Slot> {
        history.since(at(i64::MIN)).collect()
    }

    #[test]
    fn events_are_counted_by_type_and_slot() {
        let mut history = History::default();
        history.note(at(SLOT), seen(&["A", "B", "A"], true));
        history.note(at(2 * SLOT - 1), seen(&["A"], true));
        history.note(at(2 * SLOT), seen(&["B"], true));
        let slots = all(&history);
        assert_eq!(slots.len(), 2);
        let counts: Vec<_> = slots[0]
            .counts
            .iter()
            .map(|(name, tally)| (&**name, tally.events, tally.bytes))
            .collect();
        assert_eq!(counts, [("A", 3, 15), ("B", 1, 5)]);
        assert_eq!(history.since(at(2 * SLOT)).count(), 1);
    }

    #[test]
    fn what_nobody_saw_is_no_zero() {
        let mut history = History::default();
        history.note(at(SLOT), nothing(false));
        assert!(all(&history).is_empty());
        history.note(at(SLOT + 1), nothing(true));
        history.note(at(SLOT + 2), seen(&["A"], false));
        history.note(at(2 * SLOT), nothing(true));
        let watched: Vec<_> = all(&history).iter().map(|slot| slot.watched).collect();
        assert_eq!(watched, [false, true]);
    }

    #[test]
    fn hour_is_bounded_and_a_clock_put_back_overwrites() {
        let mut history = History::default();
        let slots = i64::try_from(limits::HISTORY_SLOTS).unwrap();
        for slot in 0..slots * 2 {
            history.note(at(slot * SLOT), nothing(true));
        }
        assert_eq!(all(&history).len(), limits::HISTORY_SLOTS);
        history.note(at((slots * 2 - 10) * SLOT), nothing(true));
        assert_eq!(all(&history).len(), limits::HISTORY_SLOTS - 9);
        history.note(at(slots * 9 * SLOT), nothing(true));
        assert_eq!(all(&history).len(), 1);
    }

    #[test]
    fn types_are_bounded_and_forgotten_with_their_slots() {
        let mut history = History::default();
        let letters = |number: usize| {
            let letter = |part: usize| char::from(b'A' + u8::try_from(part % 26).unwrap());
            format!("T{}{}", letter(number / 26), letter(number))
        };
        let many: Vec<_> = (0..limits::OBSERVED_TYPES + 5).map(letters).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        history.note(at(0), seen(&many, true));
        history.note(at(SLOT), seen(&["<b>no type</b>", "NEW"], true));
        let slots = all(&history);
        assert_eq!(slots[0].counts.len(), limits::OBSERVED_TYPES);
        assert_eq!(slots[0].other.events, 5);
        assert_eq!(slots[1].other.events, 2);
        history.note(at(SLOT * 1000), seen(&["NEW"], true));
        assert_eq!(&*all(&history)[0].counts[0].0, "NEW");
    }
}
