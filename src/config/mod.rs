//! The configuration: one table of options, four places they may come from,
//! one typed result.
//!
//! A flag wins over the environment, which wins over the TOML file, which wins
//! over the default. All faults are found and reported together, each with
//! where it came from. Nothing is read here but what [`load`] is handed, so
//! tests need no process; and a [`Config`] that exists is valid. The text of
//! an option marked secret is never shown.

mod exposure;
mod fault;
mod futoin;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod options;
mod resolve;
mod tls;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;

pub use crate::store::{
    history::Place,
    mysql::{Galera, MysqlUrl},
    postgres::PostgresUrl,
    sqlite::Synchronous,
};
pub use exposure::Exposure;
pub use fault::{Fault, Faults, Origin};
pub use futoin::Futoin;
pub use options::{CONFIG_FILE, OPTIONS, Opt, markdown_table, serve_command};
pub use value::{identifier as table_name, place};

use crate::auth;
use crate::limits;
use crate::listen::{Address, TlsFiles};
use crate::origins::Origins;
use crate::telemetry::{LogFormat, TraceOptions};
use crate::upkeep::{Discarding, ExpiryRule};
use resolve::Reader;

/// Everything an operator can decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The database.
    pub db: Db,
    /// The warehouse, if there is one.
    pub archive: Option<Archive>,
    /// The gRPC front.
    pub grpc: Grpc,
    /// The HTTP front for operators; none if switched off.
    pub http: Option<Address>,
    /// Whether the console is served there.
    pub console: bool,
    /// Its TLS, if it speaks any.
    pub http_tls: Option<TlsFiles>,
    /// Whether anybody may see the metrics, though there are users.
    pub metrics_open: bool,
    /// The file of users; none: everybody is `local`.
    pub auth: Option<PathBuf>,
    /// What bounds those who reach the listeners.
    pub exposure: Exposure,
    /// The front for clients of the original; none if switched off.
    pub futoin: Option<Futoin>,
    /// The stream itself.
    pub stream: Stream,
    /// Deleting what everybody has; none if switched off.
    pub discard: Option<Discarding>,
    /// What becomes of silent consumers; the first rule that matches.
    pub expire: Vec<ExpiryRule>,
    /// For how long a task of upkeep is one replica's alone.
    pub upkeep_lease: Duration,
    /// From the first signal to the end by force.
    pub shutdown_deadline: Duration,
    /// The log.
    pub log: Log,
    /// Where traces go; none if switched off.
    pub traces: Option<TraceOptions>,
}

/// Where the events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Db {
    /// Which database.
    pub url: DbUrl,
    /// How durable a commit is.
    pub synchronous: Synchronous,
    /// How long to wait for another process' write lock.
    pub busy_timeout: Duration,
    /// Connections that only read.
    pub read_connections: u32,
    /// Connections that write, where there can be more than one.
    pub write_connections: u32,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// The schema of the tables; none: where the server looks for tables.
    pub schema: Option<String>,
    /// What is said of a cluster in which several servers could write.
    pub galera: Galera,
    /// The table of events.
    pub queue_table: String,
    /// The table of consumers.
    pub consumers_table: String,
}

/// A database this version can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DbUrl {
    /// A file of `SQLite`.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres(PostgresUrl),
    /// A database of a server of `MySQL` or `MariaDB`.
    Mysql(MysqlUrl),
}

/// Where the history is kept, and how it comes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Which database.
    pub place: Place,
    /// Whether this process copies events there.
    pub run: bool,
    /// The table of the history.
    pub table: String,
    /// Events of one transaction.
    pub batch_events: usize,
    /// Bytes of one transaction.
    pub batch_bytes: usize,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

/// The gRPC front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// Where it listens.
    pub listen: Address,
    /// Its TLS, if it speaks any.
    pub tls: Option<TlsFiles>,
    /// Connections at a time.
    pub max_connections: usize,
    /// Whether it tells its contract to tools.
    pub reflection: bool,
    /// Whether browsers may speak gRPC-Web to it.
    pub web: bool,
    /// Pages of which other origins may.
    pub web_origins: Origins,
}

/// The stream itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// How often to look for commits while events flow.
    pub poll_active: Duration,
    /// The same shortly after.
    pub poll_recent: Duration,
    /// The same when nothing happens.
    pub poll_idle: Duration,
    /// When to name what keeps the frontier waiting.
    pub gap_warn_after: Duration,
    /// How often to look at dead ids again.
    pub sentinel_interval: Duration,
    /// Whether consumers are moved back for events that appear late.
    pub late_policy: LatePolicy,
    /// Memory for recent events.
    pub ring_bytes: usize,
    /// How often an idle stream says that it lives.
    pub heartbeat: Duration,
    /// How often this replica renews its sessions.
    pub session_beat: Duration,
    /// After how long without renewal they are void.
    pub session_lapse: Duration,
    /// Open subscriptions at a time.
    pub max_subscriptions: usize,
    /// Unacknowledged events a subscriber may ask for.
    pub max_in_flight_events: usize,
    /// How long a `request_id` is remembered.
    pub request_id_window: Duration,
}

/// What to do when an event appears below the frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatePolicy {
    /// Say so.
    Alarm,
    /// Move the consumers back that had passed it.
    Rewind,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How its lines look.
    pub format: LogFormat,
    /// What it contains.
    pub filter: String,
}

/// Reads the configuration from the matches of [`serve_command`], the
/// environment, and the files that these name.
///
/// # Errors
///
/// Every fault found.
pub fn load(
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (String, String)>,
    read_file: impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Config, Faults> {
    let mut reader = Reader::new(matches, environment, &read_file);
    let archive = archive(&mut reader);
    // Also where another process archives.
    let archiving = archive.is_some();
    let http = reader.get("http.listen", value::address_or_off);
    let auth = reader.get("auth.file", users_file);
    let config = Config {
        db: db(&mut reader),
        archive,
        grpc: grpc(&mut reader),
        console: console(&mut reader, http.as_ref(), auth.is_some()),
        http_tls: tls::tls(&mut reader, tls::Front::Http, http.as_ref()),
        http,
        metrics_open: reader.get("http.metrics_open", value::boolean),
        auth,
        exposure: exposure::exposure(&mut reader),
        futoin: futoin::futoin(&mut reader, &read_file),
        stream: stream(&mut reader),
        discard: discard(&mut reader, archiving),
        expire: reader.get("consumers.expire", value::expiry_rules),
        upkeep_lease: reader.get(
            "upkeep.lease",
            value::duration(Duration::from_secs(1), Duration::from_mins(10)),
        ),
        shutdown_deadline: reader.get(
            "shutdown.deadline",
            value::duration(Duration::from_millis(100), Duration::from_hours(1)),
        ),
        log: Log {
            format: reader.get("log.format", value::log_format),
            filter: reader.get("log.filter", value::log_filter),
        },
        traces: traces(&mut reader),
    };
    check_exposure(&mut reader, &config);
    check_intervals(&mut reader, &config.stream);
    reader.finish(config)
}

/// The variables of this process that [`load`] may be interested in.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    // `std::env::vars` panics where anybody's variable is not Unicode.
    std::env::vars_os().filter_map(|(name, text)| {
        let name = name.into_string().ok()?;
        options::is_ours(&name).then(|| (name, text.to_string_lossy().into_owned()))
    })
}

fn db(reader: &mut Reader) -> Db {
    Db {
        url: reader.get("db.url", value::db_url),
        synchronous: reader.get("db.synchronous", value::synchronous),
        busy_timeout: reader.get(
            "db.busy_timeout",
            value::duration(Duration::ZERO, Duration::from_mins(1)),
        ),
        read_connections: reader.get("db.read_connections", value::count(1, 64)),
        write_connections: reader.get("db.write_connections", value::count(1, 64)),
        statement_timeout: reader.get(
            "db.statement_timeout",
            value::duration(Duration::from_secs(1), Duration::from_mins(10)),
        ),
        schema: reader.get("db.schema", value::schema),
        galera: reader.get("db.galera", value::galera),
        queue_table: reader.get("db.queue_table", value::identifier),
        consumers_table: reader.get("db.consumers_table", value::identifier),
    }
}

fn archive(reader: &mut Reader) -> Option<Archive> {
    let place = reader.get("archive.url", value::place_or_none);
    let archive = Archive {
        place: place.clone()?,
        run: reader.get("archive.run", value::boolean),
        table: reader.get("archive.table", value::identifier),
        batch_events: reader.get(
            "archive.batch_events",
            value::count(1, limits::MAX_ARCHIVE_BATCH_EVENTS),
        ),
        batch_bytes: reader.get(
            "archive.batch_bytes",
            value::size(1, limits::MAX_ARCHIVE_BATCH_BYTES),
        ),
        statement_timeout: reader.get(
            "archive.statement_timeout",
            value::duration(Duration::from_secs(1), Duration::from_mins(10)),
        ),
    };
    Some(archive)
}

fn grpc(reader: &mut Reader) -> Grpc {
    let listen = reader.get("grpc.listen", value::address);
    Grpc {
        tls: tls::tls(reader, tls::Front::Grpc, Some(&listen)),
        listen,
        max_connections: reader.get(
            "grpc.max_connections",
            value::count(1, limits::MAX_CONNECTIONS),
        ),
        reflection: reader.get("grpc.reflection", value::boolean),
        web: reader.get("grpc.web", value::boolean),
        web_origins: reader.get("grpc.web_origins", Origins::parse),
    }
}

/// Without credentials whoever reaches the console moves consumers, so it is
/// not opened to a network by the way, with `/metrics`.
fn console(reader: &mut Reader, http: Option<&Address>, users: bool) -> bool {
    let asked = reader.get("http.console", value::on_off_or_auto);
    http.is_some_and(|address| asked.unwrap_or_else(|| users || address.is_local()))
}

fn stream(reader: &mut Reader) -> Stream {
    let poll = || value::duration(Duration::from_millis(1), Duration::from_secs(10));
    Stream {
        poll_active: reader.get("stream.poll_active", poll()),
        poll_recent: reader.get("stream.poll_recent", poll()),
        poll_idle: reader.get("stream.poll_idle", poll()),
        gap_warn_after: reader.get(
            "stream.gap_warn_after",
            value::duration(Duration::from_millis(100), Duration::from_hours(1)),
        ),
        sentinel_interval: reader.get(
            "stream.sentinel_interval",
            value::duration(Duration::from_millis(100), Duration::from_hours(1)),
        ),
        late_policy: reader.get("stream.late_policy", value::late_policy),
        ring_bytes: reader.get(
            "stream.ring_bytes",
            value::size(limits::MIN_RING_BYTES, limits::MAX_RING_BYTES),
        ),
        heartbeat: reader.get(
            "stream.heartbeat",
            value::duration(limits::MIN_HEARTBEAT, limits::MAX_HEARTBEAT),
        ),
        session_beat: reader.get(
            "stream.session_beat",
            value::duration(Duration::from_millis(100), Duration::from_mins(1)),
        ),
        session_lapse: reader.get(
            "stream.session_lapse",
            value::duration(Duration::from_millis(300), Duration::from_mins(10)),
        ),
        max_subscriptions: reader.get(
            "stream.max_subscriptions",
            value::count(1, limits::MAX_CONFIGURED_SUBSCRIPTIONS),
        ),
        max_in_flight_events: reader.get(
            "stream.max_in_flight_events",
            value::count(1, limits::MAX_IN_FLIGHT_EVENTS),
        ),
        request_id_window: reader.get(
            "stream.request_id_window",
            value::duration(Duration::from_mins(1), Duration::from_hours(24 * 7)),
        ),
    }
}

fn traces(reader: &mut Reader) -> Option<TraceOptions> {
    let options = TraceOptions {
        service_name: reader.get("otlp.service_name", value::service_name),
        sampled_per_million: reader.get("otlp.sample_ratio", value::per_million),
        endpoint: reader.get("otlp.endpoint", value::endpoint_or_none)?,
    };
    Some(options)
}

fn discard(reader: &mut Reader, archiving: bool) -> Option<Discarding> {
    let enabled = reader.get("discard.enabled", value::boolean);
    let discarding = Discarding {
        poll_period: reader.get(
            "discard.poll_period",
            value::duration(Duration::from_secs(1), Duration::from_hours(24)),
        ),
        limit_at_once: reader.get(
            "discard.limit_at_once",
            value::count(1, limits::MAX_DISCARD_ROWS),
        ),
        pause: reader.get(
            "discard.pause",
            value::duration(Duration::ZERO, Duration::from_mins(1)),
        ),
        threshold: reader.get("discard.threshold", value::count(0, i64::MAX)),
        min_age: reader.get(
            "discard.min_age",
            value::duration(Duration::ZERO, Duration::from_hours(24 * 366)),
        ),
        // Then nothing may go before it is registered.
        archiving,
    };
    enabled.then_some(discarding)
}

/// A file of users that is in order, or nothing.
fn users_file(text: &str) -> value::Read<Option<PathBuf>> {
    if text.is_empty() {
        return Ok(None);
    }
    let file = PathBuf::from(text);
    match auth::check(&file) {
        Ok(()) => Ok(Some(file)),
        Err(fault) => Err(format!("has a fault: {fault}")),
    }
}

/// Without credentials everybody who can connect is the operator, and without
/// encryption so is everybody who listens on the way.
fn check_exposure(reader: &mut Reader, config: &Config) {
    let insecure = reader.get("insecure", value::boolean);
    let listeners = [
        ("grpc.listen", Some(&config.grpc.listen), &config.grpc.tls),
        ("http.listen", config.http.as_ref(), &config.http_tls),
    ];
    for (key, address, tls) in listeners {
        let safe = insecure || (config.auth.is_some() && tls.is_some());
        if !safe && address.is_some_and(|address| !address.is_local()) {
            let lacking = if config.auth.is_some() {
                "without TLS the tokens of users can be read on the way"
            } else {
                "without an auth.file everybody may do everything"
            };
            let rule = format!(
                "can be reached from other machines, and {lacking}; \
                 give --insecure if the network is protected otherwise"
            );
            reader.blame(key, &rule);
        }
    }
}

fn check_intervals(reader: &mut Reader, stream: &Stream) {
    // Two lost beats must not end a session.
    if reader.sound(&["stream.session_beat", "stream.session_lapse"])
        && stream.session_lapse < stream.session_beat * 3
    {
        reader.blame(
            "stream.session_lapse",
            "must be at least three times stream.session_beat",
        );
    }
    for (key, shorter, is, than) in [
        (
            "stream.poll_recent",
            "stream.poll_active",
            stream.poll_recent,
            stream.poll_active,
        ),
        (
            "stream.poll_idle",
            "stream.poll_recent",
            stream.poll_idle,
            stream.poll_recent,
        ),
    ] {
        if reader.sound(&[key, shorter]) && is < than {
            reader.blame(key, &format!("must not be shorter than {shorter}"));
        }
    }
}

#[cfg(test)]
mod tests;
