//! `AddEvents` of 100 beside multi-row inserts of as many rows.

use std::time::Duration;

use futoin_eventstream::proto::AddEventsRequest;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Plan,
    measure::rate,
    raw,
    report::Sheet,
    server::{Clients, Server},
    workload::new_events,
};

const ROWS: u64 = 100;
const CALLERS: usize = 4;

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    const CALLS: &str = "AddEvents of 100, 4 callers";
    const RAW: &str = "INSERT of 100 rows";
    let mut sheet = Sheet::new("add-batch: AddEvents of 100 events of 200 bytes");
    let period = plan.seconds(3, 1);
    let server = Server::start(plan).await?;
    let beside = plan.engine.database().await?;
    let writers = CALLERS.min(plan.engine.most_writers());
    call_for(&server, plan.seconds(1, 1)).await?;
    for _ in 0..plan.rounds {
        let rows = raw::insert_rows(&*beside, writers, ROWS, period).await?;
        sheet.record(RAW, "rows/s", rows);
        let begun = Instant::now();
        let events = call_for(&server, period).await?;
        sheet.record(CALLS, "events/s", rate(events, begun.elapsed()));
    }
    sheet.at_least_times(CALLS, RAW, 0.5);
    sheet.note(format!("the raw driver has {writers} clients"));
    Ok(sheet)
}

/// The number of events added.
async fn call_for(server: &Server, period: Duration) -> anyhow::Result<u64> {
    let clients = server.clients().await?;
    let end = Instant::now() + period;
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        tasks.spawn(call_until(clients.clone(), end));
    }
    let mut events = 0;
    while let Some(task) = tasks.join_next().await {
        events += task??;
    }
    Ok(events)
}

async fn call_until(mut clients: Clients, end: Instant) -> anyhow::Result<u64> {
    let request = AddEventsRequest {
        events: new_events(ROWS),
        request_id: String::new(),
    };
    let mut events = 0;
    while Instant::now() < end {
        clients.generate.add_events(request.clone()).await?;
        events += ROWS;
    }
    Ok(events)
}
