//! Ids of an application's own choice on SQLite, where all others are dense:
//! what is left out below a high one is dead, and may appear after all.

use tonic::Code;

use crate::{
    calls::{ack, add_many, consumer, end_of, ids, metric, poll, poll_of, problem, refused},
    round_trip::{next_group, ready, register, subscribe},
    server::Server,
};

const SOON: &str = "--stream-sentinel-interval=100ms";

fn insert_at(server: &Server, id: i64) {
    server.sqlite(&format!(
        "INSERT INTO evt_queue (id, type, data, ts) VALUES ({id}, 'T', '1', CURRENT_TIMESTAMP)"
    ));
}

#[tokio::test]
async fn chosen_id_below_the_frontier_is_an_alarm() {
    let server = Server::builder().arg(SOON).start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    insert_at(&server, 10);
    assert_eq!(ids(&next_group(&mut stream).await.events), [10]);
    insert_at(&server, 5);
    let told = problem(&mut clients).await;
    assert!(
        told.contains("frontier: 5 ") && told.contains("names its id"),
        "{told}"
    );
    let late = "eventstream_late_events_total{database=\"sqlite\"}";
    assert!((metric(&server, late).await - 1.0).abs() < 0.1);
    // It is told as long as the event is there.
    server.sqlite("DELETE FROM evt_queue WHERE id = 5");
    crate::server::eventually(
        async || match crate::calls::status(&mut clients).await.problem {
            text if text.is_empty() => Ok(()),
            text => Err(text),
        },
    )
    .await;
}

#[tokio::test]
async fn chosen_id_moves_consumers_back_if_an_operator_chose_so() {
    let server = Server::builder()
        .arg(SOON)
        .arg("--stream-late-policy=rewind")
        .start()
        .await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 2).await;
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [1, 2]);
    insert_at(&server, 10);
    assert_eq!(ids(&next_group(&mut stream).await.events), [10]);
    ack(&mut clients, "SHOP", 10, None)
        .await
        .expect("acknowledged");
    insert_at(&server, 5);
    let end = end_of(&mut stream).await;
    refused::<()>(Err(end), Code::FailedPrecondition, "STALE_EPOCH");
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 4);
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [5, 10]);
    let log = server.log().join("\n");
    assert!(log.contains("\"consumer\":\"local:SHOP\""), "{log}");
}

#[tokio::test]
async fn chosen_id_is_caught_at_the_next_demand_where_nobody_listens() {
    let server = Server::builder().arg(SOON).start().await;
    let mut clients = server.clients().await;
    insert_at(&server, 10);
    let (_, stream) = subscribe(&mut clients, ready("LIVE")).await;
    crate::calls::until_watched(&server).await;
    drop(stream);
    insert_at(&server, 5);
    let told = problem(&mut clients).await;
    assert!(told.contains("frontier: 5 "), "{told}");
}

#[tokio::test]
async fn dense_ids_give_the_sentinel_nothing_to_do() {
    let server = Server::builder().arg(SOON).start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    server.sqlite(
        "BEGIN; INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', CURRENT_TIMESTAMP); ROLLBACK",
    );
    add_many(&mut clients, "A", 3).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [1, 2, 3]);
    assert!(metric(&server, "eventstream_dead_ranges").await < 0.5);
}
