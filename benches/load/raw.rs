//! The database without the service, for some time.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use crate::{
    engine::{Database, Session},
    measure::rate,
    workload::data,
};

/// One-row transactions by so many clients, each one after the other; a second.
pub(crate) async fn inserts(
    database: &dyn Database,
    clients: usize,
    period: Duration,
) -> anyhow::Result<f64> {
    let mut tasks = JoinSet::new();
    let mut sessions = Vec::new();
    for _ in 0..clients {
        sessions.push(database.session().await?);
    }
    let begun = Instant::now();
    for session in sessions {
        tasks.spawn(insert_until(session, begun + period));
    }
    sum(tasks, begun).await
}

async fn insert_until(mut session: Box<dyn Session>, end: Instant) -> anyhow::Result<u64> {
    let mut count = 0;
    while Instant::now() < end {
        session.insert(&data(count)).await?;
        count += 1;
    }
    Ok(count)
}

/// The same in transactions of `rows` rows; rows a second.
pub(crate) async fn insert_rows(
    database: &dyn Database,
    clients: usize,
    rows: u64,
    period: Duration,
) -> anyhow::Result<f64> {
    let mut tasks = JoinSet::new();
    let mut sessions = Vec::new();
    for _ in 0..clients {
        sessions.push(database.session().await?);
    }
    let begun = Instant::now();
    let end = begun + period;
    for mut session in sessions {
        tasks.spawn(async move {
            let rows_of_one: Vec<String> = (0..rows).map(data).collect();
            let mut count = 0;
            while Instant::now() < end {
                session.insert_rows(&rows_of_one).await?;
                count += rows;
            }
            Ok(count)
        });
    }
    sum(tasks, begun).await
}

async fn sum(mut tasks: JoinSet<anyhow::Result<u64>>, begun: Instant) -> anyhow::Result<f64> {
    let mut count = 0;
    while let Some(task) = tasks.join_next().await {
        count += task??;
    }
    Ok(rate(count, begun.elapsed()))
}
