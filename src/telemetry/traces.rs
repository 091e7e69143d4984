//! Traces for a collector over OTLP, off unless `otlp.endpoint` is given.
//!
//! When off, nothing of this exists: the only cost is one look at [`traces`].
//! When on, finished spans wait in a queue of the SDK's, of a bounded size, and
//! a thread of its own sends them; a collector that is away costs spans, never a
//! caller. Contexts come and go as W3C `traceparent`. Spans carry ids, counts and
//! names of consumers, no event data.

use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{
        FutureExt as _, Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt as _,
        Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span,
        SpanData, SpanProcessor,
    },
};
use tracing::Instrument as _;

use super::{TRACE_SPANS, sparingly::Sparingly};
use crate::limits;

pub use opentelemetry::time::now;

/// Whom spans are sent to, and how many are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOptions {
    /// Such as `http://127.0.0.1:4317`.
    pub endpoint: String,
    /// What the service calls itself in traces.
    pub service_name: String,
    /// Traces that are sent of a million that begin here. Who comes with a
    /// context has decided for its own.
    pub sampled_per_million: u32,
}

static TRACES: OnceLock<Traces> = OnceLock::new();

/// The tracer of this process; `None` while traces are off.
#[must_use]
pub fn traces() -> Option<&'static Traces> {
    TRACES.get()
}

/// Makes spans and sends them.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

/// A span that is over when it is made: what it was part of is known late.
#[derive(Debug)]
pub struct Finished {
    /// Its name.
    pub name: String,
    /// What it is to the outside.
    pub kind: SpanKind,
    /// When it began.
    pub begun: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What it is part of, if anything.
    pub parent: Option<SpanContext>,
    /// What else it belongs to.
    pub links: Vec<SpanContext>,
    /// What is told of it.
    pub attributes: Vec<KeyValue>,
}

/// Starts sending spans, inside the runtime. What `OTEL_*` variables say of
/// headers, time-outs, batches and the resource is heeded by the SDK.
///
/// # Errors
/// An endpoint that is none, or traces that were started before.
pub(super) fn start(options: &TraceOptions) -> anyhow::Result<()> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&options.endpoint)
        .build()
        .context("otlp.endpoint")?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(limits::WAITING_SPANS)
        .build();
    let processor = BatchSpanProcessor::builder(Told(exporter))
        .with_batch_config(batches)
        .build();
    let resource = Resource::builder()
        .with_service_name(options.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::TraceIdRatioBased(f64::from(options.sampled_per_million) / 1e6);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Counted)
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(resource)
        .build();
    TRACES
        .set(Traces::over(provider))
        .map_err(|_| anyhow::anyhow!("traces were started before"))
}

/// Sends what waits, for [`limits::LAST_SPANS_TIMEOUT`] at most.
pub async fn send_last() {
    let Some(traces) = traces() else { return };
    let ended = tokio::task::spawn_blocking(|| {
        let outcome = traces
            .provider
            .shutdown_with_timeout(limits::LAST_SPANS_TIMEOUT);
        if let Err(error) = outcome {
            tracing::warn!(%error, "the last spans were not sent");
        }
    });
    // The runtime waits for such a thread no longer than this.
    let _ = tokio::time::timeout(limits::LAST_SPANS_TIMEOUT * 2, ended).await;
}

/// Runs `work` in a span of a call that came with these headers; as it is while
/// traces are off. Its log lines name the trace.
pub async fn serve<T>(
    name: &'static str,
    headers: Option<&HeaderMap>,
    work: impl Future<Output = T>,
) -> T {
    let Some(traces) = traces() else {
        return work.await;
    };
    let parent = headers.map_or_else(Context::new, |headers| {
        traces
            .propagator
            .extract_with_context(&Context::new(), &Headers(headers))
    });
    let span = traces
        .tracer
        .span_builder(name)
        .with_kind(SpanKind::Server)
        .start_with_context(&traces.tracer, &parent);
    let ids = span.span_context().clone();
    // Whatever is logged of a call names its trace, so the span has the highest level.
    let log = tracing::error_span!(
        "call",
        trace_id = %ids.trace_id(),
        span_id = %ids.span_id(),
    );
    let context = parent.with_span(span);
    let ending = context.clone();
    let outcome = work.with_context(context).instrument(log).await;
    ending.span().end();
    outcome
}

/// The headers that [`serve`] wants, if what they belong to is gone by then;
/// nothing is copied while traces are off.
#[must_use]
pub fn headers(headers: &HeaderMap) -> Option<HeaderMap> {
    traces().map(|_| headers.clone())
}

/// Renames the span of the current call, once it is known what it is.
pub fn rename(name: impl FnOnce() -> String) {
    if traces().is_some() {
        Context::current().span().update_name(name());
    }
}

/// Tells in the span of the current call how it failed.
pub fn fail(code: &'static str) {
    if traces().is_some() {
        Context::current().span().set_status(Status::error(code));
    }
}

impl Traces {
    pub(crate) fn over(provider: SdkTracerProvider) -> Self {
        Self {
            tracer: provider.tracer("eventstream"),
            provider,
            propagator: TraceContextPropagator::new(),
        }
    }

    /// The span of the current call, if somebody will see it.
    #[must_use]
    pub fn current(&self) -> Option<SpanContext> {
        Context::map_current(|context| {
            let span = context.span();
            let known = span.span_context();
            known.is_sampled().then(|| known.clone())
        })
    }

    /// Links the span of the current call to others.
    pub(crate) fn link_current(&self, others: &[SpanContext]) {
        let context = Context::current();
        for other in others {
            context.span().add_link(other.clone(), Vec::new());
        }
    }

    /// Makes a span that is over; what it is called by others, if anybody will
    /// see it.
    pub(crate) fn record(&self, finished: Finished) -> Option<SpanContext> {
        let parent = match finished.parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let links = finished.links.into_iter().map(Link::with_context).collect();
        let mut span = self
            .tracer
            .span_builder(finished.name)
            .with_kind(finished.kind)
            .with_start_time(finished.begun)
            .with_links(links)
            .with_attributes(finished.attributes)
            .start_with_context(&self.tracer, &parent);
        let context = span.span_context().clone();
        span.end_with_timestamp(finished.ended);
        context.is_sampled().then_some(context)
    }
}

/// Headers as the propagator reads them.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Counts the spans that are made.
#[derive(Debug)]
struct Counted;

impl SpanProcessor for Counted {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            metrics::counter!(TRACE_SPANS, "outcome" => "made").increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// An exporter whose success is told.
#[derive(Debug)]
struct Told(SpanExporter);

static UNSENT: Sparingly = Sparingly::new();

impl opentelemetry_sdk::trace::SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let outcome = self.0.export(batch).await;
        let word = if outcome.is_ok() {
            "exported"
        } else {
            "failed"
        };
        metrics::counter!(TRACE_SPANS, "outcome" => word).increment(count as u64);
        if let Err(error) = &outcome
            && let Some(unsaid) = UNSENT.due()
        {
            tracing::warn!(%error, count, unsaid, "spans were not taken by the collector");
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
