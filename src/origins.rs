//! Which web pages may call: browsers ask before they let a page of another
//! origin read an answer, and nothing else asks.
//!
//! What a page may send without a question is judged by what its browser says:
//! the `Host` that it was told to connect to, and where the page is from.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri::Authority};
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

/// What the browser was told to connect to; HTTP/2 has it in the URI.
#[must_use]
pub fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let named = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let told = uri.authority().map(Authority::as_str).or(named);
    told.and_then(|host| host.parse().ok())
}

/// Whether anybody's DNS could lead this host here: not if it is an IP address or
/// `localhost`.
#[must_use]
pub fn is_name(host: &Authority) -> bool {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    !name.eq_ignore_ascii_case("localhost") && address.parse::<IpAddr>().is_err()
}

/// Whether a page of this host calls, or no page.
#[must_use]
pub fn is_of(host: &Authority, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let origin = text(header::ORIGIN.as_str()).is_none_or(|origin| {
        let told = origin.split_once("://").map(|(_, told)| told);
        told.is_some_and(|told| told.eq_ignore_ascii_case(host.as_str()))
    });
    site && origin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_lead_anywhere() {
        for (host, name) in [
            ("127.0.0.1:8080", false),
            ("[::1]:8080", false),
            ("localhost", false),
            ("LOCALHOST:1", false),
            ("10.0.0.7", false),
            ("evil.example:8080", true),
            ("localhost.evil.example", true),
            ("127.0.0.1.evil.example", true),
            ("box", true),
        ] {
            assert_eq!(is_name(&host.parse().unwrap()), name, "{host}");
        }
    }

    #[test]
    fn pages_say_where_they_are_from() {
        let ours: Authority = "127.0.0.1:8080".parse().unwrap();
        for (name, value, allowed) in [
            ("origin", "http://127.0.0.1:8080", true),
            ("origin", "https://127.0.0.1:8080", true),
            ("origin", "http://127.0.0.1:8081", false),
            ("origin", "http://evil.example", false),
            ("origin", "null", false),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            ("accept", "text/html", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(is_of(&ours, &headers), allowed, "{name}: {value}");
        }
    }

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
