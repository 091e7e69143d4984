//! Requests that are no message of the contract.
//!
//! tonic answers a message that cannot be decoded with `INTERNAL`; it is the
//! caller's mistake, so it becomes `INVALID_ARGUMENT` that names the field.

use axum::response::Response;
use tonic::{Code, Status};

use crate::error::Error;

/// How tonic-prost begins its message for a [`prost::DecodeError`].
const DECODE_ERROR: &str = "failed to decode Protobuf message: ";

/// Rewrites the status of a request that could not be decoded.
pub(super) async fn name_the_field(response: Response) -> Response {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    let Some(fault) = status.message().strip_prefix(DECODE_ERROR) else {
        return response;
    };
    if status.code() != Code::Internal {
        return response;
    }
    // "AddEventRequest.type: invalid string value: data is not UTF-8 encoded"
    let (field, rule) = fault.split_once(": ").unwrap_or(("message", fault));
    let field = field
        .split_once('.')
        .map_or(field, |(_message, field)| field);
    Status::from(Error::invalid(field, format!("cannot be decoded: {rule}"))).into_http()
}
