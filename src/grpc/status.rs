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
    let (code, reason) = code_and_reason(error);
    let mut details = ErrorDetails::new();
    match error {
        Error::InvalidField { field, rule } => {
            details.add_bad_request_violation(field, rule);
        }
        Error::Database { effect } => {
            metadata.insert("effect".into(), effect_text(*effect).into());
            details.set_retry_info(Some(RETRY_LATER));
        }
        // Whose credentials ended identifies itself anew, perhaps by newer ones.
        Error::NotSettled { .. } | Error::Overloaded { .. } | Error::CredentialsEnded { .. } => {
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
        Error::Draining | Error::Archive => {
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
    details.set_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, error.to_string(), details)
}

fn effect_text(effect: Effect) -> &'static str {
    match effect {
        Effect::None => "none",
        Effect::Unknown => "unknown",
    }
}

/// As `types.proto` lists them.
fn code_and_reason(error: &Error) -> (Code, &'static str) {
    match error {
        Error::InvalidField { .. } => (Code::InvalidArgument, "INVALID_FIELD"),
        Error::LiveNotAllowed => (Code::InvalidArgument, "LIVE_NOT_ALLOWED"),
        Error::NotRegistered { .. } => (Code::NotFound, "NOT_REGISTERED"),
        Error::StaleEpoch { .. } => (Code::FailedPrecondition, "STALE_EPOCH"),
        Error::TakenOver { .. } => (Code::Aborted, "TAKEN_OVER"),
        Error::SubscriptionActive { .. } => (Code::FailedPrecondition, "SUBSCRIPTION_ACTIVE"),
        Error::StartAbovePosition { .. } => (Code::FailedPrecondition, "START_ABOVE_POSITION"),
        Error::ConsumerStopped { .. } => (Code::FailedPrecondition, "CONSUMER_STOPPED"),
        Error::EventUnreadable { .. } => (Code::FailedPrecondition, "EVENT_UNREADABLE"),
        Error::EventRefused { .. } => (Code::FailedPrecondition, "EVENT_REFUSED"),
        Error::RequestIdReused => (Code::AlreadyExists, "REQUEST_ID_REUSED"),
        Error::BeyondHead { .. } => (Code::OutOfRange, "BEYOND_HEAD"),
        Error::Discarded { .. } => (Code::OutOfRange, "DISCARDED"),
        Error::Archive => (Code::Unavailable, "ARCHIVE_UNAVAILABLE"),
        Error::NotSettled { .. } => (Code::Unavailable, "NOT_SETTLED"),
        Error::Overloaded { .. } => (Code::ResourceExhausted, "OVERLOADED"),
        Error::QuotaExceeded { .. } => (Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        Error::Draining => (Code::Unavailable, "DRAINING"),
        Error::Unauthenticated { .. } => (Code::Unauthenticated, "UNAUTHENTICATED"),
        Error::NotAllowed { .. } => (Code::PermissionDenied, "NOT_ALLOWED"),
        Error::CredentialsEnded { .. } => (Code::Unavailable, "CREDENTIALS_ENDED"),
        Error::Database { .. } => (Code::Unavailable, "DATABASE_UNAVAILABLE"),
    }
}
