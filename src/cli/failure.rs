//! What can go wrong for a client command: its exit code and its words.
//!
//! A refusal is shown as the server's own text, the reason of its `ErrorInfo`,
//! the fields it complains of, and what to do about it.

use std::{error::Error, io, process::ExitCode};

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::output::{Output, plain};
use crate::store;

/// Shown in every `--help`.
pub(super) const EXIT_CODES: &str = "Exit codes:\n  \
    0  done\n  \
    1  refused by the server (not found, invalid, not allowed, ...)\n  \
    2  wrong usage or input\n  \
    3  server unreachable, lost, or not available now";

/// Examples and exit codes, for the end of a subcommand's help.
pub(super) fn help(examples: &str) -> String {
    format!("Examples:\n{examples}\n\n{EXIT_CODES}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    Refused = 1,
    Usage = 2,
    Lost = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("cannot reach a server at {address}: {cause}")]
    Unreachable { address: String, cause: String },
    #[error("{}", describe(.status))]
    Call {
        status: Box<Status>,
        /// Takes the place of the hint that follows from the reason.
        hint: Option<String>,
    },
    /// A stream that stopped without a status, or broke its own rules.
    #[error("{0}")]
    Broken(String),
    /// A database that this command opened itself does not work.
    #[error("the warehouse does not work: {0}")]
    Warehouse(#[from] store::Error),
    /// Somebody must look at the warehouse.
    #[error("{0}")]
    Rejected(String),
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Call {
            status: Box::new(status),
            hint: None,
        }
    }
}

impl Failure {
    pub(super) fn with_hint(self, text: String) -> Self {
        match self {
            Self::Call { status, .. } => Self::Call {
                status,
                hint: Some(text),
            },
            other => other,
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            // The reader of a pipe has seen enough (`| head`).
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Usage(_) | Self::Input(_) | Self::Output(_) => Exit::Usage,
            Self::Unreachable { .. } | Self::Broken(_) | Self::Warehouse(_) => Exit::Lost,
            Self::Call { status, .. } if is_lost(status) => Exit::Lost,
            Self::Call { .. } | Self::Rejected(_) => Exit::Refused,
        }
    }

    /// Says it on stderr; a closed pipe is no failure and says nothing.
    pub(super) fn report(&self, component: Option<&str>, output: &mut Output) {
        if self.exit() == Exit::Done {
            return;
        }
        output.note(format_args!("eventstream: {self}"));
        if let Self::Call { status, .. } = self {
            for violation in violations(status) {
                output.note(format_args!("  {violation}"));
            }
        }
        if let Some(hint) = self.hint(component) {
            output.note(format_args!("  hint: {hint}"));
        }
    }

    fn hint(&self, component: Option<&str>) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some(
                "start one with `eventstream serve`, or name another with --addr or \
                 EVENTSTREAM_ADDR"
                    .to_owned(),
            ),
            Self::Call {
                hint: Some(hint), ..
            } => Some(hint.clone()),
            Self::Call { status, .. } if status.code() == Code::Unimplemented => {
                Some("is it an eventstream server, and as new as this program?".to_owned())
            }
            Self::Call { status, hint: None } => {
                hint_for(&reason(status)?, component.unwrap_or("COMPONENT"))
            }
            Self::Usage(_)
            | Self::Broken(_)
            | Self::Warehouse(_)
            | Self::Rejected(_)
            | Self::Output(_)
            | Self::Input(_) => None,
        }
    }
}

/// True when the server, or the way to it, is away: a later try may succeed.
pub(super) fn is_lost(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => true,
        // A status that carries a source was made by our own transport.
        Code::Unknown | Code::Internal => status.source().is_some(),
        _ => false,
    }
}

/// The reason in the status's `ErrorInfo`.
pub(super) fn reason(status: &Status) -> Option<String> {
    Some(status.get_details_error_info()?.reason)
}

/// Whether a call that failed may have had its effect.
pub(super) fn effect_unknown(status: &Status) -> bool {
    let Some(info) = status.get_details_error_info() else {
        return is_lost(status);
    };
    info.metadata
        .get("effect")
        .is_some_and(|effect| effect == "unknown")
}

fn describe(status: &Status) -> String {
    let code = format!("{:?}", status.code());
    let text = match (root_cause(status), status.message()) {
        (Some(cause), _) => format!("connection lost: {cause}"),
        (None, "") => code.clone(),
        (None, message) => plain(message).into_owned(),
    };
    match reason(status) {
        Some(reason) => format!("{text} ({code}, {})", plain(&reason)),
        None => format!("{text} ({code})"),
    }
}

fn violations(status: &Status) -> Vec<String> {
    let Some(request) = status.get_details_bad_request() else {
        return Vec::new();
    };
    let violations = request.field_violations.into_iter();
    violations
        .map(|found| format!("{}: {}", plain(&found.field), plain(&found.description)))
        .collect()
}

/// The innermost source of an error: transports wrap the one that tells.
pub(super) fn root_cause(error: &dyn Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause.to_string())
}

fn hint_for(reason: &str, component: &str) -> Option<String> {
    let hint = match reason {
        "NOT_REGISTERED" => {
            format!("register it first: eventstream consumers register {component}")
        }
        "LIVE_NOT_ALLOWED" => {
            "LIVE is no consumer: `eventstream tail` reads it as it is".to_owned()
        }
        "STALE_EPOCH" => {
            "another session, a seek or a registration came in between; start again".to_owned()
        }
        "SUBSCRIPTION_ACTIVE" => format!(
            "a push session of {component} is open (eventstream consumers list); end it, or wait \
             for its end with `eventstream tail {component} --ack`"
        ),
        "START_ABOVE_POSITION" => {
            format!("move the position instead: eventstream consumers seek {component} --to ID")
        }
        "EVENT_UNREADABLE" | "EVENT_REFUSED" | "CONSUMER_STOPPED" => format!(
            "see `eventstream status`; to go on behind it: eventstream consumers seek {component} \
             --to ID"
        ),
        "DISCARDED" => format!(
            "events there are gone; go on at the oldest kept one: eventstream consumers seek \
             {component} --to oldest"
        ),
        "BEYOND_HEAD" => "no event has that ID yet: see `eventstream status`".to_owned(),
        "UNAUTHENTICATED" => {
            "say who calls, by --token-file, --token or EVENTSTREAM_TOKEN".to_owned()
        }
        "NOT_ALLOWED" => "an administrator grants it in the service's auth.file".to_owned(),
        "REQUEST_ID_REUSED" => "use a new --request-id for other events".to_owned(),
        "NOT_SETTLED" | "DATABASE_UNAVAILABLE" | "DRAINING" | "OVERLOADED" => {
            "try again in a moment".to_owned()
        }
        _ => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, reason: &str) -> Failure {
        let details = ErrorDetails::with_error_info(reason, "evt.futoin.org", HashMap::new());
        Status::with_error_details(code, "it is so", details).into()
    }

    #[test]
    fn exit_codes() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        let disk = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Failure::Output(pipe).exit(), Exit::Done);
        assert_eq!(Failure::Output(disk).exit(), Exit::Usage);
        assert_eq!(Failure::Usage(String::new()).exit(), Exit::Usage);
        assert_eq!(
            refused(Code::NotFound, "NOT_REGISTERED").exit(),
            Exit::Refused
        );
        assert_eq!(refused(Code::Unavailable, "DRAINING").exit(), Exit::Lost);
        assert_eq!(
            Failure::from(Status::unknown("theirs")).exit(),
            Exit::Refused
        );
        let mut ours = Status::unknown("transport");
        ours.set_source(std::sync::Arc::new(io::Error::other("reset")));
        assert_eq!(Failure::from(ours).exit(), Exit::Lost);
    }

    #[test]
    fn a_refusal_says_what_why_and_what_to_do() {
        let (mut output, shown) = Output::captured(false);
        refused(Code::NotFound, "NOT_REGISTERED").report(Some("CACHE"), &mut output);
        assert_eq!(
            shown.notes(),
            "eventstream: it is so (NotFound, NOT_REGISTERED)\n  \
             hint: register it first: eventstream consumers register CACHE\n"
        );
    }

    #[test]
    fn a_bad_field_is_named() {
        let mut details = ErrorDetails::with_bad_request_violation("type", "must be short");
        details.set_error_info("INVALID_FIELD", "evt.futoin.org", HashMap::new());
        let status = Status::with_error_details(Code::InvalidArgument, "bad request", details);
        let (mut output, shown) = Output::captured(false);
        Failure::from(status).report(None, &mut output);
        assert_eq!(
            shown.notes(),
            "eventstream: bad request (InvalidArgument, INVALID_FIELD)\n  type: must be short\n"
        );
    }

    #[test]
    fn an_effect_is_unknown_only_where_the_server_or_the_loss_says_so() {
        let told = |effect: &str| {
            let metadata = HashMap::from([("effect".to_owned(), effect.to_owned())]);
            let details = ErrorDetails::with_error_info("DRAINING", "evt.futoin.org", metadata);
            Status::with_error_details(Code::Unavailable, "", details)
        };
        assert!(effect_unknown(&told("unknown")));
        assert!(!effect_unknown(&told("none")));
        assert!(effect_unknown(&Status::deadline_exceeded("")));
        assert!(!effect_unknown(&Status::invalid_argument("")));
    }
}
