//! From a commit to a subscriber, in an open loop: events are due at a fixed
//! rate whether or not earlier ones have arrived.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use futoin_eventstream::proto::AckRequest;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    Plan,
    measure::{Latencies, Schedule, millis},
    report::Sheet,
    server::{Clients, Server},
    subscriber::{COMPONENT, Subscriber, register},
    workload::{add_event, data},
};

/// An event that takes longer than this is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// When each event was due, and when its commit was known.
type Commits = HashMap<i64, (Instant, Instant)>;

/// When each event arrived.
type Arrivals = Vec<(i64, Instant)>;

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("latency: commit to subscriber");
    let period = plan.seconds(10, 2);
    for _ in 0..plan.rounds {
        for component in ["LIVE", COMPONENT] {
            let name = format!("own AddEvent, 500/s, {}", mode(component));
            let server = Server::start(plan).await?;
            let (commits, arrivals) = own(&server, component, period).await?;
            record(&mut sheet, &name, &commits, &arrivals, (1.0, 5.0));
        }
        for rate in [20, 500] {
            let name = format!("another process's commit, {rate}/s");
            let server = Server::start(plan).await?;
            let (commits, arrivals) = foreign(&server, rate, period).await?;
            record(&mut sheet, &name, &commits, &arrivals, (3.0, 10.0));
        }
    }
    after_quiet(plan, &mut sheet).await?;
    Ok(sheet)
}

fn mode(component: &str) -> &'static str {
    if component == COMPONENT {
        "reliable"
    } else {
        "live"
    }
}

fn record(
    sheet: &mut Sheet,
    name: &str,
    commits: &Commits,
    arrivals: &Arrivals,
    targets: (f64, f64),
) {
    let mut since_commit = Latencies::new();
    let mut since_due = Latencies::new();
    for (id, arrived) in arrivals {
        let Some((due, committed)) = commits.get(id) else {
            continue;
        };
        // The subscriber may well have it before the adder is answered.
        since_commit.record(arrived.saturating_duration_since(*committed));
        since_due.record(arrived.saturating_duration_since(*due));
    }
    let (p50, p99) = (format!("{name}: p50"), format!("{name}: p99"));
    sheet.record(&p50, "ms", since_commit.quantile(0.5));
    sheet.record(&p99, "ms", since_commit.quantile(0.99));
    let due = format!("  p50 since due, {name}");
    sheet.record(&due, "ms", since_due.quantile(0.5));
    let due = format!("  p99 since due, {name}");
    sheet.record(&due, "ms", since_due.quantile(0.99));
    sheet.at_most(&p50, targets.0);
    sheet.at_most(&p99, targets.1);
}

async fn own(
    server: &Server,
    component: &'static str,
    period: Duration,
) -> anyhow::Result<(Commits, Arrivals)> {
    let clients = server.clients().await?;
    let mut reading = subscribe(server, component, 500 * period.as_secs()).await?;
    let mut calls = JoinSet::new();
    let mut schedule = Schedule::new(500, period);
    while let Some(due) = schedule.next().await {
        let mut clients = clients.clone();
        calls.spawn(async move {
            let added = clients.generate.add_event(add_event(0)).await?;
            anyhow::Ok((added.into_inner().id, (due, Instant::now())))
        });
    }
    let mut commits = Commits::new();
    while let Some(call) = calls.join_next().await {
        let (id, times) = call??;
        commits.insert(id, times);
    }
    let arrivals = timeout(PATIENCE, reading.join_next()).await?;
    Ok((commits, arrivals.context("the reader is there")???))
}

async fn foreign(
    server: &Server,
    rate: u32,
    period: Duration,
) -> anyhow::Result<(Commits, Arrivals)> {
    let expected = u64::from(rate) * period.as_secs();
    let mut reading = subscribe(server, "LIVE", expected).await?;
    let mut session = server.session().await?;
    let mut commits = Commits::new();
    let mut schedule = Schedule::new(rate, period);
    while let Some(due) = schedule.next().await {
        let id = session.insert(&data(0)).await?;
        commits.insert(id, (due, Instant::now()));
    }
    let arrivals = timeout(PATIENCE, reading.join_next()).await?;
    Ok((commits, arrivals.context("the reader is there")???))
}

/// A subscriber in the background, until `expected` events have arrived.
async fn subscribe(
    server: &Server,
    component: &'static str,
    expected: u64,
) -> anyhow::Result<JoinSet<anyhow::Result<Arrivals>>> {
    let mut clients = server.clients().await?;
    if component == COMPONENT {
        register(&mut clients).await?;
    }
    let subscriber = Subscriber::open(&mut clients, component).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(arrivals(
        subscriber,
        clients,
        component,
        usize::try_from(expected)?,
    ));
    Ok(tasks)
}

async fn arrivals(
    mut subscriber: Subscriber,
    clients: Clients,
    component: &'static str,
    expected: usize,
) -> anyhow::Result<Arrivals> {
    let mut arrivals = Arrivals::with_capacity(expected);
    let mut acks = JoinSet::new();
    while arrivals.len() < expected {
        let group = subscriber.group().await?;
        let now = Instant::now();
        arrivals.extend(group.events.iter().map(|event| (event.id, now)));
        if component == COMPONENT {
            let ack = AckRequest {
                component: component.to_owned(),
                last_id: group.last_id,
                epoch: Some(subscriber.epoch),
            };
            let mut push = clients.push.clone();
            acks.spawn(async move { push.ack(ack).await });
        }
    }
    while let Some(ack) = acks.join_next().await {
        ack??;
    }
    Ok(arrivals)
}

/// Several services at once, so that one quiet minute is enough for all.
async fn after_quiet(plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<()> {
    const NAME: &str = "first event after a quiet minute: worst of 8";
    let quiet = plan.seconds(62, 5);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let server = Server::start(plan).await?;
        let subscriber = Subscriber::open(&mut server.clients().await?, "LIVE").await?;
        let session = server.session().await?;
        waiting.push((server, subscriber, session));
    }
    sleep(quiet).await;
    let mut worst = Duration::ZERO;
    for (_, subscriber, session) in &mut waiting {
        session.insert(&data(0)).await?;
        let committed = Instant::now();
        subscriber.group().await?;
        worst = worst.max(committed.elapsed());
    }
    sheet.record(NAME, "ms", millis(worst));
    sheet.at_most(NAME, 25.0);
    if plan.quick {
        sheet.note("quick: the quiet minute was 5 s");
    }
    Ok(())
}
