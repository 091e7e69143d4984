//! What the service costs applications that write beside it: the raw driver's
//! transactions without the service, with it, and with it and a subscriber
//! that gets every event, in turns on one database.
//!
//! Everything shares the cores here, the subscriber too: what is lost is a
//! bound of what a producer on its own machine loses.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    Plan,
    engine::{Database, Session},
    measure::rate,
    report::Sheet,
    server::Server,
    subscriber::Counter,
    workload::data,
};

/// One-row transactions without a pause.
const BUSY_WRITERS: usize = 16;

/// Transactions that stay open for 0 to 20 ms, as those of applications do.
const HOLDING_WRITERS: usize = 32;
const LONGEST_HOLD: u64 = 20;

/// A service that was just started writes its tables.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    Service,
    Subscriber,
}

impl Beside {
    const ALL: [Self; 3] = [Self::Nothing, Self::Service, Self::Subscriber];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "without the service",
            Self::Service => "with it, nobody listens",
            Self::Subscriber => "with it and a subscriber",
        }
    }
}

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("producers: throughput of the raw driver beside the service");
    let most = plan.engine.most_writers();
    measure(plan, &mut sheet, BUSY_WRITERS.min(most), 0).await?;
    if most > 1 {
        measure(plan, &mut sheet, HOLDING_WRITERS.min(most), LONGEST_HOLD).await?;
    }
    sheet.note("the subscriber's own processor time is inside the last of each three");
    Ok(sheet)
}

async fn measure(plan: &Plan, sheet: &mut Sheet, writers: usize, hold: u64) -> anyhow::Result<()> {
    let period = plan.seconds(5, 1);
    let what = match hold {
        0 => format!("{writers} writers"),
        _ => format!("{writers} writers that hold 0–{hold} ms"),
    };
    let name = |beside: Beside| format!("{what}, {}", beside.name());
    let database = plan.engine.database().await?;
    for round in 0..plan.rounds * plan.pick(2, 1) {
        for turn in 0..Beside::ALL.len() {
            let beside = Beside::ALL[(round + turn) % Beside::ALL.len()];
            let mut attached = JoinSet::new();
            let mut server = None;
            if !matches!(beside, Beside::Nothing) {
                let started = Server::start_on(plan, database.clone()).await?;
                if matches!(beside, Beside::Subscriber) {
                    let mut counter = Counter::open(&started.clients().await?).await?;
                    attached.spawn(async move { counter.read_through(i64::MAX).await });
                }
                server = Some(started);
            }
            sleep(SETTLE).await;
            let cpu = plan.engine.cpu()?;
            let begun = Instant::now();
            let count = write(&*database, writers, hold, period).await?;
            sheet.record(&name(beside), "tx/s", rate(count, begun.elapsed()));
            plan.record_database_cpu(sheet, &name(beside), cpu, count)?;
            drop(server);
        }
    }
    for beside in [Beside::Service, Beside::Subscriber] {
        sheet.at_least_times(&name(beside), &name(Beside::Nothing), 0.97);
    }
    Ok(())
}

/// The number of transactions.
async fn write(
    database: &dyn Database,
    writers: usize,
    hold: u64,
    period: Duration,
) -> anyhow::Result<u64> {
    let mut sessions = Vec::new();
    for _ in 0..writers {
        sessions.push(database.session().await?);
    }
    let end = Instant::now() + period;
    let mut tasks = JoinSet::new();
    for session in sessions {
        tasks.spawn(write_until(session, hold, end));
    }
    let mut count = 0;
    while let Some(task) = tasks.join_next().await {
        count += task??;
    }
    Ok(count)
}

async fn write_until(
    mut session: Box<dyn Session>,
    hold: u64,
    end: Instant,
) -> anyhow::Result<u64> {
    let mut count = 0;
    while Instant::now() < end {
        if hold == 0 {
            session.insert(&data(count)).await?;
        } else {
            let hold = Duration::from_micros(rand::random_range(0..hold * 1000));
            session.insert_and_hold(&data(count), hold).await?;
        }
        count += 1;
    }
    Ok(count)
}
