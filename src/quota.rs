//! How much a user may do: calls, events and their bytes a second, and push
//! streams at a time. One budget per user, whatever front it comes by.
//!
//! What is used up comes back with time. One large request is admitted when
//! its bucket is full and owes the rest, so that the rate holds over time and
//! nothing that is valid is refused for ever. A refusal costs nothing and says
//! when to come back. Acknowledgements are free: refusing one would only make
//! events travel twice. So is what a user receives: the window of what it has
//! not acknowledged bounds that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{error::Error, event::User, limits, telemetry};

/// What a user may do; `None` is without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Calls a second, and batches of an import.
    pub calls: Option<u32>,
    /// Events added a second.
    pub events: Option<u32>,
    /// Bytes of these, types and data.
    pub bytes: Option<u32>,
    /// Push streams open at a time.
    pub streams: Option<u32>,
}

impl Quota {
    /// This, and where it says nothing, that.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            calls: self.calls.or(other.calls),
            events: self.events.or(other.events),
            bytes: self.bytes.or(other.bytes),
            streams: self.streams.or(other.streams),
        }
    }
}

/// What all users have left. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Quotas(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    defaults: Quota,
    /// How long a user may save up.
    burst: Duration,
    /// Of who has used anything that is not back yet.
    budgets: Mutex<HashMap<User, Budget>>,
}

/// What a user has used.
#[derive(Debug, Default)]
struct Budget {
    calls: Bucket,
    events: Bucket,
    bytes: Bucket,
    streams: u32,
}

/// An amount that was used and is not back yet.
#[derive(Debug, Default)]
struct Bucket {
    used: f64,
    /// How much comes back in a second.
    per_second: f64,
    /// When that was so.
    at: Option<Instant>,
}

/// A rate, and the amount of it that may come at once.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

impl Bucket {
    fn used(&self, now: Instant) -> f64 {
        let passed = self.at.map_or(Duration::ZERO, |at| now - at);
        (self.used - self.per_second * passed.as_secs_f64()).max(0.0)
    }

    /// How long until so much more may be used.
    fn wait(&mut self, now: Instant, rate: Rate, amount: f64) -> Duration {
        self.used = self.used(now);
        self.per_second = rate.per_second;
        self.at = Some(now);
        let lacking = self.used + amount.min(rate.burst) - rate.burst;
        Duration::from_secs_f64((lacking / rate.per_second).max(0.0))
    }
}

impl Budget {
    /// Whether it is as good as a new one.
    fn is_whole(&self, now: Instant) -> bool {
        let buckets = [&self.calls, &self.events, &self.bytes];
        self.streams == 0 && buckets.iter().all(|bucket| bucket.used(now) <= 0.0)
    }
}

impl Quotas {
    /// For users whose own quota says nothing else; who was idle may use as
    /// much at once as comes in `burst`.
    #[must_use]
    pub fn new(defaults: Quota, burst: Duration) -> Self {
        Self(Arc::new(Shared {
            defaults,
            burst,
            budgets: Mutex::default(),
        }))
    }

    /// Takes one call of the user's budget.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`]
    pub fn call(&self, user: &User, quota: Quota) -> Result<(), Error> {
        self.take(user, quota, 0, 0)
    }

    /// Takes a call that adds so many events of so many bytes.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`]
    pub fn add(&self, user: &User, quota: Quota, events: usize, bytes: usize) -> Result<(), Error> {
        self.take(user, quota, events, bytes)
    }

    /// Takes a call and a place for a push stream.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`]
    pub fn stream(&self, user: &User, quota: Quota) -> Result<StreamPlace, Error> {
        self.call(user, quota)?;
        let most = quota.or(self.0.defaults).streams;
        let mut budgets = self.budgets();
        let budget = Self::budget(&mut budgets, user)?;
        if most.is_some_and(|most| budget.streams >= most) {
            return Err(exceeded("streams", user, limits::STREAM_RETRY));
        }
        budget.streams += 1;
        Ok(StreamPlace {
            quotas: self.clone(),
            user: user.clone(),
        })
    }

    fn take(&self, user: &User, quota: Quota, events: usize, bytes: usize) -> Result<(), Error> {
        let quota = quota.or(self.0.defaults);
        if (quota.calls, quota.events, quota.bytes) == (None, None, None) {
            return Ok(());
        }
        let now = Instant::now();
        let mut budgets = self.budgets();
        let budget = Self::budget(&mut budgets, user)?;
        let parts = [
            ("calls", quota.calls, &mut budget.calls, 1),
            ("events", quota.events, &mut budget.events, events),
            ("bytes", quota.bytes, &mut budget.bytes, bytes),
        ];
        let mut asked = Vec::with_capacity(parts.len());
        for (what, rate, bucket, amount) in parts {
            // Who adds nothing waits for no debt of events.
            let Some(rate) = rate.filter(|_| amount > 0).map(|rate| self.rate(rate)) else {
                continue;
            };
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let amount = amount as f64;
            let wait = bucket.wait(now, rate, amount);
            if !wait.is_zero() {
                return Err(exceeded(what, user, wait));
            }
            asked.push((bucket, amount));
        }
        for (bucket, amount) in asked {
            bucket.used += amount;
        }
        Ok(())
    }

    fn rate(&self, per_second: u32) -> Rate {
        let per_second = f64::from(per_second);
        Rate {
            per_second,
            burst: (per_second * self.0.burst.as_secs_f64()).max(1.0),
        }
    }

    fn budget<'a>(
        budgets: &'a mut HashMap<User, Budget>,
        user: &User,
    ) -> Result<&'a mut Budget, Error> {
        if budgets.len() >= limits::MAX_BUDGETS && !budgets.contains_key(user) {
            let now = Instant::now();
            budgets.retain(|_, budget| !budget.is_whole(now));
            if budgets.len() >= limits::MAX_BUDGETS {
                return Err(Error::overloaded("the number of users at a time"));
            }
        }
        Ok(budgets.entry(user.clone()).or_default())
    }

    fn budgets(&self) -> MutexGuard<'_, HashMap<User, Budget>> {
        self.0
            .budgets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn exceeded(what: &'static str, user: &User, retry_after: Duration) -> Error {
    metrics::counter!(telemetry::QUOTA_REFUSALS, "what" => what).increment(1);
    Error::QuotaExceeded {
        what,
        user: user.as_str().to_owned(),
        retry_after,
    }
}

/// An open stream of a user.
#[derive(Debug)]
pub struct StreamPlace {
    quotas: Quotas,
    user: User,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        if let Some(budget) = self.quotas.budgets().get_mut(&self.user) {
            budget.streams -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Quota = Quota {
        calls: None,
        events: None,
        bytes: None,
        streams: None,
    };

    fn user(name: &str) -> User {
        User::parse(name).unwrap()
    }

    fn quotas(defaults: Quota) -> Quotas {
        Quotas::new(defaults, Duration::from_secs(2))
    }

    /// What was refused, and for how many milliseconds.
    fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> (&'static str, u128) {
        match outcome.expect_err("refused") {
            Error::QuotaExceeded {
                what, retry_after, ..
            } => (what, retry_after.as_millis()),
            other => panic!("{other}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_saved_may_come_at_once_and_then_the_rate_holds() {
        let quotas = quotas(Quota {
            calls: Some(10),
            ..NONE
        });
        let user = user("shop");
        for _ in 0..20 {
            quotas.call(&user, NONE).unwrap();
        }
        assert_eq!(refused(quotas.call(&user, NONE)), ("calls", 100));
        tokio::time::advance(Duration::from_millis(100)).await;
        quotas.call(&user, NONE).unwrap();
        assert_eq!(refused(quotas.call(&user, NONE)), ("calls", 100));
        // Saved up is no more than the burst.
        tokio::time::advance(Duration::from_hours(1)).await;
        for _ in 0..20 {
            quotas.call(&user, NONE).unwrap();
        }
        assert_eq!(refused(quotas.call(&user, NONE)).0, "calls");
    }

    #[tokio::test(start_paused = true)]
    async fn large_request_is_admitted_and_owed() {
        let quotas = quotas(Quota {
            events: Some(10),
            ..NONE
        });
        let user = user("shop");
        quotas.add(&user, NONE, 1000, 0).unwrap();
        // 1000 at 10 a second, of which 20 were saved; one more needs one.
        assert_eq!(refused(quotas.add(&user, NONE, 1, 0)), ("events", 98_100));
        tokio::time::advance(Duration::from_millis(98_100)).await;
        quotas.add(&user, NONE, 1, 0).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_adds_nothing_waits_for_no_debt() {
        let quotas = quotas(Quota {
            events: Some(1),
            bytes: Some(1),
            ..NONE
        });
        let user = user("shop");
        quotas.add(&user, NONE, 1000, 1000).unwrap();
        quotas.call(&user, NONE).unwrap();
        refused(quotas.add(&user, NONE, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn refusal_costs_nothing() {
        let quotas = quotas(Quota {
            calls: Some(1),
            bytes: Some(100),
            ..NONE
        });
        let user = user("shop");
        quotas.add(&user, NONE, 1, 200).unwrap();
        for _ in 0..10 {
            assert_eq!(refused(quotas.add(&user, NONE, 1, 100)), ("bytes", 1000));
        }
        // One of two calls is left.
        quotas.call(&user, NONE).unwrap();
        assert_eq!(refused(quotas.call(&user, NONE)).0, "calls");
    }

    #[tokio::test(start_paused = true)]
    async fn users_have_budgets_of_their_own_and_quotas_too() {
        let quotas = quotas(Quota {
            calls: Some(1),
            streams: Some(1),
            ..NONE
        });
        let (one, other) = (user("one"), user("other"));
        let more = Quota {
            calls: Some(100),
            streams: Some(2),
            ..NONE
        };
        let held = quotas.stream(&one, NONE).unwrap();
        assert_eq!(refused(quotas.stream(&one, NONE)).0, "streams");
        let _two = [(); 2].map(|()| quotas.stream(&other, more).unwrap());
        assert_eq!(refused(quotas.stream(&other, more)).0, "streams");
        assert_eq!(refused(quotas.call(&one, NONE)).0, "calls");
        drop(held);
        tokio::time::advance(Duration::from_secs(2)).await;
        quotas.stream(&one, NONE).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn users_who_owe_nothing_are_forgotten() {
        let quotas = quotas(Quota {
            calls: Some(1),
            ..NONE
        });
        for number in 0..limits::MAX_BUDGETS {
            quotas.call(&user(&format!("u{number}")), NONE).unwrap();
        }
        let full = quotas.call(&user("late"), NONE);
        assert!(matches!(full, Err(Error::Overloaded { .. })), "{full:?}");
        tokio::time::advance(Duration::from_secs(1)).await;
        quotas.call(&user("late"), NONE).unwrap();
        assert_eq!(quotas.budgets().len(), 1);
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_bounded() {
        let quotas = quotas(NONE);
        quotas.add(&user("shop"), NONE, 1000, 1 << 20).unwrap();
        assert!(quotas.budgets().is_empty());
    }
}
