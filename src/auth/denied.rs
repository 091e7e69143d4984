//! Why a request is refused: nobody known called, the right is missing, or the
//! rights under which something was begun are no longer the same.
//!
//! The one vocabulary of refusals. It becomes [`Error`] here, which each front
//! turns into its own protocol; its class is counted and its text logged by
//! `audit`, and shown to the caller: it names the user and what was to be done,
//! never a credential.

use std::borrow::Cow;

use crate::{error::Error, event::User};

/// What a user can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Adding events of a type.
    Generate,
    /// Reading and acknowledging as a component.
    Consume,
    /// Receiving events of a type.
    Read,
    /// Seeing the state of everything.
    Observe,
    /// Changing the state of everything.
    Administer,
}

impl Right {
    /// As logs and error details name it: the key in the file of users.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Consume => "consume",
            Self::Read => "types",
            Self::Observe => "observe",
            Self::Administer => "administer",
        }
    }
}

/// Why a request is refused. The text shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not known who calls.
    #[error("{0}")]
    Unauthenticated(Cow<'static, str>),
    /// It is known, and not allowed.
    #[error("user {} may not {what}", .user.as_str())]
    NotAllowed {
        /// Who.
        user: User,
        /// What is missing.
        right: Right,
        /// What was to be done, in words.
        what: String,
    },
    /// What was begun under rights that are no longer the same.
    #[error("{why}; identify yourself again")]
    Ended {
        /// Who.
        user: User,
        /// What changed.
        why: &'static str,
    },
}

impl Denied {
    /// The class that metrics count.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Unauthenticated(_) => "unauthenticated",
            Self::NotAllowed { .. } => "not_allowed",
            Self::Ended { .. } => "ended",
        }
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        let text = denied.to_string();
        match denied {
            Denied::Unauthenticated(_) => Self::Unauthenticated { why: text },
            Denied::NotAllowed { right, .. } => Self::NotAllowed {
                right: right.as_str(),
                why: text,
            },
            Denied::Ended { .. } => Self::CredentialsEnded { why: text },
        }
    }
}
