//! What can be found out about a database without changing it: for `eventstream
//! doctor`. The rules are those of the start; here each is told by itself, with
//! what to do, and the next one is looked at all the same.

use std::time::Duration;

use tokio::time::Instant;

use super::{Error, Store};
use crate::event::EventId;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not as well or as safely as it could.
    Warning,
    /// The service does not start, or events would be lost.
    Problem,
}

impl Verdict {
    /// For people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One check and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word.
    pub check: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// The findings so far, in the order of the checks.
#[derive(Debug, Default)]
pub(super) struct Checkup(pub(super) Vec<Finding>);

/// The last check of all but one: whatever the service needs was found.
pub const READING: &str = "reading";

/// A tail is looked at this often at most until it has nothing more to prove.
const LOOKS: usize = 100;

/// An application's transaction that is open for longer holds events back for a
/// time that somebody notices.
const LONG_TRANSACTION: Duration = Duration::from_secs(5);

impl Checkup {
    pub(super) fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.find(check, Verdict::Ok, text, None);
    }

    pub(super) fn warn(
        &mut self,
        check: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.find(check, Verdict::Warning, text, Some(remedy.into()));
    }

    /// A warning of all these faults and their remedies, unless there are none.
    pub(super) fn gather(
        &mut self,
        check: &'static str,
        fine: impl Into<String>,
        faults: impl IntoIterator<Item = (String, String)>,
    ) {
        let (faults, remedies): (Vec<_>, Vec<_>) = faults.into_iter().unzip();
        if faults.is_empty() {
            self.ok(check, fine);
        } else {
            self.warn(check, faults.join("; "), remedies.join("; "));
        }
    }

    /// A problem, unless it went well.
    pub(super) fn judge(&mut self, check: &'static str, outcome: Result<String, Error>) -> bool {
        match outcome {
            Ok(text) => {
                self.ok(check, text);
                true
            }
            Err(error) => {
                // Refusals say what is wrong, and then what to do.
                let text = error.to_string();
                let (text, remedy) = match text.split_once("; ") {
                    Some((text, remedy)) => (text.to_owned(), remedy.to_owned()),
                    None => (text, "see the log of the database".to_owned()),
                };
                self.find(check, Verdict::Problem, text, Some(remedy));
                false
            }
        }
    }

    fn find(
        &mut self,
        check: &'static str,
        verdict: Verdict,
        text: impl Into<String>,
        remedy: Option<String>,
    ) {
        self.0.push(Finding {
            check,
            verdict,
            text: text.into(),
            remedy,
        });
    }

    /// Whether the tables are there, of all `steps` that they need.
    pub(super) fn schema(
        &mut self,
        pending: Result<Vec<&'static str>, Error>,
        steps: usize,
        has_queue: bool,
    ) -> bool {
        const CHECK: &str = "schema";
        const MIGRATE: &str = "run eventstream migrate as their owner, or let the service do it at \
                               its start, if its role may";
        let pending = match pending {
            Ok(pending) => pending,
            Err(error) => return self.judge(CHECK, Err(error)),
        };
        if pending.is_empty() {
            self.ok(CHECK, format!("all {steps} steps are applied"));
            return true;
        }
        let text = if !has_queue {
            "there are no tables yet".to_owned()
        } else if pending.len() == steps {
            "the tables are those of the original, to be adopted".to_owned()
        } else {
            format!(
                "the tables are of an earlier version and lack the steps {}",
                pending.join(", ")
            )
        };
        self.warn(CHECK, text, MIGRATE);
        false
    }

    /// Reads as the service does while somebody listens, and writes nothing.
    pub(super) async fn reading(&mut self, store: &dyn Store) {
        const CHECK: &str = READING;
        let mut tail = store.tail();
        let begun = Instant::now();
        let first = tail.frontier(EventId::START).await;
        let took = begun.elapsed();
        let mut proof = match first {
            Ok(proof) => proof,
            Err(error) => {
                self.judge(CHECK, Err(error));
                return;
            }
        };
        for _ in 0..LOOKS {
            if !proof.more {
                break;
            }
            match tail.frontier(proof.frontier).await {
                Ok(next) => proof = next,
                Err(error) => {
                    self.judge(CHECK, Err(error));
                    return;
                }
            }
        }
        self.ok(
            CHECK,
            format!(
                "a look at the tail takes {:.1} ms; the highest id is {}, proven up to {}",
                millis(took),
                proof.head,
                proof.frontier,
            ),
        );
        self.blockers(store).await;
    }

    async fn blockers(&mut self, store: &dyn Store) {
        const CHECK: &str = "open transactions";
        let blockers = match store.blockers().await {
            Ok(blockers) => blockers,
            Err(error) => {
                self.judge(CHECK, Err(error));
                return;
            }
        };
        let oldest = blockers.iter().max_by_key(|blocker| blocker.age);
        match oldest.filter(|oldest| oldest.age > LONG_TRANSACTION) {
            Some(oldest) => {
                let prepared = if oldest.prepared { " (prepared)" } else { "" };
                let text = format!(
                    "session {}{prepared} of {} has been writing events for {} s without a commit: \
                     later events wait for it",
                    oldest.session,
                    oldest.client,
                    oldest.age.as_secs(),
                );
                self.warn(CHECK, text, "end it in the database, or let it commit");
            }
            None => self.ok(CHECK, format!("{} write events now", blockers.len())),
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Clocks that are further apart than any network or NTP makes them.
const CLOCK_TOLERANCE: i64 = 5000;

/// How far the database's clock is ahead of ours, in milliseconds, if that is
/// too much to come from the way: ours was read before and after.
pub(super) fn clock_difference(before: i64, theirs: i64, after: i64) -> Option<i64> {
    let way = (after - before).abs() / 2;
    let ahead = theirs - before - way;
    (ahead.abs() > CLOCK_TOLERANCE + way).then_some(ahead)
}

impl Checkup {
    pub(super) fn clock(&mut self, difference: Result<Option<i64>, Error>) {
        const CHECK: &str = "clock";
        match difference {
            Ok(None) => self.ok(CHECK, "the database's agrees with that of this machine"),
            Ok(Some(ahead)) => self.warn(
                CHECK,
                format!("the database's is {ahead} ms ahead: ages and lags are wrong by that"),
                "let NTP set both",
            ),
            Err(error) => {
                self.judge(CHECK, Err(error));
            }
        }
    }

    /// Whether the server takes what the service opens at most.
    pub(super) fn room(&mut self, max: i64, used: i64, needed: i64) {
        const CHECK: &str = "connections";
        let text = format!("{used} of {max} are in use, the service opens {needed} at most");
        if max - used >= needed {
            self.ok(CHECK, text);
        } else {
            self.warn(
                CHECK,
                text,
                "raise max_connections, or lower db.read_connections and db.write_connections",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Effect;

    #[test]
    fn clocks_differ_by_more_than_the_way() {
        assert_eq!(clock_difference(1000, 1050, 1100), None);
        assert_eq!(clock_difference(0, 15_000, 20_000), None);
        assert_eq!(clock_difference(0, 60_000, 100), Some(59_950));
        assert_eq!(clock_difference(60_000, 0, 60_100), Some(-60_050));
    }

    #[test]
    fn refusals_fall_into_what_is_wrong_and_what_to_do() {
        let mut checkup = Checkup::default();
        let refusal = "the clock is late; wind it; look again".to_owned();
        assert!(!checkup.judge("a", Err(Error::Contract(refusal))));
        let away = Error::Unavailable {
            effect: Effect::None,
            cause: "no answer".into(),
        };
        checkup.judge("b", Err(away));
        let [first, second] = &checkup.0[..] else {
            panic!("{checkup:?}");
        };
        assert_eq!(first.text, "the clock is late");
        assert_eq!(first.remedy.as_deref(), Some("wind it; look again"));
        assert!(second.text.ends_with("no answer") && second.remedy.is_some());
    }
}
