//! Not one byte of what a user may not receive leaves for it: everything that
//! the service sends on its connections is looked at, under concurrent writers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futoin_eventstream::proto::{
    AddEventsRequest, Event, NewEvent, PollEventsRequest, ReadyToReceiveRequest,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::stage::{guarded, user};
use crate::{
    archive::stage::{Kind, Peek},
    calls::{ack, poll, poll_of},
    futoin::client::message,
    round_trip::{next_group, ready, register, subscribe},
    server::{Clients, PATIENCE},
};

/// In the data of every event that is hidden, and nowhere else.
const SECRET: &str = "topmost-secret-7b1f";

const ROUNDS: usize = 40;

/// Types that come up, in turns; those that `shop` may receive begin with
/// `ORDER_`.
const TYPES: [&str; 5] = ["ORDER_NEW", "SECRET", "ORDER_PAID", "ORDERS", "BILL"];

fn is_seen(kind: &str) -> bool {
    kind.starts_with("ORDER_")
}

/// A way to the service that keeps what comes back.
struct Tap {
    address: String,
    heard: Arc<Mutex<Vec<u8>>>,
    accepting: JoinHandle<()>,
}

impl Tap {
    async fn on(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&heard);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let there = TcpStream::connect(&server).await.expect("it listens");
                tokio::spawn(carry(client, there, Arc::clone(&keep)));
            }
        });
        Self {
            address,
            heard,
            accepting,
        }
    }

    fn count(&self, text: &str) -> usize {
        let heard = self.heard.lock().expect("no panic inside");
        let found = heard.windows(text.len());
        found.filter(|window| *window == text.as_bytes()).count()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, there: TcpStream, heard: Arc<Mutex<Vec<u8>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_there, mut to_there) = there.into_split();
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_there.read(&mut buffer).await {
            let part = &buffer[..count];
            heard.lock().expect("no panic inside").extend(part);
            if to_client.write_all(part).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = back => {}
        _ = copy(&mut from_client, &mut to_there) => {}
    }
}

/// Batches of all types, hidden ones with the secret.
async fn write(mut clients: Clients, name: usize) {
    for round in 0..ROUNDS {
        let event = |at: usize| {
            let kind = TYPES[(at + round) % TYPES.len()];
            let text = if is_seen(kind) { "open" } else { SECRET };
            NewEvent {
                r#type: kind.to_owned(),
                data_json: format!(r#"{{"of":"{text}","at":"{name}/{round}/{at}"}}"#),
            }
        };
        let request = AddEventsRequest {
            events: (0..7).map(event).collect(),
            request_id: String::new(),
        };
        clients.generate.add_events(request).await.expect("added");
    }
}

type Found = BTreeMap<i64, (String, String)>;

fn note(found: &mut Found, events: Vec<Event>) {
    for event in events {
        let seen = (event.r#type, event.data_json);
        assert_eq!(found.insert(event.id, seen), None, "once only");
    }
}

/// By push, acknowledged group by group, until the marker.
async fn pushed(mut clients: Clients, component: &str) -> Found {
    register(&mut clients, component).await;
    let request = ReadyToReceiveRequest {
        max_group_events: 13,
        ..ready(component)
    };
    let (started, mut stream) = subscribe(&mut clients, request).await;
    let mut found = Found::new();
    loop {
        let group = next_group(&mut stream).await;
        let last = group
            .events
            .iter()
            .any(|event| event.r#type == "ORDER_LAST");
        note(&mut found, group.events);
        ack(&mut clients, component, group.last_id, Some(started.epoch))
            .await
            .expect("acked");
        if last {
            return found;
        }
    }
}

/// By polls, until the marker; `LIVE` keeps its place itself.
async fn polled(mut clients: Clients, component: &str) -> Found {
    let live = component == "LIVE";
    if !live {
        register(&mut clients, component).await;
    }
    let (mut found, mut last_id) = (Found::new(), live.then_some(0));
    loop {
        let request = PollEventsRequest {
            last_id,
            max_events: 11,
            max_wait: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            ..poll_of(component)
        };
        let answer = poll(&mut clients, request).await;
        let last = answer
            .events
            .iter()
            .any(|event| event.r#type == "ORDER_LAST");
        note(&mut found, answer.events);
        last_id = Some(answer.last_id);
        if last {
            return found;
        }
    }
}

/// The same over FutoIn, which has no marker of its own: until `through`.
async fn polled_by_futoin(tap: &Tap, through: i64) -> Found {
    let ask = async |f: &str, p: String| -> serde_json::Value {
        let body = message(f, &p, "").replace("user:pass", "shop:pass");
        let answer =
            crate::futoin::client::request(&tap.address, "POST", "/ftn", &[], body.as_bytes())
                .await;
        serde_json::from_str(answer.text()).expect("JSON")
    };
    let register = r#"{"component":"SHIM"}"#.to_owned();
    ask("futoin.evt.poll:1.1:registerConsumer", register).await;
    let mut found = Found::new();
    while found.keys().last().is_none_or(|id| *id < through) {
        let p = match found.keys().last() {
            None => r#"{"component":"SHIM"}"#.to_owned(),
            Some(last) => format!(r#"{{"component":"SHIM","last_id":"{last}"}}"#),
        };
        let answer = ask("futoin.evt.poll:1.1:pollEvents", p).await;
        for event in answer["r"].as_array().expect("events") {
            let id = event["id"]
                .as_str()
                .expect("an id")
                .parse()
                .expect("a number");
            let kind = event["type"].as_str().expect("a type").to_owned();
            assert_eq!(found.insert(id, (kind, String::new())), None);
        }
    }
    found
}

async fn nothing_hidden_is_sent(kind: Kind) {
    let users = user("shop", "consume = ['*']\ntypes = ['ORDER_*']")
        + &user("writer", "generate = ['*']\nobserve = true");
    let peek = Peek::new(kind).await;
    // A small ring: readers go through the hub and through the database.
    let server = guarded(&users)
        .on(&peek.url)
        .env("EVENTSTREAM_FUTOIN_USERS", "shop secret=pass")
        .arg("--stream-ring-bytes=1MiB")
        .start()
        .await;
    let (grpc, shim) = (
        Tap::on(server.grpc_address().to_owned()).await,
        Tap::on(server.http_address().to_owned()).await,
    );
    let reader = || shop(&grpc);
    let pushes = [
        tokio::spawn(pushed(reader(), "PUSH")),
        tokio::spawn(polled(reader(), "POLL")),
    ];
    let writers: Vec<_> = (0..4)
        .map(|name| {
            (
                name,
                Clients::lazy_with_token(server.grpc_address(), "writer"),
            )
        })
        .map(|(name, clients)| tokio::spawn(write(clients, name)))
        .collect();
    for writer in writers {
        writer.await.expect("written");
    }
    let mut writer = server.clients_of("writer").await;
    let last = crate::round_trip::add(&mut writer, "ORDER_LAST", "0").await;

    let expected = seen_in(&peek).await;
    for push in pushes {
        let found = tokio::time::timeout(PATIENCE, push).await.expect("in time");
        assert_eq!(found.expect("read"), expected);
    }
    // From the beginning, and so from the database.
    assert_eq!(polled(reader(), "LIVE").await, expected);
    let by_shim = polled_by_futoin(&shim, last).await;
    assert!(by_shim.keys().eq(expected.keys()));

    assert!(expected.len() > ROUNDS * 4);
    for tap in [&grpc, &shim] {
        assert!(tap.count("ORDER_PAID") > ROUNDS, "the tap hears");
        assert_eq!(tap.count(SECRET), 0);
        assert_eq!((tap.count("BILL"), tap.count("ORDERS")), (0, 0));
    }
}

/// A reader whose connection is listened to.
fn shop(tap: &Tap) -> Clients {
    Clients::lazy_with_token(&tap.address, "shop")
}

/// What is in the table and may be seen.
async fn seen_in(peek: &Peek) -> Found {
    let rows = peek.queue().await;
    let events = rows.iter().filter_map(|row| {
        let mut columns = row.splitn(3, '|');
        let (id, kind, data) = (columns.next()?, columns.next()?, columns.next()?);
        let id = id.parse().expect("a number");
        is_seen(kind).then(|| (id, (kind.to_owned(), data.to_owned())))
    });
    events.collect()
}

#[tokio::test]
async fn nothing_hidden_is_sent_from_sqlite() {
    nothing_hidden_is_sent(Kind::Sqlite).await;
}

#[tokio::test]
async fn nothing_hidden_is_sent_from_postgres() {
    nothing_hidden_is_sent(Kind::Postgres).await;
}

#[tokio::test]
async fn nothing_hidden_is_sent_from_mysql() {
    nothing_hidden_is_sent(Kind::Mysql).await;
}
