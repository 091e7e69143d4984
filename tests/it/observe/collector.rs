//! A collector that speaks OTLP, and what came to it.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A collector on a port of its own.
pub struct Collector {
    pub endpoint: String,
    inbox: Inbox,
    serving: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Inbox {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut inbox = self.0.lock().expect("no panic inside");
        inbox.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let inbox = Inbox::default();
        let serving = Server::builder()
            .add_service(TraceServiceServer::new(inbox.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { serving.await.expect("it serves") });
        Self {
            endpoint,
            inbox,
            serving,
        }
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<Span> {
        let inbox = self.inbox.0.lock().expect("no panic inside");
        let resources = inbox.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// What the service says of itself.
    pub fn service_name(&self) -> String {
        let inbox = self.inbox.0.lock().expect("no panic inside");
        let resource = inbox[0].resource_spans[0].resource.as_ref();
        let attributes = &resource.expect("a resource").attributes;
        let name = attributes.iter().find(|it| it.key == "service.name");
        match name.and_then(|name| name.value.as_ref()?.value.as_ref()) {
            Some(Value::StringValue(name)) => name.clone(),
            other => panic!("no name: {other:?}"),
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An attribute as text.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|it| it.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// Spans as a tree: name, what of it, and the spans that it is linked to. Spans
/// whose parent is elsewhere are at the left.
pub fn drawn(spans: &[Span]) -> String {
    let known = |id: &[u8]| spans.iter().find(|span| span.span_id == id);
    let mut roots: Vec<_> = spans
        .iter()
        .filter(|span| known(&span.parent_span_id).is_none())
        .collect();
    roots.sort_by_key(|span| span.start_time_unix_nano);
    let mut text = String::new();
    for root in roots {
        draw(&mut text, spans, root, 0, root.start_time_unix_nano);
    }
    text
}

fn draw(text: &mut String, spans: &[Span], span: &Span, depth: usize, begun: u64) {
    use std::fmt::Write as _;
    let links: Vec<_> = span
        .links
        .iter()
        .filter_map(|link| spans.iter().find(|span| span.span_id == link.span_id))
        .map(|span| format!(" -> {}", span.name))
        .collect();
    let events = ["eventstream.first_id", "eventstream.events_without_context"]
        .into_iter()
        .filter_map(|name| Some(format!(" {name}={}", attribute(span, name)?)));
    let name = format!("{}{}", "  ".repeat(depth), span.name);
    let at = micros(span.start_time_unix_nano - begun);
    let took = micros(span.end_time_unix_nano - span.start_time_unix_nano);
    let _ = writeln!(
        text,
        "{name:<34} +{at:>6} us {took:>6} us{}{}",
        events.collect::<String>(),
        links.concat(),
    );
    let mut inner: Vec<_> = spans
        .iter()
        .filter(|it| it.parent_span_id == span.span_id)
        .collect();
    inner.sort_by_key(|span| span.start_time_unix_nano);
    for span in inner {
        draw(text, spans, span, depth + 1, begun);
    }
}

fn micros(nanos: u64) -> u64 {
    nanos / 1000
}
