//! Polls, acks and looks at the tail as the queue and the number of consumers
//! grow: one caller, one call at a time.

use futoin_eventstream::proto::{AckRequest, PollEventsRequest, Want};
use tokio::time::Instant;

use crate::{
    Plan,
    measure::{Latencies, number},
    report::Sheet,
    server::Server,
    subscriber::{COMPONENT, Subscriber, register},
    workload::data,
};

/// Calls of one kind in one round. Acks move on by as many events, so that the
/// smallest table lasts for nine rounds.
const CALLS: i64 = 100;

/// A figure is flat if it grows by less than this from first to last.
const FLAT: f64 = 1.5;

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("flat: polls and acks as tables grow");
    let rows: [(&str, i64); 3] = [
        ("1 k rows", 1000),
        ("100 k rows", 100_000),
        plan.pick(("1 M rows", 1_000_000), ("200 k rows", 200_000)),
    ];
    let consumers = [
        ("1 consumer", 0),
        ("100 consumers", 99),
        ("1000 consumers", 999),
    ];
    let mut servers = Vec::new();
    for (name, rows) in rows {
        servers.push((name, start(plan, rows, 0).await?));
    }
    for (name, others) in consumers {
        servers.push((name, start(plan, 10_000, others).await?));
    }
    for _ in 0..plan.rounds {
        for (name, server) in &servers {
            for kind in Kind::ALL {
                measure(&mut sheet, name, server, kind).await?;
            }
        }
    }
    // A call that finds nothing looks at 10 000 rows at most, so the smallest
    // table is no measure for it.
    let ends = [
        (
            rows[0].0,
            rows[2].0,
            [Kind::Poll, Kind::Ack, Kind::Tail].as_slice(),
        ),
        (rows[1].0, rows[2].0, &[Kind::Filtered]),
        (consumers[0].0, consumers[2].0, &Kind::ALL),
    ];
    for (small, large, kinds) in ends {
        for kind in kinds {
            for what in ["p50", "CPU"] {
                let figure = |size| format!("{}, {size}: {what}", kind.name());
                sheet.at_most_times(&figure(large), &figure(small), FLAT);
            }
        }
    }
    Ok(sheet)
}

/// A service with events and other consumers than ours.
async fn start(plan: &Plan, rows: i64, others: i64) -> anyhow::Result<Server> {
    let server = Server::start(plan).await?;
    let mut session = server.session().await?;
    session.fill(rows).await?;
    if others > 0 {
        session.fill_consumers(others).await?;
    }
    Ok(server)
}

#[derive(Clone, Copy)]
enum Kind {
    /// 100 events after the position, which stays.
    Poll,
    /// A filter that matches nothing, from the beginning, by a live reader.
    Filtered,
    /// One step forward each.
    Ack,
    /// One event of another process, to a live subscriber.
    Tail,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Poll, Self::Filtered, Self::Ack, Self::Tail];

    fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll of 100",
            Self::Filtered => "poll that finds nothing",
            Self::Ack => "ack",
            Self::Tail => "commit to subscriber",
        }
    }
}

async fn measure(sheet: &mut Sheet, size: &str, server: &Server, kind: Kind) -> anyhow::Result<()> {
    let cpu = server.cpu()?;
    let latencies = match kind {
        Kind::Tail => follow(server).await?,
        _ => call(server, kind).await?,
    };
    let cpu = (server.cpu()? - cpu) * 1000.0 / number(latencies.count());
    let name = format!("{}, {size}", kind.name());
    sheet.record(&format!("{name}: p50"), "ms", latencies.quantile(0.5));
    sheet.record(&format!("{name}: CPU"), "ms/call", cpu);
    Ok(())
}

async fn call(server: &Server, kind: Kind) -> anyhow::Result<Latencies> {
    let mut clients = server.clients().await?;
    register(&mut clients).await?;
    let mut latencies = Latencies::new();
    let mut poll = PollEventsRequest {
        component: COMPONENT.to_owned(),
        max_events: 100,
        ..PollEventsRequest::default()
    };
    let position = clients.poll.poll_events(poll.clone()).await?.into_inner();
    let position = position.last_id - 100;
    if matches!(kind, Kind::Filtered) {
        "LIVE".clone_into(&mut poll.component);
        let types = vec!["NOTHING".to_owned()];
        poll.want = Some(Want { types });
    }
    for call in 1..=CALLS {
        let begun = Instant::now();
        if matches!(kind, Kind::Ack) {
            let ack = AckRequest {
                component: COMPONENT.to_owned(),
                last_id: position + call,
                epoch: None,
            };
            clients.push.ack(ack).await?;
        } else {
            clients.poll.poll_events(poll.clone()).await?;
        }
        latencies.record(begun.elapsed());
    }
    Ok(latencies)
}

async fn follow(server: &Server) -> anyhow::Result<Latencies> {
    let mut subscriber = Subscriber::open(&mut server.clients().await?, "LIVE").await?;
    let mut session = server.session().await?;
    let mut latencies = Latencies::new();
    for _ in 0..CALLS {
        session.insert(&data(0)).await?;
        let committed = Instant::now();
        subscriber.group().await?;
        latencies.record(committed.elapsed());
    }
    Ok(latencies)
}
