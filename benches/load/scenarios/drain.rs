//! A backlog read by one reliable consumer that acknowledges every group, by
//! push and by polling, beside a plain SELECT of the same rows.

use futoin_eventstream::proto::{AckRequest, PollEventsRequest};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    Plan,
    measure::rate,
    report::Sheet,
    server::{Clients, Server},
    subscriber::{COMPONENT, Subscriber, register},
};

const SELECT: &str = "SELECT id, type, data, ts";
const PUSH: &str = "ReadyToReceive with acks";
const POLL: &str = "PollEvents of 1000";

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let count: i64 = plan.pick(200_000, 20_000);
    let mut sheet = Sheet::new("drain: a backlog of 200-byte events");
    sheet.note(format!("{count} events"));
    for _ in 0..plan.rounds {
        let server = filled(plan, count).await?;
        let expected = u64::try_from(count)?;
        record_select(&mut sheet, &server).await?;

        let begun = Instant::now();
        push(server.clients().await?, count).await?;
        sheet.record(PUSH, "events/s", rate(expected, begun.elapsed()));
        sheet.record("  resident after it", "MiB", server.resident()?);

        let server = filled(plan, count).await?;
        let begun = Instant::now();
        poll(server.clients().await?, count).await?;
        sheet.record(POLL, "events/s", rate(expected, begun.elapsed()));
    }
    sheet.at_least_times(PUSH, SELECT, 0.5);
    sheet.compare(POLL, SELECT);
    Ok(sheet)
}

/// A service with a backlog and a registered consumer.
async fn filled(plan: &Plan, count: i64) -> anyhow::Result<Server> {
    let server = Server::start(plan).await?;
    server.session().await?.fill(count).await?;
    register(&mut server.clients().await?).await?;
    Ok(server)
}

async fn record_select(sheet: &mut Sheet, server: &Server) -> anyhow::Result<()> {
    let mut session = server.session().await?;
    // The first pass warms the page cache for everybody.
    session.select_all().await?;
    let begun = Instant::now();
    let rows = session.select_all().await?;
    sheet.record(SELECT, "rows/s", rate(rows, begun.elapsed()));
    Ok(())
}

async fn push(mut clients: Clients, last: i64) -> anyhow::Result<()> {
    let mut subscriber = Subscriber::open(&mut clients, COMPONENT).await?;
    let (reached, acks) = watch::channel(0);
    let mut acking = JoinSet::new();
    acking.spawn(acknowledge(clients, subscriber.epoch, acks));
    while *reached.borrow() < last {
        let group = subscriber.group().await?;
        reached.send_replace(group.last_id);
    }
    drop(reached);
    while let Some(task) = acking.join_next().await {
        task??;
    }
    Ok(())
}

/// Acknowledges the latest group whenever the previous ack is answered.
async fn acknowledge(
    mut clients: Clients,
    epoch: i64,
    mut reached: watch::Receiver<i64>,
) -> anyhow::Result<()> {
    while reached.changed().await.is_ok() {
        let ack = AckRequest {
            component: COMPONENT.to_owned(),
            last_id: *reached.borrow_and_update(),
            epoch: Some(epoch),
        };
        clients.push.ack(ack).await?;
    }
    Ok(())
}

async fn poll(mut clients: Clients, last: i64) -> anyhow::Result<()> {
    let mut request = PollEventsRequest {
        component: COMPONENT.to_owned(),
        max_events: 1000,
        ..PollEventsRequest::default()
    };
    loop {
        let answer = clients.poll.poll_events(request.clone()).await?;
        let reached = answer.into_inner().last_id;
        if reached >= last {
            return Ok(());
        }
        request.last_id = Some(reached);
    }
}
