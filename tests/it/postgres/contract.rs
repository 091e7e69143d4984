//! Databases that are refused, each with what to do; and those that are adopted.

use tonic::Code;

use super::{
    Cluster, Database,
    cluster::{insert, run},
};
use crate::{
    calls::{ids, poll, poll_of, refused, seek, status},
    round_trip::register,
    server::{Clients, Server},
};

/// The tables as the original makes them.
const ORIGINAL: &str = "
    CREATE TABLE evt_queue (id bigserial PRIMARY KEY, type VARCHAR(16) NOT NULL,
        data JSON NOT NULL, ts TIMESTAMP NOT NULL);
    CREATE TABLE evt_consumers (id serial2 PRIMARY KEY, last_evt_id BIGINT NOT NULL DEFAULT 0,
        reg_time TIMESTAMP NOT NULL, last_time TIMESTAMP NOT NULL,
        ident VARCHAR(64) NOT NULL UNIQUE);
    CREATE INDEX evt_consumers_last_evt_id ON evt_consumers (last_evt_id);";

pub async fn original() -> Database {
    let database = Cluster::shared().database().await;
    database.run(ORIGINAL).await;
    database
}

async fn refuses(change: &str, remedy: &str) {
    let database = original().await;
    database.run(change).await;
    let (code, log) = database.server().refused().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(remedy), "{log}");
}

#[tokio::test]
async fn case_06_sequence_with_a_cache_is_refused() {
    refuses("ALTER SEQUENCE evt_queue_id_seq CACHE 20", "CACHE 1").await;
}

#[tokio::test]
async fn sequence_that_does_not_count_by_one_is_refused() {
    refuses(
        "ALTER SEQUENCE evt_queue_id_seq INCREMENT BY 2",
        "INCREMENT BY 1",
    )
    .await;
}

#[tokio::test]
async fn sequence_that_nobody_owns_is_refused() {
    refuses("ALTER SEQUENCE evt_queue_id_seq OWNED BY NONE", "OWNED BY").await;
}

#[tokio::test]
async fn unlogged_table_is_refused() {
    refuses("ALTER TABLE evt_queue SET UNLOGGED", "SET LOGGED").await;
}

#[tokio::test]
async fn ids_above_the_sequence_are_refused() {
    let row = "INSERT INTO evt_queue VALUES (1000, 'T', '1', now())";
    refuses(row, "setval").await;
}

#[tokio::test]
async fn database_of_the_original_is_adopted_and_can_go_back() {
    let database = original().await;
    let mut application = database.session().await;
    for _ in 0..5 {
        insert(&mut application).await;
    }
    run(
        &mut application,
        "INSERT INTO evt_consumers (last_evt_id, reg_time, last_time, ident)
         VALUES (3, now(), now(), 'local:OLD'); DELETE FROM evt_queue WHERE id <= 2",
    )
    .await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    let polled = poll(&mut clients, poll_of("OLD")).await;
    assert_eq!(ids(&polled.events), [4, 5]);
    drop(server);
    // The original's statements still work.
    run(
        &mut application,
        "INSERT INTO evt_consumers (reg_time, last_time, ident) VALUES (now(), now(), 'u:NEW');
         UPDATE evt_consumers SET last_evt_id = 5 WHERE ident = 'local:OLD'",
    )
    .await;
}

#[tokio::test]
async fn schema_and_names_of_the_tables_can_be_chosen() {
    let database = Cluster::shared().database().await;
    let server = database
        .server()
        .arg("--db-schema=events")
        .arg("--db-queue-table=shop_queue")
        .arg("--db-consumers-table=shop_consumers")
        .start()
        .await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    database
        .run("INSERT INTO events.shop_queue (type, data, ts) VALUES ('T', '1', now())")
        .await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(polled.events.len(), 1);
    let other = database.server().start().await;
    let mut clients = other.clients().await;
    register(&mut clients, "SHOP").await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert!(polled.events.is_empty(), "a stream of its own");
}

/// Polls one event, acknowledging up to `last_id`.
async fn poll_one(clients: &mut Clients, last_id: i64) -> Vec<i64> {
    let mut request = poll_of("SHOP");
    request.last_id = Some(last_id);
    request.max_events = 1;
    ids(&poll(clients, request).await.events)
}

#[tokio::test]
async fn deletes_of_somebody_else_are_noticed() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let mut application = database.session().await;
    let mut added = Vec::new();
    for _ in 0..6 {
        added.push(insert(&mut application).await);
    }
    assert_eq!(poll_one(&mut clients, 0).await, added[..1]);
    assert_eq!(poll_one(&mut clients, added[1]).await, added[2..3]);
    // What the consumer has had may go.
    run(&mut application, "DELETE FROM evt_queue WHERE id <= 2").await;
    assert_eq!(poll_one(&mut clients, added[1]).await, added[2..3]);
    // What it has not had leaves a hole.
    run(&mut application, "DELETE FROM evt_queue WHERE id <= 4").await;
    let mut request = poll_of("SHOP");
    request.last_id = Some(added[1]);
    let hole = clients.poll.poll_events(request).await;
    refused(hole, Code::OutOfRange, "DISCARDED");
    assert_eq!(status(&mut clients).await.discarded_to_id, added[3]);
    seek(&mut clients, "SHOP", added[3]).await.expect("sought");
    assert_eq!(poll_one(&mut clients, added[3]).await, added[4..5]);
}

/// Six events of which SHOP has had two and LATE one.
async fn two_behind(database: &Database) -> (Server, Vec<i64>) {
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    register(&mut clients, "LATE").await;
    let mut application = database.session().await;
    let mut added = Vec::new();
    for _ in 0..6 {
        added.push(insert(&mut application).await);
    }
    assert_eq!(poll_one(&mut clients, added[1]).await, added[2..3]);
    let mut request = poll_of("LATE");
    request.last_id = Some(added[0]);
    assert_eq!(ids(&poll(&mut clients, request).await.events), added[1..]);
    (server, added)
}

async fn polled(clients: &mut Clients, component: &str) -> Result<Vec<i64>, tonic::Status> {
    let polled = clients.poll.poll_events(poll_of(component)).await?;
    Ok(ids(&polled.into_inner().events))
}

#[tokio::test]
async fn deletes_while_no_service_runs_are_noticed() {
    let database = Cluster::shared().database().await;
    let (mut server, added) = two_behind(&database).await;
    server.signal("KILL");
    server.ended().await;
    // What both have had may go.
    database.run("DELETE FROM evt_queue WHERE id <= 1").await;
    let mut server = server.again().start().await;
    let mut clients = server.clients().await;
    assert_eq!(
        polled(&mut clients, "LATE").await.expect("polled"),
        added[1..]
    );
    server.signal("KILL");
    server.ended().await;
    database.run("DELETE FROM evt_queue WHERE id <= 4").await;
    let mut server = server.again().start().await;
    let mut clients = server.clients().await;
    // SHOP has had more meanwhile, as it says before anybody looks.
    crate::calls::ack(&mut clients, "SHOP", added[4], None)
        .await
        .expect("acknowledged");
    server.signal("KILL");
    server.ended().await;
    let server = server.again().start().await;
    let mut clients = server.clients().await;
    refused(
        polled(&mut clients, "LATE").await,
        Code::OutOfRange,
        "DISCARDED",
    );
    assert_eq!(
        polled(&mut clients, "SHOP").await.expect("polled"),
        added[5..]
    );
    seek(&mut clients, "LATE", added[3]).await.expect("sought");
    let server = server.crash_and_restart().await;
    let mut clients = server.clients().await;
    assert_eq!(
        polled(&mut clients, "LATE").await.expect("polled"),
        added[4..]
    );
}

#[tokio::test]
async fn gap_below_the_first_event_is_no_hole() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let mut application = database.session().await;
    run(&mut application, "BEGIN").await;
    insert(&mut application).await;
    run(&mut application, "ROLLBACK").await;
    let next = insert(&mut application).await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [next]);
}

#[tokio::test]
async fn gap_above_deleted_rows_is_no_hole() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let mut application = database.session().await;
    let first = insert(&mut application).await;
    assert_eq!(poll_one(&mut clients, 0).await, [first]);
    assert!(poll_one(&mut clients, first).await.is_empty());
    run(&mut application, "BEGIN").await;
    insert(&mut application).await;
    run(&mut application, "ROLLBACK; DELETE FROM evt_queue").await;
    let next = insert(&mut application).await;
    assert_eq!(poll_one(&mut clients, first).await, [next]);
}

#[tokio::test]
async fn case_14_standby_is_refused() {
    let primary = Cluster::start();
    let standby = Cluster::standby_of(&primary);
    let (code, log) = standby.existing("postgres").server().refused().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("standby") && log.contains("primary"), "{log}");
}

#[tokio::test]
async fn case_14_subscriber_is_refused() {
    let database = original().await;
    let name = &database.name;
    let subscribe = format!(
        "CREATE SUBSCRIPTION {name} CONNECTION 'host=nowhere' PUBLICATION p
             WITH (connect = false, enabled = false, slot_name = NONE);
         INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)
             SELECT oid, 'evt_queue'::regclass, 'r' FROM pg_subscription WHERE subname = '{name}'"
    );
    database
        .run(&format!("SET allow_system_table_mods = on; {subscribe}"))
        .await;
    let (_, log) = database.server().refused().await;
    assert!(log.contains("publisher"), "{log}");
    database.run(&format!("DROP SUBSCRIPTION {name}")).await;
}
