//! Failures as answers: a status, and one JSON object that names the condition.
//!
//! The console's counterpart of `grpc::status`: every [`Error`] has its status in
//! one exhaustive match. The page shows the message and decides by the reason,
//! which is that of gRPC's `ErrorInfo`.

use axum::{
    Json,
    extract::rejection::{JsonRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{error::Error, event::Invalid};

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// As the page reads it.
#[derive(Serialize)]
pub(super) struct View<'a> {
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
}

#[derive(Serialize)]
struct Body<'a> {
    error: View<'a>,
}

impl Failure {
    pub(super) fn new(
        status: StatusCode,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
        }
    }

    /// What a browser must not do, or somebody without the right.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "NOT_ALLOWED", message)
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            reason: self.reason,
            message: &self.message,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(status(&error), error.reason(), error.to_string())
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), "INVALID_FIELD", rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "INVALID_FIELD", rejection.body_text())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(Body { error: self.view() });
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// Names the field that `Invalid` speaks of.
pub(super) fn field(name: &'static str) -> impl FnOnce(Invalid) -> Failure {
    move |invalid| Error::field(name)(invalid).into()
}

fn status(error: &Error) -> StatusCode {
    match error {
        Error::InvalidField { .. } | Error::LiveNotAllowed => StatusCode::BAD_REQUEST,
        Error::Unauthenticated { .. } | Error::CredentialsEnded { .. } => StatusCode::UNAUTHORIZED,
        Error::NotAllowed { .. } => StatusCode::FORBIDDEN,
        Error::NotRegistered { .. } => StatusCode::NOT_FOUND,
        Error::StaleEpoch { .. }
        | Error::TakenOver { .. }
        | Error::SubscriptionActive { .. }
        | Error::StartAbovePosition { .. }
        | Error::ConsumerStopped { .. }
        | Error::EventUnreadable { .. }
        | Error::EventRefused { .. }
        | Error::RequestIdReused
        | Error::BeyondHead { .. }
        | Error::Discarded { .. } => StatusCode::CONFLICT,
        Error::Overloaded { .. } | Error::QuotaExceeded { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::Archive | Error::NotSettled { .. } | Error::Draining | Error::Database { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
