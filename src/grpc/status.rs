//! Errors as gRPC statuses with rich details.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{error::Error, store::Effect};

/// Domain of every `ErrorInfo`.
const DOMAIN: &str = "evt.futoin.org";

/// When to come back after something that passes by itself.
const RETRY_SOON: Duration = Duration::from_millis(200);
const RETRY_LATER: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        with_metadata(&error, HashMap::new())
    }
}

/// The status, with more metadata in its `ErrorInfo`.
pub(super) fn with_metadata(error: &Error, mut metadata: HashMap<String, String>) -> Status {
    let mut details = ErrorDetails::new();
    match error {
        Error::InvalidField { field, rule } => {
            details.add_bad_request_violation(field, rule);
        }
        Error::Database { effect } => {
            metadata.insert("effect".into(), effect_text(*effect).into());
            details.set_retry_info(Some(RETRY_LATER));
        }
        // Whose credentials ended identifies itself anew, perhaps by newer ones;
        // while one replica drains, another one serves.
        Error::NotSettled { .. }
        | Error::Overloaded { .. }
        | Error::CredentialsEnded { .. }
        | Error::Draining => {
            metadata.insert("effect".into(), "none".into());
            details.set_retry_info(Some(RETRY_SOON));
        }
        Error::QuotaExceeded {
            what,
            user,
            retry_after,
        } => {
            metadata.insert("effect".into(), "none".into());
            metadata.insert("quota".into(), (*what).into());
            details.set_retry_info(Some(*retry_after));
            details.add_quota_failure_violation(format!("user:{user}"), error.to_string());
        }
        Error::Archive => {
            metadata.insert("effect".into(), "none".into());
            details.set_retry_info(Some(RETRY_LATER));
        }
        Error::NotAllowed { right, .. } => {
            metadata.insert("right".into(), (*right).into());
        }
        Error::EventUnreadable { id, .. } => {
            metadata.insert("event_id".into(), id.to_string());
        }
        Error::Discarded { oldest, .. } => {
            metadata.insert("oldest_after_id".into(), oldest.to_string());
        }
        Error::BeyondHead { head, .. } => {
            metadata.insert("head_id".into(), head.to_string());
        }
        Error::StaleEpoch { current, .. } => {
            metadata.insert("current_epoch".into(), current.to_string());
        }
        Error::LiveNotAllowed
        | Error::NotRegistered { .. }
        | Error::TakenOver { .. }
        | Error::SubscriptionActive { .. }
        | Error::StartAbovePosition { .. }
        | Error::ConsumerStopped { .. }
        | Error::EventRefused { .. }
        | Error::Unauthenticated { .. }
        | Error::RequestIdReused => {}
    }
    details.set_error_info(error.reason(), DOMAIN, metadata);
    Status::with_error_details(code(error), error.to_string(), details)
}

fn effect_text(effect: Effect) -> &'static str {
    match effect {
        Effect::None => "none",
        Effect::Unknown => "unknown",
    }
}

/// As `types.proto` lists them.
fn code(error: &Error) -> Code {
    match error {
        Error::InvalidField { .. } | Error::LiveNotAllowed => Code::InvalidArgument,
        Error::NotRegistered { .. } => Code::NotFound,
        Error::TakenOver { .. } => Code::Aborted,
        Error::StaleEpoch { .. }
        | Error::SubscriptionActive { .. }
        | Error::StartAbovePosition { .. }
        | Error::ConsumerStopped { .. }
        | Error::EventUnreadable { .. }
        | Error::EventRefused { .. } => Code::FailedPrecondition,
        Error::RequestIdReused => Code::AlreadyExists,
        Error::BeyondHead { .. } | Error::Discarded { .. } => Code::OutOfRange,
        Error::Overloaded { .. } | Error::QuotaExceeded { .. } => Code::ResourceExhausted,
        Error::Unauthenticated { .. } => Code::Unauthenticated,
        Error::NotAllowed { .. } => Code::PermissionDenied,
        Error::Archive
        | Error::NotSettled { .. }
        | Error::Draining
        | Error::CredentialsEnded { .. }
        | Error::Database { .. } => Code::Unavailable,
    }
}
