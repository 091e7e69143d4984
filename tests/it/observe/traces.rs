//! Traces: one from insert to acknowledgement, to a collector that speaks OTLP;
//! and collectors that are away, which nobody notices.

use futoin_eventstream::proto::{AckRequest, AddEventRequest};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tonic::Request;

use super::collector::{Collector, attribute, drawn};
use crate::{
    calls::{metric, poll, poll_of},
    futoin::{self, client},
    round_trip::{add, next_group, ready, register, subscribe},
    server::{Builder, Clients, Server, eventually},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Spans come at once, not after 5 s.
fn traced(builder: Builder, endpoint: &str) -> Builder {
    builder
        .arg("--otlp-endpoint")
        .arg(endpoint)
        .arg("--otlp-service-name=shop-events")
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
}

/// Adds an event in the trace of a caller.
async fn add_in_trace(clients: &mut Clients) -> i64 {
    let mut request = Request::new(AddEventRequest {
        r#type: "ORDER_NEW".to_owned(),
        data_json: "1".to_owned(),
        request_id: String::new(),
    });
    let context = format!("00-{TRACE}-{CALLER}-01");
    let context = context.parse().expect("ASCII");
    request.metadata_mut().insert("traceparent", context);
    let added = clients.generate.add_event(request).await.expect("added");
    added.into_inner().id
}

/// Waits until there are spans of all these names.
async fn spans_of(collector: &Collector, names: &[&str]) -> Vec<Span> {
    eventually(async || {
        let spans = collector.spans();
        let there = |name: &&str| spans.iter().any(|span| span.name == *name);
        if names.iter().all(there) {
            Ok(spans)
        } else {
            Err(drawn(&spans))
        }
    })
    .await
}

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no {name} in\n{}", drawn(spans)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn one_trace_leads_from_the_insert_to_the_acknowledgement() {
    let collector = Collector::start().await;
    let server = traced(Server::builder(), &collector.endpoint)
        .arg("--log-filter=debug")
        .start()
        .await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let id = add_in_trace(&mut clients).await;
    assert_eq!(next_group(&mut stream).await.last_id, id);
    let ack = AckRequest {
        component: "SHOP".into(),
        last_id: id,
        epoch: Some(started.epoch),
    };
    clients.push.ack(ack).await.expect("acknowledged");

    let names = ["GenService/AddEvent", "acknowledge SHOP", "PushService/Ack"];
    let spans = spans_of(&collector, &names).await;
    let journey: Vec<_> = spans
        .iter()
        .filter(|span| hex(&span.trace_id) == TRACE)
        .cloned()
        .collect();
    let call = find(&spans, "PushService/Ack");
    eprintln!(
        "{}",
        drawn(&[&journey[..], std::slice::from_ref(call)].concat())
    );
    let (added, committed) = (find(&journey, names[0]), find(&journey, "commit"));
    let (delivered, acked) = (find(&journey, "deliver SHOP"), find(&journey, names[1]));
    assert_eq!(hex(&added.parent_span_id), CALLER);
    assert_eq!(committed.parent_span_id, added.span_id);
    assert_eq!(delivered.parent_span_id, added.span_id);
    assert_eq!(acked.parent_span_id, delivered.span_id);
    assert!(
        call.links
            .iter()
            .any(|link| link.span_id == delivered.span_id)
    );
    assert!(acked.links.iter().any(|link| link.span_id == call.span_id));
    let told = |name| attribute(delivered, name).expect(name);
    assert_eq!(told("eventstream.first_id"), id.to_string());
    assert_eq!(told("eventstream.events_without_context"), "0");
    assert_eq!(told("messaging.consumer.group.name"), "local:SHOP");
    assert_eq!(collector.service_name(), "shop-events");
    // The log names the trace.
    let logged = server.log().iter().any(|line| line.contains(TRACE));
    assert!(logged, "{:?}", server.log());
}

#[tokio::test]
async fn delivery_of_what_another_process_inserted_says_that_it_knows_no_context() {
    let collector = Collector::start().await;
    let server = traced(Server::builder(), &collector.endpoint).start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    server.sqlite("INSERT INTO evt_queue (type, data, ts) VALUES ('A', '1', CURRENT_TIMESTAMP)");
    assert_eq!(poll(&mut clients, poll_of("SHOP")).await.last_id, 1);
    let spans = spans_of(&collector, &["deliver SHOP", "PollService/PollEvents"]).await;
    let delivered = find(&spans, "deliver SHOP");
    assert!(delivered.parent_span_id.is_empty());
    let unknown = attribute(delivered, "eventstream.events_without_context");
    assert_eq!(unknown.as_deref(), Some("1"));
    let asked = find(&spans, "PollService/PollEvents");
    assert_eq!(delivered.links[0].span_id, asked.span_id);
}

#[tokio::test]
async fn futoin_clients_bring_their_context_in_a_header() {
    let collector = Collector::start().await;
    let server = traced(futoin::builder(), &collector.endpoint).start().await;
    let message = client::message(
        "futoin.evt.gen:1.1:addEvent",
        r#"{"type":"A","data":1}"#,
        "",
    );
    let context = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("traceparent", context.as_str())];
    let address = server.http_address();
    let answer = client::request(address, "POST", "/ftn", &headers, message.as_bytes()).await;
    assert!(answer.text().contains("\"r\""), "{}", answer.text());
    let spans = spans_of(&collector, &["futoin addEvent", "commit"]).await;
    let added = find(&spans, "futoin addEvent");
    assert_eq!(hex(&added.trace_id), TRACE);
    assert_eq!(find(&spans, "commit").parent_span_id, added.span_id);
}

#[tokio::test]
async fn callers_decide_for_their_own_traces_and_the_ratio_for_the_others() {
    let collector = Collector::start().await;
    let server = traced(Server::builder(), &collector.endpoint)
        .arg("--otlp-sample-ratio=0")
        .start()
        .await;
    let mut clients = server.clients().await;
    add(&mut clients, "A", "1").await;
    add_in_trace(&mut clients).await;
    assert_eq!(server.terminate().await.code(), Some(0));
    let spans = collector.spans();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert_eq!(named("GenService/AddEvent"), 1, "{}", drawn(&spans));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
}

/// Serves without a collector that works: calls are answered although more spans
/// are made than may wait, what is lost is counted, the end is not held up.
async fn serves_without(endpoint: &str) {
    let server = traced(Server::builder(), endpoint)
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "200")
        .start()
        .await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let callers = (0..30).map(|_| {
        let mut clients = clients.clone();
        async move {
            for _ in 0..40 {
                add(&mut clients, "A", "1").await;
            }
        }
    });
    futures_util::future::join_all(callers).await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(polled.events.len(), 1000);
    // One of each call, one of its commit.
    let made = "eventstream_trace_spans_total{outcome=\"made\"}";
    assert!(metric(&server, made).await >= 2400.0);
    eventually(async || {
        let failed = "eventstream_trace_spans_total{outcome=\"failed\"}";
        let failed = metric(&server, failed).await;
        if failed > 0.0 { Ok(()) } else { Err(failed) }
    })
    .await;
    let log = server.log().join("\n");
    let told = log.contains("spans were not taken by the collector");
    assert!(told, "{log}");
    assert_eq!(server.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn nobody_notices_a_collector_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    serves_without(&format!("http://{address}")).await;
}

#[tokio::test]
async fn nobody_notices_a_collector_that_says_nothing() {
    // Connections wait in the backlog for ever.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    serves_without(&format!("http://{address}")).await;
    drop(listener);
}

#[tokio::test]
async fn endpoints_that_are_none_are_refused() {
    let server = Server::builder().arg("--otlp-endpoint=collector:4317");
    let (code, log) = server.refused().await;
    assert_eq!(code, Some(2), "{log}");
    assert!(
        log.contains("otlp.endpoint") && log.contains("is not a URL"),
        "{log}"
    );
}
