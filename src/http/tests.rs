//! The answers of each path, without a socket.

use super::*;
use axum::body::{Body, to_bytes};
use http::{Method, Request};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::sync::atomic::{AtomicUsize, Ordering};
use tower::ServiceExt as _;

#[derive(Default)]
struct Counted(AtomicUsize);

impl Scrape for Counted {
    fn refresh(&self) -> Pin<Box<dyn Future<Output = Option<Vec<Sample>>> + Send + '_>> {
        Box::pin(async {
            self.0.fetch_add(1, Ordering::Relaxed);
            None
        })
    }
}

struct Front {
    router: Router,
    readiness: watch::Sender<Readiness>,
    scrape: Arc<Counted>,
}

fn front() -> Front {
    front_with(|scrape| scrape)
}

fn front_with(dress: fn(Arc<Counted>) -> Arc<dyn Scrape>) -> Front {
    let readiness = watch::Sender::new(Readiness::Starting);
    let scrape = Arc::new(Counted::default());
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || metrics::counter!("seen").increment(1));
    let sources = Sources {
        readiness: readiness.subscribe(),
        metrics: Metrics::of(recorder.handle()),
        scrape: dress(Arc::clone(&scrape)),
        authority: crate::auth::Authority::open(),
        metrics_open: false,
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

/// Counts, and then hangs like a database that is away.
struct Hung(Arc<Counted>);

impl Scrape for Hung {
    fn refresh(&self) -> Pin<Box<dyn Future<Output = Option<Vec<Sample>>> + Send + '_>> {
        Box::pin(async {
            self.0.refresh().await;
            std::future::pending().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_are_given_even_if_fresh_ones_do_not_come() {
    let front = front_with(|scrape| Arc::new(Hung(scrape)));
    let (status, text) = front.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("seen 1"), "{text}");
    assert_eq!(front.scrape.0.load(Ordering::Relaxed), 1);
}
