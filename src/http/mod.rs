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
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, Uri, header};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::lifecycle::Readiness;

/// What Prometheus asks for.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const PATHS: [(&str, &str); 3] = [
    ("/livez", "200 while the process answers"),
    (
        "/readyz",
        "200 when calls are served, else 503 and the reason",
    ),
    ("/metrics", "metrics in the text format of Prometheus"),
];

/// Sets the gauges that are only worth computing when somebody looks.
pub trait Scrape: Send + Sync {
    /// Completes when the gauges are up to date, within about a second.
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// What the paths answer from.
#[derive(Clone)]
pub struct Sources {
    /// Followed for `/readyz`.
    pub readiness: watch::Receiver<Readiness>,
    /// Rendered for `/metrics`.
    pub metrics: PrometheusHandle,
    /// Asked before each rendering.
    pub scrape: Arc<dyn Scrape>,
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

async fn render(State(sources): State<Sources>) -> Response {
    sources.scrape.refresh().await;
    let kind = HeaderValue::from_static(PROMETHEUS);
    ([(header::CONTENT_TYPE, kind)], sources.metrics.render()).into_response()
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
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use http::{Method, Request};
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::ServiceExt as _;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Scrape for Counted {
        fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(async {
                self.0.fetch_add(1, Ordering::Relaxed);
            })
        }
    }

    struct Front {
        router: Router,
        readiness: watch::Sender<Readiness>,
        scrape: Arc<Counted>,
    }

    fn front() -> Front {
        let readiness = watch::Sender::new(Readiness::Starting);
        let scrape = Arc::new(Counted::default());
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::counter!("seen").increment(1));
        let sources = Sources {
            readiness: readiness.subscribe(),
            metrics: recorder.handle(),
            scrape: Arc::<Counted>::clone(&scrape),
        };
        Front {
            router: router(sources),
            readiness,
            scrape,
        }
    }

    impl Front {
        async fn ask(&self, method: Method, path: &str) -> (StatusCode, String) {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty())
                .unwrap();
            let response = self.router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }

        async fn get(&self, path: &str) -> (StatusCode, String) {
            self.ask(Method::GET, path).await
        }
    }

    #[tokio::test]
    async fn readiness_is_followed_with_its_reason() {
        let front = front();
        for (state, text) in [
            (Readiness::Starting, "not ready: starting\n"),
            (
                Readiness::NotReady("database away".into()),
                "not ready: database away\n",
            ),
            (Readiness::Draining, "not ready: draining\n"),
        ] {
            front.readiness.send_replace(state);
            let expected = (StatusCode::SERVICE_UNAVAILABLE, text.to_owned());
            assert_eq!(front.get("/readyz").await, expected);
            assert_eq!(front.get("/livez").await.0, StatusCode::OK);
        }
        front.readiness.send_replace(Readiness::Ready);
        assert_eq!(front.get("/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_refreshed_before_they_are_rendered() {
        let front = front();
        let (status, text) = front.get("/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("seen 1"), "{text}");
        assert_eq!(front.scrape.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn others_are_told_what_there_is() {
        let front = front();
        let (status, text) = front.get("/").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        for (path, _) in PATHS {
            assert!(text.contains(path), "{text}");
        }
        let (status, _) = front.ask(Method::POST, "/metrics").await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
