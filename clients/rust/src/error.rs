//! What can go wrong, typed: by code and reason where the service says no.

use std::{error::Error as StdError, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Any error; what handlers return becomes one.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What ends a call or a receiver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service has refused, or could not be reached.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Refused before anything was sent.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A handler failed, and its policy is to stop.
    #[error("the handler of event {event} failed: {source}")]
    Handler {
        /// ID of the event that is not acknowledged.
        event: i64,
        /// The handler's error.
        source: BoxError,
    },
    /// A session that ended without the service saying so: in
    /// [`Reconnect`](crate::Reconnect), never the end of a receiver.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The address, or what belongs to it, cannot be used.
    #[error("cannot connect: {0}")]
    Connect(#[source] BoxError),
}

/// A value that the service would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
#[non_exhaustive]
pub struct Invalid {
    /// The field's name in the contract: `type`, `data_json`; `table`.
    pub field: &'static str,
    /// The rule that it breaks.
    pub rule: String,
}

/// Why a session ended that the service did not end with an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// The stream ended without an error.
    #[error("the stream ended")]
    Ended,
    /// Nothing was read for three heartbeats.
    #[error("nothing was read for {0:?}")]
    DeadPeer(Duration),
    /// A group is missing.
    #[error("group {got} came where group {expected} was due")]
    Gap {
        /// The `seq` that was due.
        expected: i64,
        /// The `seq` that came.
        got: i64,
    },
}

/// An error of the service, or of the way to it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code:?}{}: {message}", reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default())]
#[non_exhaustive]
pub struct ServiceError {
    /// The code of gRPC.
    pub code: Code,
    /// For people.
    pub message: String,
    /// The reason of the contract, such as `NOT_REGISTERED`.
    pub reason: Option<String>,
    /// The field that is wrong.
    pub field: Option<String>,
    /// No call before it.
    pub retry_after: Option<Duration>,
    /// Whether the call may have had an effect: `none` or `unknown`.
    pub effect: Option<String>,
}

impl ServiceError {
    /// Whether the same call may succeed later: no fault of the caller.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Unknown
        )
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.reason.as_deref() == Some(reason)
    }

    /// Another session has the consumer, or its position was moved: nothing of
    /// this session may be acknowledged any more.
    pub(crate) fn is_fencing(&self) -> bool {
        self.has_reason("STALE_EPOCH") || self.has_reason("TAKEN_OVER")
    }

    /// Whether a receiver goes on with another session.
    pub(crate) fn is_survivable(&self) -> bool {
        match self.code {
            Code::FailedPrecondition => self.has_reason("STALE_EPOCH"),
            Code::Aborted | Code::Internal | Code::Cancelled => true,
            _ => self.is_transient(),
        }
    }
}

impl From<Status> for ServiceError {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let effect = info
            .as_ref()
            .and_then(|info| info.metadata.get("effect").cloned());
        let violations = status.get_details_bad_request();
        let violation = violations.and_then(|mut bad| bad.field_violations.pop());
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|info| info.reason),
            field: violation.map(|violation| violation.field),
            retry_after: status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay),
            effect,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Service(status.into())
    }
}

impl Error {
    /// The service's error, if it is one.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceError> {
        match self {
            Self::Service(error) => Some(error),
            _ => None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.service().and_then(|error| error.retry_after)
    }

    pub(crate) fn is_fencing(&self) -> bool {
        self.service().is_some_and(ServiceError::is_fencing)
    }

    /// Whether a receiver goes on with another session.
    pub(crate) fn is_survivable(&self) -> bool {
        match self {
            Self::Service(error) => error.is_survivable(),
            Self::Lost(_) => true,
            _ => false,
        }
    }
}
