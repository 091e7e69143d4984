//! The data arrives as the exact text that was stored, of any size.

use super::{
    Cluster,
    cluster::{LockMode, Offer, run},
};
use crate::{
    calls::{poll, poll_of, want},
    round_trip::{add, register},
    server::Clients,
};
use futoin_eventstream::proto::{AddEventsRequest, Event, NewEvent};

/// Polls until `count` events were seen.
async fn all(clients: &mut Clients, count: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    let mut request = poll_of("SHOP");
    while seen.len() < count {
        let polled = poll(clients, request.clone()).await;
        request.last_id = Some(polled.last_id);
        seen.extend(polled.events);
    }
    seen
}

#[tokio::test]
async fn any_json_is_kept_to_the_letter() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let deep = format!("{}1{}", "[".repeat(4000), "]".repeat(4000));
    let large = format!("\"{}\"", "x".repeat(8 * 1024 * 1024 - 2));
    let wide = format!("\"{}\"", "\u{1F980}".repeat(2 * 1024 * 1024 - 1));
    let texts = [
        r#"{"b":1,"a":2,"b":3}"#,
        " 1.0\n",
        "12345678901234567890.123e400",
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\\ ' \" % _ ? ;--""#,
        "\"\u{1F980}\"",
        &deep,
        &large,
        &wide,
        "1",
    ];
    for text in texts {
        add(&mut clients, "T", text).await;
    }
    let seen = all(&mut clients, texts.len()).await;
    let seen: Vec<&str> = seen.iter().map(|event| &*event.data_json).collect();
    assert!(seen == texts, "every text comes back as it was");
}

#[tokio::test]
async fn request_larger_than_a_packet_is_stored_as_one() {
    let settings = "max_allowed_packet = 9M";
    let cluster = Cluster::start_as(Offer::Schema, LockMode::Interleaved, settings);
    let database = cluster.database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let event = |letter: &str| NewEvent {
        r#type: "T".into(),
        data_json: format!("\"{}\"", letter.repeat(5 * 1024 * 1024)),
    };
    let events = ["a", "b", "c"].map(event).to_vec();
    let request = AddEventsRequest {
        events: events.clone(),
        request_id: String::new(),
    };
    let ids = clients.generate.add_events(request).await.expect("added");
    let ids = ids.into_inner().ids;
    let seen = all(&mut clients, 3).await;
    for ((seen, event), id) in seen.iter().zip(&events).zip(ids) {
        assert_eq!(seen.id, id);
        assert!(seen.data_json == event.data_json, "each under its id");
    }
}

#[tokio::test]
async fn times_and_types_of_somebody_else_are_read_as_they_are() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let mut application = database.session().await;
    run(
        &mut application,
        "SET sql_mode = '';
         INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', '0000-00-00'),
            ('t', '2', '2020-02-29 12:00:00'), ('T ', '3', '1969-12-31 23:59:59')",
    )
    .await;
    let seen = all(&mut clients, 3).await;
    assert_eq!(seen[0].ts, None);
    assert_eq!(seen[1].ts.expect("a time").seconds, 1_582_977_600);
    assert_eq!(seen[2].ts.expect("a time").seconds, -1);
    let kinds: Vec<&str> = seen.iter().map(|event| &*event.r#type).collect();
    assert_eq!(kinds, ["T", "t", "T "]);
    // A filter compares to the letter too, trailing blanks included.
    let mut request = poll_of("SHOP");
    request.want = want(&["T"]);
    let wanted = poll(&mut clients, request).await;
    assert_eq!(wanted.events.len(), 1);
    assert_eq!(wanted.events[0].id, seen[0].id);
}
