//! The one error vocabulary of the stream and its fronts.
//!
//! One variant per condition that `types.proto` lists; each front turns it into its own
//! protocol in one exhaustive match. What a caller may see is in the variant;
//! causes are logged where they are handled and never sent.

use crate::{
    event::{EventId, Fault, Invalid},
    store::{self, Effect},
    telemetry::{self, Sparingly},
};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field of the request breaks a rule.
    #[error("{field} {rule}")]
    InvalidField {
        /// Path of the field, as in the protocol.
        field: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// `LIVE` was to be registered.
    #[error("the component LIVE is for unreliable reading and cannot be registered")]
    LiveNotAllowed,
    /// No such consumer.
    #[error("consumer {consumer} is not registered")]
    NotRegistered {
        /// `{user}:{component}`.
        consumer: String,
    },
    /// A newer session, seek or registration has fenced the caller off.
    #[error("epoch {given} of consumer {consumer} is over, {current} has begun")]
    StaleEpoch {
        /// `{user}:{component}`.
        consumer: String,
        /// The caller's.
        given: i64,
        /// The consumer's.
        current: i64,
    },
    /// Another session took the consumer over.
    #[error("another session of consumer {consumer} took over")]
    TakenOver {
        /// `{user}:{component}`.
        consumer: String,
    },
    /// A push session of the consumer is open.
    #[error("a push session of consumer {consumer} is open ({label})")]
    SubscriptionActive {
        /// `{user}:{component}`.
        consumer: String,
        /// What that session says about itself.
        label: String,
    },
    /// A subscription was to start above its position.
    #[error("start {start} is above the position {position}; SeekConsumer moves a position")]
    StartAbovePosition {
        /// The start asked for.
        start: EventId,
        /// The stored position.
        position: EventId,
    },
    /// The consumer is stopped until an operator seeks it.
    #[error("consumer {consumer} is stopped: {reason}")]
    ConsumerStopped {
        /// `{user}:{component}`.
        consumer: String,
        /// Why.
        reason: String,
    },
    /// An event that the caller wants cannot be delivered.
    #[error("event {id} cannot be delivered: {fault}; SeekConsumer to {id} goes past it")]
    EventUnreadable {
        /// The event.
        id: EventId,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The database refuses the event itself.
    #[error("{reason}")]
    EventRefused {
        /// The database's words.
        reason: String,
    },
    /// The request id was used for other events.
    #[error("request_id was used for other events")]
    RequestIdReused,
    /// No event with this id was ever given out.
    #[error("id {id} is above the highest id {head}")]
    BeyondHead {
        /// The id.
        id: EventId,
        /// The highest id given out.
        head: EventId,
    },
    /// The id is not proven settled yet.
    #[error("id {id} is not settled yet, the frontier is {frontier}")]
    NotSettled {
        /// The id.
        id: EventId,
        /// Highest settled id.
        frontier: EventId,
    },
    /// Events after the place asked for are gone from the active table.
    #[error("events after {after} were discarded; the oldest that can be read follow {oldest}")]
    Discarded {
        /// The place asked for.
        after: EventId,
        /// Reading can start after this id.
        oldest: EventId,
    },
    /// Events are to be read from the archive, which does not work right now.
    #[error("the archive does not answer right now")]
    Archive,
    /// Too much is under way.
    #[error("{what} is full, try again later")]
    Overloaded {
        /// What has no room.
        what: &'static str,
    },
    /// A user has used up what it may.
    #[error("user {user} may do no more {what} at this time")]
    QuotaExceeded {
        /// `calls`, `events`, `bytes` or `streams`.
        what: &'static str,
        /// Whose quota it is.
        user: String,
        /// When as much is there again.
        retry_after: std::time::Duration,
    },
    /// The service is ending.
    #[error("the service is shutting down")]
    Draining,
    /// It is not known who calls.
    #[error("{why}")]
    Unauthenticated {
        /// What is wrong with the credentials.
        why: String,
    },
    /// The caller may not do that.
    #[error("{why}")]
    NotAllowed {
        /// The right that is missing.
        right: &'static str,
        /// Who may not do what.
        why: String,
    },
    /// What was begun under credentials or rights that are no longer the same.
    #[error("{why}")]
    CredentialsEnded {
        /// What changed.
        why: String,
    },
    /// The database does not work right now.
    #[error("the database does not work right now")]
    Database {
        /// Whether the call may have had an effect.
        effect: Effect,
    },
}

impl Error {
    /// A broken rule of a field.
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::InvalidField {
            field: field.into(),
            rule: rule.into(),
        }
    }

    /// The condition's name, as `types.proto` lists them: the same in every front
    /// that has names for them.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "INVALID_FIELD",
            Self::LiveNotAllowed => "LIVE_NOT_ALLOWED",
            Self::NotRegistered { .. } => "NOT_REGISTERED",
            Self::StaleEpoch { .. } => "STALE_EPOCH",
            Self::TakenOver { .. } => "TAKEN_OVER",
            Self::SubscriptionActive { .. } => "SUBSCRIPTION_ACTIVE",
            Self::StartAbovePosition { .. } => "START_ABOVE_POSITION",
            Self::ConsumerStopped { .. } => "CONSUMER_STOPPED",
            Self::EventUnreadable { .. } => "EVENT_UNREADABLE",
            Self::EventRefused { .. } => "EVENT_REFUSED",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::BeyondHead { .. } => "BEYOND_HEAD",
            Self::Discarded { .. } => "DISCARDED",
            Self::Archive => "ARCHIVE_UNAVAILABLE",
            Self::NotSettled { .. } => "NOT_SETTLED",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::QuotaExceeded { .. } => "QUOTA_EXCEEDED",
            Self::Draining => "DRAINING",
            Self::Unauthenticated { .. } => "UNAUTHENTICATED",
            Self::NotAllowed { .. } => "NOT_ALLOWED",
            Self::CredentialsEnded { .. } => "CREDENTIALS_ENDED",
            Self::Database { .. } => "DATABASE_UNAVAILABLE",
        }
    }

    /// Whether it is about who called, and not about the stream.
    #[must_use]
    pub fn is_of_caller(&self) -> bool {
        matches!(
            self,
            Self::Unauthenticated { .. }
                | Self::NotAllowed { .. }
                | Self::CredentialsEnded { .. }
                | Self::QuotaExceeded { .. }
        )
    }

    /// There is no room; counted here, for it is the service's fault and not, as a
    /// quota, its caller's.
    #[must_use]
    pub fn overloaded(what: &'static str) -> Self {
        metrics::counter!(telemetry::OVERLOADS).increment(1);
        Self::Overloaded { what }
    }

    /// Names the field that `Invalid` speaks of.
    pub fn field(field: &str) -> impl FnOnce(Invalid) -> Self + '_ {
        move |invalid| Self::invalid(field, invalid.rule)
    }
}

/// A database that is away fails every call of everybody.
fn warnings(class: &str) -> &'static Sparingly {
    static PASSING: Sparingly = Sparingly::new();
    static LOST: Sparingly = Sparingly::new();
    static OTHER: Sparingly = Sparingly::new();
    match class {
        "unavailable" => &PASSING,
        "lost" => &LOST,
        _ => &OTHER,
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        metrics::counter!(telemetry::DATABASE_ERRORS, "class" => error.class()).increment(1);
        let class = error.class();
        if let Some(unsaid) = warnings(class).due() {
            tracing::warn!(%error, class, unsaid, "database error");
        } else {
            tracing::debug!(%error, class, "database error");
        }
        let effect = match error {
            store::Error::Unavailable { effect, .. } | store::Error::Lost { effect, .. } => effect,
            store::Error::Contract(_) | store::Error::Discarded(_) => Effect::None,
        };
        Self::Database { effect }
    }
}
