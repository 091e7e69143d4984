//! What was archived comes back as it was, and joins what follows.

use futoin_eventstream::proto::{
    AddEventsRequest, Event, NewEvent, PollEventsRequest, ReadyToReceiveRequest,
};

use super::stage::{Kind, Stage, each_pair};
use crate::{
    calls::{ack, add_many, after, ids, poll, poll_of},
    round_trip::{add, next_group, ready, register, subscribe},
    server::Clients,
};

each_pair!(
    history_is_exact_and_comes_back,
    replay_joins_live_while_events_are_deleted
);

/// Data that lesser copies change.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "null",
        r#"{"b":1,"a":1.0,"b":12345678901234567890}"#,
        "  [1, 2 ,3]  ",
        r#""\u0000 Ünïcödé 🦀 \" \\ ' ''""#,
        "1e400",
        "-0.0",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push(format!("\"{}\"", "x".repeat(1_500_000)));
    texts
}

async fn add_texts(clients: &mut Clients) -> Vec<i64> {
    let event = |data_json| NewEvent {
        r#type: "ODD_".to_owned(),
        data_json,
    };
    let request = AddEventsRequest {
        events: texts().into_iter().map(event).collect(),
        request_id: String::new(),
    };
    let added = clients.generate.add_events(request).await;
    added.expect("added").into_inner().ids
}

/// Everything after `last_id`, page by page.
pub async fn read_all(clients: &mut Clients, mut last_id: i64, max_events: i32) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let request = PollEventsRequest {
            last_id: Some(last_id),
            max_events,
            ..poll_of("LIVE")
        };
        let page = poll(clients, request).await;
        events.extend(page.events);
        last_id = page.last_id;
        if !page.more {
            return events;
        }
    }
}

async fn history_is_exact_and_comes_back(active: Kind, warehouse: Kind) {
    let mut stage = Stage::start(active, warehouse).await;
    let mut clients = stage.clients().await;
    add_texts(&mut clients).await;
    let last = *add_many(&mut clients, "MANY", 100)
        .await
        .last()
        .expect("some");
    stage.archived(last).await;
    assert_eq!(stage.warehouse.history().await, stage.active.queue().await);
    stage.warehouse.assert_sound().await;

    let before = read_all(&mut clients, 0, 1000).await;
    let datas: Vec<_> = before.iter().map(|event| event.data_json.clone()).collect();
    assert_eq!(datas[..texts().len()], texts());
    stage.active.discard(last - 10).await;
    stage.restart().await;
    let mut clients = stage.clients().await;
    assert_eq!(
        read_all(&mut clients, 0, 7).await,
        before,
        "to the letter, times too"
    );
    assert_eq!(read_all(&mut clients, 3, 1000).await, before[3..]);

    // A new consumer begins in the active table all the same.
    register(&mut clients, "NEW").await;
    let polled = poll(&mut clients, poll_of("NEW")).await;
    assert_eq!(
        polled.events,
        before[before.len() - 10..],
        "the oldest kept is the active one"
    );
}

/// Deletes behind a reader that replays, while events are added in front.
async fn replay_joins_live_while_events_are_deleted(active: Kind, warehouse: Kind) {
    let mut stage = Stage::start(active, warehouse).await;
    let mut clients = stage.clients().await;
    let mut expected = Vec::new();
    for _ in 0..10 {
        expected.extend(add_many(&mut clients, "OLD", 50).await);
    }
    stage.archived(500).await;
    stage.active.discard(200).await;
    stage.restart().await;
    let mut clients = stage.clients().await;
    register(&mut clients, "SLOW").await;
    for component in ["LIVE", "SLOW"] {
        let request = ReadyToReceiveRequest {
            start: after(0),
            max_group_events: 7,
            ..ready(component)
        };
        let (started, mut stream) = subscribe(&mut clients, request).await;
        assert_eq!(started.start_after_id, 0);
        let mut seen = Vec::new();
        let first = *expected.last().expect("some") + 1;
        while seen.len() < expected.len() + 20 {
            let group = next_group(&mut stream).await;
            seen.extend(ids(&group.events));
            if component == "SLOW" {
                let epoch = Some(started.epoch);
                ack(&mut clients, component, group.last_id, epoch)
                    .await
                    .expect("acked");
            }
            match seen.len() {
                // The reader is still in the history.
                70..77 => stage.active.discard(350).await,
                // Right where it comes back to the active table.
                343..350 => stage.active.discard(420).await,
                _ => {}
            }
            if (expected.len() - 7..expected.len()).contains(&seen.len()) {
                for _ in 0..20 {
                    add(&mut clients, "NEW", "1").await;
                }
            }
        }
        expected.extend(first..first + 20);
        assert_eq!(seen, expected, "{component}: each once, in order");
        let last = *expected.last().expect("some");
        stage.archived(last).await;
    }
    stage.warehouse.assert_sound().await;
}
