//! Two replicas on one database.

use futoin_eventstream::proto::{AckRequest, AddEventRequest};

use super::Cluster;
use crate::{
    calls::{add_many, end_of, poll, poll_of},
    round_trip::{add, next_group, ready, register, subscribe},
};

#[tokio::test]
async fn replicas_that_start_at_once_make_the_tables_once() {
    let database = Cluster::shared().database().await;
    let (one, two, three) = tokio::join!(
        database.server().start(),
        database.server().start(),
        database.server().start()
    );
    let mut clients = one.clients().await;
    register(&mut clients, "SHOP").await;
    let id = add(&mut clients, "T", "1").await;
    for server in [&two, &three] {
        let polled = poll(&mut server.clients().await, poll_of("SHOP")).await;
        assert_eq!(crate::calls::ids(&polled.events), [id]);
    }
}

#[tokio::test]
async fn session_moves_between_replicas_and_acks_work_through_any() {
    let database = Cluster::shared().database().await;
    let (one, two) = tokio::join!(database.server().start(), database.server().start());
    let (mut first, mut second) = (one.clients().await, two.clients().await);
    register(&mut first, "SHOP").await;
    let ids = add_many(&mut second, "T", 3).await;
    let (started, mut stream) = subscribe(&mut first, ready("SHOP")).await;
    let group = next_group(&mut stream).await;
    assert_eq!(crate::calls::ids(&group.events), ids);
    let ack = AckRequest {
        component: "SHOP".into(),
        last_id: ids[1],
        epoch: Some(started.epoch),
    };
    let acked = second.push.ack(ack.clone()).await.expect("acknowledged");
    assert_eq!(acked.into_inner().acked_id, ids[1]);

    let (taken, mut other) = subscribe(&mut second, ready("SHOP")).await;
    assert!(taken.epoch > started.epoch);
    assert_eq!(taken.start_after_id, ids[1]);
    let group = next_group(&mut other).await;
    assert_eq!(crate::calls::ids(&group.events), ids[2..]);
    let late = AckRequest {
        last_id: ids[2],
        ..ack
    };
    crate::calls::refused(
        first.push.ack(late).await,
        tonic::Code::FailedPrecondition,
        "STALE_EPOCH",
    );
    let end = end_of(&mut stream).await;
    assert_eq!(end.code(), tonic::Code::Aborted, "{end:?}");
}

#[tokio::test]
async fn repeated_request_id_through_two_replicas_is_stored_once() {
    let database = Cluster::shared().database().await;
    let (one, two) = tokio::join!(database.server().start(), database.server().start());
    let (first, second) = (one.clients().await, two.clients().await);
    for number in 0..20u128 {
        let request = AddEventRequest {
            r#type: "T".into(),
            data_json: number.to_string(),
            request_id: uuid::Uuid::from_u128(number + 1).to_string(),
        };
        let (mut one, mut two) = (first.clone(), second.clone());
        let (left, right) = tokio::join!(
            one.generate.add_event(request.clone()),
            two.generate.add_event(request)
        );
        let left = left.expect("added").into_inner().id;
        assert_eq!(left, right.expect("added").into_inner().id);
    }
    let mut session = database.session().await;
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM evt_queue")
        .fetch_one(&mut session)
        .await
        .expect("counted");
    assert_eq!(count, 20);
}

#[tokio::test]
async fn acks_of_many_consumers_through_two_replicas_do_not_deadlock() {
    const CONSUMERS: usize = 20;
    let database = Cluster::shared().database().await;
    let (one, two) = tokio::join!(database.server().start(), database.server().start());
    let (mut first, second) = (one.clients().await, two.clients().await);
    for number in 0..CONSUMERS {
        register(&mut first, &format!("C{number}")).await;
    }
    let ids = add_many(&mut first, "T", 50).await;
    let mut acking = Vec::new();
    for (number, clients) in [&first, &second]
        .into_iter()
        .cycle()
        .take(2 * CONSUMERS)
        .enumerate()
    {
        let (mut clients, ids) = (clients.clone(), ids.clone());
        acking.push(tokio::spawn(async move {
            for id in ids {
                let component = format!("C{}", number / 2);
                crate::calls::ack(&mut clients, &component, id, None)
                    .await
                    .expect("acknowledged");
            }
        }));
    }
    for task in acking {
        task.await.expect("no ack fails");
    }
    let mut session = database.session().await;
    let lowest: i64 =
        sqlx::query_scalar("SELECT CAST(MIN(last_evt_id) AS SIGNED) FROM evt_consumers")
            .fetch_one(&mut session)
            .await
            .expect("read");
    assert_eq!(lowest, ids[49]);
}

#[tokio::test]
async fn event_that_a_trigger_refuses_fails_alone() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    database
        .run(
            "CREATE TRIGGER guard BEFORE INSERT ON evt_queue FOR EACH ROW
             IF NEW.type = 'BAD' THEN
                SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one';
             END IF",
        )
        .await;
    let clients = server.clients().await;
    let adding = (0..30).map(|number| {
        let mut clients = clients.clone();
        tokio::spawn(async move {
            let kind = ["GOOD", "BAD", "GOOD"][number % 3];
            let request = AddEventRequest {
                r#type: kind.into(),
                data_json: "1".into(),
                request_id: String::new(),
            };
            (kind, clients.generate.add_event(request).await)
        })
    });
    let adding: Vec<_> = adding.collect();
    for task in adding {
        let (kind, outcome) = task.await.expect("answered");
        assert_eq!(outcome.is_ok(), kind == "GOOD", "{kind}: {outcome:?}");
    }
    let mut session = database.session().await;
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM evt_queue")
        .fetch_one(&mut session)
        .await
        .expect("counted");
    assert_eq!(count, 20);
}
