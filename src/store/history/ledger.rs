//! The ledger of what is archived: contiguous ranges, each with the number of
//! its events and a checksum of their content.
//!
//! The checksum is the sum of the events' digests modulo 2¹²⁸. A sum does not
//! depend on the order: batches can be appended, ranges merged, and an event
//! that settled late added inside a range, without reading the others again.
//! It finds what is removed, changed or added by accident; it is no signature.
//! Everything here is pure; how it is kept is the engines' affair.

use sha2::{Digest as _, Sha256};

use crate::event::{EventId, Moment};

/// A range takes no further batch once it has this many events: what has to
/// be read again to check it, and how closely a time can be looked up.
pub const RANGE_EVENTS: u64 = 10_000;

/// A digest of one event, or the sum of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(u128);

impl Digest {
    /// Of one event: SHA-256 of everything that is stored of it, shortened.
    #[must_use]
    pub fn of(id: EventId, kind: &str, data: &str, ts: Option<Moment>) -> Self {
        let mut hash = Sha256::new();
        hash.update(id.get().to_be_bytes());
        // Lengths keep the columns apart.
        hash.update((kind.len() as u64).to_be_bytes());
        hash.update(kind);
        hash.update((data.len() as u64).to_be_bytes());
        hash.update(data);
        hash.update(ts.map_or(i64::MIN, Moment::unix_millis).to_be_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hash.finalize()[..16]);
        Self(u128::from_be_bytes(short))
    }

    /// Of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// As the ledger's column has it.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }

    /// From the ledger's column; `None` if it holds something else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

/// Ids that are known to be archived completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Lowest id.
    pub first: EventId,
    /// Highest id.
    pub last: EventId,
    /// Of its ids, those that are events.
    pub events: u64,
    /// Sum of their digests.
    pub checksum: Digest,
    /// Their highest `ts`.
    pub newest: Option<Moment>,
}

impl Range {
    /// Without any event yet.
    #[must_use]
    pub fn empty(first: EventId, last: EventId) -> Self {
        Self {
            first,
            last,
            events: 0,
            checksum: Digest::default(),
            newest: None,
        }
    }

    /// Counts one more event.
    pub fn add(&mut self, entry: &Entry) {
        self.events += 1;
        self.checksum = self.checksum.plus(entry.digest);
        self.newest = self.newest.max(entry.ts);
    }

    fn has(&self, id: EventId) -> bool {
        self.first <= id && id <= self.last
    }
}

/// A row that a batch has brought, or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: EventId,
    /// Of what the warehouse holds.
    pub digest: Digest,
    /// Its time.
    pub ts: Option<Moment>,
    /// Whether it was not there before.
    pub fresh: bool,
}

/// What the ledger must say when `(after, through]` is archived with `entries`,
/// all events of it, ascending: the ranges to write, each in the place of the
/// one that begins at the same id. `known` are the recorded ranges that overlap
/// or end at `after`, ascending.
#[must_use]
pub fn record(after: EventId, through: EventId, entries: &[Entry], known: &[Range]) -> Vec<Range> {
    let mut written = Vec::new();
    let mut covered = after;
    let mut before: Option<Range> = None;
    for range in known {
        if range.first > covered.next() {
            let gap = (covered, range.first.previous());
            put(&mut written, fill(before, gap, entries));
        }
        covered = covered.max(range.last);
        let late = |entry: &&Entry| entry.fresh && range.has(entry.id);
        let mut grown = *range;
        entries
            .iter()
            .filter(late)
            .for_each(|entry| grown.add(entry));
        if grown != *range {
            put(&mut written, grown);
        }
        before = Some(grown);
    }
    if covered < through {
        put(&mut written, fill(before, (covered, through), entries));
    }
    written
}

/// In the place of what was to be written there.
fn put(written: &mut Vec<Range>, range: Range) {
    written.retain(|before| before.first != range.first);
    written.push(range);
}

/// The range of the ids above `gap.0` up to `gap.1`: `before`, if that ends
/// there and may grow, else a new one.
fn fill(before: Option<Range>, gap: (EventId, EventId), entries: &[Entry]) -> Range {
    let (after, through) = gap;
    let grows = |range: &Range| range.last == after && range.events < RANGE_EVENTS;
    let mut range = before
        .filter(grows)
        .unwrap_or_else(|| Range::empty(after.next(), through));
    range.last = through;
    let inside = |entry: &&Entry| entry.id > after && entry.id <= through;
    entries
        .iter()
        .filter(inside)
        .for_each(|entry| range.add(entry));
    range
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(raw: i64) -> EventId {
        EventId::stored(raw)
    }

    fn entry(raw: i64, fresh: bool) -> Entry {
        let ts = Some(Moment::from_unix_millis(raw * 7 % 100));
        Entry {
            id: id(raw),
            digest: Digest::of(id(raw), "T", "1", ts),
            ts,
            fresh,
        }
    }

    /// A warehouse in memory.
    #[derive(Default)]
    struct Model {
        rows: BTreeMap<i64, Entry>,
        ledger: BTreeMap<i64, Range>,
    }

    impl Model {
        fn archive(&mut self, after: i64, through: i64, ids: &[i64]) {
            let entries: Vec<Entry> = ids
                .iter()
                .map(|&raw| entry(raw, !self.rows.contains_key(&raw)))
                .collect();
            let touches = |range: &&Range| range.last >= id(after) && range.first <= id(through);
            let known: Vec<Range> = self.ledger.values().filter(touches).copied().collect();
            for one in &entries {
                self.rows.insert(one.id.get(), *one);
            }
            for range in record(id(after), id(through), &entries, &known) {
                self.ledger.insert(range.first.get(), range);
            }
        }

        fn check(&self) -> Result<(), TestCaseError> {
            let mut end = -1;
            for range in self.ledger.values() {
                let (first, last) = (range.first.get(), range.last.get());
                prop_assert!(first > end && last >= first, "ranges are apart: {range:?}");
                end = last;
                let mut expected = Range::empty(range.first, range.last);
                self.rows
                    .range(first..=last)
                    .for_each(|(_, row)| expected.add(row));
                prop_assert_eq!(*range, expected);
            }
            Ok(())
        }

        fn covers(&self, raw: i64) -> bool {
            self.ledger.values().any(|range| range.has(id(raw)))
        }
    }

    proptest! {
        /// Batches in any order, repeated and overlapping, with ids that
        /// settle late: the ledger tells exactly what is there.
        #[test]
        fn ledger_tells_what_is_there(
            batches in prop::collection::vec((0_i64..60, 1_i64..20, any::<u32>()), 1..30)
        ) {
            let mut model = Model::default();
            let mut asked = Vec::new();
            for (after, length, bits) in batches {
                let through = after + length;
                // What was there once is there again; some of the rest appears.
                let ids: Vec<i64> = (after + 1..=through)
                    .filter(|raw| model.rows.contains_key(raw) || bits & (1 << (raw % 32)) != 0)
                    .collect();
                model.archive(after, through, &ids);
                model.check()?;
                asked.extend(after + 1..=through);
                prop_assert!(asked.iter().all(|&raw| model.covers(raw)));
            }
        }
    }

    #[test]
    fn batch_after_batch_is_one_range_until_it_is_large() {
        let mut model = Model::default();
        let step = 4000;
        for after in (0..16_000).step_by(step) {
            let through = after + 4000;
            let ids: Vec<i64> = (after + 1..=through).collect();
            model.archive(after, through, &ids);
        }
        let ends: Vec<i64> = model
            .ledger
            .values()
            .map(|range| range.last.get())
            .collect();
        assert_eq!(ends, [12_000, 16_000]);
        model.check().expect("it is told right");
    }

    #[test]
    fn hole_stays_a_hole() {
        let mut model = Model::default();
        model.archive(0, 5, &[1, 2, 5]);
        model.archive(9, 12, &[10, 12]);
        assert!(!model.covers(7));
        model.archive(3, 10, &[5, 8, 10]);
        assert!((1..=12).all(|raw| model.covers(raw)));
        model.check().expect("it is told right");
    }

    #[test]
    fn digests_tell_columns_apart_and_survive_the_ledger() {
        let digest = |kind, data| Digest::of(id(1), kind, data, None);
        assert_ne!(digest("AB", "1"), digest("A", "B1"));
        let sum = digest("A", "1").plus(digest("B", "2"));
        assert_eq!(Digest::from_hex(&sum.to_hex()), Some(sum));
        assert_eq!(Digest::from_hex("none"), None);
    }
}
