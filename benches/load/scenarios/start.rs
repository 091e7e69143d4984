//! Resident memory at rest, and the time from the start of the process on an
//! empty directory to its first answer.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    Plan,
    measure::{median, millis},
    report::Sheet,
    server::Server,
    workload::add_event,
};

const STARTS: usize = 10;

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    const FIRST: &str = "start to first AddEvent answered, median of 10";
    const IDLE: &str = "resident memory, idle";
    const ANONYMOUS: &str = "of it, not pages of files";
    let mut sheet = Sheet::new("start: cold start and memory");
    for _ in 0..plan.rounds {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let begun = Instant::now();
            let server = Server::start(plan).await?;
            let mut clients = server.clients().await?;
            clients.generate.add_event(add_event(0)).await?;
            times.push(millis(begun.elapsed()));
        }
        sheet.record(FIRST, "ms", median(&times));
        let server = Server::start(plan).await?;
        sleep(Duration::from_secs(1)).await;
        sheet.record(IDLE, "MiB", server.resident()?);
        sheet.record(ANONYMOUS, "MiB", server.anonymous()?);
    }
    sheet.at_most(FIRST, 50.0);
    sheet.at_most(IDLE, 15.0);
    Ok(sheet)
}
