//! The stream's errors as FutoIn knows them.

use super::message::Fault;
use crate::error::Error;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidField { .. } | Error::EventRefused { .. } => {
                Self::invalid(error.to_string())
            }
            Error::Unauthenticated { .. }
            | Error::NotAllowed { .. }
            | Error::CredentialsEnded { .. } => Self::new("SecurityError", error.to_string()),
            Error::LiveNotAllowed => {
                Self::new("LiveNotAllowed", "Live consumer should not register")
            }
            Error::NotRegistered { .. } => Self::bare("NotRegistered"),
            Error::Overloaded { .. } | Error::QuotaExceeded { .. } => {
                Self::new("DefenseRejected", error.to_string())
            }
            // An operator has to act: clients pass the text on.
            Error::ConsumerStopped { .. }
            | Error::EventUnreadable { .. }
            | Error::Discarded { .. } => Self::new("InternalError", error.to_string()),
            Error::StaleEpoch { .. }
            | Error::TakenOver { .. }
            | Error::SubscriptionActive { .. }
            | Error::StartAbovePosition { .. }
            | Error::RequestIdReused
            | Error::BeyondHead { .. }
            | Error::NotSettled { .. }
            | Error::Archive
            | Error::Draining
            | Error::Database { .. } => Self::unexpected(),
        }
    }
}
