//! The frontier: the highest id below which every id is settled.
//!
//! Ids are given out at INSERT and transactions commit in another order, so a
//! missing id may still appear. This tracker keeps the open gaps and holds
//! events above the first one back, until a read's evidence says that an id is
//! dead. Pure: no clock, no I/O; evidence is the stores' work.

use std::collections::BTreeMap;

use super::dead::missing;
use crate::{
    event::{Event, EventId},
    limits,
    store::{IdRange, TailRead},
};

/// What is settled, what is still open, and what waits behind the first gap.
#[derive(Debug)]
pub(super) struct Frontier {
    settled: EventId,
    scanned: EventId,
    /// Disjoint, ascending, inside `(settled, scanned]`.
    gaps: Vec<IdRange>,
    held: BTreeMap<EventId, Event>,
    held_bytes: usize,
    /// Found dead since they were asked for.
    dead: Vec<IdRange>,
}

impl Frontier {
    /// Everything up to `settled` is settled, nothing is known above.
    pub(super) fn new(settled: EventId) -> Self {
        Self {
            settled,
            scanned: settled,
            gaps: Vec::new(),
            held: BTreeMap::new(),
            held_bytes: 0,
            dead: Vec::new(),
        }
    }

    /// Highest id below which every id is settled.
    pub(super) fn settled(&self) -> EventId {
        self.settled
    }

    /// Highest id looked at.
    pub(super) fn scanned(&self) -> EventId {
        self.scanned
    }

    /// Ids at or below [`Self::scanned`] that may still appear.
    pub(super) fn gaps(&self) -> &[IdRange] {
        &self.gaps
    }

    /// Whether so much waits behind the first gap that no more may be read
    /// before it is resolved.
    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= limits::HELD_EVENTS || self.held_bytes >= limits::HELD_BYTES
    }

    /// Ids that were proven dead since the last call, ascending by read.
    pub(super) fn take_dead(&mut self) -> Vec<IdRange> {
        std::mem::take(&mut self.dead)
    }

    /// Takes what a read saw; returns the events that became deliverable, in
    /// id order. Those are all visible ids above the old and up to the new
    /// frontier, each exactly once.
    pub(super) fn take(&mut self, read: TailRead) -> Vec<Event> {
        debug_assert!(
            read.events.is_sorted_by(|a, b| a.id < b.id),
            "a store reads in id order"
        );
        let scanned = self.scanned.max(read.scanned);
        if self.gaps.is_empty() && read.dead_through >= scanned {
            // Nothing was open and nothing is: the usual case.
            let looked_at = IdRange {
                first: self.scanned.next(),
                last: scanned,
            };
            let visible = read.events.iter().map(|event| event.id);
            self.dead.extend(missing(looked_at, visible));
            self.scanned = scanned;
            self.settled = scanned;
            return read.events;
        }
        self.open_gap(self.scanned, scanned);
        self.scanned = scanned;
        for event in &read.events {
            self.fill(event.id);
        }
        let dead = self.bury(read.dead_through);
        self.dead.extend(dead);
        for event in read.events {
            self.held_bytes += event.size();
            self.held.insert(event.id, event);
        }
        self.release()
    }

    /// Gives up every id up to `to` that may still appear. All that is visible
    /// there must have been read. Returns what became deliverable, and the ids
    /// that were given up.
    pub(super) fn skip(&mut self, to: EventId) -> (Vec<Event>, Vec<IdRange>) {
        self.open_gap(self.scanned, to);
        self.scanned = self.scanned.max(to);
        let given_up = self.bury(to);
        (self.release(), given_up)
    }

    /// Moves the frontier to the first gap; the events that it passes.
    fn release(&mut self) -> Vec<Event> {
        self.settled = self
            .gaps
            .first()
            .map_or(self.scanned, |gap| gap.first.previous());
        let still_held = self.held.split_off(&self.settled.next());
        let deliverable: Vec<Event> = std::mem::replace(&mut self.held, still_held)
            .into_values()
            .collect();
        self.held_bytes -= deliverable.iter().map(Event::size).sum::<usize>();
        deliverable
    }

    /// Every id above `after` up to `through` may still appear.
    fn open_gap(&mut self, after: EventId, through: EventId) {
        if through > after {
            self.gaps.push(IdRange {
                first: after.next(),
                last: through,
            });
        }
    }

    /// `id` is visible.
    fn fill(&mut self, id: EventId) {
        let index = self.gaps.partition_point(|gap| gap.last < id);
        let Some(gap) = self.gaps.get(index).copied().filter(|gap| gap.first <= id) else {
            return;
        };
        let below = IdRange {
            first: gap.first,
            last: id.previous(),
        };
        let above = IdRange {
            first: id.next(),
            last: gap.last,
        };
        let rest = [below, above]
            .into_iter()
            .filter(|rest| rest.first <= rest.last);
        self.gaps.splice(index..=index, rest);
    }

    /// What is still missing up to `through` is dead; returns it.
    fn bury(&mut self, through: EventId) -> Vec<IdRange> {
        let mut dead = Vec::new();
        self.gaps.retain_mut(|gap| {
            if gap.first <= through {
                dead.push(IdRange {
                    first: gap.first,
                    last: gap.last.min(through),
                });
            }
            gap.first = gap.first.max(through.next());
            gap.first <= gap.last
        });
        dead
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(id: i64) -> Event {
        Event {
            id: EventId::stored(id),
            kind: "T".into(),
            data: "1".into(),
            ts: None,
            fault: None,
        }
    }

    fn read(ids: &[i64], scanned: i64, dead_through: i64) -> TailRead {
        TailRead {
            events: ids.iter().copied().map(event).collect(),
            scanned: EventId::stored(scanned),
            dead_through: EventId::stored(dead_through),
            head: EventId::stored(scanned),
            more: false,
        }
    }

    fn ids(events: &[Event]) -> Vec<i64> {
        events.iter().map(|event| event.id.get()).collect()
    }

    #[test]
    fn event_above_an_open_id_waits_for_it() {
        let mut frontier = Frontier::new(EventId::START);
        assert_eq!(ids(&frontier.take(read(&[1, 2, 4], 4, 2))), [1, 2]);
        assert_eq!(frontier.settled().get(), 2);
        assert_eq!(
            frontier.gaps(),
            [IdRange {
                first: EventId::stored(3),
                last: EventId::stored(3)
            }]
        );
        assert_eq!(ids(&frontier.take(read(&[3, 5], 5, 2))), [3, 4, 5]);
        assert_eq!(frontier.settled().get(), 5);
    }

    #[test]
    fn dead_id_lets_events_pass() {
        let mut frontier = Frontier::new(EventId::stored(10));
        assert_eq!(
            ids(&frontier.take(read(&[12, 15], 15, 10))),
            Vec::<i64>::new()
        );
        assert_eq!(ids(&frontier.take(read(&[], 15, 13))), [12]);
        assert_eq!(ids(&frontier.take(read(&[], 15, 15))), [15]);
    }

    fn raw(ranges: &[IdRange]) -> Vec<i64> {
        ranges
            .iter()
            .flat_map(|range| range.first.get()..=range.last.get())
            .collect()
    }

    #[test]
    fn skip_gives_up_what_is_missing_and_delivers_what_is_not() {
        let mut frontier = Frontier::new(EventId::stored(10));
        assert!(frontier.take(read(&[12, 15], 15, 10)).is_empty());
        let (events, given_up) = frontier.skip(EventId::stored(13));
        assert_eq!((ids(&events), raw(&given_up)), (vec![12], vec![11, 13]));
        assert_eq!(frontier.settled().get(), 13);
        // Above all that was seen.
        let (events, given_up) = frontier.skip(EventId::stored(17));
        assert_eq!((ids(&events), raw(&given_up)), (vec![15], vec![14, 16, 17]));
        assert_eq!((frontier.settled().get(), frontier.gaps()), (17, &[][..]));
        assert!(frontier.take_dead().is_empty());
        let (events, given_up) = frontier.skip(EventId::stored(9));
        assert!(events.is_empty() && given_up.is_empty());
    }

    #[test]
    fn what_waits_behind_a_gap_is_bounded_and_counted() {
        let mut frontier = Frontier::new(EventId::START);
        let last = i64::try_from(limits::HELD_EVENTS).expect("small") + 1;
        let ids: Vec<i64> = (2..=last).collect();
        assert!(frontier.take(read(&ids, last, 0)).is_empty());
        assert!(frontier.is_full());
        assert_eq!(frontier.take(read(&[], last, 1)).len(), ids.len());
        assert!(!frontier.is_full());
        assert_eq!(frontier.held_bytes, 0);
    }

    proptest! {
        /// Transactions commit or roll back in any order; whatever reads see,
        /// delivery is "sort by id of what committed", without a hole.
        #[test]
        fn delivers_sorted_and_complete(
            ends in Just((1i64..=40).collect::<Vec<_>>()).prop_shuffle(),
            commits in proptest::collection::vec(any::<bool>(), 40),
            reads in proptest::collection::vec(0usize..=40, 1..20),
        ) {
            let mut frontier = Frontier::new(EventId::START);
            let mut delivered = Vec::new();
            let mut reads = reads;
            reads.sort_unstable();
            reads.push(40);
            let mut seen = std::collections::BTreeSet::new();
            let mut dead = Vec::new();
            for ended in reads {
                let done = &ends[..ended];
                let visible: Vec<i64> = (1..=40)
                    .filter(|id| done.contains(id) && commits[usize::try_from(*id - 1).unwrap()])
                    .filter(|id| !seen.contains(id))
                    .collect();
                seen.extend(visible.iter().copied());
                // All ids below the lowest open one have ended.
                let lowest_open = (1..=40).find(|id| !done.contains(id)).unwrap_or(41);
                let scanned = seen.last().copied().unwrap_or(0).max(frontier.scanned().get());
                let got = frontier.take(read(&visible, scanned, (lowest_open - 1).min(scanned)));
                delivered.extend(ids(&got));
                dead.extend(raw(&frontier.take_dead()));
                prop_assert!(frontier.settled().get() <= scanned);
                for gap in frontier.gaps() {
                    prop_assert!(gap.first > frontier.settled() && gap.last <= frontier.scanned());
                }
            }
            let expected: Vec<i64> =
                (1..=40).filter(|id| commits[usize::try_from(*id - 1).unwrap()]).collect();
            prop_assert_eq!(&delivered, &expected);
            // Each id that the frontier passed was delivered or told dead, once.
            dead.extend(delivered);
            dead.sort_unstable();
            prop_assert_eq!(dead, (1..=frontier.settled().get()).collect::<Vec<_>>());
        }
    }
}
