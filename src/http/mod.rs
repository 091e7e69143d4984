//! The HTTP front for operators and their machines: liveness, readiness and
//! metrics, as plain text. It holds no state and asks nobody but the
//! readiness and the metrics it was given; `/livez` stays true as long as
//! the runtime answers at all, whatever the database does, so that a database
//! outage never restarts the service.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, Uri, header};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::auth::{Authority, Denied, Right};
use crate::lifecycle::Readiness;
use crate::limits;
use crate::telemetry::{self, Metrics, Sample, Sparingly};

/// What Prometheus asks for.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const PATHS: [(&str, &str); 4] = [
    ("/livez", "200 while the process answers"),
    (
        "/readyz",
        "200 when calls are served, else 503 and the reason",
    ),
    ("/metrics", "metrics in the text format of Prometheus"),
    ("/console", "the page for operators, if it is switched on"),
];

/// Sets the gauges that are only worth computing when somebody looks.
pub trait Scrape: Send + Sync {
    /// Completes when the gauges are up to date, with the series of what comes
    /// and goes; `None`: the last ones stand. One that takes longer than
    /// [`limits::SCRAPE_TIMEOUT`] is dropped where it stands.
    fn refresh(&self) -> Pin<Box<dyn Future<Output = Option<Vec<Sample>>> + Send + '_>>;
}

/// What the paths answer from.
#[derive(Clone)]
pub struct Sources {
    /// Followed for `/readyz`.
    pub readiness: watch::Receiver<Readiness>,
    /// Rendered for `/metrics`.
    pub metrics: Metrics,
    /// Asked before each rendering.
    pub scrape: Arc<dyn Scrape>,
    /// Knows who asks.
    pub authority: Authority,
    /// Whether anybody may see the metrics, though there are users.
    pub metrics_open: bool,
}

/// The routes of this front, to be served by `listen`.
pub fn router(sources: Sources) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(sources)
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(sources): State<Sources>) -> Response {
    let reason = match &*sources.readiness.borrow() {
        Readiness::Ready => return "ready\n".into_response(),
        Readiness::Starting => "starting".to_owned(),
        Readiness::Draining => "draining".to_owned(),
        Readiness::NotReady(reason) => reason.clone(),
    };
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: {reason}\n"),
    )
        .into_response()
}

/// A scraper comes every few seconds, for as long as a database is slow.
static STALE: Sparingly = Sparingly::new();

async fn render(State(sources): State<Sources>, request: Request) -> Response {
    if !sources.metrics_open
        && let Err(denied) = may_observe(&sources.authority, &request)
    {
        return refused(&denied);
    }
    match timeout(limits::SCRAPE_TIMEOUT, sources.scrape.refresh()).await {
        Ok(Some(samples)) => sources.metrics.show(samples),
        Ok(None) => {}
        Err(_elapsed) => {
            if let Some(unsaid) = STALE.due() {
                tracing::warn!(unsaid, "no fresh figures in time, answering with the last");
            }
        }
    }
    let ready = *sources.readiness.borrow() == Readiness::Ready;
    metrics::gauge!(telemetry::READY).set(f64::from(u8::from(ready)));
    let kind = HeaderValue::from_static(PROMETHEUS);
    ([(header::CONTENT_TYPE, kind)], sources.metrics.render()).into_response()
}

/// Whether who asks may see figures of everybody.
fn may_observe(authority: &Authority, request: &Request) -> Result<(), Denied> {
    let caller = authority.of_headers(request.headers(), request.extensions())?;
    caller.require(caller.may_observe(), Right::Observe, &"see the metrics")
}

fn refused(denied: &Denied) -> Response {
    let text = format!("{denied}\n");
    match denied {
        Denied::Unauthenticated(_) | Denied::Ended { .. } => {
            let bearer = HeaderValue::from_static("Bearer");
            let headers = [(header::WWW_AUTHENTICATE, bearer)];
            (StatusCode::UNAUTHORIZED, headers, text).into_response()
        }
        Denied::NotAllowed { .. } => (StatusCode::FORBIDDEN, text).into_response(),
    }
}

async fn unknown(uri: Uri) -> Response {
    let mut text = format!("there is nothing at {}; here is:\n", uri.path());
    for (path, what) in PATHS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {path:<10}{what}");
    }
    text.push_str("the event stream itself speaks gRPC, on another address\n");
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n").into_response()
}

#[cfg(test)]
mod tests;
