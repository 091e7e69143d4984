//! What web pages may call: those of this service, and of the origins that the
//! configuration names.
//!
//! Browsers send what any page asks for, with the certificate of the person in
//! front of them, and tell where the page is from. So nothing is taken that a page may
//! send to somebody else unasked (another content type than gRPC's), and an
//! origin that is said must be known, or that of the `Host`; without users that
//! host may not be a name, because somebody else's DNS could lead it here.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::origins::{self, Origins};

/// Pages that may call.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    pub(super) named: Origins,
    /// Whether everybody may do everything.
    pub(super) open: bool,
}

/// Refuses what a page must not send.
pub(super) async fn admit(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    // The question of a browser whether a page may call.
    if request.method() != Method::OPTIONS {
        if !is_grpc(request.headers()) {
            let text = "this address speaks gRPC: the content type must be application/grpc\n";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
        }
        if !pages.allow(&request) {
            let text = "pages of this origin may not call: see grpc.web_origins\n";
            return (StatusCode::FORBIDDEN, text).into_response();
        }
    }
    next.run(request).await
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

impl Pages {
    fn allow(&self, request: &Request) -> bool {
        let headers = request.headers();
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        if self.named.allow(origin) {
            return true;
        }
        origins::host(request.uri(), headers).is_some_and(|host| {
            origins::is_of(&host, headers) && (!self.open || !origins::is_name(&host))
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn pages_of_others_may_not_call() {
        for (origin, host, open, allowed) in [
            ("http://127.0.0.1:50051", "127.0.0.1:50051", true, true),
            ("https://shop.example", "127.0.0.1:50051", true, true),
            ("http://other.example", "127.0.0.1:50051", true, false),
            // Its DNS leads here.
            (
                "http://evil.example:50051",
                "evil.example:50051",
                true,
                false,
            ),
            // There are users, and their tokens it has not.
            (
                "http://evil.example:50051",
                "evil.example:50051",
                false,
                true,
            ),
            ("null", "127.0.0.1:50051", false, false),
        ] {
            let named = Origins::parse("https://shop.example").unwrap();
            let request = Request::builder()
                .header(header::ORIGIN, origin)
                .header(header::HOST, host);
            let request = request.body(Body::empty()).unwrap();
            let pages = Pages { named, open };
            assert_eq!(pages.allow(&request), allowed, "{origin} at {host}");
        }
    }

    #[test]
    fn what_pages_may_send_unasked_is_not_grpc() {
        for (kind, taken) in [
            ("application/grpc", true),
            ("application/grpc-web+proto", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            let mut headers = HeaderMap::new();
            assert!(!is_grpc(&headers));
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(is_grpc(&headers), taken, "{kind}");
        }
    }
}
