//! What it costs to wait: processor time and system calls, with and without
//! listeners, with and without a slow flow of events.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    Plan,
    measure::Schedule,
    report::Sheet,
    server::{Clients, Server},
    subscriber::Counter,
    workload::data,
};

/// Events a second of the slow flow, by another process.
const SLOW: u32 = 10;

/// An idle tail is looked at least often only after a quiet minute.
const SETTLE: Duration = Duration::from_secs(61);

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("idle: cost of waiting");
    let period = plan.seconds(60, 10);
    sheet.note(format!("{} s each, one round", period.as_secs()));
    if plan.quick {
        sheet.note("quick: not yet at the slowest tail poll, which begins after a quiet minute");
    }
    observe_database(plan, &mut sheet, period).await?;
    // One service at a time: several would share the database's processes.
    for listeners in [0, 1, 100] {
        let server = Server::start(plan).await?;
        let _held = listen(&server, listeners).await?;
        sleep(plan.pick(SETTLE, Duration::from_secs(2))).await;
        let name = format!("{listeners} listeners, nothing happens");
        observe(plan, &mut sheet, &name, &server, period, 0).await?;
        let limit = if listeners == 0 { 0.2 } else { 1.0 };
        sheet.at_most(&format!("{name}: CPU"), limit);
        sheet.at_most(&format!("{name}: CPU of the database"), 1.0);
        if listeners == 0 {
            // Asking for the metrics proves the frontier once.
            sheet.at_most(&format!("{name}: tail reads"), 1.0 / period.as_secs_f64());
            continue;
        }
        let name = format!("{listeners} listeners, {SLOW} events/s");
        observe(plan, &mut sheet, &name, &server, period, SLOW).await?;
        sheet.at_most(&format!("{name}: CPU"), 4.0);
        sheet.at_most(&format!("{name}: CPU of the database"), 4.0);
    }
    Ok(sheet)
}

/// What the database does by itself.
async fn observe_database(plan: &Plan, sheet: &mut Sheet, period: Duration) -> anyhow::Result<()> {
    let Some(before) = plan.engine.cpu()? else {
        return Ok(());
    };
    sleep(period).await;
    let now = plan.engine.cpu()?.unwrap_or(before);
    let share = (now - before) * 100.0 / period.as_secs_f64();
    sheet.record("no service: CPU of the database", "% of core", share);
    Ok(())
}

/// Open live streams that nobody reads; what they buffer is bounded.
async fn listen(server: &Server, count: u64) -> anyhow::Result<(Clients, Vec<Counter>)> {
    let clients = server.clients().await?;
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(Counter::open(&clients).await?);
    }
    Ok((clients, held))
}

async fn observe(
    plan: &Plan,
    sheet: &mut Sheet,
    name: &str,
    server: &Server,
    period: Duration,
    events: u32,
) -> anyhow::Result<()> {
    const READS: &str = "eventstream_tail_reads_total";
    let reads = server.metric(READS).await?;
    let database = plan.engine.cpu()?;
    let (cpu, calls) = (server.cpu()?, server.file_calls()?);
    let begun = Instant::now();
    if events == 0 {
        sleep(period).await;
    } else {
        let mut session = server.session().await?;
        let mut schedule = Schedule::new(events, period);
        while schedule.next().await.is_some() {
            session.insert(&data(0)).await?;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let share = (server.cpu()? - cpu) * 100.0 / seconds;
    sheet.record(&format!("{name}: CPU"), "% of core", share);
    if let Some((now, before)) = plan.engine.cpu()?.zip(database) {
        let share = (now - before) * 100.0 / seconds;
        sheet.record(&format!("{name}: CPU of the database"), "% of core", share);
    }
    let calls = (server.file_calls()? - calls) / seconds;
    sheet.record(&format!("{name}: reads and writes"), "calls/s", calls);
    let reads = (server.metric(READS).await? - reads) / seconds;
    sheet.record(&format!("{name}: tail reads"), "per s", reads);
    Ok(())
}
