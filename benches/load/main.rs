//! The load program: measures the real `eventstream` binary from outside.
//!
//! Every figure is taken on a fresh server with a fresh SQLite file, several
//! rounds, each beside the thing it is compared with and in the same run: the
//! ratio survives a noisy machine, the figure alone does not. Nothing here is
//! part of the service, and nothing here judges: a missed target is a line in
//! the table, not a failure.

mod measure;
mod raw;
mod report;
mod scenarios;
mod server;
mod subscriber;
mod workload;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use report::Report;

#[derive(Parser)]
#[command(name = "load", about = "Measure eventstream on SQLite")]
struct Args {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    scenario: Scenario,
    /// The program under test; by default the one beside this program.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Rounds of each measurement; the medians are shown.
    #[arg(long)]
    rounds: Option<usize>,
    /// Short rounds and small tables, to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Where databases are made; by default the system's temporary directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Also writes every value of every round here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Everything below, one after the other.
    All,
    /// `AddEvent` beside one-row transactions.
    Add,
    /// `AddEvents` of 100 beside multi-row inserts.
    AddBatch,
    /// From a commit to a subscriber.
    Latency,
    /// A backlog, by push and by polling, beside a SELECT.
    Drain,
    /// One event to many subscribers.
    Fanout,
    /// What it costs to do nothing.
    Idle,
    /// Resident memory, and start to first answer.
    Start,
    /// Polls and acks as tables grow.
    Flat,
}

/// How long and on what to measure.
struct Plan {
    server: PathBuf,
    dir: PathBuf,
    rounds: usize,
    quick: bool,
}

impl Plan {
    /// `full`, or what a quick run uses instead.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    fn seconds(&self, full: u64, quick: u64) -> Duration {
        Duration::from_secs(self.pick(full, quick))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let plan = Plan {
        server: args.server.map_or_else(server::beside_this_program, Ok)?,
        dir: args.dir.unwrap_or_else(std::env::temp_dir),
        rounds: args.rounds.unwrap_or(if args.quick { 1 } else { 5 }),
        quick: args.quick,
    };
    let mut report = Report::new(&plan)?;
    let chosen = |scenario| args.scenario == Scenario::All || args.scenario == scenario;
    if chosen(Scenario::Add) {
        report.add(scenarios::add::run(&plan).await?)?;
    }
    if chosen(Scenario::AddBatch) {
        report.add(scenarios::add_batch::run(&plan).await?)?;
    }
    if chosen(Scenario::Latency) {
        report.add(scenarios::latency::run(&plan).await?)?;
    }
    if chosen(Scenario::Drain) {
        report.add(scenarios::drain::run(&plan).await?)?;
    }
    if chosen(Scenario::Fanout) {
        report.add(scenarios::fanout::run(&plan).await?)?;
    }
    if chosen(Scenario::Idle) {
        report.add(scenarios::idle::run(&plan).await?)?;
    }
    if chosen(Scenario::Start) {
        report.add(scenarios::start::run(&plan).await?)?;
    }
    if chosen(Scenario::Flat) {
        report.add(scenarios::flat::run(&plan).await?)?;
    }
    match args.json {
        Some(file) => report
            .write_json(&file)
            .with_context(|| format!("cannot write {}", file.display())),
        None => Ok(()),
    }
}
