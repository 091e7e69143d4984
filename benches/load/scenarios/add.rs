//! `AddEvent` by many callers in a closed loop, beside SQLite's one-row
//! durable transactions: one after the other, which is all that SQLite allows.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use crate::{
    Plan,
    measure::{Latencies, rate},
    raw,
    report::Sheet,
    server::{Clients, Server},
    workload::add_event,
};

/// Callers and the ratio they should reach.
const CALLERS: [(usize, Option<f64>); 4] =
    [(1, None), (16, None), (64, Some(8.0)), (256, Some(15.0))];

/// Callers that share a connection.
const PER_CONNECTION: usize = 64;

/// Transactions for SQLite's shell, some seconds of them.
const SHELL_ROWS: u64 = 5000;

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("add: AddEvent, 200 bytes, synchronous=FULL");
    let period = plan.seconds(3, 1);
    let server = Server::start(plan).await?;
    call_for(&server, 16, plan.seconds(2, 1)).await?;
    for _ in 0..plan.rounds {
        for (callers, _) in CALLERS {
            let begun = Instant::now();
            let rows = raw::insert_for(&server.beside("raw.db"), period).await?;
            sheet.record(&raw_name(callers), "tx/s", rate(rows, begun.elapsed()));

            let begun = Instant::now();
            let latencies = call_for(&server, callers, period).await?;
            let added = rate(latencies.count(), begun.elapsed());
            sheet.record(&name(callers), "events/s", added);
            sheet.record(&format!("  p50, {callers}"), "ms", latencies.quantile(0.5));
            sheet.record(&format!("  p99, {callers}"), "ms", latencies.quantile(0.99));
        }
        let took = raw::shell_inserts(&server.beside("shell.db"), SHELL_ROWS).await?;
        sheet.record(SHELL, "tx/s", rate(SHELL_ROWS, took));
    }
    for (callers, target) in CALLERS {
        match target {
            Some(factor) => sheet.at_least_times(&name(callers), &raw_name(callers), factor),
            None => sheet.compare(&name(callers), &raw_name(callers)),
        }
    }
    let batches = server.metric("eventstream_add_batch_events_count").await?;
    let events = server.metric("eventstream_add_batch_events_sum").await?;
    sheet.note(format!(
        "events per commit over all rounds: {:.1}",
        events / batches
    ));
    Ok(sheet)
}

const SHELL: &str = "one-row transactions by the sqlite3 shell";

fn name(callers: usize) -> String {
    format!("AddEvent, {callers} callers")
}

fn raw_name(callers: usize) -> String {
    format!("one-row transactions (beside {callers})")
}

/// What every call took.
async fn call_for(server: &Server, callers: usize, period: Duration) -> anyhow::Result<Latencies> {
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
