//! The largest and deepest that is taken, delivered by poll and by push.

use futoin_eventstream::proto::{AddEventRequest, PollEventsRequest};

use crate::{
    calls::{add_many, ids, invalid, poll, poll_of, status},
    round_trip::{add, next_group, ready, register, subscribe},
    server::Server,
};

const EVENT_BYTES: usize = 8 << 20;

/// A JSON string of this many bytes.
fn text(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

#[tokio::test]
async fn data_of_8_mib_travels_by_poll_and_by_push_and_a_byte_more_is_refused() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (_, mut live) = subscribe(&mut clients, ready("LIVE")).await;
    let largest = text(EVENT_BYTES);
    let id = add(&mut clients, "BIG", &largest).await;

    let over = AddEventRequest {
        r#type: "BIG".to_owned(),
        data_json: text(EVENT_BYTES + 1),
        request_id: String::new(),
    };
    let refusal = clients.generate.add_event(over).await;
    invalid(refusal, "data_json", "at most 8388608 bytes");
    assert_eq!(status(&mut clients).await.head_id, id);

    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [id]);
    assert!(polled.events[0].data_json == largest, "by poll, exact");
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let group = next_group(&mut stream).await;
    assert!(group.events[0].data_json == largest, "by push, exact");
    let group = next_group(&mut live).await;
    assert!(group.events[0].data_json == largest, "live, exact");
}

#[tokio::test]
async fn several_largest_events_travel_one_by_one() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let largest = text(EVENT_BYTES);
    let added = [
        add(&mut clients, "BIG", &largest).await,
        add(&mut clients, "BIG", &largest).await,
    ];
    let generous = |last_id| PollEventsRequest {
        last_id,
        max_bytes: i32::MAX,
        ..poll_of("SHOP")
    };
    let first = poll(&mut clients, generous(None)).await;
    assert_eq!((ids(&first.events), first.more), (vec![added[0]], true));
    let second = poll(&mut clients, generous(Some(first.last_id))).await;
    assert_eq!((ids(&second.events), second.more), (vec![added[1]], false));
}

#[tokio::test]
async fn json_of_4000_levels_comes_back_exact() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let deep = format!("{}1{}", "[".repeat(4000), "]".repeat(4000));
    let deeper = format!("{}1{}", "{\"a\":".repeat(4000), "}".repeat(4000));
    add(&mut clients, "DEEP", &deep).await;
    add(&mut clients, "DEEP", &deeper).await;
    let polled = poll(&mut clients, poll_of("LIVE")).await;
    assert!(polled.events[0].data_json == deep);
    assert!(polled.events[1].data_json == deeper);
}

#[tokio::test]
async fn batch_of_1000_is_stored_at_once_and_read_at_once() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let added = add_many(&mut clients, "MANY", 1000).await;
    assert_eq!(added, (1..=1000).collect::<Vec<i64>>());
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!((ids(&polled.events), polled.more), (added, false));
}
