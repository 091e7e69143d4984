//! Who uses the console, found out before anything else is looked at.
//!
//! Without users everybody who reaches the listener is the operator, also a web
//! page that the operator's browser happens to show; a certificate goes with
//! every request of a browser, too. So a request must come from a page of this
//! service: its origin must be its `Host`, which without users may not be a
//! name, because somebody else's DNS could lead it here.

use axum::{
    extract::{Request, State},
    http::{StatusCode, uri},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{answer::Failure, api, page};
use crate::{auth::Authority, error::Error, origins};

/// Lets through what may be answered, and dresses the answer.
pub(super) async fn guard(
    State(authority): State<Authority>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_api = api::is_below(request.uri().path());
    let outcome = admit(&authority, &mut request, is_api);
    let mut response = match outcome {
        Ok(()) => next.run(request).await,
        Err(failure) if is_api => failure.into_response(),
        Err(failure) => (failure.status, format!("{}\n", failure.message)).into_response(),
    };
    page::dress(response.headers_mut());
    response
}

/// The page itself is for everybody: it asks for the credentials.
fn admit(authority: &Authority, request: &mut Request, is_api: bool) -> Result<(), Failure> {
    let host = origins::host(request.uri(), request.headers()).ok_or_else(no_host)?;
    if authority.is_open() && origins::is_name(&host) {
        return Err(of_a_name(&host));
    }
    // A link from another site may lead to the page.
    if is_api {
        if !origins::is_of(&host, request.headers()) {
            return Err(Failure::forbidden("only the console's own page may call"));
        }
        let caller = authority.of_headers(request.headers(), request.extensions());
        let caller = caller.map_err(Error::from)?;
        request.extensions_mut().insert(caller);
    }
    Ok(())
}

fn no_host() -> Failure {
    let message = "the request must have one Host";
    Failure::new(StatusCode::BAD_REQUEST, "INVALID_FIELD", message)
}

fn of_a_name(host: &uri::Authority) -> Failure {
    Failure::forbidden(format!(
        "without users the console is served under an IP address or localhost, not as {}: \
         a name could lead here from anybody's page",
        host.host()
    ))
}
