//! What a writer does next, chosen by a seeded generator: pure, so that a
//! seed repeats the same transactions (not their interleaving).

use std::time::Duration;

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

/// How one statement inserts events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    /// `VALUES` with a tuple per row.
    Values,
    /// `INSERT … SELECT`.
    Select,
    /// Something slow between an id and its row.
    Slow,
    /// By a trigger of another table.
    Trigger,
    /// By a function that undoes every third row in a subtransaction.
    Function,
    /// By a procedure, one statement per row.
    Procedure,
    /// Beside another table's row, in one statement.
    Chained,
}

impl Shape {
    /// How many of `rows` are there afterwards.
    pub(super) fn kept(self, rows: u32) -> u32 {
        match self {
            Self::Function => rows - rows / 3,
            _ => rows,
        }
    }

    fn max_rows(self) -> u32 {
        match self {
            Self::Values | Self::Select => 10,
            Self::Slow => 3,
            Self::Trigger | Self::Chained => 1,
            Self::Function | Self::Procedure => 6,
        }
    }
}

/// One thing inside a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Does nothing, with the transaction open.
    Pause(Duration),
    /// Reads, so that a snapshot may be older than the ids that follow.
    Look,
    /// Inserts events.
    Insert {
        shape: Shape,
        rows: u32,
        /// Of [`Shape::Slow`].
        delay: Duration,
    },
    /// Inserts events under a savepoint and rolls back to it.
    Undone { rows: u32, pause: Duration },
    /// Writes where no event is.
    Elsewhere,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There is none: each statement is its own.
    Autocommit,
    Commit,
    Rollback,
    /// Prepared, left for a while, then decided; `apart`: by another session.
    Prepared {
        apart: bool,
        commit: bool,
        pause: Duration,
    },
}

/// What happens to the session meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server ends it.
    Killed(Duration),
    /// The client vanishes.
    Cut(Duration),
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
    pub(super) fault: Option<Fault>,
}

/// What an engine and its role can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Abilities {
    pub(super) shapes: Vec<Shape>,
    pub(super) two_phase: bool,
    pub(super) faults: bool,
    /// Longest pause.
    pub(super) hold: Duration,
}

const ROLLBACKS: f64 = 0.2;
const FAULTS: f64 = 0.01;
const LONGEST: usize = 12;

impl Plan {
    /// The next transaction of a writer.
    pub(super) fn random(random: &mut StdRng, abilities: &Abilities) -> Self {
        let hold = abilities.hold;
        if random.random_bool(0.15) {
            return Self {
                steps: vec![values(1)],
                end: End::Autocommit,
                fault: None,
            };
        }
        let mut steps = match random.random_range(0..100) {
            // One event, then a pause.
            0..30 => vec![values(1)],
            // The id is drawn late.
            30..40 => vec![Step::Look, pause(random, hold / 2), values(1)],
            40..60 => vec![values(random.random_range(2..=10))],
            60..72 => undoing(random, hold),
            _ => vec![special(random, abilities)],
        };
        if random.random_bool(0.1) {
            steps.extend([pause(random, hold / 2), values(random.random_range(1..=3))]);
        }
        steps.push(pause(random, hold));
        debug_assert!(steps.len() <= LONGEST, "bounded");
        Self {
            steps,
            end: end(random, abilities),
            fault: fault(random, abilities),
        }
    }

    /// One event, held for so long; or a row elsewhere.
    pub(super) fn long(held: Duration, related: bool) -> Self {
        let first = if related { values(1) } else { Step::Elsewhere };
        Self {
            steps: vec![first, Step::Pause(held)],
            end: End::Commit,
            fault: None,
        }
    }

    /// Events that are there if it commits.
    pub(super) fn rows(&self) -> u32 {
        let rows = self.steps.iter().map(|step| match step {
            Step::Insert { shape, rows, .. } => shape.kept(*rows),
            _ => 0,
        });
        rows.sum()
    }
}

fn values(rows: u32) -> Step {
    Step::Insert {
        shape: Shape::Values,
        rows,
        delay: Duration::ZERO,
    }
}

fn pause(random: &mut StdRng, longest: Duration) -> Step {
    Step::Pause(longest.mul_f64(random.random()))
}

fn undoing(random: &mut StdRng, hold: Duration) -> Vec<Step> {
    let mut steps = Vec::new();
    // Without it, the savepoint is what draws the first id.
    if random.random_bool(0.7) {
        steps.push(values(1));
    }
    for _ in 0..random.random_range(1..=3) {
        steps.push(Step::Undone {
            rows: random.random_range(1..=3),
            pause: hold.mul_f64(random.random::<f64>() / 10.0),
        });
    }
    steps.push(values(1));
    steps
}

fn special(random: &mut StdRng, abilities: &Abilities) -> Step {
    let shape = abilities.shapes.choose(random);
    let shape = shape.copied().unwrap_or(Shape::Values);
    Step::Insert {
        shape,
        rows: random.random_range(1..=shape.max_rows()),
        delay: abilities.hold.mul_f64(random.random()),
    }
}

fn end(random: &mut StdRng, abilities: &Abilities) -> End {
    let commit = !random.random_bool(ROLLBACKS);
    if abilities.two_phase && random.random_bool(0.12) {
        return End::Prepared {
            apart: random.random(),
            commit,
            pause: abilities.hold.mul_f64(random.random()),
        };
    }
    if commit { End::Commit } else { End::Rollback }
}

fn fault(random: &mut StdRng, abilities: &Abilities) -> Option<Fault> {
    let strikes = random.random_bool(FAULTS) && abilities.faults;
    let after = abilities.hold.mul_f64(random.random());
    let killed = random.random_bool(0.5);
    strikes.then_some(if killed {
        Fault::Killed(after)
    } else {
        Fault::Cut(after)
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn plans(abilities: &Abilities) -> Vec<Plan> {
        let mut random = StdRng::seed_from_u64(7);
        (0..20_000)
            .map(|_| Plan::random(&mut random, abilities))
            .collect()
    }

    fn abilities() -> Abilities {
        Abilities {
            shapes: vec![Shape::Select, Shape::Function],
            two_phase: true,
            faults: true,
            hold: Duration::from_millis(300),
        }
    }

    #[test]
    fn a_seed_repeats_its_plans_and_every_kind_occurs() {
        let plans = plans(&abilities());
        assert_eq!(plans, self::plans(&abilities()));
        let count = |is: fn(&Plan) -> bool| plans.iter().filter(|plan| is(plan)).count();
        let rolled_back = count(|plan| {
            matches!(
                plan.end,
                End::Rollback | End::Prepared { commit: false, .. }
            )
        });
        let share = rolled_back * 100 / count(|plan| plan.end != End::Autocommit);
        assert!((18..=22).contains(&share), "{share} % roll back");
        for is in [
            (|plan| matches!(plan.fault, Some(Fault::Killed(_)))) as fn(&Plan) -> bool,
            |plan| matches!(plan.fault, Some(Fault::Cut(_))),
            |plan| matches!(plan.end, End::Prepared { apart: true, .. }),
            |plan| matches!(plan.steps[0], Step::Undone { .. }),
            |plan| {
                matches!(
                    plan.steps[0],
                    Step::Insert {
                        shape: Shape::Function,
                        ..
                    }
                )
            },
        ] {
            assert!(count(is) > 20);
        }
    }

    #[test]
    fn nothing_is_planned_that_the_engine_cannot_do() {
        let able = Abilities {
            shapes: Vec::new(),
            two_phase: false,
            faults: false,
            hold: Duration::from_millis(5),
        };
        for plan in plans(&able) {
            assert!(plan.fault.is_none() && !matches!(plan.end, End::Prepared { .. }));
            let plain = |step: &Step| !matches!(step, Step::Insert { shape, .. } if *shape != Shape::Values);
            assert!(plan.steps.iter().all(plain), "{plan:?}");
        }
    }

    #[test]
    fn rows_that_are_undone_do_not_count() {
        let plan = Plan {
            steps: vec![
                values(3),
                Step::Undone {
                    rows: 5,
                    pause: Duration::ZERO,
                },
                Step::Insert {
                    shape: Shape::Function,
                    rows: 6,
                    delay: Duration::ZERO,
                },
            ],
            end: End::Commit,
            fault: None,
        };
        assert_eq!(plan.rows(), 3 + 4);
    }
}
