//! Which missing ids are dead: pure.
//!
//! A writer locks the queue's relation before it draws an id and keeps the lock
//! to its end. So whoever does not hold the lock owns nothing that may still
//! appear, and each holder owns only ids above its *floor*: what the sequence
//! had given out when the holder was certainly not there yet.
//!
//! The caller reads in this order, each in a snapshot of its own: S0 the
//! sequence, S1 the holders, S2 the rows. Any other order loses events; the
//! simulation below shows it. The highest visible id may stand for the
//! sequence: every lower one was given out before it.

use std::collections::BTreeMap;

/// Prefix of the virtual transaction of a prepared transaction that no session
/// stands for: recovered after a restart, or prepared by an older server.
const ORPHAN: &str = "-1/";

/// The holders of the last sample and their floors. Forgotten at a reconnect.
#[derive(Debug, Default)]
pub(super) struct Floors {
    floors: BTreeMap<String, i64>,
    /// What S0 read before the last sample; `None` before the first one.
    previous: Option<i64>,
}

impl Floors {
    /// Whether no sample was taken yet.
    pub(super) fn is_first(&self) -> bool {
        self.previous.is_none()
    }

    /// What S0 read before the last sample.
    pub(super) fn last_value(&self) -> Option<i64> {
        self.previous
    }

    /// Takes a sample: `last_value` of S0, then `holders` of S1. Every id up to
    /// the returned one was resolved before S1 ended: a row that S2 shows, or
    /// dead. `settled` is what was proven before this process.
    pub(super) fn sample(
        &mut self,
        last_value: i64,
        holders: impl IntoIterator<Item = String>,
        settled: i64,
    ) -> i64 {
        let mut before = std::mem::take(&mut self.floors);
        let mut orphans = Vec::new();
        // Unknown at the first sample: it may own anything that is not settled.
        let newcomer = self.previous.unwrap_or(settled);
        for holder in holders {
            if let Some(floor) = before.remove(&holder) {
                self.floors.insert(holder, floor);
            } else if holder.starts_with(ORPHAN) {
                orphans.push(holder);
            } else {
                self.floors.entry(holder).or_insert(newcomer);
            }
        }
        // An orphan may go on for any holder that is gone since the last sample.
        let gone = before.into_values().min();
        for orphan in orphans {
            let floor = gone.map_or(newcomer, |gone| gone.min(newcomer));
            self.floors.entry(orphan).or_insert(floor);
        }
        self.previous = Some(last_value);
        self.floors
            .values()
            .copied()
            .min()
            .map_or(last_value, |floor| floor.min(last_value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    fn sample(floors: &mut Floors, last_value: i64, holders: &[&str]) -> i64 {
        floors.sample(last_value, holders.iter().map(ToString::to_string), 0)
    }

    #[test]
    fn holder_keeps_the_floor_of_its_first_sample() {
        let mut floors = Floors::default();
        assert_eq!(sample(&mut floors, 3, &["2/1"]), 0);
        assert_eq!(sample(&mut floors, 9, &["2/1", "3/1"]), 0);
        assert_eq!(sample(&mut floors, 12, &["3/1"]), 3);
        assert_eq!(sample(&mut floors, 12, &[]), 12);
    }

    #[test]
    fn orphan_goes_on_for_who_is_gone() {
        let mut floors = Floors::default();
        sample(&mut floors, 3, &[]);
        sample(&mut floors, 9, &["2/1"]);
        assert_eq!(sample(&mut floors, 20, &["-1/77"]), 3);
        assert_eq!(sample(&mut floors, 30, &["-1/77", "3/1"]), 3);
        assert_eq!(sample(&mut floors, 30, &["3/1"]), 20);
    }

    /// What is done to the model of the database.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        /// A transaction begins and locks the table, or a partition only.
        Begin {
            leaf: bool,
        },
        /// Some transaction draws an id.
        Draw(usize),
        /// Some transaction is prepared: a new name for its lock.
        Prepare(usize),
        /// `ROLLBACK TO SAVEPOINT` of everything: frees the lock, kills the ids;
        /// the transaction goes on and may lock and draw again.
        Savepoint(usize),
        Commit(usize),
        Rollback(usize),
        /// The reader's next step.
        Read,
        /// The reader is a new process.
        Restart,
    }

    #[derive(Debug, Clone)]
    struct Writer {
        name: String,
        leaf: bool,
        locked: bool,
        ids: Vec<i64>,
    }

    #[derive(Default)]
    struct Database {
        writers: Vec<Writer>,
        names: usize,
        last_value: i64,
        visible: BTreeSet<i64>,
    }

    impl Database {
        fn act(&mut self, act: Act) {
            let pick = |at: usize, count: usize| (count > 0).then(|| at % count);
            let count = self.writers.len();
            match act {
                Act::Begin { leaf } => {
                    self.names += 1;
                    self.writers.push(Writer {
                        name: format!("3/{}", self.names),
                        leaf,
                        locked: true,
                        ids: Vec::new(),
                    });
                }
                Act::Draw(at) => {
                    if let Some(at) = pick(at, count) {
                        self.last_value += 1;
                        self.writers[at].locked = true;
                        self.writers[at].ids.push(self.last_value);
                    }
                }
                Act::Prepare(at) => {
                    if let Some(at) = pick(at, count) {
                        self.names += 1;
                        self.writers[at].name = format!("{ORPHAN}{}", self.names);
                    }
                }
                Act::Commit(at) => {
                    if let Some(at) = pick(at, count) {
                        let writer = self.writers.swap_remove(at);
                        self.visible.extend(writer.ids);
                    }
                }
                Act::Savepoint(at) => {
                    if let Some(at) = pick(at, count) {
                        self.writers[at].locked = false;
                        self.writers[at].ids.clear();
                    }
                }
                Act::Rollback(at) => {
                    if let Some(at) = pick(at, count) {
                        self.writers.swap_remove(at);
                    }
                }
                Act::Read | Act::Restart => {}
            }
        }
    }

    /// The rule, and the ones that lose.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Rule {
        P1s,
        /// S0 is the highest visible id.
        P1m,
        /// The same, read after S1.
        VisibleAfterSample,
        /// Goes on from the highest visible id.
        Naive,
        /// S0, S2, S1.
        ReadBeforeSample,
        /// S1, S0, S2.
        SequenceAfterSample,
        /// A new holder cannot own what was given out up to now.
        NewcomerAtCurrent,
        /// An orphan is a holder like any other.
        OrphanIsNewcomer,
        /// Locks of partitions are not looked at.
        ParentOnly,
    }

    struct Reader {
        rule: Rule,
        floors: Floors,
        step: usize,
        settled: i64,
        last_value: i64,
        proven: i64,
        rows: BTreeSet<i64>,
        delivered: Vec<i64>,
    }

    impl Reader {
        fn new(rule: Rule) -> Self {
            Self {
                rule,
                floors: Floors::default(),
                step: 0,
                settled: 0,
                last_value: 0,
                proven: 0,
                rows: BTreeSet::new(),
                delivered: Vec::new(),
            }
        }

        fn restart(&mut self) {
            self.floors = Floors::default();
            self.step = 0;
            self.proven = self.settled;
        }

        /// One of the three steps of a cycle, so that anything may happen between.
        fn step(&mut self, database: &Database) {
            let order: [fn(&mut Self, &Database); 3] = match self.rule {
                Rule::ReadBeforeSample => [Self::sequence, Self::read, Self::holders],
                Rule::SequenceAfterSample | Rule::VisibleAfterSample => {
                    [Self::holders, Self::sequence, Self::read]
                }
                _ => [Self::sequence, Self::holders, Self::read],
            };
            order[self.step](self, database);
            self.step = (self.step + 1) % 3;
            if self.step == 0 {
                self.deliver();
            }
        }

        fn sequence(&mut self, database: &Database) {
            self.last_value = match self.rule {
                Rule::P1m | Rule::VisibleAfterSample => {
                    database.visible.last().copied().unwrap_or(0)
                }
                _ => database.last_value,
            };
            if matches!(
                self.rule,
                Rule::SequenceAfterSample | Rule::VisibleAfterSample
            ) {
                // The holders were sampled against the value of the cycle before.
                self.floors.previous = Some(self.last_value);
                let floor = self.floors.floors.values().copied().min();
                self.proven = floor.map_or(self.last_value, |floor| floor.min(self.last_value));
            }
        }

        fn holders(&mut self, database: &Database) {
            let rule = self.rule;
            if rule == Rule::NewcomerAtCurrent {
                self.floors.previous = Some(self.last_value);
            }
            let holders = database
                .writers
                .iter()
                .filter(|writer| writer.locked && !(rule == Rule::ParentOnly && writer.leaf))
                .map(|writer| match rule {
                    Rule::OrphanIsNewcomer => writer.name.replace(ORPHAN, "prepared/"),
                    _ => writer.name.clone(),
                })
                .collect::<Vec<_>>();
            self.proven = self.floors.sample(self.last_value, holders, self.settled);
        }

        fn read(&mut self, database: &Database) {
            self.rows = database.visible.clone();
        }

        fn deliver(&mut self) {
            if self.rule == Rule::Naive {
                self.proven = self.rows.last().copied().unwrap_or(0);
            }
            let mut next = self.settled + 1;
            while next <= self.proven || self.rows.contains(&next) {
                if self.rows.contains(&next) {
                    self.delivered.push(next);
                }
                next += 1;
            }
            self.settled = next - 1;
        }
    }

    /// Committed events that are never delivered.
    fn lost(rule: Rule, acts: &[Act]) -> Vec<i64> {
        let mut database = Database::default();
        let mut reader = Reader::new(rule);
        for act in acts {
            match act {
                Act::Read => reader.step(&database),
                Act::Restart => reader.restart(),
                act => database.act(*act),
            }
        }
        while !database.writers.is_empty() {
            database.act(Act::Commit(0));
        }
        reader.restart();
        for _ in 0..9 {
            reader.step(&database);
        }
        assert!(reader.delivered.is_sorted(), "{:?}", reader.delivered);
        if rule == Rule::P1s {
            assert_eq!(reader.settled, database.last_value, "all is settled");
        }
        let delivered: BTreeSet<i64> = reader.delivered.into_iter().collect();
        database.visible.difference(&delivered).copied().collect()
    }

    fn random_acts(seed: u64) -> Vec<Act> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut act = || {
            let at = random.random_range(0..100);
            match random.random_range(0..40) {
                0..7 => Act::Begin {
                    leaf: random.random(),
                },
                7..15 => Act::Draw(at),
                15..17 => Act::Prepare(at),
                17..18 => Act::Savepoint(at),
                18..23 => Act::Commit(at),
                23..25 => Act::Rollback(at),
                25..26 if at < 20 => Act::Restart,
                _ => Act::Read,
            }
        };
        (0..300).map(|_| act()).collect()
    }

    #[test]
    fn every_broken_rule_loses_and_the_kept_one_does_not() {
        let lost_by = |rule| {
            (0..400)
                .map(|seed| lost(rule, &random_acts(seed)).len())
                .sum()
        };
        for kept in [Rule::P1s, Rule::P1m] {
            let lost: usize = lost_by(kept);
            assert_eq!(lost, 0, "{kept:?}");
        }
        for broken in [
            Rule::Naive,
            Rule::ReadBeforeSample,
            Rule::SequenceAfterSample,
            Rule::VisibleAfterSample,
            Rule::NewcomerAtCurrent,
            Rule::OrphanIsNewcomer,
            Rule::ParentOnly,
        ] {
            let lost: usize = lost_by(broken);
            assert!(lost > 0, "{broken:?} must lose, or this test sees nothing");
        }
    }

    fn any_act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => any::<bool>().prop_map(|leaf| Act::Begin { leaf }),
            4 => (0usize..50).prop_map(Act::Draw),
            1 => (0usize..50).prop_map(Act::Prepare),
            1 => (0usize..50).prop_map(Act::Savepoint),
            3 => (0usize..50).prop_map(Act::Commit),
            1 => (0usize..50).prop_map(Act::Rollback),
            8 => Just(Act::Read),
            1 => Just(Act::Restart),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost(acts in proptest::collection::vec(any_act(), 0..200)) {
            prop_assert_eq!(lost(Rule::P1s, &acts), Vec::<i64>::new());
            prop_assert_eq!(lost(Rule::P1m, &acts), Vec::<i64>::new());
        }
    }
}
