//! Logs and metrics: how they are set up, and the one list of metric names.
//!
//! Logs go to the standard error stream, so that the output of a command
//! stays clean. Metrics are kept in memory and rendered by the HTTP front;
//! nothing is sent anywhere by itself. No secret and no event data is ever a
//! field or a label, and labels are bounded: listeners, modes, error classes,
//! and the registered consumers.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use metrics::{
    Unit, describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Events stored for callers of `AddEvent` and `AddEvents`.
pub const EVENTS_ADDED: &str = "eventstream_events_added_total";
/// From the arrival of a request to its commit.
pub const ADD_SECONDS: &str = "eventstream_add_seconds";
/// Events that shared one commit.
pub const ADD_BATCH_EVENTS: &str = "eventstream_add_batch_events";
/// Events handed out, by `mode`: `reliable`, `live` or `poll`.
pub const EVENTS_DELIVERED: &str = "eventstream_events_delivered_total";
/// Events handed to a reliable consumer more than once.
pub const EVENTS_REDELIVERED: &str = "eventstream_events_redelivered_total";
/// Events dropped for `LIVE` subscribers that were too slow.
pub const LIVE_DROPPED_EVENTS: &str = "eventstream_live_dropped_events_total";
/// From seeing a commit to handing its events to a subscriber.
pub const DELIVERY_SECONDS: &str = "eventstream_delivery_seconds";
/// The proven frontier.
pub const FRONTIER_ID: &str = "eventstream_frontier_id";
/// The highest id seen in the database.
pub const HEAD_ID: &str = "eventstream_head_id";
/// Open transactions that keep the frontier below the highest id.
pub const BLOCKERS: &str = "eventstream_blockers";
/// Ids between a consumer's position and the frontier, by `user`, `component`.
pub const CONSUMER_LAG_IDS: &str = "eventstream_consumer_lag_ids";
/// Age of a consumer's oldest undelivered event, by `user`, `component`.
pub const CONSUMER_LAG_SECONDS: &str = "eventstream_consumer_lag_seconds";
/// Open subscriptions.
pub const STREAMS_OPEN: &str = "eventstream_streams_open";
/// Bytes in the ring of recent events.
pub const RING_BYTES: &str = "eventstream_ring_bytes";
/// Events in the ring of recent events.
pub const RING_EVENTS: &str = "eventstream_ring_events";
/// Failed database operations, by `class`.
pub const DATABASE_ERRORS: &str = "eventstream_database_errors_total";
/// Events that the archiver has put into the warehouse.
pub const EVENTS_ARCHIVED: &str = "eventstream_events_archived_total";
/// Of those, events below what was archived before: they settled late.
pub const EVENTS_ARCHIVED_LATE: &str = "eventstream_events_archived_late_total";
/// Times that the warehouse did not take an event and archiving stopped.
pub const ARCHIVE_REJECTIONS: &str = "eventstream_archive_rejections_total";
/// Failed operations of the warehouse, by `class`.
pub const ARCHIVE_ERRORS: &str = "eventstream_archive_errors_total";
/// Database connections made again after a loss.
pub const DATABASE_RECONNECTS: &str = "eventstream_database_reconnects_total";
/// Subscriptions that ended because another one of their consumer began.
pub const TAKEOVERS: &str = "eventstream_takeovers_total";
/// Acknowledgements received.
pub const ACKS: &str = "eventstream_acks_total";
/// Acknowledgements that shared one commit.
pub const ACK_BATCH_SIZE: &str = "eventstream_ack_batch_size";
/// Reads of the database's tail.
pub const TAIL_READS: &str = "eventstream_tail_reads_total";
/// Databases found to be older than they were.
pub const RESTORES_DETECTED: &str = "eventstream_restores_detected_total";
/// 1 in the replica that does a `task` of upkeep, 0 in one that could.
pub const UPKEEP_LEASE: &str = "eventstream_upkeep_lease";
/// Failed steps of upkeep, by `task`.
pub const UPKEEP_ERRORS: &str = "eventstream_upkeep_errors_total";
/// Events deleted by the discarder.
pub const DISCARDED_EVENTS: &str = "eventstream_discarded_events_total";
/// Ids that every consumer has and that are still kept, when last looked at.
pub const DISCARDABLE_IDS: &str = "eventstream_discardable_ids";
/// Consumers unregistered because they showed no life.
pub const CONSUMERS_EXPIRED: &str = "eventstream_consumers_expired_total";
/// Consumers that show no life and that a rule warns of.
pub const CONSUMERS_SILENT: &str = "eventstream_consumers_silent";
/// 1 for the consumer that holds the oldest events, by `user`, `component`.
pub const HOLDS_OLDEST: &str = "eventstream_consumer_holds_oldest";
/// Seconds that the frontier has been waiting for the same id.
pub const FRONTIER_WAITS_SECONDS: &str = "eventstream_frontier_waits_seconds";
/// Ranges of dead ids that are looked at again.
pub const DEAD_RANGES: &str = "eventstream_dead_ranges";
/// Events that appeared below the frontier after they were declared dead, by
/// `database`.
pub const LATE_EVENTS: &str = "eventstream_late_events_total";
/// Consumers that were moved back before such events.
pub const CONSUMERS_REWOUND: &str = "eventstream_consumers_rewound_total";
/// Skips of operators that this replica has obeyed.
pub const SKIPS_OBEYED: &str = "eventstream_frontier_skips_total";
/// Ids that these skips gave up.
pub const IDS_SKIPPED: &str = "eventstream_skipped_ids_total";
/// Open connections, by `listener`.
pub const CONNECTIONS_OPEN: &str = "eventstream_connections_open";
/// Connections closed by the guards, by `listener` and `reason`.
pub const CONNECTIONS_REFUSED: &str = "eventstream_connections_refused_total";
/// When the certificate of a `listener` expires, in seconds of the Unix time.
pub const TLS_EXPIRES: &str = "eventstream_tls_certificate_expires_timestamp_seconds";
/// Times that changed files of TLS were taken or not, by `listener`, `outcome`.
pub const TLS_RELOADS: &str = "eventstream_tls_reloads_total";
/// 1 while the files of a `listener`'s TLS cannot be used and older ones are.
pub const TLS_RELOAD_FAILING: &str = "eventstream_tls_reload_failing";
/// FutoIn requests, by `function` and `outcome`: `ok` or the error's name.
pub const FUTOIN_REQUESTS: &str = "eventstream_futoin_requests_total";
/// Open WebSockets of FutoIn clients.
pub const FUTOIN_SOCKETS: &str = "eventstream_futoin_sockets";
/// Groups that a FutoIn receiver answered with an error, so that they were
/// offered again.
pub const FUTOIN_REFUSALS: &str = "eventstream_futoin_refusals_total";
/// Events that a FutoIn client wanted and that FutoIn cannot carry.
pub const FUTOIN_BLOCKED: &str = "eventstream_futoin_blocked_total";
/// Requests that were refused, by `reason`: `unauthenticated`, `not_allowed`, or
/// `ended` for streams whose caller is no longer who it was.
pub const REFUSALS: &str = "eventstream_refusals_total";
/// 1 while the file of users cannot be read and those before stay in force.
pub const USERS_STALE: &str = "eventstream_users_stale";
/// Always 1; the `version` is its label.
pub const BUILD_INFO: &str = "eventstream_build_info";

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

/// Installs the metrics of this process and describes them.
///
/// # Errors
///
/// If that was done before.
pub fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = builder()?
        .install_recorder()
        .context("installing the metrics")?;
    describe();
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// The task that keeps the metrics small until they are scraped.
///
/// # Errors
///
/// None; the type is that of a task.
pub async fn upkeep(handle: PrometheusHandle, stopping: CancellationToken) -> anyhow::Result<()> {
    while stopping
        .run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL))
        .await
        .is_some()
    {
        handle.run_upkeep();
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

fn describe() {
    histogram!(ADD_SECONDS, Unit::Seconds, "from a request to its commit");
    histogram!(ADD_BATCH_EVENTS, "events that shared one commit");
    histogram!(
        DELIVERY_SECONDS,
        Unit::Seconds,
        "from a commit seen to its subscriber"
    );
    histogram!(ACK_BATCH_SIZE, "acknowledgements that shared one commit");
    counter!(EVENTS_ADDED, "events stored for callers");
    counter!(EVENTS_DELIVERED, "events handed out");
    counter!(
        EVENTS_REDELIVERED,
        "events handed to a reliable consumer again"
    );
    counter!(
        LIVE_DROPPED_EVENTS,
        "events dropped for slow live subscribers"
    );
    counter!(DATABASE_ERRORS, "failed database operations");
    counter!(DATABASE_RECONNECTS, "database connections made again");
    counter!(
        TAKEOVERS,
        "subscriptions taken over by another of their consumer"
    );
    counter!(ACKS, "acknowledgements received");
    counter!(TAIL_READS, "reads of the tail of the queue");
    counter!(RESTORES_DETECTED, "databases found older than they were");
    counter!(
        LATE_EVENTS,
        "events that appeared below the frontier, lost for who had passed them"
    );
    gauge!(DEAD_RANGES, "ranges of dead ids that are looked at again");
    counter!(CONSUMERS_REWOUND, "consumers moved back before late events");
    counter!(SKIPS_OBEYED, "skips of the frontier that were obeyed");
    counter!(IDS_SKIPPED, "ids that skips of the frontier gave up");
    gauge!(
        FRONTIER_WAITS_SECONDS,
        Unit::Seconds,
        "how long the frontier has waited for the same id"
    );
    counter!(CONNECTIONS_REFUSED, "connections closed by the guards");
    gauge!(FRONTIER_ID, "the proven frontier");
    gauge!(HEAD_ID, "the highest id seen");
    gauge!(BLOCKERS, "open transactions that hold the frontier back");
    gauge!(CONSUMER_LAG_IDS, "ids between a consumer and the frontier");
    gauge!(
        CONSUMER_LAG_SECONDS,
        Unit::Seconds,
        "age of the oldest undelivered event"
    );
    gauge!(STREAMS_OPEN, "open subscriptions");
    gauge!(RING_BYTES, Unit::Bytes, "bytes of recent events in memory");
    gauge!(RING_EVENTS, "recent events in memory");
    gauge!(HOLDS_OLDEST, "whether it holds the oldest events");
    gauge!(CONNECTIONS_OPEN, "open connections");
    gauge!(
        TLS_EXPIRES,
        Unit::Seconds,
        "Unix time at which the certificate expires"
    );
    counter!(
        TLS_RELOADS,
        "times that changed files of TLS were looked at"
    );
    gauge!(
        TLS_RELOAD_FAILING,
        "whether the files of TLS cannot be used"
    );
    gauge!(BUILD_INFO, "the running version");
    counter!(
        REFUSALS,
        "requests refused for want of credentials or rights"
    );
    gauge!(USERS_STALE, "whether the file of users cannot be read");
    describe_upkeep();
    describe_futoin();
}

fn describe_futoin() {
    counter!(FUTOIN_REQUESTS, "requests of FutoIn clients");
    gauge!(FUTOIN_SOCKETS, "open WebSockets of FutoIn clients");
    counter!(FUTOIN_REFUSALS, "groups that a receiver did not take");
    counter!(FUTOIN_BLOCKED, "events that FutoIn cannot carry");
}

fn describe_upkeep() {
    counter!(EVENTS_ARCHIVED, "events put into the warehouse");
    counter!(
        EVENTS_ARCHIVED_LATE,
        "of those, events below what was archived before"
    );
    counter!(
        ARCHIVE_REJECTIONS,
        "times that an event was not taken by the warehouse"
    );
    counter!(ARCHIVE_ERRORS, "failed operations of the warehouse");
    counter!(
        DISCARDED_EVENTS,
        "events deleted because everybody has them"
    );
    gauge!(DISCARDABLE_IDS, "ids that everybody has and that are kept");
    counter!(CONSUMERS_EXPIRED, "consumers unregistered without life");
    gauge!(CONSUMERS_SILENT, "consumers without life");
    counter!(UPKEEP_ERRORS, "failed steps of upkeep");
    gauge!(UPKEEP_LEASE, "whether this replica does the task");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_histograms_with_help() {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
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
