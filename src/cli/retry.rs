//! When a command that follows the stream tries again, and how soon.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::failure::{Failure, is_lost};
use crate::store;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);

/// Doubling waits with jitter, so that many clients do not return at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Something came through: the next trouble starts from the beginning.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// How long to wait after `failure`; `None` when trying again is useless.
    pub(super) fn after(&mut self, failure: &Failure) -> Option<Duration> {
        if !is_passing(failure) {
            return None;
        }
        let wait = self.next.mul_f64(rand::random_range(0.5..1.0));
        self.next = (self.next * 2).min(LONGEST);
        Some(wait.max(asked_for(failure)))
    }
}

fn is_passing(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable { .. } | Failure::Broken(_) => true,
        Failure::Warehouse(error) => !matches!(error, store::Error::Contract(_)),
        // A session that was taken over stands by for its turn, so two of them
        // cannot evict each other for ever.
        Failure::Call { status, .. } => {
            is_lost(status) || matches!(status.code(), Code::Aborted | Code::ResourceExhausted)
        }
        Failure::Usage(_) | Failure::Rejected(_) | Failure::Output(_) | Failure::Input(_) => false,
    }
}

/// The server's own wish, when it names one.
fn asked_for(failure: &Failure) -> Duration {
    let delay = |status: &Status| status.get_details_retry_info()?.retry_delay;
    match failure {
        Failure::Call { status, .. } => delay(status).unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_again() {
        let mut backoff = Backoff::new();
        let lost = Failure::from(Status::unavailable("away"));
        for _ in 0..20 {
            let wait = backoff.after(&lost).expect("it passes");
            assert!((FIRST / 2..LONGEST).contains(&wait), "{wait:?}");
        }
        assert!(backoff.after(&lost) >= Some(LONGEST / 2));
        backoff.reset();
        assert!(backoff.after(&lost) < Some(FIRST));
    }

    #[test]
    fn the_server_may_ask_for_longer() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_mins(1)));
        let status = Status::with_error_details(Code::Unavailable, "draining", details);
        let wait = Backoff::new().after(&status.into());
        assert_eq!(wait, Some(Duration::from_mins(1)));
    }

    #[test]
    fn refusals_are_final() {
        let mut backoff = Backoff::new();
        for status in [
            Status::failed_precondition("STALE_EPOCH"),
            Status::not_found("NOT_REGISTERED"),
            Status::out_of_range("DISCARDED"),
            Status::invalid_argument(""),
            Status::unimplemented(""),
        ] {
            assert_eq!(backoff.after(&status.into()), None);
        }
        assert!(
            backoff
                .after(&Status::aborted("TAKEN_OVER").into())
                .is_some()
        );
    }
}
