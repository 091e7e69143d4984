//! Requests that are no message of the contract.
//!
//! tonic answers a message that cannot be decoded with `INTERNAL` and one that
//! is too long with `OUT_OF_RANGE`; both are the caller's mistake, so they
//! become `INVALID_ARGUMENT` that names the field.

use axum::response::Response;
use tonic::{Code, Status};

use crate::{error::Error, limits};

/// How tonic-prost begins its message for a [`prost::DecodeError`].
const DECODE_ERROR: &str = "failed to decode Protobuf message: ";

/// How tonic begins its message for a message above the limit.
const TOO_LONG: &str = "Error, decoded message length too large: ";

/// Rewrites the status of a request that is no message of the contract.
pub(super) async fn name_the_field(response: Response) -> Response {
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(fault) {
        Some(error) => Status::from(error).into_http(),
        None => response,
    }
}

/// What is wrong with the message, if that is what the status says.
pub(super) fn fault(status: &Status) -> Option<Error> {
    match status.code() {
        Code::Internal => status.message().strip_prefix(DECODE_ERROR).map(undecodable),
        Code::OutOfRange if status.message().starts_with(TOO_LONG) => {
            let rule = format!("must be at most {} bytes", limits::MAX_MESSAGE_BYTES);
            Some(Error::invalid("message", rule))
        }
        _ => None,
    }
}

/// From `NewEvent.type: AddEventsRequest.events: invalid string value: …`: the
/// places, innermost first, and what is wrong there.
fn undecodable(fault: &str) -> Error {
    let mut path = Vec::new();
    let mut rule = fault;
    while let Some((place, rest)) = rule.split_once(": ")
        && let Some((_message, field)) = place.split_once('.')
        && !place.contains(' ')
    {
        // As the contract spells it, not as Rust must.
        path.insert(0, field.strip_prefix("r#").unwrap_or(field));
        rule = rest;
    }
    let field = if path.is_empty() {
        "message".to_owned()
    } else {
        path.join(".")
    };
    Error::invalid(field, format!("cannot be decoded: {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_and_rule(message: &str) -> (String, String) {
        match undecodable(message) {
            Error::InvalidField { field, rule } => (field, rule),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn nested_field_is_named_from_the_outside() {
        let (field, rule) = field_and_rule(
            "NewEvent.r#type: AddEventsRequest.events: invalid string value: data is not UTF-8",
        );
        assert_eq!(field, "events.type");
        assert_eq!(
            rule,
            "cannot be decoded: invalid string value: data is not UTF-8"
        );
        assert_eq!(field_and_rule("invalid tag value: 0").0, "message");
    }
}
