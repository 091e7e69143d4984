//! `eventstream soak`: proves the guarantee on anybody's database.
//!
//! The real service is started on a scratch stream of the configured database,
//! with a subscriber over gRPC, while concurrent writers do to it what
//! applications do at their worst: hold, roll back, prepare, vanish. What was
//! delivered is then compared with what was committed. The writers are an
//! application, so they have SQL of their own, in one file per engine; nothing
//! of the service depends on this module.

mod engine;
mod ledger;
mod mysql;
mod plan;
mod postgres;
mod readers;
mod report;
mod run;
mod scratch;
mod sqlite;
mod subscriber;
mod verdict;
mod writer;

use std::{
    io::{Write as _, stderr, stdout},
    process::ExitCode,
};

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _, value_parser};

use crate::{
    config::{self, Config},
    lifecycle::{Signals as _, UnixSignals},
    telemetry,
};
use run::Stage;

/// Something was lost, or otherwise not as promised.
const VIOLATED: u8 = 1;
/// The command line or the configuration cannot be used.
const USAGE: u8 = 2;
/// It could not be found out.
const FAILED: u8 = 3;
/// As of a program that SIGINT has ended.
const INTERRUPTED: u8 = 130;

/// Options of `serve` that have no meaning here.
const HIDDEN: [&str; 12] = [
    "db.queue_table",
    "db.consumers_table",
    "grpc.listen",
    "grpc.max_connections",
    "grpc.reflection",
    "grpc.web",
    "http.listen",
    "insecure",
    "shutdown.deadline",
    "log.format",
    "log.filter",
    "stream.request_id_window",
];

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "The run")]
struct Args {
    /// Stop when so many events are committed
    #[arg(long, default_value_t = 20_000, value_name = "COUNT",
          value_parser = value_parser!(u64).range(1..=10_000_000))]
    events: u64,
    /// Concurrent writers, each with a session of its own
    #[arg(long, default_value_t = 48, value_name = "COUNT",
          value_parser = value_parser!(u32).range(1..=1000))]
    writers: u32,
    /// Longest pause inside a transaction, in milliseconds [default: 300; SQLite: 5]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u64).range(0..=60_000))]
    hold_ms: Option<u64>,
    /// Repeats the transactions of another run [default: random]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Two-phase commits too
    #[arg(long)]
    two_phase: bool,
    /// A transaction that holds an event for so long
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=3600))]
    long_related: Option<u64>,
    /// A transaction of other tables that is open for so long
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=3600))]
    long_unrelated: Option<u64>,
    /// Run readers of other designs on the same events
    #[arg(long)]
    compare: bool,
    /// The verdict as one JSON object
    #[arg(long)]
    json: bool,
}

/// The subcommand: its own options, and those of `serve` that say where the
/// database is and how the stream behaves.
#[must_use]
pub fn command() -> Command {
    let serve = config::serve_command()
        .name("soak")
        .about("Prove on your own database that nothing is lost, reordered or invented")
        .next_help_heading(None::<&str>)
        .after_help(
            "Writes into tables of its own, named evt_soak_…, and removes them at the end, also \
             after ctrl-c.\nIt is load: about as much as the database takes.\n\n\
             Exit codes:\n  \
             0  nothing is violated\n  \
             1  something was lost, duplicated, reordered or invented\n  \
             2  wrong usage or configuration\n  \
             3  it could not be found out\n\n\
             Examples:\n  \
             eventstream soak --db postgres://app@localhost/shop\n  \
             eventstream soak --db postgres://app@localhost/shop --compare --two-phase \
             --long-related 15 --events 100000",
        );
    let shown = HIDDEN.iter().fold(serve, |command, id| {
        command.mut_arg(id, |arg| arg.hide(true))
    });
    Args::augment_args(shown)
}

/// Runs it; says on stdout how it went.
pub async fn run(matches: &ArgMatches) -> ExitCode {
    let (args, config) = match read(matches) {
        Ok(read) => read,
        Err(text) => return complain(&text, USAGE),
    };
    if let Err(error) = telemetry::init(config.log.format, "warn") {
        return complain(&format!("{error:#}"), FAILED);
    }
    match soak(args, config).await {
        Ok(code) => code,
        Err(error) => complain(&format!("{error:#}"), FAILED),
    }
}

fn read(matches: &ArgMatches) -> Result<(Args, Config), String> {
    let args = Args::from_arg_matches(matches).map_err(|error| error.to_string())?;
    let read_file = |path: &std::path::Path| std::fs::read_to_string(path);
    let config = config::load(matches, config::environment(), read_file);
    Ok((args, config.map_err(|faults| faults.to_string())?))
}

async fn soak(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = UnixSignals::new()?;
    let json = args.json;
    let mut stage = Stage::find(args, config).await?;
    let outcome = tokio::select! {
        biased;
        outcome = stage.run() => Some(outcome),
        _ = signals.next() => None,
    };
    if outcome.is_none() {
        say_on_stderr("\ninterrupted; removing the tables");
    }
    let left = tokio::select! {
        biased;
        left = stage.leave() => left,
        _ = signals.next() => vec![format!("everything named {}…: interrupted", stage.queue())],
    };
    for left in &left {
        say_on_stderr(&format!("not removed: {left}"));
    }
    let report = match outcome {
        None => return Ok(INTERRUPTED.into()),
        Some(outcome) => outcome?,
    };
    // A closed pipe is the reader's choice.
    let _ = if json {
        writeln!(stdout(), "{}", report.to_json()?)
    } else {
        write!(stdout(), "{report}")
    };
    Ok(if report.holds() {
        ExitCode::SUCCESS
    } else {
        VIOLATED.into()
    })
}

fn say_on_stderr(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

fn complain(text: &str, code: u8) -> ExitCode {
    say_on_stderr(text);
    code.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_sound() {
        command().debug_assert();
        let help = command().render_long_help().to_string();
        assert!(
            help.contains("--two-phase") && help.contains("--db <URL>"),
            "{help}"
        );
        assert!(!help.contains("--db-queue-table"), "{help}");
    }
}
