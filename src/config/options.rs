//! The one table of options. The command line, the environment, the keys of
//! the file, the help and the table in the README are all made from it; what
//! a text means is decided in `value`.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::{exposure, futoin, tls};

/// Every variable of ours begins with this.
pub(super) const ENVIRONMENT_PREFIX: &str = "EVENTSTREAM_";

/// What Rust programs are usually told their log filter by; ours goes first.
pub(super) const RUST_LOG: &str = "RUST_LOG";

/// Whether a variable of the environment may be meant for us.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(ENVIRONMENT_PREFIX) || name == RUST_LOG
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// Its dotted path in the TOML file, and its name in messages.
    pub key: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
    /// Its default, as somebody would write it.
    pub default: &'static str,
    /// What to write, in a word.
    pub hint: &'static str,
    /// What it does, for `--help` and the README.
    pub help: &'static str,
    /// Whether its text may hold a password.
    pub secret: bool,
}

impl Opt {
    /// The variable it is read from.
    #[must_use]
    pub fn environment(&self) -> String {
        let flag = self.flag.to_uppercase().replace('-', "_");
        format!("{ENVIRONMENT_PREFIX}{flag}")
    }

    fn is_switch(&self) -> bool {
        self.hint == SWITCH
    }

    fn arg(&self) -> Arg {
        let default = if self.default.is_empty() {
            String::new()
        } else {
            format!(" [default: {}]", self.default)
        };
        let arg = Arg::new(self.key)
            .long(self.flag)
            .value_name(self.hint)
            .help(format!(
                "{} [env: {}]{default}",
                self.help,
                self.environment()
            ));
        if self.is_switch() {
            // `--insecure` alone means true; `--grpc-web=false` is possible.
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
        } else {
            arg
        }
    }
}

pub(super) const SWITCH: &str = "true|false";
pub(super) const DURATION: &str = "DURATION";

pub(super) const fn opt(
    key: &'static str,
    flag: &'static str,
    default: &'static str,
    hint: &'static str,
    help: &'static str,
) -> Opt {
    Opt {
        key,
        flag,
        default,
        hint,
        help,
        secret: false,
    }
}

/// The file itself: an option of the command line and the environment only.
pub const CONFIG_FILE: Opt = opt(
    "config",
    "config",
    "",
    "FILE",
    "TOML file with options by their dotted names",
);

/// All options that may stand in the file too.
pub const OPTIONS: &[Opt] = &joined();

/// The tables that it is joined of, each beside what reads it.
const TABLES: [&[Opt]; 6] = [
    TABLE,
    &tls::GRPC,
    &tls::HTTP,
    &futoin::TABLE,
    &tls::FUTOIN,
    &exposure::TABLE,
];

const COUNT: usize = {
    let (mut count, mut table) = (0, 0);
    while table < TABLES.len() {
        count += TABLES[table].len();
        table += 1;
    }
    count
};

const fn joined() -> [Opt; COUNT] {
    let mut all = [CONFIG_FILE; COUNT];
    let (mut at, mut table) = (0, 0);
    while table < TABLES.len() {
        let mut row = 0;
        while row < TABLES[table].len() {
            all[at] = TABLES[table][row];
            at += 1;
            row += 1;
        }
        table += 1;
    }
    all
}

/// Those that are read in `config` itself.
const TABLE: &[Opt] = &[
    Opt {
        secret: true,
        ..opt(
            "db.url",
            "db",
            "sqlite:eventstream.db",
            "URL",
            "Database with the events: sqlite:PATH, postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE",
        )
    },
    opt(
        "db.synchronous",
        "db-synchronous",
        "full",
        "full|normal|extra",
        "SQLite's durability: normal may lose the last commits in a power cut",
    ),
    opt(
        "db.busy_timeout",
        "db-busy-timeout",
        "5s",
        DURATION,
        "How long to wait for another process that writes to the SQLite file",
    ),
    opt(
        "db.read_connections",
        "db-read-connections",
        "4",
        "COUNT",
        "Connections that read, beside those that write",
    ),
    opt(
        "db.write_connections",
        "db-write-connections",
        "4",
        "COUNT",
        "Connections to a server that write, on PostgreSQL beside the one that adds; SQLite has one",
    ),
    opt(
        "db.statement_timeout",
        "db-statement-timeout",
        "10s",
        DURATION,
        "How long a statement of a server may take, waiting for locks included",
    ),
    opt(
        "db.schema",
        "db-schema",
        "",
        "NAME",
        "PostgreSQL: schema of the tables, made if missing; empty: the role's search path",
    ),
    opt(
        "db.galera",
        "db-galera",
        "refuse",
        "refuse|single-writer",
        "MySQL, MariaDB: a cluster of several writers is refused, or declared to have one: this server",
    ),
    opt(
        "db.queue_table",
        "db-queue-table",
        "evt_queue",
        "NAME",
        "Table of events",
    ),
    opt(
        "db.consumers_table",
        "db-consumers-table",
        "evt_consumers",
        "NAME",
        "Table of consumers",
    ),
    Opt {
        secret: true,
        ..opt(
            "archive.url",
            "archive-url",
            "",
            "URL",
            "Warehouse for the history, a URL as db.url; empty: none, nothing is archived",
        )
    },
    opt(
        "archive.run",
        "archive-run",
        "true",
        SWITCH,
        "Copy events there; false: only read the history, another process archives",
    ),
    opt(
        "archive.table",
        "archive-table",
        "evt_history",
        "NAME",
        "Table of the history",
    ),
    opt(
        "archive.batch_events",
        "archive-batch-events",
        "1000",
        "COUNT",
        "Events archived in one transaction",
    ),
    opt(
        "archive.batch_bytes",
        "archive-batch-bytes",
        "4MiB",
        "SIZE",
        "Bytes after which no more events join it",
    ),
    opt(
        "archive.statement_timeout",
        "archive-statement-timeout",
        "30s",
        DURATION,
        "How long a statement of the warehouse may take; SQLite: the wait for its lock",
    ),
    opt(
        "grpc.listen",
        "grpc",
        "127.0.0.1:50051",
        "ADDRESS",
        "Where gRPC is served, HOST:PORT or unix:PATH",
    ),
    opt(
        "grpc.max_connections",
        "grpc-max-connections",
        "4096",
        "COUNT",
        "Open gRPC connections at a time; one more is closed at once",
    ),
    opt(
        "grpc.reflection",
        "grpc-reflection",
        "true",
        SWITCH,
        "Tell the contract to tools such as grpcurl",
    ),
    opt(
        "grpc.web",
        "grpc-web",
        "true",
        SWITCH,
        "Serve gRPC-Web, for browsers",
    ),
    opt(
        "grpc.web_origins",
        "grpc-web-origins",
        "",
        "ORIGINS",
        "Web sites of other origins whose pages may call, such as https://shop.example; * for all",
    ),
    opt(
        "http.listen",
        "http",
        "127.0.0.1:8080",
        "ADDRESS|off",
        "Where /livez, /readyz, /metrics and /console are served",
    ),
    opt(
        "http.console",
        "http-console",
        "auto",
        "auto|on|off",
        "The console for operators at /console; auto: where only this machine reaches it, or users are known",
    ),
    opt(
        "http.metrics_open",
        "http-metrics-open",
        "false",
        SWITCH,
        "Show /metrics to anybody, though there are users; else to those with observe",
    ),
    opt(
        "auth.file",
        "auth-file",
        "",
        "FILE",
        "Users, their credentials and rights, in TOML; empty: everybody is local and may do everything",
    ),
    opt(
        "insecure",
        "insecure",
        "false",
        SWITCH,
        "Allow addresses that other machines reach, though nobody is known, or tokens can be read on the way",
    ),
    opt(
        "stream.poll_active",
        "stream-poll-active",
        "2ms",
        DURATION,
        "How often to look for other applications' commits while events flow",
    ),
    opt(
        "stream.poll_recent",
        "stream-poll-recent",
        "5ms",
        DURATION,
        "The same in the seconds after an event",
    ),
    opt(
        "stream.poll_idle",
        "stream-poll-idle",
        "20ms",
        DURATION,
        "The same after a quiet while; nothing is asked while nobody listens",
    ),
    opt(
        "stream.gap_warn_after",
        "stream-gap-warn-after",
        "5s",
        DURATION,
        "When to log which transaction keeps events waiting; then again with growing pauses",
    ),
    opt(
        "stream.sentinel_interval",
        "stream-sentinel-interval",
        "10s",
        DURATION,
        "How often to look whether an id that was declared dead has appeared after all",
    ),
    opt(
        "stream.late_policy",
        "stream-late-policy",
        "alarm",
        "alarm|rewind",
        "What to do then: only say so, or move consumers back, which delivers events again",
    ),
    opt(
        "stream.ring_bytes",
        "stream-ring-bytes",
        "32MiB",
        "SIZE",
        "Memory for recent events, shared by all subscribers",
    ),
    opt(
        "stream.heartbeat",
        "stream-heartbeat",
        "10s",
        DURATION,
        "How often an idle stream says that it lives, unless its client asks otherwise",
    ),
    opt(
        "stream.session_beat",
        "stream-session-beat",
        "2s",
        DURATION,
        "How often this replica renews its subscriptions in the database",
    ),
    opt(
        "stream.session_lapse",
        "stream-session-lapse",
        "10s",
        DURATION,
        "When the subscriptions of a replica that vanished are void, at least three beats",
    ),
    opt(
        "stream.max_subscriptions",
        "stream-max-subscriptions",
        "4096",
        "COUNT",
        "Open subscriptions at a time",
    ),
    opt(
        "stream.max_in_flight_events",
        "stream-max-in-flight-events",
        "100000",
        "COUNT",
        "The most unacknowledged events that a subscriber may ask for",
    ),
    opt(
        "stream.request_id_window",
        "stream-request-id-window",
        "1h",
        DURATION,
        "How long a repeated request_id is answered with the first ids",
    ),
    opt(
        "discard.enabled",
        "discard-enabled",
        "false",
        SWITCH,
        "Delete events that every registered consumer has",
    ),
    opt(
        "discard.poll_period",
        "discard-poll-period",
        "10m",
        DURATION,
        "How often, at least",
    ),
    opt(
        "discard.threshold",
        "discard-threshold",
        "100000",
        "COUNT",
        "Sooner when so many IDs can go; 0: never sooner",
    ),
    opt(
        "discard.limit_at_once",
        "discard-limit-at-once",
        "1000",
        "COUNT",
        "Rows deleted in one transaction, at most",
    ),
    opt(
        "discard.pause",
        "discard-pause",
        "20ms",
        DURATION,
        "Between two such transactions, at least",
    ),
    opt(
        "discard.min_age",
        "discard-min-age",
        "0s",
        DURATION,
        "Younger events stay, though everybody has them",
    ),
    opt(
        "consumers.expire",
        "consumers-expire",
        "",
        "RULES",
        "What becomes of silent consumers, such as web:TMP_* warn=1d unregister=7d; * warn=7d",
    ),
    opt(
        "upkeep.lease",
        "upkeep-lease",
        "15s",
        DURATION,
        "When another replica takes over the upkeep of one that is silent",
    ),
    opt(
        "shutdown.deadline",
        "shutdown-deadline",
        "10s",
        DURATION,
        "From the first signal to the end by force",
    ),
    opt(
        "log.format",
        "log-format",
        "auto",
        "auto|json|human",
        "How log lines look; auto is human on a terminal",
    ),
    opt(
        "log.filter",
        "log-filter",
        "info",
        "FILTER",
        "What is logged, a level or target=level pairs; RUST_LOG says so too",
    ),
    opt(
        "otlp.endpoint",
        "otlp-endpoint",
        "",
        "URL",
        "Collector that traces are sent to by OTLP over gRPC, such as http://127.0.0.1:4317; empty: no traces",
    ),
    opt(
        "otlp.service_name",
        "otlp-service-name",
        "eventstream",
        "NAME",
        "What the service calls itself in traces",
    ),
    opt(
        "otlp.sample_ratio",
        "otlp-sample-ratio",
        "1",
        "0..1",
        "Share of the traces that begin here; a caller that sends a traceparent decides for its own",
    ),
];

/// The option with this key.
pub(super) fn find(key: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|opt| opt.key == key)
}

/// The command that runs the service, with a flag for every option.
#[must_use]
pub fn serve_command() -> Command {
    let options = std::iter::once(&CONFIG_FILE).chain(OPTIONS);
    Command::new("serve")
        .about("Run the service")
        .after_help("A flag wins over the environment, that over the file of --config.")
        .args(options.map(Opt::arg))
}

/// All options as a table in Markdown, for the README.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from(
        "| option | flag | environment | default | meaning |\n|---|---|---|---|---|\n",
    );
    for opt in std::iter::once(&CONFIG_FILE).chain(OPTIONS) {
        let key = if *opt == CONFIG_FILE { "" } else { opt.key };
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} |",
            code(key),
            code(&format!("--{} {}", opt.flag, opt.hint)),
            code(&opt.environment()),
            code(opt.default),
            opt.help.replace('|', "\\|"),
        );
    }
    table
}

fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("`{}`", text.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_follow_their_keys() {
        const SHORT: [&str; 3] = ["db", "grpc", "http"];
        for opt in OPTIONS {
            let regular = opt.key.replace(['.', '_'], "-");
            assert!(
                opt.flag == regular || SHORT.contains(&opt.flag),
                "{}",
                opt.key
            );
        }
    }

    #[test]
    fn help_ends_with_variable_and_default() {
        serve_command().debug_assert();
        for opt in OPTIONS {
            let help = opt.arg().get_help().unwrap().to_string();
            let mut end = format!("[env: {}]", opt.environment());
            if !opt.default.is_empty() {
                end = format!("{end} [default: {}]", opt.default);
            }
            assert!(help.ends_with(&end), "{help}");
        }
    }

    #[test]
    fn markdown_has_a_row_per_option() {
        let table = markdown_table();
        assert_eq!(table.lines().count(), OPTIONS.len() + 3);
        let row = "| `log.format` | `--log-format auto\\|json\\|human` | \
                   `EVENTSTREAM_LOG_FORMAT` | `auto` | ";
        assert!(table.lines().any(|line| line.starts_with(row)), "{table}");
    }
}
