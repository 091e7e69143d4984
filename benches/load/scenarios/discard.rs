//! What the discarder does to those who add: `AddEvent` in a closed loop with
//! it and without it, on tables of the same size, and how fast it is.

use std::sync::Arc;

use tokio::time::Instant;

use super::add::call_for;
use crate::{
    Plan,
    engine::Database,
    measure::{number, rate},
    report::Sheet,
    server::Server,
};

const CALLERS: usize = 16;

/// How much slower the slowest hundredth may be.
const NOTICEABLE: f64 = 1.5;

/// Goes on without a rest while there is something to delete.
const DISCARDING: [&str; 2] = ["--discard-enabled", "--discard-poll-period=1s"];

const DISCARDED: &str = "eventstream_discarded_events_total";

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("discard: AddEvent beside the discarder");
    let rows = plan.pick(500_000, 50_000);
    for _ in 0..plan.rounds {
        let undisturbed = Server::start_with(plan, filled(plan, rows).await?, &[]).await?;
        measure(plan, &mut sheet, &undisturbed, "without it").await?;
        drop(undisturbed);
        let server = Server::start_with(plan, filled(plan, rows).await?, &DISCARDING).await?;
        let (before, begun) = (server.metric(DISCARDED).await?, Instant::now());
        measure(plan, &mut sheet, &server, "while it deletes").await?;
        let gone = server.metric(DISCARDED).await? - before;
        let meanwhile = gone / begun.elapsed().as_secs_f64();
        sheet.record("deleted meanwhile", "events/s", meanwhile);
        let left = server.session().await?.select_all().await?;
        sheet.record("  rows that are left", "rows", number(left));
        drop(server);
        let server = Server::start_with(plan, filled(plan, rows).await?, &DISCARDING).await?;
        // The last one stays.
        let took = server.until(DISCARDED, number(rows - 1)).await?;
        sheet.record(
            "deleted while nobody adds",
            "events/s",
            rate(rows - 1, took),
        );
    }
    sheet.at_most_times("p99, while it deletes", "p99, without it", NOTICEABLE);
    sheet.note(format!(
        "{CALLERS} callers, {rows} events that everybody has, the default batches and pause"
    ));
    Ok(sheet)
}

/// A database whose one consumer has everything.
async fn filled(plan: &Plan, rows: u64) -> anyhow::Result<Arc<dyn Database>> {
    let database = plan.engine.database().await?;
    let mut session = database.session().await?;
    session.fill(rows.try_into()?).await?;
    session.fill_consumers(1).await?;
    Ok(database)
}

async fn measure(plan: &Plan, sheet: &mut Sheet, server: &Server, how: &str) -> anyhow::Result<()> {
    let latencies = call_for(server, CALLERS, plan.seconds(5, 1)).await?;
    sheet.record(&format!("p50, {how}"), "ms", latencies.quantile(0.5));
    sheet.record(&format!("p99, {how}"), "ms", latencies.quantile(0.99));
    Ok(())
}
