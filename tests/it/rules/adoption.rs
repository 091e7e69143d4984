//! Rule 1: a database of the original is adopted as it stands,
//! its programs go on beside the service, and it can go back.

use futoin_eventstream::proto::ReadyToReceiveRequest;

use crate::{
    calls::{ack, add_many, consumer, ids, poll, poll_of, status, want},
    round_trip::{add, next_group, ready, register, subscribe},
    server::{Builder, Server, sqlite},
};

/// As the original makes its tables.
const ORIGINAL: &str = "
    CREATE TABLE evt_queue (id INTEGER NOT NULL PRIMARY KEY autoincrement,
        type VARCHAR(16) NOT NULL, data TEXT NOT NULL, ts TIMESTAMP NOT NULL);
    CREATE TABLE evt_consumers (id INTEGER NOT NULL PRIMARY KEY autoincrement,
        last_evt_id INTEGER NOT NULL DEFAULT 0, reg_time TIMESTAMP NOT NULL,
        last_time TIMESTAMP NOT NULL, ident VARCHAR(64) NOT NULL UNIQUE);
    CREATE INDEX evt_consumers_last_evt_id ON evt_consumers(last_evt_id);";

/// As the original, or an application beside it, adds an event.
fn insert(kind: &str, data: &str) -> String {
    format!(
        "INSERT INTO evt_queue (type, data, ts) VALUES ('{kind}', '{data}', CURRENT_TIMESTAMP);"
    )
}

/// As the original registers a consumer.
fn register_by_hand(ident: &str, position: i64) -> String {
    format!(
        "INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time)
         VALUES ('{ident}', {position}, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP);"
    )
}

/// Ids 4 to 6 are kept, of six; `OLD` is at 4, `NEW` at the start.
fn adopted() -> Builder {
    let builder = Server::builder();
    let six: String = (1..=6).map(|n| insert("A", &n.to_string())).collect();
    let consumers = register_by_hand("local:OLD", 4) + &register_by_hand("local:NEW", 0);
    let sql = format!("{ORIGINAL} {six} DELETE FROM evt_queue WHERE id < 4; {consumers}");
    sqlite(&builder.database(), &sql);
    builder
}

#[tokio::test]
async fn rule_01_adopted_database_starts_below_the_lowest_id_kept() {
    let server = adopted().start().await;
    let saved = server.sqlite("SELECT frontier || ' ' || discarded_to FROM evt_stream");
    assert_eq!(saved, "3 3");
    let mut clients = server.clients().await;
    let status = status(&mut clients).await;
    assert_eq!((status.frontier_id, status.oldest_id), (6, 4));
    let polled = poll(&mut clients, poll_of("OLD")).await;
    assert_eq!(ids(&polled.events), [5, 6]);
    let (started, mut stream) = subscribe(&mut clients, ready("NEW")).await;
    assert_eq!(started.start_after_id, 3);
    assert_eq!(ids(&next_group(&mut stream).await.events), [4, 5, 6]);
}

#[tokio::test]
async fn rule_01_emptied_database_of_the_original_goes_on_with_its_ids() {
    let builder = adopted();
    sqlite(&builder.database(), "DELETE FROM evt_queue");
    let server = builder.start().await;
    let mut clients = server.clients().await;
    let status = status(&mut clients).await;
    assert_eq!((status.frontier_id, status.oldest_id), (6, 0));
    assert_eq!(status.problem, "");
    assert_eq!(add(&mut clients, "A", "7").await, 7);
    let polled = poll(&mut clients, poll_of("NEW")).await;
    assert_eq!(ids(&polled.events), [7]);
}

#[tokio::test]
async fn rule_01_programs_of_the_original_go_on_beside_the_service() {
    let server = adopted().start().await;
    let mut clients = server.clients().await;
    let request = ReadyToReceiveRequest {
        want: want(&["B"]),
        ..ready("OLD")
    };
    let (_, mut stream) = subscribe(&mut clients, request).await;
    server.sqlite(&insert("B", "\"theirs\""));
    let group = next_group(&mut stream).await;
    assert_eq!(group.events[0].data_json, "\"theirs\"");
    assert!(group.events[0].ts.is_some());
    server.sqlite(&register_by_hand("local:THEIRS", 6));
    let theirs = consumer(&mut clients, "THEIRS").await;
    assert_eq!((theirs.position, theirs.epoch), (6, 0));
    let polled = poll(&mut clients, poll_of("THEIRS")).await;
    assert_eq!(ids(&polled.events), [7]);
    ack(&mut clients, "THEIRS", 7, None).await.expect("acked");
    let moved = "SELECT last_evt_id FROM evt_consumers WHERE ident = 'local:THEIRS'";
    assert_eq!(server.sqlite(moved), "7");
}

#[tokio::test]
async fn rule_01_database_can_go_back_to_the_original() {
    let server = adopted().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 2).await;
    ack(&mut clients, "SHOP", 7, None).await.expect("acked");
    let again = server.again();
    server.terminate().await;

    let file = again.database();
    let columns = |table: &str| {
        let sql =
            format!("SELECT group_concat(name || ' ' || type) FROM pragma_table_info('{table}')");
        sqlite(&file, &sql)
    };
    assert_eq!(
        columns("evt_queue"),
        "id INTEGER,type VARCHAR(16),data TEXT,ts TIMESTAMP"
    );
    let consumers = columns("evt_consumers");
    assert!(
        consumers.starts_with(
            "id INTEGER,last_evt_id INTEGER,reg_time TIMESTAMP,last_time TIMESTAMP,\
             ident VARCHAR(64)"
        ),
        "{consumers}"
    );
    assert_eq!(
        sqlite(
            &file,
            "SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"
        ),
        "0"
    );
    // Its statements work, and it finds every position.
    sqlite(&file, &insert("A", "9"));
    sqlite(&file, &register_by_hand("local:BACK", 0));
    let position = "SELECT last_evt_id FROM evt_consumers WHERE ident = 'local:SHOP'";
    assert_eq!(sqlite(&file, position), "7");
    // And the service takes it again, with what happened meanwhile.
    let server = again.start().await;
    let mut clients = server.clients().await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [8, 9]);
}
