//! Which web pages may call: browsers ask before they let a page of another
//! origin read an answer, and nothing else asks.

use axum::http::{HeaderName, HeaderValue, Method, Uri, uri::Authority};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::limits;

/// Origins whose pages may call, beside the service's own; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    all: bool,
    named: Vec<HeaderValue>,
}

impl Origins {
    /// Reads origins such as `https://shop.example:8443`, separated by spaces; `*`
    /// alone is all.
    ///
    /// # Errors
    /// The rule, when the text breaks it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self {
                all: true,
                named: Vec::new(),
            });
        }
        let named: Option<_> = text.split_whitespace().map(origin).collect();
        let named = named
            .ok_or("must be * or origins like https://shop.example:8443, separated by spaces")?;
        Ok(Self { all: false, named })
    }

    /// Whether there is anything to allow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.named.is_empty()
    }

    /// Whether a page of this origin is among them.
    #[must_use]
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        self.all || self.named.contains(origin)
    }

    /// Answers the questions of browsers. FutoIn has calls by GET.
    pub fn layer(&self) -> CorsLayer {
        // What gRPC-Web may say in headers.
        let readable = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
        let allowed = if self.all {
            AllowOrigin::any()
        } else {
            AllowOrigin::list(self.named.clone())
        };
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST, Method::GET])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(readable.map(HeaderName::from_static))
            .max_age(limits::CROSS_ORIGIN_MEMORY)
    }
}

/// As a browser says it: no path, no user, no capitals.
fn origin(text: &str) -> Option<HeaderValue> {
    let uri: Uri = text.parse().ok()?;
    let host = uri.authority().map(Authority::as_str)?;
    let sound = matches!(uri.scheme_str(), Some("http" | "https"))
        && !host.contains('@')
        && text.ends_with(&format!("//{host}"))
        && !text.contains(|letter: char| letter.is_ascii_uppercase());
    HeaderValue::from_str(text).ok().filter(|_| sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_those_that_a_browser_says() {
        let origins = Origins::parse(" https://a.example  http://127.0.0.1:81 ").unwrap();
        for (origin, allowed) in [
            ("https://a.example", true),
            ("http://127.0.0.1:81", true),
            ("http://127.0.0.1", false),
            ("null", false),
        ] {
            assert_eq!(origins.allow(&HeaderValue::from_static(origin)), allowed);
        }
        assert!(Origins::parse("").unwrap().is_empty());
        let all = Origins::parse("*").unwrap();
        assert!(!all.is_empty() && all.allow(&HeaderValue::from_static("null")));
        for faulty in [
            "* http://a.example",
            "a.example",
            "http://a.example/",
            "http://a.example/page",
            "HTTP://A.example",
            "http://me@a.example",
            "file:///a",
        ] {
            let fault = Origins::parse(faulty).unwrap_err();
            assert!(fault.starts_with("must be * or origins like"), "{faulty}");
        }
    }
}
