//! What `eventstream archive verify` finds.

use super::stage::{Kind, Peek, Stage, each_pair};
use crate::{calls::add_many, server::program};

each_pair!(every_fault_is_found);

async fn assert_found(warehouse: &Peek, words: &str) {
    let (sound, text) = warehouse.verify().await;
    assert!(!sound && text.contains(words), "{words}: {text}");
}

async fn every_fault_is_found(active: Kind, warehouse: Kind) {
    let mut stage = Stage::start(active, warehouse).await;
    let mut clients = stage.clients().await;
    let last = *add_many(&mut clients, "A", 100).await.last().expect("some");
    stage.archived(last).await;
    stage.stop_archiving().await;
    let warehouse = &stage.warehouse;
    let (sound, text) = warehouse.verify().await;
    assert!(
        sound && text.contains("100 events in 1 ranges up to ID 100: 0 faults"),
        "{text}"
    );

    warehouse
        .run("UPDATE evt_history SET data = '\"other\"' WHERE id = 50")
        .await;
    assert_found(warehouse, "1 to 100 has other content").await;
    warehouse
        .run("UPDATE evt_history SET data = '49' WHERE id = 50")
        .await;
    warehouse.assert_sound().await;

    warehouse
        .run("UPDATE evt_history SET id = 1000 WHERE id = 50")
        .await;
    assert_found(warehouse, "1 to 100 has 99 events, the ledger says 100").await;
    assert_found(warehouse, "101 to 999999999999999999 is not recorded").await;
    warehouse
        .run("UPDATE evt_history SET id = 50 WHERE id = 1000")
        .await;

    let doubled = "INSERT INTO evt_archived
        SELECT history, 60, last_id, 41, checksum, newest, archived FROM evt_archived";
    warehouse.run(doubled).await;
    assert_found(warehouse, "60 to 100 overlaps the range before").await;
    warehouse
        .run("DELETE FROM evt_archived WHERE first_id = 60")
        .await;
    warehouse.assert_sound().await;

    let address = stage.server.grpc_address();
    let with_server = [
        "archive",
        "verify",
        "--to",
        &warehouse.url,
        "--from",
        address,
        "--json",
    ];
    let output = program(&with_server).await;
    assert!(output.status.success(), "{output:?}");
    warehouse.run("DELETE FROM evt_archived").await;
    assert_found(warehouse, "1 to 999999999999999999 is not recorded").await;
    let output = program(&with_server).await;
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(r#""fault":"missing""#), "{text}");
}

#[tokio::test]
async fn warehouse_that_is_not_there_is_told_apart() {
    let output = program(&[
        "archive",
        "verify",
        "--to",
        "postgres://u:hunter2@127.0.0.1:1/d",
    ])
    .await;
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let output = program(&["archive", "verify", "--to", "hunter2"]).await;
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--to") && !text.contains("hunter2"), "{text}");
}
