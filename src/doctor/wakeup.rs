//! `eventstream doctor --probe`: an event's way from its commit to a subscriber,
//! by the service's own tailer, ring and subscription. They run in this process
//! for a moment, as those of one more replica.
//!
//! The event is committed as an application's is: nobody tells the tailer, which
//! has to notice by itself. It stays in the queue.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use tokio::time::{Instant, timeout};

use crate::{
    app,
    config::Config,
    event::{Component, EventData, EventId, EventType, Label, NewEvent, User, Want},
    lifecycle::Lifecycle,
    store::{Append, Finding, Store, Verdict},
    stream::{Conflict, Delivery, EventStream, Subscribe, Subscription},
};

const CHECK: &str = "wake-up";

/// Type of the event that a probe adds.
const TYPE: &str = "DOCTOR";

/// How long it may take to be delivered.
const LIMIT: Duration = Duration::from_secs(5);

/// Adds an event, and sees that a subscriber gets it.
pub(super) async fn probe(config: &Config) -> Finding {
    let finding = |verdict, text, remedy: Option<&str>| Finding {
        check: CHECK,
        verdict,
        text,
        remedy: remedy.map(str::to_owned),
    };
    match deliver(config).await {
        Ok((id, Some(took))) => {
            let took = took.as_secs_f64() * 1e3;
            let text = format!(
                "event {id} of type {TYPE} reached a subscriber {took:.1} ms after its commit; it \
                 stays in the queue"
            );
            finding(Verdict::Ok, text, None)
        }
        Ok((id, None)) => finding(
            Verdict::Warning,
            format!("event {id} is committed, but reached no subscriber within {LIMIT:?}"),
            Some("see the open transactions above"),
        ),
        Err(error) => finding(
            Verdict::Problem,
            format!("{error:#}"),
            Some("see the log of the database"),
        ),
    }
}

/// The id of the event, and how long after its commit it was delivered.
async fn deliver(config: &Config) -> anyhow::Result<(EventId, Option<Duration>)> {
    let store = app::open(config).await?;
    let life = Lifecycle::new();
    let told = async {
        let stream = EventStream::start(
            Arc::clone(&store),
            None,
            app::settings(config),
            &life.engine,
            life.fronts.stopping(),
        )
        .await
        .context("cannot read the stream")?;
        let mut subscription = stream.subscribe(live(&stream)?).await?;
        match next(&mut subscription).await? {
            Delivery::Started(_) => {}
            other => bail!("a subscription began with {other:?}"),
        }
        let id = commit(&*store).await?;
        let committed = Instant::now();
        let arrived = timeout(LIMIT, until(&mut subscription, id)).await;
        let took = committed.elapsed();
        Ok((id, arrived.ok().transpose()?.map(|()| took)))
    };
    let told = told.await;
    life.engine.stop();
    life.engine.ended().await;
    store.close().await;
    told
}

/// What is subscribed to: such events, from now on, without a trace.
fn live(stream: &EventStream) -> anyhow::Result<Subscribe> {
    Ok(Subscribe {
        user: User::local(),
        component: Component::parse(Component::LIVE)?,
        want: Want::Only(BTreeSet::from([EventType::parse(TYPE)?])),
        start: None,
        limits: stream.settings().push,
        conflict: Conflict::Reject,
        label: Label::parse("doctor")?,
    })
}

async fn next(subscription: &mut Subscription) -> anyhow::Result<Delivery> {
    let delivery = subscription.next().await;
    Ok(delivery.ok_or_else(|| anyhow!("the subscription ended"))??)
}

/// Adds the event beside the stream, as an application does.
async fn commit(store: &dyn Store) -> anyhow::Result<EventId> {
    let append = Append {
        user: User::local(),
        request_id: None,
        events: vec![NewEvent {
            kind: EventType::parse(TYPE)?,
            data: EventData::parse("{}".to_owned())?,
        }],
    };
    let outcomes = store.append(std::slice::from_ref(&append)).await?;
    let ids = outcomes.into_iter().next().context("no answer")?;
    Ok(ids.map_err(|refusal| anyhow!("{refusal}"))?.first())
}

/// Receives until the event comes; other doctors may probe too.
async fn until(subscription: &mut Subscription, id: EventId) -> anyhow::Result<()> {
    loop {
        if let Delivery::Group(group) = next(subscription).await?
            && group.selection.events().any(|event| event.id == id)
        {
            return Ok(());
        }
    }
}
