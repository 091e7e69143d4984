//! The discarder through the program: what goes, what stays, who is told.

use futoin_eventstream::proto::{PollEventsResponse, RegisterConsumerRequest, SeekConsumerRequest};
use tonic::Code;

use super::{discarded_to, discarding};
use crate::{
    archive::stage::{Kind, Peek},
    calls::{ack, add_many, after, consumer, ids, metadata, poll, poll_of, refused, seek, status},
    postgres::Cluster,
    round_trip::register,
    server::{Clients, Server, eventually, http_get},
};

async fn metric(server: &Server, name: &str) -> Option<f64> {
    let (_, text) = http_get(server.http_address(), "/metrics").await.ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn what_everybody_has_goes_and_is_counted() {
    let server = discarding(Server::builder()).start().await;
    let mut clients = server.clients().await;
    for component in ["FAST", "SLOW"] {
        register(&mut clients, component).await;
    }
    add_many(&mut clients, "T", 10).await;
    ack(&mut clients, "FAST", 10, None)
        .await
        .expect("acknowledged");
    ack(&mut clients, "SLOW", 4, None)
        .await
        .expect("acknowledged");
    discarded_to(&clients, 4).await;
    assert_eq!(
        server.sqlite("SELECT min(id), count(*) FROM evt_queue"),
        "5|6"
    );
    assert_eq!(
        metric(&server, "eventstream_discarded_events_total").await,
        Some(4.0)
    );
    let state = status(&mut clients).await;
    let slowest = state.slowest_consumer.expect("somebody holds events");
    assert_eq!((slowest.component.as_str(), slowest.lag_ids), ("SLOW", 6));
    assert!(slowest.lag_age.is_some());
    let holds = "eventstream_consumer_holds_oldest{user=\"local\",component=\"SLOW\"}";
    assert_eq!(metric(&server, holds).await, Some(1.0));
    let polled = poll(&mut clients, poll_of("SLOW")).await;
    assert_eq!(ids(&polled.events), [5, 6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn nothing_goes_unless_it_is_switched_on() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "T", 10).await;
    ack(&mut clients, "SHOP", 10, None)
        .await
        .expect("acknowledged");
    let state = status(&mut clients).await;
    assert_eq!((state.discarded_to_id, state.oldest_id), (0, 1));
    assert_eq!(state.leases, []);
    // Not even a look at the leases was written down.
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_leases"), "0");
}

#[tokio::test]
async fn place_below_what_is_gone_is_refused_and_named() {
    let server = discarding(Server::builder()).start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "T", 10).await;
    ack(&mut clients, "SHOP", 6, None)
        .await
        .expect("acknowledged");
    discarded_to(&clients, 6).await;
    let refusal = refused(
        seek(&mut clients, "SHOP", 3).await,
        Code::OutOfRange,
        "DISCARDED",
    );
    assert_eq!(metadata(&refusal, "oldest_after_id").as_deref(), Some("6"));
    let request = RegisterConsumerRequest {
        component: "LATE".into(),
        start: after(5),
    };
    let refusal = clients.poll.register_consumer(request).await;
    refused(refusal, Code::OutOfRange, "DISCARDED");
    register(&mut clients, "LATE").await;
    assert_eq!(consumer(&mut clients, "LATE").await.position, 6);
    // Seeking back to the oldest is possible, and holds it from then on.
    let request = SeekConsumerRequest {
        component: "SHOP".into(),
        start: after(0),
        ..Default::default()
    };
    clients.admin.seek_consumer(request).await.expect("sought");
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [7, 8, 9, 10]);
}

#[tokio::test]
async fn plenty_goes_before_its_time() {
    let builder = Server::builder()
        .arg("--discard-enabled")
        .arg("--discard-poll-period=24h")
        .arg("--discard-threshold=5")
        .arg("--discard-limit-at-once=2");
    let server = builder.start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "T", 10).await;
    ack(&mut clients, "SHOP", 8, None)
        .await
        .expect("acknowledged");
    discarded_to(&clients, 8).await;
}

#[tokio::test]
async fn young_events_stay_though_everybody_has_them() {
    let server = discarding(Server::builder())
        .arg("--discard-min-age=1h")
        .start()
        .await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "T", 10).await;
    server.sqlite("UPDATE evt_queue SET ts = datetime('now', '-2 hours') WHERE id IN (1, 2, 4)");
    ack(&mut clients, "SHOP", 9, None)
        .await
        .expect("acknowledged");
    // 4 is old enough, but above 3.
    discarded_to(&clients, 2).await;
    server.sqlite("UPDATE evt_queue SET ts = 'no time' WHERE id = 3");
    discarded_to(&clients, 4).await;
}

/// The first page that is not empty: a batch may hold the frontier for a moment.
async fn arrived(clients: &Clients) -> PollEventsResponse {
    eventually(async || {
        let polled = poll(&mut clients.clone(), poll_of("SHOP")).await;
        if polled.events.is_empty() {
            Err("nothing")
        } else {
            Ok(polled)
        }
    })
    .await
}

/// Ids that settle late, right when what is around them is discarded.
#[tokio::test]
async fn late_event_is_delivered_before_it_goes() {
    let database = Cluster::shared().database().await;
    let server = discarding(database.server()).start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let first = add_many(&mut clients, "T", 3).await;
    let polled = arrived(&clients).await;
    assert_eq!(ids(&polled.events), first);
    let mut held = database.session().await;
    crate::postgres::run(&mut held, "BEGIN").await;
    let late = crate::postgres::insert(&mut held).await;
    add_many(&mut clients, "T", 2).await;
    ack(&mut clients, "SHOP", first[2], None)
        .await
        .expect("acknowledged");
    // Everything below the late one goes while it is still open.
    discarded_to(&clients, first[2]).await;
    crate::postgres::run(&mut held, "COMMIT").await;
    let polled = arrived(&clients).await;
    assert_eq!(ids(&polled.events), [late, late + 1, late + 2]);
    ack(&mut clients, "SHOP", late + 2, None)
        .await
        .expect("acknowledged");
    discarded_to(&clients, late + 1).await;
}

#[tokio::test]
async fn row_of_postgres_that_somebody_has_locked_makes_batches_smaller() {
    locked_row_makes_batches_smaller(Kind::Postgres).await;
}

#[tokio::test]
async fn row_of_mysql_that_somebody_has_locked_makes_batches_smaller() {
    locked_row_makes_batches_smaller(Kind::Mysql).await;
}

async fn locked_row_makes_batches_smaller(kind: Kind) {
    let active = Peek::new(kind).await;
    let server = discarding(Server::builder().on(&active.url))
        .arg("--discard-limit-at-once=8")
        .start()
        .await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let mut locking = active.begin().await;
    let added = add_many(&mut clients, "T", 10).await;
    let sql = format!("SELECT 1 FROM evt_queue WHERE id = {} FOR UPDATE", added[2]);
    locking.run(&sql).await;
    ack(&mut clients, "SHOP", added[9], None)
        .await
        .expect("acknowledged");
    discarded_to(&clients, added[1]).await;
    // Nobody else waits for the lock.
    let more = add_many(&mut clients, "T", 1).await;
    let polled = arrived(&clients).await;
    assert_eq!(ids(&polled.events), more);
    let errors = "eventstream_upkeep_errors_total{task=\"discard\"}";
    assert!(metric(&server, errors).await > Some(0.0));
    locking.run("ROLLBACK").await;
    discarded_to(&clients, added[9]).await;
}
