//! Who uses the console, found out before anything else is looked at.
//!
//! Without users everybody who reaches the listener is the operator, also a web
//! page that the operator's browser happens to show; a certificate goes with
//! every request of a browser, too. So a request must come from a page of this
//! service: its origin must be its `Host`, which without users may not be a
//! name, because somebody else's DNS could lead it here.

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header, uri},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{answer::Failure, api, page};
use crate::{auth::Authority, error::Error};

const FETCH_SITE: &str = "sec-fetch-site";

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
    let host = host(request.uri(), request.headers())?;
    if authority.is_open() {
        check_host(&host)?;
    }
    // A link from another site may lead to the page.
    if is_api {
        check_origin(&host, request.headers())?;
        let caller = authority.of_headers(request.headers(), request.extensions());
        let caller = caller.map_err(Error::from)?;
        request.extensions_mut().insert(caller);
    }
    Ok(())
}

/// What the browser was told to connect to; HTTP/2 has it in the URI.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<uri::Authority, Failure> {
    let named = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let told = uri.authority().map(uri::Authority::as_str).or(named);
    told.and_then(|host| host.parse().ok()).ok_or_else(|| {
        let message = "the request must have one Host";
        Failure::new(StatusCode::BAD_REQUEST, "INVALID_FIELD", message)
    })
}

fn check_host(host: &uri::Authority) -> Result<(), Failure> {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(Failure::forbidden(format!(
        "without users the console is served under an IP address or localhost, not as {name}: \
         a name could lead here from anybody's page"
    )))
}

fn check_origin(host: &uri::Authority, headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let site = text(FETCH_SITE).is_none_or(|site| matches!(site, "same-origin" | "none"));
    let origin = text(header::ORIGIN.as_str()).is_none_or(|origin| {
        let told = origin.split_once("://").map(|(_, told)| told);
        told.is_some_and(|told| told.eq_ignore_ascii_case(host.as_str()))
    });
    if site && origin {
        return Ok(());
    }
    Err(Failure::forbidden("only the console's own page may call"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(text: &str) -> uri::Authority {
        text.parse().unwrap()
    }

    #[test]
    fn names_that_could_lead_anywhere_are_no_hosts() {
        for host in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "localhost",
            "LOCALHOST:1",
            "10.0.0.7",
        ] {
            assert!(check_host(&authority(host)).is_ok(), "{host}");
        }
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "box",
        ] {
            let failure = check_host(&authority(host)).unwrap_err();
            assert_eq!(failure.status, StatusCode::FORBIDDEN, "{host}");
        }
    }

    #[test]
    fn only_our_own_page_may_call() {
        let ours = authority("127.0.0.1:8080");
        for (name, value, allowed) in [
            ("origin", "http://127.0.0.1:8080", true),
            ("origin", "https://127.0.0.1:8080", true),
            ("origin", "http://127.0.0.1:8081", false),
            ("origin", "http://evil.example", false),
            ("origin", "null", false),
            (FETCH_SITE, "same-origin", true),
            (FETCH_SITE, "none", true),
            (FETCH_SITE, "same-site", false),
            (FETCH_SITE, "cross-site", false),
            ("accept", "text/html", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(
                check_origin(&ours, &headers).is_ok(),
                allowed,
                "{name}: {value}"
            );
        }
    }
}
