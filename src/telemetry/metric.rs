//! The one list of metrics: what each means to an operator.
//!
//! The help lines of `/metrics` and the page `docs/METRICS.md` are made from
//! [`CATALOGUE`]; tests compare it with what a running service exposes. A metric
//! that is not in it does not exist. Labels are bounded: their values are of
//! a fixed set, or the series are limited in number and vanish when they no
//! longer apply ([`limits::CONSUMER_SERIES`], [`limits::NAMED`]).

use std::fmt::Write as _;

use metrics::{describe_counter, describe_gauge, describe_histogram};

use super::{names, traces};
use crate::limits;

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counted in buckets.
    Histogram,
}

impl Kind {
    /// As in a `# TYPE` line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What is counted or measured.
    pub unit: &'static str,
    /// Its labels, in no order.
    pub labels: &'static [&'static str],
    /// When it is there; empty: from the first scrape on.
    pub when: &'static str,
    /// What it tells; its help line.
    pub meaning: &'static str,
    /// What an operator does about it.
    pub advice: &'static str,
}

const fn metric(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    meaning: &'static str,
    advice: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels: &[],
        when: "",
        meaning,
        advice,
    }
}

impl Metric {
    const fn by(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    const fn only(self, when: &'static str) -> Self {
        Self { when, ..self }
    }

    /// Those of the process itself come from a library of their own.
    fn is_ours(&self) -> bool {
        self.name.starts_with("eventstream_")
    }
}

use Kind::{Counter, Gauge, Histogram};

const CONSUMER: &[&str] = &["user", "component"];
const ARCHIVED: &str = "once something archives";
const ENCRYPTED: &str = "of listeners with TLS";
const EXPIRING: &str = "with `consumers.expire`";
const FUTOIN: &str = "after the first FutoIn request";
const SERVED: &str = "after the first such call";
const TRACING: &str = "with `otlp.endpoint`";
const UPKEEP: &str = "with upkeep";
const DISCARDING: &str = "with `discard.enabled`";
const STALLED: &str = "while the frontier waits (never on SQLite)";
const USERS: &str = "with `auth.file`";
const REGISTERED: &str = "while a consumer is registered";

/// Every metric, in the order of the page.
pub const CATALOGUE: &[Metric] = &[
    metric(
        Gauge,
        names::READY,
        "0 or 1",
        "whether calls are served, as /readyz",
        "0 for long: the log and `eventstream_database_up` tell why",
    ),
    metric(
        Gauge,
        names::BUILD_INFO,
        "always 1",
        "the running version and the kind of its database",
        "mixed versions are fine for the time of an upgrade",
    )
    .by(&["version", "database"]),
    metric(
        Gauge,
        names::FRONTIER_ID,
        "id",
        "the highest id below which everything is settled: what consumers can have",
        "stands still while `eventstream_head_id` grows: see the blockers",
    ),
    metric(
        Gauge,
        names::HEAD_ID,
        "id",
        "the highest id given out by the database",
        "minus the frontier: what waits to be settled",
    ),
    metric(
        Gauge,
        names::FRONTIER_WAITS_SECONDS,
        "seconds",
        "how long the frontier has waited for the same id",
        "above some seconds: somebody holds a transaction open, see the next two",
    ),
    metric(
        Gauge,
        names::BLOCKERS,
        "transactions",
        "open transactions that hold the frontier back",
        "end them in the database, or `eventstream frontier skip`",
    ),
    metric(
        Gauge,
        names::BLOCKER_AGE_SECONDS,
        "seconds",
        "how long a transaction that holds the frontier back has been open; the oldest \
         ones, 20 at most",
        "end `session` in the database (PostgreSQL: `pg_terminate_backend`, MySQL: \
         `KILL`; prepared: `ROLLBACK PREPARED`, `XA ROLLBACK`)",
    )
    .by(&["session", "client", "prepared"])
    .only(STALLED),
    metric(
        Counter,
        names::EVENTS_ADDED,
        "events",
        "events stored for callers of AddEvent and AddEvents; what applications insert \
         themselves is not counted",
        "",
    ),
    metric(
        Histogram,
        names::ADD_SECONDS,
        "seconds",
        "from a request to its commit",
        "long: the disk or locks of the database",
    ),
    metric(
        Histogram,
        names::ADD_BATCH_EVENTS,
        "events",
        "events that shared one commit",
        "grows with the load, which is as it should be",
    ),
    metric(
        Counter,
        names::EVENTS_DELIVERED,
        "events",
        "events handed out: reliable, live or poll",
        "0 while the frontier moves: nobody listens",
    )
    .by(&["mode"])
    .only(SERVED),
    metric(
        Counter,
        names::EVENTS_REDELIVERED,
        "events",
        "events handed to a reliable consumer again",
        "steady growth: a consumer fails before it acknowledges",
    ),
    metric(
        Counter,
        names::LIVE_DROPPED_EVENTS,
        "events",
        "events dropped for slow LIVE subscribers",
        "a larger `stream.ring_bytes`, or a reliable consumer",
    ),
    metric(
        Histogram,
        names::DELIVERY_SECONDS,
        "seconds",
        "from a commit seen to its subscriber",
        "long: subscribers that are slow to take their groups",
    ),
    metric(
        Counter,
        names::ACKS,
        "acknowledgements",
        "acknowledgements received",
        "0 while events are delivered: consumers do not acknowledge",
    ),
    metric(
        Histogram,
        names::ACK_BATCH_SIZE,
        "acknowledgements",
        "acknowledgements that shared one commit",
        "",
    ),
    metric(
        Gauge,
        names::STREAMS_OPEN,
        "streams",
        "open push subscriptions of this replica",
        "0 where some are expected: clients cannot connect",
    ),
    metric(
        Counter,
        names::STREAMS_ENDED,
        "streams",
        "push streams that the service ended, by gRPC code",
        "ABORTED is a take-over, UNAVAILABLE the database or a restart",
    )
    .by(&["code"])
    .only(SERVED),
    metric(
        Counter,
        names::TAKEOVERS,
        "sessions",
        "subscriptions taken over by another of their consumer",
        "steady growth: two receivers share one component and fight over it",
    ),
    metric(
        Gauge,
        names::CONSUMERS,
        "consumers",
        "registered consumers",
        "above 1000, only those furthest behind have series of their own",
    ),
    metric(
        Gauge,
        names::CONSUMERS_STOPPED,
        "consumers",
        "consumers that get nothing until an operator acts",
        "`eventstream status` names them and why; `eventstream consumers seek`",
    ),
    metric(
        Gauge,
        names::CONSUMER_LAG_IDS,
        "ids",
        "settled ids above a consumer's position: at least as many as events; of the 1000 \
         consumers furthest behind",
        "grows: the consumer is away, too slow, or blocked",
    )
    .by(CONSUMER)
    .only(REGISTERED),
    metric(
        Gauge,
        names::CONSUMER_LAG_SECONDS,
        "seconds",
        "age of the oldest settled event above a consumer's position",
        "as above",
    )
    .by(CONSUMER)
    .only(REGISTERED),
    metric(
        Gauge,
        names::CONSUMER_CONNECTED,
        "0 or 1",
        "whether a push session of the consumer is open, in any replica",
        "0 for one that subscribes: it is away",
    )
    .by(CONSUMER)
    .only(REGISTERED),
    metric(
        Gauge,
        names::HOLDS_OLDEST,
        "0 or 1",
        "1 for the consumer that holds the oldest events, so that they cannot be discarded",
        "help it, `seek` it or `unregister` it",
    )
    .by(CONSUMER)
    .only(REGISTERED),
    metric(
        Gauge,
        names::CONSUMERS_SILENT,
        "consumers",
        "consumers without life that a rule of consumers.expire warns of",
        "`eventstream consumers list`",
    )
    .only(EXPIRING),
    metric(
        Counter,
        names::CONSUMERS_EXPIRED,
        "consumers",
        "consumers unregistered without life",
        "the log names them",
    ),
    metric(
        Counter,
        names::CONSUMERS_REWOUND,
        "consumers",
        "consumers moved back before late events",
        "they got events again",
    ),
    metric(
        Counter,
        names::RESTORES_DETECTED,
        "times",
        "databases found older than they were",
        "consumers above the head are stopped: decide where each goes on",
    ),
    metric(
        Counter,
        names::LATE_EVENTS,
        "events",
        "events that appeared below the frontier, lost for who had passed them",
        "an application chooses ids or draws them beforehand: the log names them and the \
         cause",
    )
    .by(&["database"]),
    metric(
        Gauge,
        names::DEAD_RANGES,
        "ranges",
        "ranges of dead ids that are looked at again",
        "",
    ),
    metric(
        Counter,
        names::SKIPS_OBEYED,
        "skips",
        "skips of the frontier that were obeyed",
        "an operator's decision, kept in evt_skips",
    ),
    metric(
        Counter,
        names::IDS_SKIPPED,
        "ids",
        "ids that skips of the frontier gave up",
        "lost, if they are committed later",
    ),
    metric(
        Counter,
        names::TAIL_READS,
        "reads",
        "looks at the tail of the queue",
        "",
    ),
    metric(
        Gauge,
        names::RING_BYTES,
        "bytes",
        "recent events in memory, in bytes",
        "",
    ),
    metric(
        Gauge,
        names::RING_EVENTS,
        "events",
        "recent events in memory",
        "",
    ),
    metric(
        Gauge,
        names::DATABASE_UP,
        "0 or 1",
        "whether the database answered when it was looked at last",
        "0: calls are answered UNAVAILABLE; the log has its words",
    ),
    metric(
        Counter,
        names::DATABASE_ERRORS,
        "errors",
        "failed database operations: unavailable, lost, discarded or contract",
        "contract needs an operator: `eventstream doctor`",
    )
    .by(&["class"]),
    metric(
        Counter,
        names::DATABASE_RECONNECTS,
        "times",
        "times that the database was opened anew after a loss",
        "",
    ),
    metric(
        Gauge,
        names::DATABASE_CONNECTIONS,
        "connections",
        "open connections to the database: idle or used",
        "used at the maximum for long: `db.read_connections`, `db.write_connections`",
    )
    .by(&["pool", "state"]),
    metric(
        Gauge,
        names::DATABASE_CONNECTIONS_MAX,
        "connections",
        "the most connections that a pool may have",
        "",
    )
    .by(&["pool"]),
    metric(
        Counter,
        names::EVENTS_ARCHIVED,
        "events",
        "events put into the warehouse",
        "",
    ),
    metric(
        Counter,
        names::EVENTS_ARCHIVED_LATE,
        "events",
        "of those, events below what was archived before",
        "as late events",
    ),
    metric(
        Gauge,
        names::ARCHIVE_LAG_IDS,
        "ids",
        "settled ids that are not archived yet",
        "grows: the warehouse is away or too slow, or nobody archives",
    )
    .only(ARCHIVED),
    metric(
        Gauge,
        names::ARCHIVE_LAG_SECONDS,
        "seconds",
        "age of the oldest settled event that is not archived",
        "as above; nothing is discarded meanwhile",
    )
    .only(ARCHIVED),
    metric(
        Counter,
        names::ARCHIVE_REJECTIONS,
        "times",
        "times that an event was not taken by the warehouse and archiving stopped",
        "the log names the event and what differs",
    ),
    metric(
        Counter,
        names::ARCHIVE_ERRORS,
        "errors",
        "failed operations of the warehouse",
        "",
    )
    .by(&["class"]),
    metric(
        Gauge,
        names::DISCARDED_TO_ID,
        "id",
        "every id up to this one may have been discarded",
        "`eventstream_head_id` minus it: what is kept",
    ),
    metric(
        Gauge,
        names::DISCARDABLE_IDS,
        "ids",
        "ids that everybody has and that are kept, when last looked at",
        "large for long: the discarder does not get on",
    )
    .only(DISCARDING),
    metric(
        Counter,
        names::DISCARDED_EVENTS,
        "events",
        "events deleted because everybody has them",
        "",
    ),
    metric(
        Gauge,
        names::UPKEEP_LEASE,
        "0 or 1",
        "whether this replica does the task of upkeep",
        "the sum over all replicas must be 1",
    )
    .by(&["task"])
    .only(UPKEEP),
    metric(
        Counter,
        names::UPKEEP_ERRORS,
        "errors",
        "failed steps of upkeep",
        "the log has the cause",
    )
    .by(&["task"]),
    metric(
        Counter,
        names::GRPC_REQUESTS,
        "calls",
        "calls over gRPC; of a push stream, its beginning",
        "UNAVAILABLE is the service's, most others the caller's; RESOURCE_EXHAUSTED is one of \
         `eventstream_overloads_total` and `eventstream_quota_refusals_total`",
    )
    .by(&["method", "code"])
    .only(SERVED),
    metric(
        Histogram,
        names::GRPC_REQUEST_SECONDS,
        "seconds",
        "how long calls over gRPC took; a long poll waits on purpose",
        "",
    )
    .by(&["method"])
    .only(SERVED),
    metric(
        Counter,
        names::FUTOIN_REQUESTS,
        "calls",
        "requests of FutoIn clients: ok or the error's name",
        "InternalError is the service's, or a consumer that is stopped; most others the caller's",
    )
    .by(&["function", "outcome"])
    .only(FUTOIN),
    metric(
        Histogram,
        names::FUTOIN_REQUEST_SECONDS,
        "seconds",
        "how long requests of FutoIn clients took",
        "",
    )
    .by(&["function"])
    .only(FUTOIN),
    metric(
        Gauge,
        names::FUTOIN_SOCKETS,
        "sockets",
        "open WebSockets of FutoIn clients",
        "",
    ),
    metric(
        Counter,
        names::FUTOIN_REFUSALS,
        "groups",
        "groups that a FutoIn receiver did not take",
        "the receiver fails: see its log",
    ),
    metric(
        Counter,
        names::FUTOIN_BLOCKED,
        "events",
        "events that FutoIn cannot carry, which block who wants them",
        "seek past it, or let that consumer use gRPC",
    ),
    metric(
        Gauge,
        names::CONNECTIONS_OPEN,
        "connections",
        "open connections",
        "",
    )
    .by(&["listener"]),
    metric(
        Counter,
        names::CONNECTIONS_REFUSED,
        "connections",
        "connections closed by the guards: full, silent or slow",
        "full: `grpc.max_connections`; else a probe or an attack",
    )
    .by(&["listener", "reason"]),
    metric(
        Gauge,
        names::TLS_EXPIRES,
        "seconds",
        "when the certificate of a listener expires, in seconds of the Unix time",
        "renew it: new files are taken while streams go on",
    )
    .by(&["listener"])
    .only(ENCRYPTED),
    metric(
        Counter,
        names::TLS_RELOADS,
        "times",
        "times that changed files of TLS were taken (ok) or not (failed)",
        "failed: the log says what is wrong with them",
    )
    .by(&["listener", "outcome"])
    .only(ENCRYPTED),
    metric(
        Gauge,
        names::TLS_RELOAD_FAILING,
        "0 or 1",
        "1 while the files of a listener's TLS cannot be used and older ones are",
        "mend the files before the older ones expire; the log names the fault",
    )
    .by(&["listener"])
    .only(ENCRYPTED),
    metric(
        Counter,
        names::REFUSALS,
        "requests",
        "requests refused: unauthenticated, not_allowed, or ended because the caller is no \
         longer who it was",
        "the log of the target `audit` names who and what",
    )
    .by(&["reason"]),
    metric(
        Gauge,
        names::USERS_STALE,
        "0 or 1",
        "1 while the file of users cannot be read and those before stay in force",
        "mend the file; the log names the fault",
    )
    .only(USERS),
    metric(
        Counter,
        names::QUOTA_REFUSALS,
        "requests",
        "what users were refused because of their quota: calls, events, bytes or streams",
        "a runaway client, or raise `limits.…` or the user's own limits",
    )
    .by(&["what"]),
    metric(
        Counter,
        names::OVERLOADS,
        "requests",
        "requests refused because the service had no room: writer, streams, messages on their \
         way",
        "the database is slower than what comes in, or there are too many streams",
    ),
    metric(
        Counter,
        names::TRACE_SPANS,
        "spans",
        "spans made, and of those exported to the collector or failed to be; the rest \
         waits or was dropped because too many did",
        "failed: the collector is away; nothing else is affected",
    )
    .by(&["outcome"])
    .only(TRACING),
    metric(
        Counter,
        "process_cpu_seconds_total",
        "seconds",
        "processor time of the process",
        "",
    ),
    metric(
        Gauge,
        "process_resident_memory_bytes",
        "bytes",
        "resident memory of the process",
        "",
    ),
    metric(
        Gauge,
        "process_virtual_memory_bytes",
        "bytes",
        "virtual memory of the process",
        "",
    ),
    metric(
        Gauge,
        "process_virtual_memory_max_bytes",
        "bytes",
        "its limit",
        "",
    ),
    metric(
        Gauge,
        "process_open_fds",
        "files",
        "open file descriptors: connections, the database",
        "near the next one: raise the limit of open files",
    ),
    metric(Gauge, "process_max_fds", "files", "their limit", ""),
    metric(
        Gauge,
        "process_threads",
        "threads",
        "threads of the process",
        "",
    ),
    metric(
        Gauge,
        "process_start_time_seconds",
        "seconds",
        "start of the process, since 1970",
        "young: it was restarted",
    ),
];

/// The metric of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    CATALOGUE.iter().find(|metric| metric.name == name)
}

/// Tells the recorder what each metric means, and begins those whose labels are
/// known beforehand: a rate needs to see the zero before the first event.
pub(super) fn describe() {
    for metric in CATALOGUE.iter().filter(|metric| metric.is_ours()) {
        let (name, meaning) = (metric.name, metric.meaning);
        let plain = metric.labels.is_empty();
        match metric.kind {
            Counter => describe_counter!(name, meaning),
            Gauge => describe_gauge!(name, meaning),
            Histogram => describe_histogram!(name, meaning),
        }
        match metric.kind {
            Counter if plain => metrics::counter!(name).increment(0),
            Histogram if plain => drop(metrics::histogram!(name)),
            _ => {}
        }
    }
    if traces::traces().is_some() {
        for outcome in ["made", "exported", "failed"] {
            metrics::counter!(names::TRACE_SPANS, "outcome" => outcome).increment(0);
        }
    }
    metrics::gauge!(names::FUTOIN_SOCKETS).increment(0.0);
    for class in ["unavailable", "lost", "discarded", "contract"] {
        metrics::counter!(names::DATABASE_ERRORS, "class" => class).increment(0);
        metrics::counter!(names::ARCHIVE_ERRORS, "class" => class).increment(0);
    }
    for reason in ["unauthenticated", "not_allowed", "ended"] {
        metrics::counter!(names::REFUSALS, "reason" => reason).increment(0);
    }
    for what in ["calls", "events", "bytes", "streams"] {
        metrics::counter!(names::QUOTA_REFUSALS, "what" => what).increment(0);
    }
}

/// All metrics as a page in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = format!(
        "# Metrics\n\n\
         `/metrics` of the HTTP listener is Prometheus text. This page is made from the program's own list; a test\n\
         compares it with what a service exposes on each database.\n\n\
         Labels are bounded. `user` and `component` are those of the {consumers} consumers furthest behind;\n\
         `eventstream_consumers` counts all. `session` and `client` are those of the {named} oldest transactions that\n\
         hold the frontier back. Such series vanish with what they describe. All others have a fixed set of values. No\n\
         secret and no event data is ever a label. There are no exemplars: the text format has none.\n\n\
         Figures of the stream as a whole (ids, consumers, archive) are the same from every replica: aggregate them by\n\
         `max`. Counters and connections are each replica's own: `sum`.\n\n\
         | name | type | unit | labels | meaning | what to do |\n|---|---|---|---|---|---|\n",
        consumers = limits::CONSUMER_SERIES,
        named = limits::NAMED,
    );
    for metric in CATALOGUE {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let when = match metric.when {
            "" => String::new(),
            when => format!(" ({when})"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {}{when} | {} |",
            metric.name,
            metric.kind.as_str(),
            metric.unit,
            labels.join(", "),
            metric.meaning,
            metric.advice,
        );
    }
    page
}
