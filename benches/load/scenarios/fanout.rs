//! The same events to many live subscribers: delivered events per second, and
//! what one more subscriber costs the server.
//!
//! Bursts of 100 are added one after the other, each when the one before has
//! reached everybody; single events come at a fixed rate.

use anyhow::ensure;
use futoin_eventstream::proto::AddEventsRequest;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    Plan,
    measure::{Schedule, number, rate},
    report::Sheet,
    server::{Clients, Server},
    subscriber::Counter,
    workload::{add_event, new_events},
};

/// Events that are added together.
const BURST: u64 = 100;

/// Single events a second.
const RATE: u32 = 50;

/// Subscribers that share a connection.
const PER_CONNECTION: u64 = 100;

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("fanout: 200-byte events to live subscribers");
    let many: u64 = plan.pick(1000, 100);
    for _ in 0..plan.rounds {
        let alone = bursts(plan, &mut sheet, 0).await?;
        let first = bursts(plan, &mut sheet, 1).await?;
        bursts(plan, &mut sheet, 100).await?;
        let all = bursts(plan, &mut sheet, many).await?;
        sheet.record(FIRST, "µs", first - alone);
        sheet.record(FURTHER, "µs", (all - first) / number(many - 1));
        let alone = singles(plan, 0).await?;
        let first = singles(plan, 1).await?;
        let all = singles(plan, many).await?;
        sheet.record(SINGLE_FIRST, "µs", first - alone);
        sheet.record(SINGLE_ALL, "µs", first);
        sheet.record(SINGLE_FURTHER, "µs", (all - first) / number(many - 1));
    }
    sheet.at_most_times(FURTHER, FIRST, 0.05);
    sheet.compare(SINGLE_FURTHER, SINGLE_FIRST);
    sheet.note("CPU of the server per event; the first subscriber's without that of adding");
    sheet.note("single events: every group is one event, so one HTTP/2 message each");
    Ok(sheet)
}

const FIRST: &str = "bursts: CPU per event, first subscriber";
const FURTHER: &str = "bursts: CPU per event, a further subscriber";
const SINGLE_FIRST: &str = "singles: CPU per event, first subscriber";
const SINGLE_ALL: &str = "singles: CPU per event, first, with adding it";
const SINGLE_FURTHER: &str = "singles: CPU per event, a further subscriber";

/// Server's CPU per event, in microseconds.
async fn bursts(plan: &Plan, sheet: &mut Sheet, subscribers: u64) -> anyhow::Result<f64> {
    let rounds = match subscribers {
        0..=1 => plan.pick(1000, 100),
        2..=100 => plan.pick(200, 50),
        _ => plan.pick(50, 10),
    };
    let server = Server::start(plan).await?;
    let mut clients = server.clients().await?;
    let mut crowd = Crowd::gather(&server, subscribers).await?;
    let request = AddEventsRequest {
        events: new_events(BURST),
        request_id: String::new(),
    };
    let burst = |clients: Clients| {
        let request = request.clone();
        async move {
            let mut generate = clients.generate;
            let ids = generate.add_events(request).await?.into_inner().ids;
            anyhow::Ok(ids.last().copied().unwrap_or_default())
        }
    };
    let warm = burst(clients.clone()).await?;
    crowd.read_through(warm).await?;
    let (cpu, begun) = (server.cpu()?, Instant::now());
    for _ in 0..rounds {
        let last = burst(clients.clone()).await?;
        crowd.read_through(last).await?;
    }
    let events = rounds * BURST;
    if subscribers > 0 {
        let delivered = rate(events * subscribers, begun.elapsed());
        let name = format!("bursts of 100 to {subscribers}");
        sheet.record(&name, "delivered/s", delivered);
    }
    clients.generate.add_event(add_event(0)).await?;
    Ok((server.cpu()? - cpu) * 1e6 / number(events))
}

/// The same for events that come one by one.
async fn singles(plan: &Plan, subscribers: u64) -> anyhow::Result<f64> {
    let period = plan.seconds(6, 2);
    let server = Server::start(plan).await?;
    let clients = server.clients().await?;
    let mut crowd = Crowd::gather(&server, subscribers).await?;
    let cpu = server.cpu()?;
    let mut schedule = Schedule::new(RATE, period);
    let (mut events, mut last) = (0, 0);
    while schedule.next().await.is_some() {
        let mut generate = clients.generate.clone();
        last = generate.add_event(add_event(events)).await?.into_inner().id;
        events += 1;
    }
    crowd.read_through(last).await?;
    Ok((server.cpu()? - cpu) * 1e6 / number(events))
}

/// Subscribers on several connections, told how far to read.
struct Crowd {
    orders: Vec<mpsc::Sender<i64>>,
    arrived: mpsc::Receiver<i64>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Crowd {
    async fn gather(server: &Server, subscribers: u64) -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let mut orders = Vec::new();
        let (report, arrived) = mpsc::channel(1024);
        let mut clients = server.clients().await?;
        for index in 0..subscribers {
            if index % PER_CONNECTION == 0 {
                clients = server.clients().await?;
            }
            let mut counter = Counter::open(&clients).await?;
            let (order, mut orders_here) = mpsc::channel(1);
            let report = report.clone();
            orders.push(order);
            tasks.spawn(async move {
                while let Some(last) = orders_here.recv().await {
                    report.send(counter.read_through(last).await?).await?;
                }
                Ok(())
            });
        }
        Ok(Self {
            orders,
            arrived,
            tasks,
        })
    }

    /// Until everybody has everything up to this id.
    async fn read_through(&mut self, last: i64) -> anyhow::Result<()> {
        for order in &self.orders {
            order.send(last).await?;
        }
        for _ in &self.orders {
            tokio::select! {
                skipped = self.arrived.recv() => ensure!(skipped == Some(0), "events were skipped"),
                Some(ended) = self.tasks.join_next() => ended??,
            }
        }
        Ok(())
    }
}
