//! Ids that were declared dead, so that the sentinel can look whether one
//! appears after all. Pure: ranges in memory, bounded, the oldest forgotten
//! first. A wide range costs as little as a single id.

use std::collections::BTreeMap;

use crate::{event::EventId, store::IdRange};

/// Why an id counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its transaction was proven over.
    Proven,
    /// An operator's skip gave it up.
    Skipped,
}

/// Dead ids as disjoint ranges.
#[derive(Debug)]
pub(super) struct DeadIds {
    /// By first id; neighbours of one cause are one range.
    ranges: BTreeMap<EventId, (EventId, Cause)>,
    /// Ranges at most.
    most: usize,
    /// Where the next look goes on.
    turn: EventId,
}

impl DeadIds {
    /// Remembers at most so many ranges.
    pub(super) fn new(most: usize) -> Self {
        Self {
            ranges: BTreeMap::new(),
            most,
            turn: EventId::START,
        }
    }

    /// Remembers a range; what was known of its ids before is replaced.
    pub(super) fn bury(&mut self, range: IdRange, cause: Cause) {
        if range.first > range.last {
            return;
        }
        self.cut(range);
        let IdRange {
            mut first,
            mut last,
        } = range;
        let before = self.ranges.range(..first).next_back();
        if let Some((&start, &(end, known))) = before
            && known == cause
            && end.next() == first
        {
            first = start;
        }
        if let Some(&(end, known)) = self.ranges.get(&last.next())
            && known == cause
        {
            self.ranges.remove(&last.next());
            last = end;
        }
        self.ranges.insert(first, (last, cause));
        while self.ranges.len() > self.most {
            self.ranges.pop_first();
        }
    }

    /// Forgets those of `ids` that are remembered, and tells why they counted
    /// as dead.
    pub(super) fn exhume(&mut self, ids: &[EventId]) -> Vec<(EventId, Cause)> {
        let mut found = Vec::new();
        for &id in ids {
            let cause = self.cut(IdRange {
                first: id,
                last: id,
            });
            found.extend(cause.map(|cause| (id, cause)));
        }
        found
    }

    /// Ranges to look at next, at most so many. If more are remembered, looks
    /// take turns.
    pub(super) fn next_look(&mut self, most: usize) -> Vec<IdRange> {
        let remembered = self.ranges.range(self.turn..).take(most);
        let look: Vec<IdRange> = remembered
            .map(|(&first, &(last, _))| IdRange { first, last })
            .collect();
        let ended = look.last().map(|range| range.first.next());
        self.turn = ended
            .filter(|turn| self.ranges.range(*turn..).next().is_some())
            .unwrap_or(EventId::START);
        look
    }

    /// Ranges that are remembered.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.ranges.clear();
        self.turn = EventId::START;
    }

    /// Takes a range out; the cause of what was there last.
    fn cut(&mut self, range: IdRange) -> Option<Cause> {
        let overlapping = self.ranges.range(..=range.last).rev();
        let firsts: Vec<EventId> = overlapping
            .take_while(|(_, (last, _))| *last >= range.first)
            .map(|(&first, _)| first)
            .collect();
        let mut cut = None;
        for first in firsts {
            let Some((last, cause)) = self.ranges.remove(&first) else {
                continue;
            };
            if first < range.first {
                self.ranges.insert(first, (range.first.previous(), cause));
            }
            if last > range.last {
                self.ranges.insert(range.last.next(), (last, cause));
            }
            cut = Some(cause);
        }
        cut
    }
}

/// The ids of `range` that are not among the ascending `visible` ones.
pub(super) fn missing(range: IdRange, visible: impl Iterator<Item = EventId>) -> Vec<IdRange> {
    let mut missing = Vec::new();
    let mut next = range.first;
    for id in visible {
        if id > next {
            missing.push(IdRange {
                first: next,
                last: id.previous(),
            });
        }
        next = id.next();
    }
    if next <= range.last {
        missing.push(IdRange {
            first: next,
            last: range.last,
        });
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(raw: i64) -> EventId {
        EventId::stored(raw)
    }

    fn range(first: i64, last: i64) -> IdRange {
        IdRange {
            first: id(first),
            last: id(last),
        }
    }

    #[test]
    fn neighbours_become_one_range_and_the_oldest_goes_first() {
        let mut dead = DeadIds::new(2);
        for one in [range(5, 5), range(7, 9), range(6, 6), range(20, 1_000_000)] {
            dead.bury(one, Cause::Proven);
        }
        assert_eq!(dead.next_look(9), [range(5, 9), range(20, 1_000_000)]);
        dead.bury(range(1_000_005, 1_000_005), Cause::Proven);
        assert_eq!(dead.next_look(9)[0], range(20, 1_000_000));
    }

    #[test]
    fn exhumed_id_is_told_once_with_its_cause() {
        let mut dead = DeadIds::new(9);
        dead.bury(range(1, 5), Cause::Proven);
        dead.bury(range(3, 3), Cause::Skipped);
        let ids = [id(2), id(3), id(7)];
        let told = [(id(2), Cause::Proven), (id(3), Cause::Skipped)];
        assert_eq!(dead.exhume(&ids), told);
        assert_eq!(dead.exhume(&ids), []);
        assert_eq!(dead.next_look(9), [range(1, 1), range(4, 5)]);
    }

    #[test]
    fn looks_take_turns() {
        let mut dead = DeadIds::new(9);
        for raw in [1, 3, 5] {
            dead.bury(range(raw, raw), Cause::Proven);
        }
        assert_eq!(dead.next_look(2), [range(1, 1), range(3, 3)]);
        assert_eq!(dead.next_look(2), [range(5, 5)]);
        assert_eq!(dead.next_look(3).len(), 3);
        assert_eq!(dead.next_look(3).len(), 3);
    }

    #[test]
    fn missing_ids_are_what_is_between() {
        let visible = [2, 3, 6].map(id);
        assert_eq!(
            missing(range(1, 8), visible.into_iter()),
            [range(1, 1), range(4, 5), range(7, 8)]
        );
        assert_eq!(missing(range(2, 3), visible[..2].iter().copied()), []);
    }

    proptest! {
        /// As a map from each id to its cause would do it.
        #[test]
        fn ranges_are_a_set_of_ids(
            acts in proptest::collection::vec((0..4u8, 1i64..40, 0i64..6), 0..40),
        ) {
            let mut dead = DeadIds::new(1000);
            let mut model = BTreeMap::new();
            for (act, first, length) in acts {
                let last = first + length;
                let cause = if act == 1 { Cause::Skipped } else { Cause::Proven };
                if act < 3 {
                    dead.bury(range(first, last), cause);
                    model.extend((first..=last).map(|raw| (raw, cause)));
                } else {
                    let ids: Vec<EventId> = (first..=last).map(id).collect();
                    let told: Vec<(EventId, Cause)> = (first..=last)
                        .filter_map(|raw| Some((id(raw), model.remove(&raw)?)))
                        .collect();
                    prop_assert_eq!(dead.exhume(&ids), told);
                }
                let kept: Vec<(i64, Cause)> = dead
                    .ranges
                    .iter()
                    .flat_map(|(first, &(last, cause))| {
                        (first.get()..=last.get()).map(move |raw| (raw, cause))
                    })
                    .collect();
                prop_assert_eq!(kept, model.clone().into_iter().collect::<Vec<_>>());
                let ranges: Vec<_> = dead.ranges.iter().collect();
                for pair in ranges.windows(2) {
                    let ((_, (last, before)), (first, (_, after))) = (pair[0], pair[1]);
                    prop_assert!(last.next() < *first || before != after, "one range");
                }
            }
        }
    }
}
