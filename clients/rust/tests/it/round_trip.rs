//! Every call of the client against the real service on SQLite.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futoin_eventstream_client::{
    Code, Error, Event, EventStream, JsonText, Message, NewEvent, OnFailure, Start, proto,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    received::Received,
    services::{client, variable},
};

fn event(event_type: &str, data: i64) -> NewEvent {
    NewEvent::new(event_type, &data).unwrap()
}

#[tokio::test]
async fn added_events_are_received() {
    let client = client("SQLITE");
    let mut received = Received::start(&client, "R_added", "R_ADDED").await;
    let text = r#"{ "n": 9007199254740993, "t": "𝄞 \"'" }"#;
    let first = client.add_event("R_ADDED", JsonText(text)).await.unwrap();
    let ids = client
        .add_events([event("R_ADDED", 2), event("R_ADDED", 3)])
        .await
        .unwrap();
    let batches = [
        vec![event("R_ADDED", 4)],
        vec![event("R_ADDED", 5), event("R_ADDED", 6)],
    ];
    let imported = client.import_events(batches).await.unwrap();
    assert_eq!((imported.batch_count, imported.event_count), (2, 3));

    let event = received.next().await;
    assert_eq!(
        (event.id(), event.event_type(), event.data_json()),
        (first, "R_ADDED", text)
    );
    assert_eq!(
        event.data::<Value>().unwrap()["n"].as_i64(),
        Some(9_007_199_254_740_993)
    );
    let mut rest = Vec::new();
    for _ in 0..5 {
        rest.push(received.next().await);
    }
    let data: Vec<i64> = rest.iter().map(|event| event.data().unwrap()).collect();
    assert_eq!(data, [2, 3, 4, 5, 6]);
    assert_eq!(ids, [rest[0].id(), rest[1].id()]);
    assert_eq!(imported.last_id, rest[4].id());
    assert_eq!(received.stop().await, []);

    // What was acknowledged does not come again.
    let mut again = Received::run(client.receive("R_added").want(["R_ADDED"])).await;
    let last = client.add_event("R_ADDED", &7).await.unwrap();
    assert_eq!(again.next().await.id(), last);
    assert_eq!(again.stop().await, []);
}

#[tokio::test]
async fn a_repeated_call_adds_nothing() {
    let client = client("SQLITE");
    let id = uuid::Uuid::new_v4();
    let first = client
        .add_event_as(id, event("R_REPEATED", 1))
        .await
        .unwrap();
    assert_eq!(
        client
            .add_event_as(id, event("R_REPEATED", 1))
            .await
            .unwrap(),
        first
    );
    let error = client
        .add_event_as(id, event("R_REPEATED", 2))
        .await
        .unwrap_err();
    let error = error.service().unwrap();
    assert_eq!(
        (error.code, error.reason.as_deref()),
        (Code::AlreadyExists, Some("REQUEST_ID_REUSED"))
    );
}

#[tokio::test]
async fn errors_are_typed() {
    let client = client("SQLITE");
    let error = client.add_event("order", &1).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(invalid) if invalid.field == "type"));

    let error = client.add_events([]).await.unwrap_err();
    let error = error.service().unwrap();
    assert_eq!(
        (error.code, error.field.as_deref()),
        (Code::InvalidArgument, Some("events"))
    );

    let unregistered = client.receive("R_unregistered").register(false);
    let error = unregistered
        .run(async |_| Ok::<_, Error>(()))
        .await
        .unwrap_err();
    let error = error.service().unwrap();
    assert_eq!(
        (error.code, error.reason.as_deref()),
        (Code::NotFound, Some("NOT_REGISTERED"))
    );

    let nobody = EventStream::builder("http://127.0.0.1:1").deadline(Duration::from_millis(300));
    let error = nobody
        .connect()
        .unwrap()
        .add_event("R_NOBODY", &1)
        .await
        .unwrap_err();
    assert_eq!(error.service().unwrap().code, Code::Unavailable);

    let error = EventStream::connect("ftp://localhost").unwrap_err();
    assert!(matches!(error, Error::Connect(_)));
}

#[tokio::test]
async fn polling_acknowledges_the_group_before() {
    let client = client("SQLITE");
    let poll = || {
        client
            .poll("R_polled")
            .want(["R_POLLED"])
            .start(Start::Now)
            .max_events(2)
    };
    assert_eq!(
        pin!(poll().groups()).next().await.unwrap().unwrap().events,
        []
    );
    let ids = client
        .add_events((1..=3).map(|n| event("R_POLLED", n)))
        .await
        .unwrap();
    let mut groups = pin!(poll().max_wait(Duration::from_secs(5)).groups());
    let group = groups.next().await.unwrap().unwrap();
    assert_eq!(
        group.events.iter().map(Event::id).collect::<Vec<_>>(),
        ids[..2]
    );
    let group = groups.next().await.unwrap().unwrap();
    assert_eq!(group.events[0].id(), ids[2]);

    // The second group was not acknowledged: nobody asked for a third.
    let group = pin!(poll().groups()).next().await.unwrap().unwrap();
    assert_eq!(group.events[0].id(), ids[2]);
}

#[tokio::test]
async fn sessions_by_hand() {
    let client = client("SQLITE");
    let receiver = || {
        client
            .receive("R_by_hand")
            .want(["R_BY_HAND"])
            .start(Start::Now)
    };
    let mut session = receiver().open().await.unwrap();
    let Message::Started(started) = session.next().await.unwrap().unwrap() else {
        panic!("started comes first");
    };
    assert!(started.epoch > 0);
    let id = client.add_event("R_BY_HAND", &1).await.unwrap();
    let group = loop {
        match session.next().await.unwrap().unwrap() {
            Message::Group(group) if !group.events.is_empty() => break group,
            _ => {}
        }
    };
    assert_eq!(group.events[0].id(), id);
    assert!(session.ack(group.last_id).await.unwrap() >= id);

    // The successor takes the consumer, and fences what comes late.
    let mut successor = receiver().open().await.unwrap();
    assert!(matches!(
        successor.next().await,
        Some(Ok(Message::Started(_)))
    ));
    let error = session.ack(group.last_id).await.unwrap_err();
    assert_eq!(
        error.service().unwrap().reason.as_deref(),
        Some("STALE_EPOCH")
    );
}

#[tokio::test]
async fn live_receivers_get_what_happens_now() {
    let client = client("SQLITE");
    client.add_event("R_LIVE", &1).await.unwrap();
    let (started, mut has_started) = mpsc::channel(1);
    let (handled, mut received) = mpsc::channel(10);
    let stop = CancellationToken::new();
    let listener = client
        .live()
        .want(["R_LIVE"])
        .on_started(move |_| started.try_send(()).unwrap_or_default())
        .stop_on(stop.clone().cancelled_owned());
    let running = tokio::spawn(listener.run(move |event| {
        let handled = handled.clone();
        async move { handled.send(event.id()).await }
    }));
    has_started.recv().await.unwrap();
    let id = client.add_event("R_LIVE", &2).await.unwrap();
    assert_eq!(received.recv().await, Some(id));
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn groups_workers_and_dead_letters() {
    let client = client("SQLITE");
    let events =
        (0..100).map(|n| NewEvent::new("R_WORKERS", &json!({ "k": n % 7, "n": n })).unwrap());
    let ids = client.add_events(events).await.unwrap();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let buried = Arc::new(Mutex::new(Vec::new()));
    let stop = CancellationToken::new();
    let (bury, all) = (buried.clone(), stop.clone());
    let receiver = client
        .receive("R_workers")
        .want(["R_WORKERS"])
        .workers(8, |event| event.data::<Value>().unwrap()["k"].as_i64())
        .on_failure(OnFailure::dead_letter(1, move |letter| {
            bury.lock()
                .unwrap()
                .push((letter.event.id(), letter.error.to_string()));
            std::future::ready(Ok::<_, Error>(()))
        }))
        .stop_on(stop.clone().cancelled_owned());
    let running = receiver.run(|event| {
        let (handled, all, last) = (handled.clone(), all.clone(), ids[99]);
        async move {
            tokio::task::yield_now().await;
            let data: Value = event.data()?;
            handled
                .lock()
                .unwrap()
                .push((data["k"].as_i64(), data["n"].as_i64()));
            if event.id() == last {
                all.cancel();
            }
            anyhow::ensure!(data["n"] != 50, "fifty");
            Ok(())
        }
    });
    running.await.unwrap();
    let handled = handled.lock().unwrap();
    for key in 0..7 {
        let of_key = handled.iter().filter(|(k, _)| *k == Some(key));
        assert!(of_key.is_sorted(), "key {key} is in order");
    }
    assert_eq!(*buried.lock().unwrap(), [(ids[50], "fifty".to_owned())]);
}

#[tokio::test]
async fn admin_calls() {
    let client = client("SQLITE");
    let mut received = Received::start(&client, "R_admin", "R_ADMIN").await;
    let id = client.add_event("R_ADMIN", &1).await.unwrap();
    assert_eq!(received.next().await.id(), id);
    let status = client
        .admin()
        .get_status(proto::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.database, "sqlite");

    // Sought back while it runs: the event comes again.
    let seek = proto::SeekConsumerRequest {
        component: "R_admin".to_owned(),
        start: Some(Start::After(id - 1).into()),
        ..proto::SeekConsumerRequest::default()
    };
    client.admin().seek_consumer(seek).await.unwrap();
    assert_eq!(received.next().await.id(), id);
    assert_eq!(received.stop().await, []);
}

#[tokio::test]
async fn over_a_unix_socket() {
    let home = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", home.path().join("s").display());
    let mut service = tokio::process::Command::new(variable("TEST_EVENTSTREAM"))
        .args(["serve", "--grpc", &socket, "--http", "127.0.0.1:0", "--db"])
        .arg(format!("sqlite:{}", home.path().join("e.db").display()))
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let client = EventStream::connect(&socket).unwrap();
    let id = client.add_event("R_UNIX", &1).await.unwrap();
    let group = pin!(client.poll("R_unix").groups())
        .next()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(group.events[0].id(), id);
    service.kill().await.unwrap();
}

#[tokio::test]
async fn tokens_are_never_shown() {
    let builder = EventStream::builder("http://localhost:1").token("secret");
    assert!(!format!("{builder:?}").contains("secret"));
    let client = builder.connect().unwrap();
    assert!(!format!("{client:?}").contains("secret"));
}
