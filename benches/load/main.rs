//! The load program: measures the real `eventstream` binary from outside.
//!
//! Every figure is taken on a fresh server with a fresh database, several rounds, each beside the thing it is compared with and in the same run: the
//! ratio survives a noisy machine, the figure alone does not. Nothing here is
//! part of the service, and nothing here judges: a missed target is a line in
//! the table, not a failure.

mod engine;
mod measure;
mod processes;
mod raw;
mod report;
mod scenarios;
mod server;
mod subscriber;
mod workload;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use engine::Engine;
use measure::number;
use report::{Report, Sheet};

#[derive(Parser)]
#[command(name = "load", about = "Measure eventstream from outside")]
struct Args {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    scenario: Scenario,
    /// The database under it; its server is started for the run and removed.
    #[arg(long, value_enum, default_value = "sqlite")]
    engine: engine::Kind,
    /// The program under test; by default the one beside this program.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Rounds of each measurement; the medians are shown.
    #[arg(long)]
    rounds: Option<usize>,
    /// Events of the backlog of `futoin`.
    #[arg(long, value_name = "COUNT")]
    events: Option<i64>,
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
    /// Polls, acks and looks at the tail as tables grow.
    Flat,
    /// What the service costs those who write beside it.
    Producers,
    /// A backlog into a warehouse, beside a plain copy of the same rows.
    Archive,
    /// How fast events go, and what the discarder costs those who add.
    Discard,
    /// The original's server and ours, by the original's client; not in `all`,
    /// for it needs what `scripts/tools.sh` installs.
    Futoin,
    /// The receivers of the five clients beside each other; not part of `all`.
    Receivers,
}

/// How long and on what to measure.
struct Plan {
    server: PathBuf,
    kind: engine::Kind,
    engine: Arc<dyn Engine>,
    dir: PathBuf,
    rounds: usize,
    events: Option<i64>,
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

    /// What the database's own processes have used since they had used `before`,
    /// by the event.
    fn record_database_cpu(
        &self,
        sheet: &mut Sheet,
        name: &str,
        before: Option<f64>,
        events: u64,
    ) -> anyhow::Result<()> {
        if let Some((now, before)) = self.engine.cpu()?.zip(before) {
            let name = format!("  CPU of the database, {name}");
            sheet.record(&name, "µs/event", (now - before) * 1e6 / number(events));
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let dir = args.dir.unwrap_or_else(std::env::temp_dir);
    let plan = Plan {
        server: args.server.map_or_else(server::beside_this_program, Ok)?,
        kind: args.engine,
        engine: args.engine.start(&dir)?,
        dir,
        events: args.events,
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
    if chosen(Scenario::Producers) {
        report.add(scenarios::producers::run(&plan).await?)?;
    }
    if chosen(Scenario::Archive) {
        report.add(scenarios::archive::run(&plan).await?)?;
    }
    if chosen(Scenario::Discard) {
        report.add(scenarios::discard::run(&plan).await?)?;
    }
    if args.scenario == Scenario::Futoin {
        report.add(scenarios::futoin::run(&plan).await?)?;
    }
    if args.scenario == Scenario::Receivers {
        report.add(scenarios::receivers::run(&plan).await?)?;
    }
    match args.json {
        Some(file) => report
            .write_json(&file)
            .with_context(|| format!("cannot write {}", file.display())),
        None => Ok(()),
    }
}
