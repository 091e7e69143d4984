//! Delays that grow, with jitter: many clients do not come back at once.

use std::time::Duration;

/// How long to wait before the next attempt: the delay doubles from `initial`
/// to `max`, and is drawn from its upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest delay of the first attempt.
    pub initial: Duration,
    /// No delay is longer, unless the service asks for it.
    pub max: Duration,
}

impl Default for Backoff {
    /// 100 ms to 10 s.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// The delay before attempt 1, 2, …; at least what the service asked for.
    pub(crate) fn delay(&self, attempt: u32, retry_after: Option<Duration>) -> Duration {
        let doubled = 2u32.saturating_pow(attempt.saturating_sub(1));
        let longest = self.initial.saturating_mul(doubled).min(self.max);
        let drawn = longest / 2 + (longest / 2).mul_f64(fastrand::f64());
        drawn.max(retry_after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        initial: Duration::from_millis(20),
        max: Duration::from_millis(80),
    };

    #[test]
    fn delays_double_up_to_the_longest() {
        for (attempt, longest) in [(1, 20), (2, 40), (3, 80), (4, 80), (4_000_000_000, 80)] {
            let longest = Duration::from_millis(longest);
            for _ in 0..100 {
                let delay = BACKOFF.delay(attempt, None);
                assert!(
                    delay >= longest / 2 && delay <= longest,
                    "{attempt}: {delay:?}"
                );
            }
        }
    }

    #[test]
    fn the_service_may_ask_for_more() {
        let asked = Duration::from_secs(7);
        assert_eq!(BACKOFF.delay(1, Some(asked)), asked);
    }
}
