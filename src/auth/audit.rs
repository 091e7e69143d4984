//! The audit log: what administrators did and what was refused, one line each
//! with the target `audit`. Who, what, outcome and peer; never a secret, never
//! event data. Refusals are counted all, and logged as many as a person reads:
//! whoever is refused must not be able to fill the disk.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use http::Extensions;
use tokio::time::Instant;

use super::{Denied, Principal};
use crate::{limits, listen::Transport, telemetry};

/// Where the lines go. Cloning shares the bound.
#[derive(Debug, Clone, Default)]
pub(super) struct Audit(Arc<Windows>);

/// One for each, so that strangers cannot hide what users try.
#[derive(Debug, Default)]
struct Windows {
    strangers: Mutex<Window>,
    users: Mutex<Window>,
}

/// Refusals of an interval.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    logged: u32,
    unsaid: u64,
}

impl Audit {
    /// Notes that `action` was refused.
    pub(super) fn refusal(&self, denied: &Denied, action: &str, peer: &str) {
        metrics::counter!(telemetry::REFUSALS, "reason" => denied.class()).increment(1);
        let (window, user) = match denied {
            Denied::Unauthenticated(_) => (&self.0.strangers, ""),
            Denied::NotAllowed { user, .. } | Denied::Ended { user, .. } => {
                (&self.0.users, user.as_str())
            }
        };
        let Some(unsaid) = may_log(window) else {
            return;
        };
        tracing::warn!(target: "audit", user, action, outcome = "refused", peer,
            reason = %denied, unsaid, "refused");
    }
}

/// If one more may be logged: how many were not since the last one.
fn may_log(window: &Mutex<Window>) -> Option<u64> {
    let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let begun = window
        .since
        .filter(|since| now - *since < limits::WARNING_INTERVAL);
    if begun.is_none() {
        window.since = Some(now);
        window.logged = 0;
    }
    if window.logged >= limits::LOGGED_REFUSALS {
        window.unsaid += 1;
        return None;
    }
    window.logged += 1;
    Some(std::mem::take(&mut window.unsaid))
}

/// Notes what somebody did to `what`, and what came of it.
pub(super) fn action<T, E: Display>(
    caller: &Principal,
    action: &str,
    what: &dyn Display,
    outcome: &Result<T, E>,
) {
    let (user, peer) = (caller.user.as_str(), caller.peer());
    match outcome {
        Ok(_) => {
            tracing::info!(target: "audit", user, action, %what, outcome = "done", peer, "done");
        }
        Err(error) => {
            tracing::warn!(target: "audit", user, action, %what, outcome = "failed", peer,
                %error, "failed");
        }
    }
}

/// Where a request comes from, as far as its listener tells.
#[must_use]
pub fn peer(extensions: &Extensions) -> Arc<str> {
    let transport = extensions.get::<Transport>();
    transport.map_or_else(|| "".into(), |transport| transport.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_are_logged_up_to_a_bound_and_counted_beyond() {
        let window = Mutex::default();
        for _ in 0..limits::LOGGED_REFUSALS {
            assert_eq!(may_log(&window), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(may_log(&window), None);
        }
        tokio::time::advance(limits::WARNING_INTERVAL).await;
        assert_eq!(may_log(&window), Some(5));
        assert_eq!(may_log(&window), Some(0));
    }
}
