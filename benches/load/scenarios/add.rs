//! `AddEvent` by many callers in a closed loop, beside one-row durable
//! transactions by as many clients of the raw driver, or as many as the
//! database lets write at once.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use crate::{
    Plan,
    measure::{Latencies, number, rate},
    raw,
    report::Sheet,
    server::{Clients, Server},
    workload::add_event,
};

/// Callers that share a connection.
const PER_CONNECTION: usize = 64;

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("add: AddEvent, 200 bytes");
    let period = plan.seconds(3, 1);
    let targets = plan.engine.add_targets();
    let server = Server::start(plan).await?;
    let beside = plan.engine.database().await?;
    call_for(&server, 16, plan.seconds(2, 1)).await?;
    for _ in 0..plan.rounds {
        for (callers, _) in targets {
            let writers = callers.min(plan.engine.most_writers());
            let raw = raw::inserts(&*beside, writers, period).await?;
            sheet.record(&raw_name(plan, callers), "tx/s", raw);

            let database = plan.engine.cpu()?;
            let (cpu, begun) = (server.cpu()?, Instant::now());
            let latencies = call_for(&server, callers, period).await?;
            let added = rate(latencies.count(), begun.elapsed());
            let cpu = (server.cpu()? - cpu) * 1e6 / number(latencies.count());
            sheet.record(&name(callers), "events/s", added);
            sheet.record(&format!("  p50, {callers}"), "ms", latencies.quantile(0.5));
            sheet.record(&format!("  p99, {callers}"), "ms", latencies.quantile(0.99));
            sheet.record(&format!("  CPU of the service, {callers}"), "µs/event", cpu);
            plan.record_database_cpu(&mut sheet, &name(callers), database, latencies.count())?;
        }
        let (program, rate) = beside.own_program(64, period).await?;
        let program = format!("one-row transactions by {program}");
        sheet.record(&program, "tx/s", rate);
    }
    for (callers, target) in targets {
        let raw = raw_name(plan, callers);
        match target {
            Some(factor) => sheet.at_least_times(&name(callers), &raw, factor),
            None => sheet.compare(&name(callers), &raw),
        }
    }
    let batches = server.metric("eventstream_add_batch_events_count").await?;
    let events = server.metric("eventstream_add_batch_events_sum").await?;
    sheet.note(format!(
        "events per commit over all rounds: {:.1}; {PER_CONNECTION} callers share a connection",
        events / batches
    ));
    Ok(sheet)
}

fn name(callers: usize) -> String {
    format!("AddEvent, {callers} callers")
}

fn raw_name(plan: &Plan, callers: usize) -> String {
    let writers = callers.min(plan.engine.most_writers());
    format!("one-row tx, {writers} clients (beside {callers})")
}

/// What every call took.
pub(super) async fn call_for(
    server: &Server,
    callers: usize,
    period: Duration,
) -> anyhow::Result<Latencies> {
    let mut connections = Vec::new();
    for _ in 0..callers.div_ceil(PER_CONNECTION) {
        connections.push(server.clients().await?);
    }
    let end = Instant::now() + period;
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let clients = connections[caller % connections.len()].clone();
        tasks.spawn(call_until(clients, end));
    }
    let mut latencies = Latencies::new();
    while let Some(task) = tasks.join_next().await {
        latencies.extend(task??);
    }
    Ok(latencies)
}

async fn call_until(mut clients: Clients, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut count = 0;
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(latencies);
        }
        clients.generate.add_event(add_event(count)).await?;
        latencies.push(begun.elapsed());
        count += 1;
    }
}
