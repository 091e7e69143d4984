//! What was delivered against what was committed: pure, so that it can be
//! tested that every kind of violation is seen.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use super::ledger::{Entry, Outcome, Tag};

/// An event that a reader got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) id: i64,
    /// Its data; `None` if that is none of ours.
    pub(super) tag: Option<Tag>,
    pub(super) at: Duration,
    /// Which session of the reader: after a break events may come again.
    pub(super) session: u32,
}

/// How a reader did. Every count but the first two must be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Verdict {
    /// Events in the table.
    pub(super) committed: usize,
    /// Deliveries, repeated ones included.
    pub(super) delivered: usize,
    /// Committed and never delivered.
    pub(super) lost: usize,
    /// Delivered twice in one session.
    pub(super) duplicated: usize,
    /// Delivered after a higher id in the same session.
    pub(super) out_of_order: usize,
    /// Delivered, and not in the table: rolled back.
    pub(super) rolled_back: usize,
    /// Delivered with other data than the table has.
    pub(super) altered: usize,
    /// Some of the ids lost, for a look at the table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lost_ids: Vec<i64>,
    /// Delivered again after a break, as it may be.
    pub(super) redelivered: usize,
    /// From the acknowledgement of its commit to the delivery.
    pub(super) delay: Delays,
    /// What the reader adds to the wait that no reader in id order avoids:
    /// for the last end of a transaction that owned the same or a lower id.
    pub(super) added_delay: Delays,
}

/// Quantiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Delays {
    #[serde(rename = "p50_us")]
    pub(super) p50: u64,
    #[serde(rename = "p95_us")]
    pub(super) p95: u64,
    #[serde(rename = "p99_us")]
    pub(super) p99: u64,
    #[serde(rename = "max_us")]
    pub(super) max: u64,
}

/// How many ids are named.
const NAMED: usize = 10;

impl Verdict {
    /// Whether nothing is violated.
    pub(super) fn holds(&self) -> bool {
        [
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.rolled_back,
            self.altered,
        ]
        .iter()
        .all(|&count| count == 0)
    }
}

/// Compares the deliveries of one reader, in their order, with the table.
pub(super) fn judge(
    entries: &[Entry],
    table: &BTreeMap<i64, Tag>,
    deliveries: &[Delivery],
) -> Verdict {
    let mut verdict = Verdict {
        committed: table.len(),
        delivered: deliveries.len(),
        ..Verdict::default()
    };
    let mut first_times: HashMap<i64, Duration> = HashMap::new();
    let mut session = 0;
    let mut seen: HashSet<i64> = HashSet::new();
    let mut highest = 0;
    for delivery in deliveries {
        if delivery.session != session {
            (session, highest) = (delivery.session, 0);
            seen.clear();
        }
        if !seen.insert(delivery.id) {
            verdict.duplicated += 1;
        } else if delivery.id < highest {
            verdict.out_of_order += 1;
        } else if first_times.contains_key(&delivery.id) {
            verdict.redelivered += 1;
        }
        highest = highest.max(delivery.id);
        match table.get(&delivery.id) {
            None => verdict.rolled_back += 1,
            Some(&tag) if delivery.tag != Some(tag) => verdict.altered += 1,
            Some(_) => {}
        }
        first_times.entry(delivery.id).or_insert(delivery.at);
    }
    let lost = table.keys().filter(|id| !first_times.contains_key(id));
    let lost: Vec<i64> = lost.copied().collect();
    verdict.lost = lost.len();
    verdict.lost_ids = lost.into_iter().take(NAMED).collect();
    (verdict.delay, verdict.added_delay) = delays(entries, table, &first_times);
    verdict
}

fn delays(
    entries: &[Entry],
    table: &BTreeMap<i64, Tag>,
    first_times: &HashMap<i64, Duration>,
) -> (Delays, Delays) {
    let committed = entries
        .iter()
        .filter(|entry| entry.outcome != Outcome::RolledBack);
    let ends: HashMap<Tag, Duration> = committed.map(|entry| (entry.tag, entry.ended)).collect();
    // An id whose owner was not told does not count: that makes the bound
    // earlier and the added delay longer, never shorter.
    let mut owners: Vec<(i64, Duration)> = entries
        .iter()
        .filter_map(|entry| Some((entry.first?, entry.ended)))
        .collect();
    owners.sort_unstable();
    let mut owners = owners.into_iter().peekable();
    let mut bound = Duration::ZERO;
    let (mut raw, mut added) = (Vec::new(), Vec::new());
    for (id, tag) in table {
        while let Some((_, ended)) = owners.next_if(|(first, _)| first <= id) {
            bound = bound.max(ended);
        }
        let (Some(&at), Some(&end)) = (first_times.get(id), ends.get(tag)) else {
            continue;
        };
        raw.push(at.saturating_sub(end));
        added.push(at.saturating_sub(bound.max(end)));
    }
    (Delays::of(raw), Delays::of(added))
}

impl Delays {
    fn of(mut values: Vec<Duration>) -> Self {
        values.sort_unstable();
        let quantile = |percent: usize| {
            let last = values.len().saturating_sub(1);
            let value = values.get(last * percent / 100).copied();
            u64::try_from(value.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
        };
        Self {
            p50: quantile(50),
            p95: quantile(95),
            p99: quantile(99),
            max: quantile(100),
        }
    }
}

/// What the database itself did against the answers that it gave; in words.
pub(super) fn broken_promises(entries: &[Entry], table: &BTreeMap<i64, Tag>) -> Vec<String> {
    let mut found: HashMap<Tag, u32> = HashMap::new();
    for tag in table.values() {
        *found.entry(*tag).or_default() += 1;
    }
    let mut broken = Vec::new();
    let known: HashSet<Tag> = entries.iter().map(|entry| entry.tag).collect();
    let whole = entries.iter().filter(|entry| entry.rows > 0);
    for entry in whole {
        let there = found.get(&entry.tag).copied().unwrap_or(0);
        let (tag, rows) = (entry.tag.to_json(), entry.rows);
        let fault = match entry.outcome {
            Outcome::Committed if there != rows => "was committed",
            Outcome::RolledBack if there != 0 => "was rolled back",
            Outcome::Unknown if there != 0 && there != rows => "ended with its session",
            _ => continue,
        };
        broken.push(format!(
            "transaction {tag} of {rows} events {fault}, {there} are there"
        ));
    }
    for tag in found.keys().filter(|tag| !known.contains(tag)) {
        broken.push(format!("nobody sent transaction {}", tag.to_json()));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn tag(number: u64) -> Tag {
        Tag { writer: 1, number }
    }

    fn entry(number: u64, outcome: Outcome, first: i64, ended: u64) -> Entry {
        Entry {
            tag: tag(number),
            outcome,
            rows: 1,
            first: Some(first),
            ended: ms(ended),
        }
    }

    /// Ids 1, 2 and 4 are there, of transactions 1, 2 and 4; 3 was rolled back.
    fn table() -> BTreeMap<i64, Tag> {
        [1, 2, 4].map(|id: i64| (id, tag(id.unsigned_abs()))).into()
    }

    fn delivery(id: i64, at: u64) -> Delivery {
        Delivery {
            id,
            tag: Some(tag(id.unsigned_abs())),
            at: ms(at),
            session: 0,
        }
    }

    fn verdict(ids: &[i64]) -> Verdict {
        let deliveries: Vec<Delivery> = ids.iter().map(|&id| delivery(id, 0)).collect();
        judge(&[], &table(), &deliveries)
    }

    #[test]
    fn what_was_promised_holds() {
        let verdict = verdict(&[1, 2, 4]);
        assert!(verdict.holds(), "{verdict:?}");
        assert_eq!((verdict.committed, verdict.delivered), (3, 3));
    }

    #[test]
    fn every_kind_of_violation_is_seen_as_what_it_is() {
        let lost = verdict(&[1, 4]);
        assert!(!lost.holds() && lost.lost == 1 && lost.lost_ids == [2]);
        let duplicated = verdict(&[1, 2, 2, 4]);
        assert!(!duplicated.holds() && duplicated.duplicated == 1 && duplicated.out_of_order == 0);
        let late_duplicate = verdict(&[1, 2, 4, 1]);
        assert!(!late_duplicate.holds() && late_duplicate.duplicated == 1);
        let reordered = verdict(&[2, 1, 4]);
        assert!(!reordered.holds() && reordered.out_of_order == 1 && reordered.lost == 0);
        let rolled_back = verdict(&[1, 2, 3, 4]);
        assert!(!rolled_back.holds() && rolled_back.rolled_back == 1);
        let mut altered = [1, 2, 4].map(|id| delivery(id, 0));
        altered[2].tag = Some(tag(9));
        let altered = judge(&[], &table(), &altered);
        assert!(!altered.holds() && altered.altered == 1);
    }

    #[test]
    fn after_a_break_events_may_come_again_in_order() {
        let mut deliveries = [1, 2, 2, 4].map(|id| delivery(id, 0));
        deliveries[2].session = 1;
        deliveries[3].session = 1;
        let verdict = judge(&[], &table(), &deliveries);
        assert!(verdict.holds() && verdict.redelivered == 1, "{verdict:?}");
        deliveries.swap(2, 3);
        assert_eq!(judge(&[], &table(), &deliveries).out_of_order, 1);
    }

    #[test]
    fn a_delay_is_told_with_and_without_the_wait_for_lower_ids() {
        let entries = [
            entry(1, Outcome::Committed, 1, 100),
            entry(2, Outcome::Committed, 2, 10),
            entry(3, Outcome::RolledBack, 3, 300),
            entry(4, Outcome::Committed, 4, 20),
        ];
        let deliveries = [delivery(1, 105), delivery(2, 106), delivery(4, 307)];
        let verdict = judge(&entries, &table(), &deliveries);
        assert_eq!((verdict.delay.p50, verdict.delay.max), (96_000, 287_000));
        assert_eq!(
            (verdict.added_delay.p50, verdict.added_delay.max),
            (6_000, 7_000)
        );
    }

    #[test]
    fn a_database_that_breaks_its_word_is_named() {
        let promised = |outcome| vec![entry(1, outcome, 1, 0)];
        let there: BTreeMap<i64, Tag> = [(1, tag(1))].into();
        assert!(broken_promises(&promised(Outcome::Committed), &there).is_empty());
        assert!(broken_promises(&promised(Outcome::Unknown), &there).is_empty());
        for broken in [
            broken_promises(&promised(Outcome::RolledBack), &there),
            broken_promises(&promised(Outcome::Committed), &BTreeMap::new()),
            broken_promises(
                &promised(Outcome::Committed),
                &[(1, tag(1)), (2, tag(1))].into(),
            ),
            broken_promises(&[], &there),
        ] {
            assert_eq!(broken.len(), 1, "{broken:?}");
        }
        let mut torn = promised(Outcome::Unknown);
        torn[0].rows = 2;
        assert_eq!(broken_promises(&torn, &there).len(), 1);
    }
}
