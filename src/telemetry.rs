//! Logs, metrics and traces: how they are set up.
//!
//! Logs go to the standard error stream, so that the output of a command
//! stays clean. Metrics are kept in memory and rendered by the HTTP front;
//! nothing is sent anywhere by itself, traces only if somebody is named who
//! takes them. No secret and no event data is ever a field, a label or an
//! attribute.

mod metric;
mod names;
mod sample;
mod sparingly;
pub mod traces;

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub use metric::{CATALOGUE, Kind, Metric, find, page};
pub use names::*;
pub use sample::Sample;
pub use sparingly::Sparingly;
pub use traces::TraceOptions;

/// Upper bounds for `*_seconds`: an idle commit takes 100 µs on a good disk,
/// and nothing waits longer than a minute.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// Upper bounds for batches: powers of two around the bound of 1000.
const SIZES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0,
];

/// Observations wait in buffers until they are sorted into buckets; without
/// this a service that nobody scrapes would grow.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Human,
}

/// The text names no log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of auto, json, human")]
pub struct NotALogFormat;

impl FromStr for LogFormat {
    type Err = NotALogFormat;

    fn from_str(text: &str) -> Result<Self, NotALogFormat> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "human" => Ok(Self::Human),
            _ => Err(NotALogFormat),
        }
    }
}

/// Whether the text can be a log filter.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), String> {
    match EnvFilter::try_new(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Starts logging, panics included.
///
/// # Errors
///
/// A filter that cannot be read, or logging that was started before.
pub fn init(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    use std::io::IsTerminal as _;

    let human = match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Human => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter).context("log filter")?)
        .with_writer(std::io::stderr);
    let started = if human {
        builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(at, panic = what, "panicked");
    }));
    Ok(())
}

/// Starts sending traces.
///
/// # Errors
///
/// An endpoint that cannot be used, or traces that were started before.
pub fn start_traces(options: &TraceOptions) -> anyhow::Result<()> {
    traces::start(options)?;
    tracing::info!(
        endpoint = options.endpoint,
        sampled_per_million = options.sampled_per_million,
        "sending traces"
    );
    Ok(())
}

/// What `/metrics` is rendered from. Clones share it.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    process: Arc<Collector>,
    /// As they were when they could be asked for last.
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Metrics {
    /// Shows these instead of the last ones.
    pub fn show(&self, samples: Vec<Sample>) {
        *self.samples.lock().unwrap_or_else(PoisonError::into_inner) = samples;
    }

    /// All of them in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.collect();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        self.handle.render() + &sample::render(&samples)
    }

    /// Those of a recorder that was installed.
    #[must_use]
    pub fn of(handle: PrometheusHandle) -> Self {
        Self {
            handle,
            process: Arc::default(),
            samples: Arc::default(),
        }
    }
}

/// Installs the metrics of this process and describes them.
///
/// # Errors
///
/// If that was done before.
pub fn install_metrics() -> anyhow::Result<Metrics> {
    let handle = builder()?
        .install_recorder()
        .context("installing the metrics")?;
    let metrics = Metrics::of(handle);
    metrics.process.describe();
    metric::describe();
    Ok(metrics)
}

/// The task that keeps the metrics small until they are scraped.
///
/// # Errors
///
/// None; the type is that of a task.
pub async fn upkeep(metrics: Metrics, stopping: CancellationToken) -> anyhow::Result<()> {
    while stopping
        .run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL))
        .await
        .is_some()
    {
        metrics.handle.run_upkeep();
    }
    Ok(())
}

fn builder() -> anyhow::Result<PrometheusBuilder> {
    let sizes = |name: &str| Matcher::Full(name.to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(sizes(ADD_BATCH_EVENTS), SIZES))
        .and_then(|builder| builder.set_buckets_for_metric(sizes(ACK_BATCH_SIZE), SIZES))
        .context("setting the buckets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_histograms_with_help() {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metric::describe();
            metrics::histogram!(ADD_SECONDS).record(0.0002);
            metrics::histogram!(ACK_BATCH_SIZE).record(3.0);
            metrics::counter!(EVENTS_DELIVERED, "mode" => "live").increment(2);
        });
        let text = handle.render();
        for line in [
            "# HELP eventstream_add_seconds from a request to its commit",
            "eventstream_add_seconds_bucket{le=\"0.0001\"} 0",
            "eventstream_add_seconds_bucket{le=\"0.00025\"} 1",
            "eventstream_add_seconds_bucket{le=\"60\"} 1",
            "eventstream_ack_batch_size_bucket{le=\"4\"} 1",
            "eventstream_events_delivered_total{mode=\"live\"} 2",
        ] {
            assert!(text.lines().any(|is| is == line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn filters_are_checked() {
        assert!(check_filter("info,futoin_eventstream=debug").is_ok());
        assert!(check_filter("info,hyper=loudest").is_err());
    }
}
