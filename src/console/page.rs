//! The page itself: files that are part of the program.
//!
//! Their policy lets the browser fetch nothing from elsewhere, run no text as a
//! script and make no markup of text (Trusted Types), so that what an event or a
//! label contains stays text whatever the page's own code does wrong.

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// One file: its path, kind and text.
type File = (&'static str, &'static str, &'static str);

macro_rules! file {
    ($path:literal, $name:literal, $kind:expr) => {
        (
            concat!("/console/", $path),
            $kind,
            include_str!(concat!("page/", $name)),
        )
    };
}

const FILES: [File; 10] = [
    file!("", "index.html", HTML),
    file!("console.css", "console.css", STYLE),
    file!("icon.svg", "icon.svg", IMAGE),
    file!("console.js", "console.js", SCRIPT),
    file!("api.js", "api.js", SCRIPT),
    file!("chart.js", "chart.js", SCRIPT),
    file!("consumers.js", "consumers.js", SCRIPT),
    file!("dom.js", "dom.js", SCRIPT),
    file!("history.js", "history.js", SCRIPT),
    file!("tail.js", "tail.js", SCRIPT),
];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Said with every answer of the console.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    // A new version of the program has new files, and figures are of the moment.
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

pub(super) fn routes() -> Router {
    // Relative, so that a proxy may serve it below a path of its own.
    let home = get(async || Redirect::permanent("console/"));
    let files = FILES.into_iter();
    files.fold(Router::new().route("/console", home), |router, file| {
        let (path, kind, text) = file;
        router.route(path, get(async move || answer(kind, text)))
    })
}

fn answer(kind: &'static str, text: &'static str) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind))],
        text,
    )
        .into_response()
}

/// Adds what every answer says.
pub(super) fn dress(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_small_and_needs_nothing_from_elsewhere() {
        let size: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();
        assert!(size < 64 * 1024, "{size} bytes");
        for (path, _, text) in FILES {
            let foreign = text
                .match_indices("://")
                .filter(|(at, _)| {
                    !text[..*at].ends_with("http") || !text[*at..].starts_with("://www.w3.org/")
                })
                .count();
            assert_eq!(foreign, 0, "{path}");
            for unsafe_call in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
            ] {
                assert!(!text.contains(unsafe_call), "{path}: {unsafe_call}");
            }
        }
    }
}
