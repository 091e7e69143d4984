//! The original's server and ours take turns on one database, at one address,
//! with clients that are not restarted: the way there and the way back.

use serde_json::json;

use super::{
    client::{Client, Receiver, ids},
    place::{Engine, Place},
    relay::Relay,
    service::{Door, Maker, Service, Way, Who},
};

/// Both servers twice.
const TURNS: [Maker; 4] = [Maker::Original, Maker::Ours, Maker::Original, Maker::Ours];

const INSERT: &str =
    "INSERT INTO evt_queue (type, data, ts) VALUES ('IDLE', '1', CURRENT_TIMESTAMP)";

async fn last(place: &Place) -> i64 {
    place.ids("evt_queue").await.pop().expect("some")
}

/// What one receiver saw up to the newest event.
async fn receive_all(receiver: &mut Receiver<'_>, place: &Place, seen: &mut Vec<i64>) {
    let last = last(place).await;
    while seen.last() != Some(&last) {
        seen.extend(receiver.group().await);
    }
}

/// What a poller saw up to the newest event, acknowledged.
async fn poll_all(client: &Client, name: &str, door: &Door, place: &Place, seen: &mut Vec<i64>) {
    let face = client.face(name, "poll", door).await;
    face.call("registerConsumer", json!(["POLLED"])).await;
    let last = last(place).await;
    loop {
        let after = seen.last().map(i64::to_string);
        let page = face
            .call("pollEvents", json!(["POLLED", after, null]))
            .await;
        seen.extend(ids(&page));
        if page == json!([]) && seen.last() == Some(&last) {
            break;
        }
    }
}

async fn servers_take_turns(engine: Engine) {
    let place = Place::active(engine).await;
    let relay = Relay::start().await;
    let client = Client::start();
    let (mut pushed, mut polled) = (Vec::new(), Vec::new());
    let mut receiver = None;
    for (turn, maker) in TURNS.into_iter().enumerate() {
        // Nobody serves, the application goes on.
        place.run(INSERT).await;
        place.run(INSERT).await;
        let service = Service::start(maker, &place).await;
        relay.lead_to(service.address());
        let receiver = match &mut receiver {
            Some(receiver) => receiver,
            none => {
                let door = service.door_at(relay.address(), "push", Way::Ws, Who::Clear);
                none.insert(client.receive("reliable", "PUSHED", &door, &[]).await)
            }
        };
        // The original loses what is added while somebody connects.
        receive_all(receiver, &place, &mut pushed).await;
        receiver.connected(turn + 1).await;
        let door = service.door("gen", Way::Http, Who::Clear);
        let generate = client.face(&format!("gen-{turn}"), "gen", &door).await;
        generate.add("ADDED", 150, 8).await;
        receive_all(receiver, &place, &mut pushed).await;
        // The original ends when a socket is closed under a group.
        place.reaches("1:PUSHED", last(&place).await).await;
        let door = service.door("poll", Way::Http, Who::Clear);
        poll_all(&client, &format!("poll-{turn}"), &door, &place, &mut polled).await;
        relay.lead_nowhere();
        receiver.until("workerError").await;
        service.end().await;
    }
    let all = place.ids("evt_queue").await;
    assert_eq!(all.len(), TURNS.len() * 152);
    assert_eq!(polled, all);
    assert!(
        pushed.is_sorted(),
        "no turn begins before the end of the last one"
    );
    pushed.dedup();
    assert_eq!(pushed, all);
}

#[tokio::test]
async fn servers_take_turns_on_sqlite() {
    servers_take_turns(Engine::Sqlite).await;
}

#[tokio::test]
async fn servers_take_turns_on_postgres() {
    servers_take_turns(Engine::Postgres).await;
}

#[tokio::test]
async fn servers_take_turns_on_mysql() {
    servers_take_turns(Engine::Mysql).await;
}
