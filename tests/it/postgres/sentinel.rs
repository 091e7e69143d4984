//! Ids that appear below the frontier against the contract, and what becomes of
//! the consumers that had passed them.

use tonic::Code;

use super::{
    Cluster,
    cluster::{draw, insert, insert_at},
    stage::Stage,
};
use crate::{
    calls::{
        ack, consumer, end_of, ids, metric, poll, poll_of, problem, refused, seek,
        until_unsubscribed, until_watched,
    },
    round_trip::{next_group, ready, register, subscribe},
    server::eventually,
};

const SOON: &str = "--stream-sentinel-interval=100ms";
const REWIND: &str = "--stream-late-policy=rewind";
const LATE: &str = "eventstream_late_events_total{database=\"postgres\"}";

/// An id that died, and the next event, delivered and acknowledged.
async fn passed_a_dead_id(stage: &mut Stage) -> (i64, i64) {
    let mut session = stage.database.session().await;
    let dead = draw(&mut session).await;
    let next = insert(&mut session).await;
    stage.expect(&[next]).await;
    ack(&mut stage.clients, "SHOP", next, None)
        .await
        .expect("acknowledged");
    (dead, next)
}

#[tokio::test]
async fn late_id_is_an_alarm_and_moves_nobody() {
    let mut stage = Stage::open_with(&[SOON]).await;
    let (dead, next) = passed_a_dead_id(&mut stage).await;
    let before = consumer(&mut stage.clients, "SHOP").await;
    let mut session = stage.database.session().await;
    insert_at(&mut session, dead).await;
    let problem = problem(&mut stage.clients).await;
    assert!(problem.contains(&format!("frontier: {dead} ")), "{problem}");
    assert!(problem.contains("names its id"), "{problem}");
    assert!((metric(&stage.server, LATE).await - 1.0).abs() < 0.1);
    let log = stage.server.log().join("\n");
    assert!(
        log.contains("\"level\":\"ERROR\"") && log.contains("names its id"),
        "{log}"
    );
    let after = consumer(&mut stage.clients, "SHOP").await;
    assert_eq!(
        (after.position, after.epoch),
        (before.position, before.epoch)
    );
    // Its session is open still, and what it skipped can be had by a seek.
    let third = insert(&mut session).await;
    stage.expect(&[third]).await;
    seek(&mut stage.clients, "SHOP", dead - 1)
        .await
        .expect("sought");
    stage.subscribe().await;
    stage.expect(&[dead, next, third]).await;
}

#[tokio::test]
async fn consumers_are_moved_back_if_an_operator_chose_so() {
    let mut stage = Stage::open_with(&[SOON, REWIND]).await;
    register(&mut stage.clients, "BEHIND").await;
    let (dead, next) = passed_a_dead_id(&mut stage).await;
    let before = consumer(&mut stage.clients, "SHOP").await;
    insert_at(&mut stage.database.session().await, dead).await;
    let end = end_of(&mut stage.stream).await;
    refused::<()>(Err(end), Code::FailedPrecondition, "STALE_EPOCH");
    let after = consumer(&mut stage.clients, "SHOP").await;
    assert_eq!(after.position, dead - 1);
    assert!(after.epoch > before.epoch);
    // An acknowledgement of before does not undo it.
    let late = ack(&mut stage.clients, "SHOP", next, Some(before.epoch)).await;
    refused(late, Code::FailedPrecondition, "STALE_EPOCH");
    stage.subscribe().await;
    stage.expect(&[dead, next]).await;
    assert_eq!(consumer(&mut stage.clients, "BEHIND").await.position, 0);
    let problem = problem(&mut stage.clients).await;
    assert!(problem.contains("are moved back"), "{problem}");
}

#[tokio::test]
async fn session_that_has_passed_a_late_id_unacknowledged_starts_over() {
    let mut stage = Stage::open_with(&[SOON, REWIND]).await;
    let mut session = stage.database.session().await;
    let dead = draw(&mut session).await;
    let next = insert(&mut session).await;
    stage.expect(&[next]).await;
    insert_at(&mut session, dead).await;
    let end = end_of(&mut stage.stream).await;
    refused::<()>(Err(end), Code::FailedPrecondition, "STALE_EPOCH");
    stage.subscribe().await;
    stage.expect(&[dead, next]).await;
}

#[tokio::test]
async fn two_replicas_move_a_consumer_back_once() {
    let database = Cluster::shared().database().await;
    let start = || database.server().arg(SOON).arg(REWIND).start();
    let (one, two) = tokio::join!(start(), start());
    let (mut first, mut second) = (one.clients().await, two.clients().await);
    register(&mut first, "SHOP").await;
    // Both follow to the end, and hold the event in memory.
    let (_, mut stream) = subscribe(&mut first, ready("SHOP")).await;
    let (_, mut observer) = subscribe(&mut first, ready("LIVE")).await;
    let (_, mut other_observer) = subscribe(&mut second, ready("LIVE")).await;
    let mut session = database.session().await;
    let dead = draw(&mut session).await;
    let next = insert(&mut session).await;
    for stream in [&mut stream, &mut observer, &mut other_observer] {
        assert_eq!(ids(&next_group(stream).await.events), [next]);
    }
    ack(&mut first, "SHOP", next, None)
        .await
        .expect("acknowledged");
    insert_at(&mut session, dead).await;
    // Whichever replica noticed it first, the other has the event as well.
    end_of(&mut stream).await;
    let (_, mut stream) = subscribe(&mut second, ready("SHOP")).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(ids(&next_group(&mut stream).await.events));
    }
    assert_eq!(seen, [dead, next]);
    ack(&mut second, "SHOP", next, None)
        .await
        .expect("acknowledged");
    let rewound = consumer(&mut first, "SHOP").await;
    for (server, clients) in [(&one, &mut first), (&two, &mut second)] {
        problem(clients).await;
        assert!((metric(server, LATE).await - 1.0).abs() < 0.1);
    }
    // The slower one may be at it still: its next alarm comes after that.
    let other = draw(&mut session).await;
    let last = insert(&mut session).await;
    for stream in [&mut stream, &mut observer, &mut other_observer] {
        assert_eq!(ids(&next_group(stream).await.events), [last]);
    }
    let now = consumer(&mut first, "SHOP").await;
    assert_eq!((now.position, now.epoch), (next, rewound.epoch));
    insert_at(&mut session, other).await;
    end_of(&mut stream).await;
    for server in [&one, &two] {
        eventually(async || match metric(server, LATE).await {
            late if late > 1.5 => Ok(()),
            late => Err(late),
        })
        .await;
    }
    assert_eq!(consumer(&mut first, "SHOP").await.position, next);
    let moved = "eventstream_consumers_rewound_total";
    let moved = metric(&one, moved).await + metric(&two, moved).await;
    assert!((moved - 1.0).abs() < 0.1, "{moved}");
}

#[tokio::test]
async fn replica_that_has_not_noticed_delivers_the_late_event_too() {
    let database = Cluster::shared().database().await;
    let noticing = database.server().arg(SOON).arg(REWIND).start();
    let (one, two) = tokio::join!(noticing, database.server().start());
    let (mut first, mut second) = (one.clients().await, two.clients().await);
    register(&mut first, "SHOP").await;
    let (_, mut stream) = subscribe(&mut first, ready("SHOP")).await;
    let (_, mut observer) = subscribe(&mut second, ready("LIVE")).await;
    let mut session = database.session().await;
    let dead = draw(&mut session).await;
    let next = insert(&mut session).await;
    for stream in [&mut stream, &mut observer] {
        assert_eq!(ids(&next_group(stream).await.events), [next]);
    }
    insert_at(&mut session, dead).await;
    end_of(&mut stream).await;
    // By push and by poll, though the second one holds the next event in memory.
    let (_, mut stream) = subscribe(&mut second, ready("SHOP")).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [dead, next]);
    drop(stream);
    until_unsubscribed(&mut second, "SHOP").await;
    let polled = poll(&mut second, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [dead, next]);
}

#[tokio::test]
async fn consumers_that_only_poll_are_watched_over_too() {
    let database = Cluster::shared().database().await;
    let server = database.server().arg(SOON).start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let mut session = database.session().await;
    insert(&mut session).await;
    let dead = draw(&mut session).await;
    let last = insert(&mut session).await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(polled.last_id, last);
    // The look at what the poll has passed follows its answer.
    until_watched(&server).await;
    insert_at(&mut session, dead).await;
    let problem = problem(&mut clients).await;
    assert!(problem.contains(&format!("frontier: {dead} ")), "{problem}");
}
