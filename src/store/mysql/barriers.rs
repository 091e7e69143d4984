//! Which missing ids can get no row any more: pure.
//!
//! An id is given out before anything of its row exists, but both happen inside
//! one statement, which has the table open all the while. Ids are given out in
//! increasing order. So whoever saw an id raises a *barrier* there: every lower
//! id belongs to a statement that began before. Once each of those was seen to
//! be over, be it because nobody uses the table or because it is missing among
//! the statements that run, the barrier is passed: every row up to it is in the
//! table, committed or not, or will never be. A dirty read *after* that tells
//! the rows of open transactions from dead ids.
//!
//! The caller goes in this order: rows, barrier, use of the table, running
//! statements, dirty read, rows again. The simulation below shows what each
//! other order, and each simpler rule, loses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Barriers that wait at a time; more are raised when these are passed. One
/// is raised per look, and most looks pass one.
const MOST_BARRIERS: usize = 64;

/// A statement that may run: a thread, and which of its statements as far as
/// that can be told. Two that are equal may be the same statement; two that
/// differ are certainly not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Statement {
    /// The server's number of the connection.
    pub(super) thread: u64,
    /// Equal for as long as the same statement may run.
    pub(super) number: u64,
}

/// The barriers that are not passed yet. Forgotten at a reconnect.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    waiting: VecDeque<Barrier>,
    passed: i64,
}

#[derive(Debug)]
struct Barrier {
    through: i64,
    /// What ran at the first sample after it was raised and at every one since;
    /// `None` before the first.
    running: Option<BTreeSet<Statement>>,
}

impl Barriers {
    /// Every id up to this one has its row in the table, or never will.
    pub(super) fn passed(&self) -> i64 {
        self.passed
    }

    /// Whether a look at the running statements could prove anything.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A row of id `through` was seen, so everything up to it was given out.
    pub(super) fn raise(&mut self, through: i64) {
        let highest = self.waiting.back().map_or(self.passed, |last| last.through);
        if through <= highest {
            return;
        }
        if let Some(last) = self.waiting.back_mut()
            && last.running.is_none()
        {
            // Nobody has looked since: one barrier is as good as two.
            last.through = through;
        } else if self.waiting.len() < MOST_BARRIERS {
            self.waiting.push_back(Barrier {
                through,
                running: None,
            });
        }
    }

    /// After the last barrier was raised, nobody had the table open.
    pub(super) fn nobody_uses_the_table(&mut self) {
        if let Some(last) = self.waiting.drain(..).next_back() {
            self.passed = last.through;
        }
    }

    /// After the last barrier was raised, at most these statements could use
    /// the table.
    pub(super) fn sample(&mut self, running: &BTreeSet<Statement>) {
        for barrier in &mut self.waiting {
            match &mut barrier.running {
                // Who is missing once is over; who comes later began later.
                Some(before) => before.retain(|statement| running.contains(statement)),
                None => barrier.running = Some(running.clone()),
            }
        }
        while let Some(first) = self.waiting.front()
            && first.running.as_ref().is_some_and(BTreeSet::is_empty)
        {
            self.passed = first.through;
            self.waiting.pop_front();
        }
    }
}

/// Numbers for statements that are known only by the age of the thread's lock
/// on the table, all on the server's own clock, which never goes back.
#[derive(Debug, Default)]
pub(super) struct Ages {
    numbers: BTreeMap<u64, u64>,
    next: u64,
    /// Of the last sample, in milliseconds.
    clock: Option<u64>,
}

impl Ages {
    /// Statements of `(thread, age of its oldest lock in ms)`; `clock` was read
    /// before the ages, in ms. Without a clock statements of a thread cannot be
    /// told apart.
    pub(super) fn tell_apart(
        &mut self,
        clock: Option<u64>,
        locks: impl IntoIterator<Item = (u64, Option<u64>)>,
    ) -> BTreeSet<Statement> {
        let elapsed = clock
            .zip(self.clock)
            .map(|(now, before)| now.saturating_sub(before));
        let before = std::mem::take(&mut self.numbers);
        for (thread, age) in locks {
            // Both readings and the age are cut to whole milliseconds.
            let is_newer = age
                .zip(elapsed)
                .is_some_and(|(age, elapsed)| age.saturating_add(2) <= elapsed);
            let number = match before.get(&thread) {
                Some(number) if !is_newer => *number,
                _ => {
                    self.next += 1;
                    self.next
                }
            };
            self.numbers.insert(thread, number);
        }
        self.clock = clock;
        let statement = |(&thread, &number): (&u64, &u64)| Statement { thread, number };
        self.numbers.iter().map(statement).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    fn running(statements: &[(u64, u64)]) -> BTreeSet<Statement> {
        let statement = |&(thread, number): &(u64, u64)| Statement { thread, number };
        statements.iter().map(statement).collect()
    }

    #[test]
    fn barrier_is_passed_when_everybody_of_its_first_sample_was_missing_once() {
        let mut barriers = Barriers::default();
        barriers.raise(10);
        barriers.sample(&running(&[(1, 1), (2, 1)]));
        barriers.sample(&running(&[(2, 1), (3, 1)]));
        // 1 is back with another statement, and does not count again.
        barriers.sample(&running(&[(1, 2), (2, 1)]));
        assert_eq!(barriers.passed(), 0);
        barriers.raise(20);
        barriers.sample(&running(&[(1, 2), (3, 1)]));
        assert_eq!(barriers.passed(), 10);
        barriers.sample(&running(&[]));
        assert_eq!(barriers.passed(), 20);
        assert!(!barriers.are_waiting());
    }

    #[test]
    fn statement_of_the_same_number_may_be_the_same() {
        let mut barriers = Barriers::default();
        barriers.raise(10);
        for _ in 0..3 {
            barriers.sample(&running(&[(1, 0)]));
        }
        assert_eq!(barriers.passed(), 0);
        barriers.nobody_uses_the_table();
        assert_eq!(barriers.passed(), 10);
    }

    #[test]
    fn barriers_are_bounded_and_the_latest_is_raised_later() {
        let mut barriers = Barriers::default();
        for through in 1..1000 {
            barriers.raise(through);
            barriers.sample(&running(&[(1, 1)]));
        }
        assert_eq!(barriers.waiting.len(), MOST_BARRIERS);
        barriers.sample(&running(&[(1, 2)]));
        assert_eq!(barriers.passed(), 64);
        barriers.raise(1000);
        barriers.raise(1001);
        assert_eq!(barriers.waiting.len(), 1);
        barriers.nobody_uses_the_table();
        assert_eq!(barriers.passed(), 1001);
    }

    #[test]
    fn lock_that_is_younger_than_the_last_sample_is_another_statement() {
        let mut ages = Ages::default();
        let told = |ages: &mut Ages, clock, age| {
            let told = ages.tell_apart(clock, [(7, age)]);
            told.into_iter().next().expect("one").number
        };
        let first = told(&mut ages, Some(1000), Some(3));
        assert_eq!(told(&mut ages, Some(1010), Some(13)), first);
        // Cut to milliseconds it may have begun before the sample of 1010.
        assert_eq!(told(&mut ages, Some(1020), Some(9)), first);
        let second = told(&mut ages, Some(1030), Some(8));
        assert_ne!(second, first);
        assert_eq!(told(&mut ages, None, Some(0)), second);
        assert_eq!(told(&mut ages, Some(2000), Some(0)), second);
        assert_eq!(told(&mut ages, Some(3000), None), second);
        ages.tell_apart(Some(3001), []);
        assert_ne!(told(&mut ages, Some(3002), Some(9000)), second);
    }

    /// What is done to the model of the database.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        /// A thread begins a statement, unless it runs one.
        Statement(usize),
        /// Its statement is given so many ids.
        Reserve(usize, i64),
        /// Its statement puts the row of its next id into the table.
        Row(usize),
        /// A trigger of its statement runs a statement of its own.
        Trigger(usize),
        /// Its statement puts the rows of all its ids into the table and is over.
        Finish(usize),
        /// Its statement is over; ids that it did not use are dead.
        EndStatement(usize),
        Commit(usize),
        Rollback(usize),
        /// Somebody deletes a visible row in a transaction…
        Delete(usize),
        /// …and rolls back.
        Undelete,
        /// The reader's next step.
        Read,
        /// The reader is a new process.
        Restart,
    }

    const THREADS: usize = 3;

    /// One of them belongs to a user whose statements the reader may not see.
    const HIDDEN: usize = 2;

    #[derive(Debug, Default, Clone)]
    struct Thread {
        /// Number and begin of the statement that runs.
        statement: Option<(u64, u64)>,
        /// As the list of processes shows it: triggers change it.
        query: u64,
        reserved: VecDeque<i64>,
        rows: BTreeSet<i64>,
    }

    #[derive(Default)]
    struct Database {
        threads: [Thread; THREADS],
        statements: u64,
        /// Microseconds.
        clock: u64,
        last_id: i64,
        visible: BTreeSet<i64>,
        deleting: BTreeSet<i64>,
    }

    impl Database {
        fn act(&mut self, act: Act) {
            self.clock += 700;
            match act {
                Act::Statement(at) => {
                    self.statements += 1;
                    let (number, clock) = (self.statements, self.clock);
                    let thread = &mut self.threads[at % THREADS];
                    if thread.statement.is_none() {
                        thread.statement = Some((number, clock));
                        thread.query = number;
                    }
                }
                Act::Reserve(at, count) => {
                    let thread = &mut self.threads[at % THREADS];
                    if thread.statement.is_some() {
                        thread
                            .reserved
                            .extend(self.last_id + 1..=self.last_id + count);
                        self.last_id += count;
                    }
                }
                Act::Row(at) => {
                    let thread = &mut self.threads[at % THREADS];
                    thread.rows.extend(thread.reserved.pop_front());
                }
                Act::Trigger(at) => {
                    self.statements += 1;
                    self.threads[at % THREADS].query = self.statements;
                }
                Act::Finish(at) => {
                    let thread = &mut self.threads[at % THREADS];
                    thread.statement = None;
                    thread.rows.extend(thread.reserved.drain(..));
                }
                Act::EndStatement(at) => {
                    let thread = &mut self.threads[at % THREADS];
                    thread.statement = None;
                    thread.reserved.clear();
                }
                Act::Commit(at) => {
                    let rows = self.end_transaction(at);
                    self.visible.extend(rows);
                }
                Act::Rollback(at) => drop(self.end_transaction(at)),
                Act::Delete(at) => {
                    let row = self.visible.iter().rev().nth(at % THREADS);
                    self.deleting.extend(row);
                }
                Act::Undelete => self.deleting.clear(),
                Act::Read | Act::Restart => {}
            }
        }

        fn end_transaction(&mut self, at: usize) -> BTreeSet<i64> {
            let thread = &mut self.threads[at % THREADS];
            if thread.statement.is_some() {
                return BTreeSet::new();
            }
            std::mem::take(&mut thread.rows)
        }

        fn is_in_use(&self) -> bool {
            self.threads.iter().any(|thread| thread.statement.is_some())
        }

        /// What a dirty read sees.
        fn dirty(&self) -> BTreeSet<i64> {
            let open = self.threads.iter().flat_map(|thread| &thread.rows);
            let visible = self.visible.difference(&self.deleting);
            open.chain(visible).copied().collect()
        }
    }

    /// How statements are told apart, and the rules that lose.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Rule {
        /// By their own number (performance schema).
        Numbers,
        /// By the age of the lock (plugin).
        Ages,
        /// Not at all (list of processes).
        Threads,
        /// Goes on from the highest visible id.
        Naive,
        /// A row that cannot be seen after a while never will be.
        Grace,
        /// Trusts a dirty read without any barrier.
        NoBarrier,
        /// Trusts the barrier without any dirty read.
        NoDirtyRead,
        /// The dirty read comes before the evidence that passes the barrier.
        DirtyReadFirst,
        /// The evidence comes before what it shall prove.
        EvidenceFirst,
        /// Statements that may not be seen do not count.
        UnseenDropped,
        /// By the number in the list of processes, which triggers change.
        QueryNumbers,
        /// Rows are not read again after the dirty read.
        NoSecondRead,
    }

    const KEPT: [Rule; 3] = [Rule::Numbers, Rule::Ages, Rule::Threads];

    /// What the statements of a look said of the writers.
    #[derive(Default)]
    enum Evidence {
        #[default]
        NotAsked,
        Nobody,
        Running(BTreeSet<Statement>),
    }

    struct Reader {
        rule: Rule,
        barriers: Barriers,
        ages: Ages,
        step: usize,
        settled: i64,
        seen: BTreeSet<i64>,
        /// Of the looks before, the latest last.
        scanned: VecDeque<i64>,
        evidence: Evidence,
        dirty: BTreeSet<i64>,
        proven: i64,
        delivered: Vec<i64>,
    }

    impl Reader {
        fn new(rule: Rule) -> Self {
            Self {
                rule,
                barriers: Barriers::default(),
                ages: Ages::default(),
                step: 0,
                settled: 0,
                seen: BTreeSet::new(),
                scanned: VecDeque::new(),
                evidence: Evidence::NotAsked,
                dirty: BTreeSet::new(),
                proven: 0,
                delivered: Vec::new(),
            }
        }

        fn restart(&mut self) {
            let settled = self.settled;
            let delivered = std::mem::take(&mut self.delivered);
            *self = Self {
                settled,
                proven: settled,
                delivered,
                ..Self::new(self.rule)
            };
        }

        /// One of the steps of a look, so that anything may happen between.
        fn step(&mut self, database: &Database) {
            type Step = fn(&mut Reader, &Database);
            let order: [Step; 5] = match self.rule {
                Rule::DirtyReadFirst => [
                    Self::rows,
                    Self::dirty_read,
                    Self::use_of_table,
                    Self::statements,
                    Self::second_read,
                ],
                Rule::EvidenceFirst => [
                    Self::use_of_table,
                    Self::statements,
                    Self::rows,
                    Self::dirty_read,
                    Self::second_read,
                ],
                _ => [
                    Self::rows,
                    Self::use_of_table,
                    Self::statements,
                    Self::dirty_read,
                    Self::second_read,
                ],
            };
            order[self.step](self, database);
            self.step = (self.step + 1) % order.len();
            if self.step == 0 {
                self.deliver();
            }
        }

        fn rows(&mut self, database: &Database) {
            self.seen.extend(&database.visible);
            let last = self.seen.last().copied().unwrap_or(0);
            self.scanned.push_back(last);
            self.barriers.raise(last);
            if self.rule == Rule::EvidenceFirst {
                match std::mem::take(&mut self.evidence) {
                    Evidence::Nobody => self.barriers.nobody_uses_the_table(),
                    Evidence::Running(running) => self.barriers.sample(&running),
                    Evidence::NotAsked => {}
                }
            }
        }

        fn use_of_table(&mut self, database: &Database) {
            if database.is_in_use() {
                return;
            }
            self.evidence = Evidence::Nobody;
            if self.rule != Rule::EvidenceFirst {
                self.barriers.nobody_uses_the_table();
            }
        }

        fn statements(&mut self, database: &Database) {
            let rule = self.rule;
            let clock = database.clock / 1000;
            let threads = database.threads.iter().enumerate();
            let of = threads.filter_map(|(at, thread)| {
                let hidden = at == HIDDEN && rule == Rule::UnseenDropped;
                let (number, begun) = thread.statement.filter(|_| !hidden)?;
                let number = match rule {
                    Rule::Threads => 0,
                    Rule::QueryNumbers => thread.query,
                    _ => number,
                };
                let thread = u64::try_from(at).expect("small");
                Some((
                    Statement { thread, number },
                    (database.clock - begun) / 1000,
                ))
            });
            let running = if rule == Rule::Ages {
                let locks = of.map(|(statement, age)| (statement.thread, Some(age)));
                self.ages.tell_apart(Some(clock), locks)
            } else {
                of.map(|(statement, _)| statement).collect()
            };
            if rule == Rule::EvidenceFirst {
                if matches!(self.evidence, Evidence::NotAsked) {
                    self.evidence = Evidence::Running(running);
                }
            } else {
                self.barriers.sample(&running);
            }
        }

        fn dirty_read(&mut self, database: &Database) {
            self.proven = self.barriers.passed();
            if self.rule != Rule::NoDirtyRead {
                self.dirty = database.dirty();
            }
        }

        fn second_read(&mut self, database: &Database) {
            let highest = self.seen.last().copied().unwrap_or(0);
            let again = database.visible.range(..=highest);
            if self.rule != Rule::NoSecondRead {
                self.seen.extend(again);
            }
        }

        fn deliver(&mut self) {
            let last = self.seen.last().copied().unwrap_or(0);
            let proven = match self.rule {
                Rule::Naive | Rule::NoBarrier => last,
                Rule::Grace if self.scanned.len() > 3 => self.scanned[self.scanned.len() - 3],
                Rule::Grace => 0,
                Rule::DirtyReadFirst => self.barriers.passed(),
                _ => self.proven,
            };
            let checks = !matches!(self.rule, Rule::Naive | Rule::Grace);
            for id in self.settled + 1..=last {
                if self.seen.contains(&id) {
                    self.delivered.push(id);
                } else if id > proven || checks && self.dirty.contains(&id) {
                    return;
                }
                self.settled = id;
            }
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
        for at in 0..THREADS {
            database.act(Act::EndStatement(at));
            database.act(Act::Commit(at));
        }
        database.act(Act::Undelete);
        for _ in 0..15 {
            reader.step(&database);
        }
        assert!(reader.delivered.is_sorted(), "{:?}", reader.delivered);
        if KEPT.contains(&rule) {
            let last = database.visible.last().copied().unwrap_or(0);
            assert_eq!(reader.settled, last, "all is settled");
        }
        let delivered: BTreeSet<i64> = reader.delivered.into_iter().collect();
        database.visible.difference(&delivered).copied().collect()
    }

    fn random_acts(seed: u64) -> Vec<Act> {
        let mut random = StdRng::seed_from_u64(seed);
        // Much or little happens between two steps of the reader.
        let kinds = if seed.is_multiple_of(2) { 44 } else { 60 };
        let mut act = || {
            let at = random.random_range(0..THREADS);
            match random.random_range(0..kinds) {
                0..6 => Act::Statement(at),
                6..12 => Act::Reserve(at, random.random_range(1..4)),
                12..16 => Act::Row(at),
                16..18 => Act::Trigger(at),
                18..25 => Act::Finish(at),
                25..28 => Act::EndStatement(at),
                28..33 => Act::Commit(at),
                33..35 => Act::Rollback(at),
                35 => Act::Delete(at),
                36 => Act::Undelete,
                37 if random.random_ratio(1, 5) => Act::Restart,
                _ => Act::Read,
            }
        };
        (0..400).map(|_| act()).collect()
    }

    #[test]
    fn every_broken_rule_loses_and_the_kept_ones_do_not() {
        let loses =
            |rule, runs: u64| (0..runs).any(|seed| !lost(rule, &random_acts(seed)).is_empty());
        for kept in KEPT {
            assert!(!loses(kept, 400), "{kept:?}");
        }
        for broken in [
            Rule::Naive,
            Rule::Grace,
            Rule::NoBarrier,
            Rule::NoDirtyRead,
            Rule::DirtyReadFirst,
            Rule::EvidenceFirst,
            Rule::UnseenDropped,
            Rule::QueryNumbers,
            Rule::NoSecondRead,
        ] {
            let bites = loses(broken, 4000);
            assert!(bites, "{broken:?} must lose, or this test sees nothing");
        }
    }

    /// A connection that inserts all the time must not hold a dead id for ever.
    #[test]
    fn barrier_is_passed_though_the_table_is_always_in_use() {
        for rule in [Rule::Numbers, Rule::Ages] {
            let mut database = Database::default();
            let mut reader = Reader::new(rule);
            let dead = [
                Act::Statement(1),
                Act::Reserve(1, 1),
                Act::EndStatement(1),
                Act::Statement(1),
                Act::Reserve(1, 1),
                Act::Row(1),
                Act::EndStatement(1),
                Act::Commit(1),
            ];
            for act in dead {
                database.act(act);
            }
            database.act(Act::Statement(0));
            for _ in 0..3 {
                for _ in 0..5 {
                    reader.step(&database);
                    // Longer than the lock's age is cut by.
                    for act in [Act::Undelete; 2] {
                        database.act(act);
                    }
                }
                database.act(Act::EndStatement(0));
                database.act(Act::Statement(0));
            }
            assert_eq!(reader.delivered, [2], "{rule:?}");
        }
    }

    fn any_act() -> impl Strategy<Value = Act> {
        let thread = || 0..THREADS;
        prop_oneof![
            4 => thread().prop_map(Act::Statement),
            3 => (thread(), 1i64..4).prop_map(|(at, count)| Act::Reserve(at, count)),
            4 => thread().prop_map(Act::Row),
            1 => thread().prop_map(Act::Trigger),
            2 => thread().prop_map(Act::Finish),
            2 => thread().prop_map(Act::EndStatement),
            3 => thread().prop_map(Act::Commit),
            1 => thread().prop_map(Act::Rollback),
            1 => thread().prop_map(Act::Delete),
            1 => Just(Act::Undelete),
            12 => Just(Act::Read),
            1 => Just(Act::Restart),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost(acts in proptest::collection::vec(any_act(), 0..250)) {
            for rule in KEPT {
                prop_assert_eq!(lost(rule, &acts), Vec::<i64>::new());
            }
        }
    }
}
