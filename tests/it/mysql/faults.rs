//! Servers that refuse for a while, and what is repeated by itself.

use futoin_eventstream::proto::{AddEventRequest, GetStatusRequest};
use tonic::Code;

use super::{
    Cluster,
    cluster::{LockMode, Offer, run},
};
use crate::{
    calls::{add_many, consumer, metadata, seek},
    round_trip::{add, register},
    server::{Server, eventually},
};

fn event() -> AddEventRequest {
    AddEventRequest {
        r#type: "T".into(),
        data_json: "1".into(),
        request_id: String::new(),
    }
}

#[tokio::test]
async fn server_that_becomes_read_only_is_left_alone_until_it_writes() {
    let cluster = Cluster::start_as(Offer::Plugin, LockMode::Consecutive, "");
    let database = cluster.database().await;
    // Root may write to a server that is read-only.
    let url = database.user("").await;
    let server = Server::builder().on(&url).start().await;
    let mut clients = server.clients().await;
    add(&mut clients, "T", "1").await;
    database.run("SET GLOBAL read_only = 1").await;
    let refusal = clients.generate.add_event(event()).await;
    let refusal = refusal.expect_err("refused");
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    assert_eq!(metadata(&refusal, "effect").as_deref(), Some("none"));
    database.run("SET GLOBAL read_only = 0").await;
    eventually(async || clients.clone().generate.add_event(event()).await.map(drop)).await;
}

#[tokio::test]
async fn table_that_is_locked_is_not_waited_for_for_ever() {
    let database = Cluster::shared().database().await;
    let server = database
        .server()
        .arg("--db-statement-timeout=1s")
        .start()
        .await;
    let mut clients = server.clients().await;
    let mut application = database.session().await;
    run(&mut application, "LOCK TABLES evt_queue WRITE").await;
    let refusal = clients.generate.add_event(event()).await;
    assert_eq!(refusal.expect_err("refused").code(), Code::Unavailable);
    run(&mut application, "UNLOCK TABLES").await;
    add(&mut clients, "T", "1").await;
}

#[tokio::test]
async fn transaction_that_broke_a_deadlock_is_repeated() {
    // Whoever executes this waits: its row is locked.
    const WAITING: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
        WHERE COMMAND = 'Execute' AND INFO LIKE 'UPDATE evt_stream SET epoch%'";
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let ids = add_many(&mut clients, "T", 3).await;
    let before = consumer(&mut clients, "SHOP").await;
    // It has done more than the service, so that it is not the victim.
    let mut other = database.session().await;
    run(
        &mut other,
        "CREATE TABLE work (n INT PRIMARY KEY) ENGINE = InnoDB; BEGIN;
         INSERT INTO work SELECT seq FROM seq_1_to_1000;
         UPDATE evt_stream SET frontier = frontier",
    )
    .await;
    let mut seeking = clients.clone();
    let to = ids[1];
    let seeking = tokio::spawn(async move { seek(&mut seeking, "SHOP", to).await });
    let mut observer = database.session().await;
    eventually(async || {
        let waiting: i64 = sqlx::query_scalar(WAITING)
            .fetch_one(&mut observer)
            .await
            .expect("read");
        if waiting > 0 {
            Ok(())
        } else {
            Err("it does not wait yet")
        }
    })
    .await;
    run(&mut other, "UPDATE evt_consumers SET last_time = last_time").await;
    run(&mut other, "COMMIT").await;
    seeking
        .await
        .expect("ran")
        .expect("sought, at the second attempt");
    let after = consumer(&mut clients, "SHOP").await;
    assert_eq!(after.position, ids[1]);
    assert!(after.epoch > before.epoch);
}

#[tokio::test]
async fn broken_connections_are_made_anew() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    let first = add(&mut clients, "T", "1").await;
    cluster.restart();
    eventually(async || {
        let request = GetStatusRequest {};
        clients.clone().admin.get_status(request).await.map(drop)
    })
    .await;
    let mut next = 0;
    eventually(async || {
        let added = clients.clone().generate.add_event(event()).await;
        added.map(|added| next = added.into_inner().id)
    })
    .await;
    assert_eq!(next, first + 1);
}
