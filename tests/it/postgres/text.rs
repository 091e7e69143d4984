//! The data arrives as the exact text that was stored.

use super::{Cluster, cluster::run, stage::Stage};
use crate::{
    calls::{poll, poll_of},
    round_trip::{add, next_group, register},
};

#[tokio::test]
async fn any_json_is_kept_to_the_letter() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let deep = format!("{}1{}", "[".repeat(4000), "]".repeat(4000));
    let large = format!("\"{}\"", "x".repeat(8 * 1024 * 1024 - 2));
    let texts = [
        r#"{"b":1,"a":2,"b":3}"#,
        " 1.0\n",
        "12345678901234567890.123e400",
        r#""\u0000""#,
        r#""\ud800""#,
        "\"\u{1F980}\"",
        &deep,
        &large,
    ];
    for text in texts {
        add(&mut clients, "T", text).await;
    }
    let mut seen = Vec::new();
    let mut request = poll_of("SHOP");
    while seen.len() < texts.len() {
        let polled = poll(&mut clients, request.clone()).await;
        request.last_id = Some(polled.last_id);
        seen.extend(polled.events.into_iter().map(|event| event.data_json));
    }
    assert!(seen == texts, "every text comes back as it was");
}

#[tokio::test]
async fn what_no_json_can_be_is_not_stored_and_infinity_is_no_time() {
    let mut stage = Stage::open().await;
    let mut application = stage.database.session().await;
    run(
        &mut application,
        "INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', 'infinity'),
            ('T', '2', '2020-02-29 12:00:00.5')",
    )
    .await;
    let group = next_group(&mut stage.stream).await;
    assert_eq!(group.events.len(), 2);
    assert_eq!(group.events[0].ts, None);
    let ts = group.events[1].ts.expect("a time");
    assert_eq!((ts.seconds, ts.nanos), (1_582_977_600, 500_000_000));
}
