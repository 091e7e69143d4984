//! What was promised against what is there: pure, so that it can be tested
//! that the checks bite.
//!
//! Producers note every event before they send it and every promise they got;
//! consumers note everything in the order in which they saw it. In the end the
//! table is read and both are compared with it.

use std::collections::{BTreeMap, HashMap};

/// Names one event: who made it, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Producer.
    pub by: u32,
    /// Its count.
    pub n: u64,
}

impl Key {
    /// As event data.
    pub fn to_json(self) -> String {
        format!(r#"{{"by":{},"n":{}}}"#, self.by, self.n)
    }

    /// From event data.
    pub fn from_json(text: &str) -> Self {
        let value: serde_json::Value = serde_json::from_str(text).expect("data is JSON");
        Self {
            by: u32::try_from(value["by"].as_u64().expect("`by` is there")).expect("small"),
            n: value["n"].as_u64().expect("`n` is there"),
        }
    }
}

/// What a producer knows of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was promised under this id.
    Stored(i64),
    /// The answer was lost.
    Unknown,
    /// It was rolled back, or refused as certainly not written.
    Never,
}

/// A row of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: i64,
    /// Its event.
    pub key: Key,
}

/// What producers sent, one entry per transaction.
#[derive(Debug, Default)]
pub struct Adds {
    events: BTreeMap<Key, Outcome>,
    transactions: Vec<Vec<Key>>,
}

impl Adds {
    /// Before the transaction begins.
    pub fn begin(&mut self, keys: &[Key]) {
        for &key in keys {
            assert!(
                self.events.insert(key, Outcome::Unknown).is_none(),
                "{key:?} is new"
            );
        }
        self.transactions.push(keys.to_vec());
    }

    /// After it was answered.
    pub fn stored(&mut self, keys: &[Key], ids: &[i64]) {
        assert_eq!(keys.len(), ids.len(), "one id per event");
        for (key, id) in keys.iter().zip(ids) {
            self.events.insert(*key, Outcome::Stored(*id));
        }
    }

    /// After it certainly failed.
    pub fn never(&mut self, keys: &[Key]) {
        for key in keys {
            self.events.insert(*key, Outcome::Never);
        }
    }

    /// Events that were promised, and those whose answer was lost.
    pub fn counts(&self) -> (usize, usize) {
        let count =
            |of: fn(&Outcome) -> bool| self.events.values().filter(|outcome| of(outcome)).count();
        (
            count(|outcome| matches!(outcome, Outcome::Stored(_))),
            count(|outcome| matches!(outcome, Outcome::Unknown)),
        )
    }

    /// Compares with the whole table; every violation in words.
    pub fn check(&self, rows: &[Row]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut found: HashMap<Key, i64> = HashMap::new();
        for row in rows {
            if let Some(first) = found.insert(row.key, row.id) {
                faults.push(format!(
                    "duplicated: {:?} is at {first} and {}",
                    row.key, row.id
                ));
            }
            match self.events.get(&row.key) {
                None => faults.push(format!("phantom: nobody sent {row:?}")),
                Some(Outcome::Never) => {
                    faults.push(format!("phantom: {row:?} was certainly not written"));
                }
                Some(_) => {}
            }
        }
        for (key, outcome) in &self.events {
            let Outcome::Stored(id) = outcome else {
                continue;
            };
            match found.get(key) {
                None => faults.push(format!("lost: {key:?} was acknowledged as {id}")),
                Some(at) if at != id => {
                    faults.push(format!("moved: {key:?} was acknowledged as {id}, is {at}"));
                }
                Some(_) => {}
            }
        }
        for keys in &self.transactions {
            let there = keys.iter().filter(|key| found.contains_key(key)).count();
            if there != 0 && there != keys.len() {
                faults.push(format!(
                    "torn: {there} of {} from {:?}",
                    keys.len(),
                    keys[0]
                ));
            }
        }
        faults
    }
}

/// What a consumer saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A session or a page began after this id.
    Started(i64),
    /// An event.
    Event(Row),
    /// Everything up to this id was said to be delivered.
    Reached(i64),
    /// An acknowledgement was answered.
    Acked(i64),
}

/// Compares what one consumer saw with the rows that it wants, ascending.
pub fn check_consumer(seen: &[Seen], wanted: &[Row]) -> Vec<String> {
    let mut check = Check {
        wanted,
        next: 0,
        acked: 0,
        covered: 0,
        faults: Vec::new(),
    };
    for one in seen {
        match *one {
            Seen::Started(after) => check.started(after),
            Seen::Event(row) => check.event(row),
            Seen::Reached(id) => check.reached(id),
            Seen::Acked(id) => check.acked = check.acked.max(id),
        }
    }
    if let Some(first) = wanted.get(check.next) {
        let missing = wanted.len() - check.next;
        check.fault(format!("lost: {missing} never came, from {first:?}"));
    }
    check.faults
}

struct Check<'a> {
    wanted: &'a [Row],
    /// The next one that must come in this session.
    next: usize,
    acked: i64,
    /// Highest id that was delivered or filtered in any session.
    covered: i64,
    faults: Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, text: String) {
        self.faults.push(text);
    }

    fn started(&mut self, after: i64) {
        if after < self.acked {
            self.fault(format!(
                "went back: started after {after}, {} was acknowledged",
                self.acked
            ));
        }
        if after > self.covered {
            self.fault(format!(
                "skipped: started after {after}, seen up to {}",
                self.covered
            ));
        }
        self.next = self.wanted.partition_point(|row| row.id <= after);
    }

    fn event(&mut self, row: Row) {
        match self.wanted.get(self.next) {
            Some(expected) if *expected == row => self.next += 1,
            Some(expected) if expected.id < row.id => {
                self.fault(format!("lost: expected {expected:?}, got {row:?}"));
                self.next = self.wanted.partition_point(|wanted| wanted.id <= row.id);
            }
            _ if self.wanted.contains(&row) => {
                self.fault(format!("repeated or out of order: {row:?}"));
            }
            _ => self.fault(format!("phantom: {row:?}")),
        }
        self.covered = self.covered.max(row.id);
    }

    fn reached(&mut self, id: i64) {
        if let Some(missed) = self.wanted.get(self.next).filter(|row| row.id <= id) {
            self.fault(format!("lost: {id} was reached without {missed:?}"));
            self.next = self.wanted.partition_point(|row| row.id <= id);
        }
        self.covered = self.covered.max(id);
    }
}

mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key { by: 1, n }
    }

    fn rows(ids: &[i64]) -> Vec<Row> {
        let row = |&id: &i64| Row {
            id,
            key: key(id.cast_unsigned()),
        };
        ids.iter().map(row).collect()
    }

    fn events(ids: &[i64]) -> Vec<Seen> {
        rows(ids).into_iter().map(Seen::Event).collect()
    }

    /// One transaction with the events 1 and 2, one with 3.
    fn adds() -> Adds {
        let mut adds = Adds::default();
        adds.begin(&[key(1), key(2)]);
        adds.stored(&[key(1), key(2)], &[1, 2]);
        adds.begin(&[key(3)]);
        adds
    }

    fn only(faults: &[String], word: &str) {
        assert!(
            faults.len() == 1 && faults[0].starts_with(word),
            "{word}: {faults:?}"
        );
    }

    #[test]
    fn kept_promises_pass() {
        assert!(adds().check(&rows(&[1, 2])).is_empty());
        assert!(adds().check(&rows(&[1, 2, 3])).is_empty());
    }

    #[test]
    fn broken_promises_are_found() {
        let mut adds = adds();
        only(&adds.check(&rows(&[1, 2, 9])), "phantom");
        let mut moved = rows(&[1, 2]);
        moved[1].id = 7;
        only(&adds.check(&moved), "moved");
        let mut twice = rows(&[1, 2, 3, 4]);
        twice[3].key = key(3);
        only(&adds.check(&twice), "duplicated");
        adds.never(&[key(3)]);
        only(&adds.check(&rows(&[1, 2, 3])), "phantom");
        let faults = adds.check(&rows(&[1]));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("lost") && faults[1].starts_with("torn"));
    }

    #[test]
    fn redelivery_of_the_tail_passes() {
        let mut seen = vec![Seen::Started(0)];
        seen.extend(events(&[1, 3]));
        seen.extend([Seen::Reached(4), Seen::Acked(1), Seen::Started(1)]);
        seen.extend(events(&[3, 5]));
        assert_eq!(check_consumer(&seen, &rows(&[1, 3, 5])), [""; 0]);
    }

    #[test]
    fn every_fault_of_a_delivery_is_found() {
        let wanted = rows(&[1, 3, 5]);
        let check =
            |seen: Vec<Seen>| check_consumer(&[vec![Seen::Started(0)], seen].concat(), &wanted);
        only(&check(events(&[1, 3])), "lost");
        only(&check(events(&[1, 5])), "lost");
        only(&check(events(&[1, 1, 3, 5])), "repeated");
        only(&check(events(&[1, 3, 4, 5])), "phantom");
        only(&check(events(&[1, 3, 5, 6])), "phantom");
        let reordered = check(events(&[3, 1, 5]));
        assert_eq!(reordered.len(), 2, "{reordered:?}");
        let later = |more: &[Seen], ids: &[i64]| {
            check([events(&[1, 3]), more.to_vec(), events(ids)].concat())
        };
        only(
            &later(&[Seen::Acked(3), Seen::Started(1)], &[3, 5]),
            "went back",
        );
        only(&later(&[Seen::Reached(5)], &[]), "lost");
        only(&later(&[Seen::Started(5)], &[]), "skipped");
        let mut altered = rows(&[5]);
        altered[0].key = key(99);
        let altered = later(&[], &[]).len() + later(&[Seen::Event(altered[0])], &[]).len();
        assert_eq!(
            altered, 3,
            "an altered event is a phantom, and the true one is lost"
        );
    }
}
