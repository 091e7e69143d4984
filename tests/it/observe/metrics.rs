//! The page of metrics is true: it is the program's own list, and what a
//! service exposes is what it says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use futoin_eventstream::{
    proto::{AddEventsRequest, NewEvent},
    telemetry::{self, Kind, Metric},
};
use tonic::{Code, transport::Channel};

use crate::{
    archive::stage::{self, Kind as Engine, Peek},
    auth::stage::user,
    calls::{ack, metric, poll, poll_of},
    futoin::client,
    round_trip::{add, next_group, ready, register, subscribe},
    server::{Clients, Server, eventually, http_get},
    tls::{Authority, channel, server_params, with_tls},
    upkeep::discarding,
};

#[test]
fn page_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
    let page = telemetry::page();
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/METRICS.md must be:\n{page}");
}

/// Names and labels of what is exposed; histograms without their suffixes.
pub fn exposed(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut exposed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let kinds: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(end) = line.find(['{', ' ']) else {
            continue;
        };
        let name = &line[..end];
        let base = ["_bucket", "_sum", "_count"]
            .into_iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|base| kinds.get(base) == Some(&"histogram"))
            .unwrap_or(name);
        let labels = exposed.entry(base.to_owned()).or_default();
        let inside = line
            .split_once('{')
            .and_then(|(_, rest)| rest.rsplit_once('}'));
        let inside = inside.map_or("", |(inside, _)| inside);
        let named = inside
            .split("\",")
            .filter_map(|pair| pair.split_once("=\""));
        labels.extend(
            named
                .map(|(label, _)| label.to_owned())
                .filter(|it| it != "le"),
        );
    }
    exposed
}

pub async fn scrape(server: &Server) -> String {
    let (code, answer) = http_get(server.http_address(), "/metrics")
        .await
        .expect("served");
    assert_eq!(code, 200, "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    body.to_owned()
}

/// Who calls a service with everything switched on; each one's token is its name.
fn users() -> String {
    let all = "generate = ['*']\nconsume = ['*']\ntypes = ['*']\n";
    [
        user("all", &format!("{all}administer = true")),
        user("user", all),
        user("nobody", ""),
        user("busy", &format!("{all}limits = {{ events = 1 }}")),
    ]
    .concat()
}

/// A call without credentials, one without the right and one too many: each is
/// refused.
async fn be_refused(channel: &Channel) {
    for (token, count, code) in [
        ("unknown", 1, Code::Unauthenticated),
        ("nobody", 1, Code::PermissionDenied),
        ("busy", 1000, Code::Ok),
        ("busy", 1, Code::ResourceExhausted),
    ] {
        let event = NewEvent {
            r#type: "A".into(),
            data_json: "1".into(),
        };
        let request = AddEventsRequest {
            events: vec![event; count],
            ..Default::default()
        };
        let mut clients = Clients::with_token(channel.clone(), token);
        let answer = clients.generate.add_events(request).await;
        let found = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(found, code, "{token}");
    }
}

/// A service with everything switched on.
pub async fn busy(engine: Engine) -> (Server, Peek, Peek) {
    let (active, warehouse) = (Peek::new(engine).await, Peek::new(Engine::Sqlite).await);
    let builder = discarding(stage::service(&active, &warehouse));
    let ca = Authority::new();
    let files = ca.issue(&server_params()).write(builder.dir(), "server");
    let known = builder.dir().join("users.toml");
    fs::write(&known, users()).expect("written");
    let server = with_tls(builder, "grpc", &files)
        .arg(format!("--auth-file={}", known.display()))
        .arg("--http-metrics-open")
        .env("EVENTSTREAM_FUTOIN_USERS", "user secret=pass")
        .arg("--futoin-secure-channel")
        .arg("--consumers-expire=* warn=1h")
        .arg("--otlp-endpoint=http://127.0.0.1:1")
        .start()
        .await;
    let channel = channel(&server, &ca, None).await.expect("connected");
    let mut clients = Clients::with_token(channel.clone(), "all");
    register(&mut clients, "SHOP").await;
    register(&mut clients, "CRM").await;
    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let (_, live) = subscribe(&mut clients, ready("LIVE")).await;
    let id = add(&mut clients, "A", "1").await;
    next_group(&mut stream).await;
    ack(&mut clients, "SHOP", id, Some(started.epoch))
        .await
        .expect("acknowledged");
    poll(&mut clients, poll_of("CRM")).await;
    client::call(
        &server,
        "futoin.evt.gen:1.1:addEvent",
        r#"{"type":"A","data":1}"#,
    )
    .await;
    stage::archived(&mut clients, id).await;
    // A second one ends the first.
    let taken = subscribe(&mut clients, ready("SHOP")).await;
    let ended = crate::calls::end_of(&mut stream).await;
    assert_eq!(ended.code(), tonic::Code::Aborted);
    for gauge in [
        "eventstream_discardable_ids",
        "eventstream_consumers_silent",
    ] {
        eventually(async || {
            let text = scrape(&server).await;
            text.contains(&format!("\n{gauge} "))
                .then_some(())
                .ok_or(gauge)
        })
        .await;
    }
    drop((live, taken));
    be_refused(&channel).await;
    (server, active, warehouse)
}

/// What must be there after [`busy`].
fn expected(metric: &Metric) -> bool {
    !metric.when.starts_with("while the frontier waits")
}

fn check(text: &str, expected: impl Fn(&Metric) -> bool) {
    let exposed = exposed(text);
    for (name, labels) in &exposed {
        let metric = telemetry::find(name).unwrap_or_else(|| panic!("{name} is not on the page"));
        let written: BTreeSet<_> = metric
            .labels
            .iter()
            .map(|&label| label.to_owned())
            .collect();
        assert_eq!(*labels, written, "labels of {name}");
        let kind = format!("# TYPE {name} {}", metric.kind.as_str());
        assert!(text.lines().any(|line| line == kind), "{kind} in\n{text}");
    }
    for metric in telemetry::CATALOGUE
        .iter()
        .filter(|metric| expected(metric))
    {
        assert!(
            exposed.contains_key(metric.name),
            "{} in\n{text}",
            metric.name
        );
    }
}

async fn every_metric_is_scraped(engine: Engine) {
    let (server, _active, _warehouse) = busy(engine).await;
    check(&scrape(&server).await, expected);
    for series in [
        "refusals_total{reason=\"unauthenticated\"}",
        "refusals_total{reason=\"not_allowed\"}",
        "quota_refusals_total{what=\"events\"}",
    ] {
        let refused = metric(&server, &format!("eventstream_{series}")).await;
        assert!(is(refused, 1.0), "{series} {refused}");
    }
    for metric in telemetry::CATALOGUE
        .iter()
        .filter(|it| it.kind == Kind::Counter)
    {
        assert!(metric.name.ends_with("_total"), "{}", metric.name);
    }
    assert_eq!(server.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn every_metric_is_scraped_on_sqlite() {
    every_metric_is_scraped(Engine::Sqlite).await;
}

#[tokio::test]
async fn every_metric_is_scraped_on_postgres() {
    every_metric_is_scraped(Engine::Postgres).await;
}

#[tokio::test]
async fn every_metric_is_scraped_on_mysql() {
    every_metric_is_scraped(Engine::Mysql).await;
}

/// The series that names who holds the frontier back, and that it vanishes.
async fn blocker_is_named(engine: Engine) {
    let active = Peek::new(engine).await;
    let server = Server::builder().on(&active.url).start().await;
    let mut clients = server.clients().await;
    let mut held = active.begin().await;
    held.insert().await;
    add(&mut clients, "A", "1").await;
    let (_, _stream) = subscribe(&mut clients, ready("LIVE")).await;
    let series = "eventstream_blocker_age_seconds{session=\"";
    let text = eventually(async || {
        let text = scrape(&server).await;
        text.contains(series).then_some(text.clone()).ok_or(text)
    })
    .await;
    check(&text, |metric| {
        metric.name == telemetry::BLOCKER_AGE_SECONDS
    });
    assert!(
        metric(&server, "eventstream_blockers").await > 0.5,
        "{text}"
    );
    assert!(metric(&server, "eventstream_frontier_waits_seconds").await > 0.0);
    held.run("COMMIT").await;
    eventually(async || {
        let text = scrape(&server).await;
        (!text.contains(series)).then_some(()).ok_or(text)
    })
    .await;
}

#[tokio::test]
async fn blocker_is_named_on_postgres() {
    blocker_is_named(Engine::Postgres).await;
}

#[tokio::test]
async fn blocker_is_named_on_mysql() {
    blocker_is_named(Engine::Mysql).await;
}

/// Counts are floats there.
fn is(found: f64, count: f64) -> bool {
    (found - count).abs() < 0.5
}

#[tokio::test]
async fn series_of_consumers_are_bounded_and_vanish_with_them() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    add(&mut clients, "A", "1").await;
    register(&mut clients, "SHOP").await;
    let lag = "eventstream_consumer_lag_ids{";
    let count = async || {
        scrape(&server)
            .await
            .lines()
            .filter(|line| line.starts_with(lag))
            .count()
    };
    assert_eq!(count().await, 1);
    server.sqlite(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1500)
         INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time)
         SELECT 'u' || n || ':C', 1, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP FROM n",
    );
    assert_eq!(count().await, 1000);
    assert!(is(metric(&server, "eventstream_consumers").await, 1501.0));
    // Who is furthest behind is among them.
    let shop = "eventstream_consumer_lag_ids{user=\"local\",component=\"SHOP\"}";
    assert!(is(metric(&server, shop).await, 1.0));
    server.sqlite("DELETE FROM evt_consumers");
    assert_eq!(count().await, 0);
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    add(&mut clients, "A", "1").await;
    let unknown = clients.poll.poll_events(poll_of("SHOP")).await;
    assert_eq!(
        unknown.expect_err("not registered").code(),
        tonic::Code::NotFound
    );
    for (series, value) in [
        (
            "grpc_requests_total{method=\"GenService/AddEvent\",code=\"OK\"}",
            1.0,
        ),
        (
            "grpc_requests_total{method=\"PollService/PollEvents\",code=\"NOT_FOUND\"}",
            1.0,
        ),
        (
            "grpc_request_seconds_count{method=\"GenService/AddEvent\"}",
            1.0,
        ),
    ] {
        let series = format!("eventstream_{series}");
        assert!(is(metric(&server, &series).await, value), "{series}");
    }
}
