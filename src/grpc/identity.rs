//! Who calls: found out before a message is read, so that nobody unknown can
//! have one decoded. Probes ask without credentials; everything else, server
//! reflection and the stream of healths included, is for users if there are any.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
};
use tonic::Status;

use crate::{auth::Authority, error::Error};

/// The one call that is open.
const PROBE: &str = "/grpc.health.v1.Health/Check";

/// Puts the [`crate::auth::Principal`] beside the request, or refuses it.
pub(super) async fn identify(
    State(authority): State<Authority>,
    mut request: Request,
    next: Next,
) -> Response {
    if request.uri().path() == PROBE {
        return next.run(request).await;
    }
    match authority.of_headers(request.headers(), request.extensions()) {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(denied) => {
            let mut response = Status::from(Error::from(denied)).into_http();
            let bearer = HeaderValue::from_static("Bearer");
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, bearer);
            response
        }
    }
}
