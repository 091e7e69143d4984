//! Receivers of the original when things go wrong: handlers that fail, that
//! are slow, that never end; sockets that are cut; servers that die.

use serde_json::json;

use super::{
    client::{Client, Face, Receiver, ids},
    place::{Engine, Place},
    relay::Relay,
    service::{Maker, Service, Way, Who, both, builder},
};
use crate::round_trip::add;

/// A service, a client of it, and where the consumer `C` of user 1 stands.
struct Stage {
    place: Place,
    service: Service,
    client: Client,
}

impl Stage {
    async fn of(maker: Maker) -> Self {
        let place = Place::active(Engine::Sqlite).await;
        Self {
            service: Service::start(maker, &place).await,
            place,
            client: Client::start(),
        }
    }

    async fn generate(&self) -> Face<'_> {
        let door = self.service.door("gen", Way::Ws, Who::Clear);
        self.client.face("gen", "gen", &door).await
    }

    async fn receive(&self, acts: &[&str]) -> Receiver<'_> {
        let door = self.service.door("push", Way::Ws, Who::Clear);
        self.client.receive("reliable", "C", &door, acts).await
    }

    async fn position(&self) -> i64 {
        self.place.position("1:C").await.unwrap_or(0)
    }

    async fn reaches(&self, id: i64) {
        self.place.reaches("1:C", id).await;
    }
}

async fn failed_group_comes_again(maker: Maker) {
    let stage = Stage::of(maker).await;
    let generate = stage.generate().await;
    let ids = generate.add("A", 3, 1).await;
    let mut receiver = stage.receive(&["fail", "fail"]).await;
    for _ in 0..3 {
        assert_eq!(receiver.group().await, ids);
    }
    stage.reaches(ids[2]).await;
    // The client knows a group by its number: this is the second one.
    let next = generate.add("A", 1, 1).await;
    assert_eq!(receiver.group().await, next);
}

async fn slow_handler_holds_the_position(maker: Maker) {
    let stage = Stage::of(maker).await;
    let ids = stage.generate().await.add("A", 2, 1).await;
    let mut receiver = stage.receive(&["hold"]).await;
    assert_eq!(receiver.group().await, ids);
    assert_eq!(stage.position().await, 0);
    receiver.release().await;
    stage.reaches(ids[1]).await;
}

/// The client gives its handlers five seconds, then it answers with an error.
async fn handler_that_never_ends_is_asked_again(maker: Maker) {
    let stage = Stage::of(maker).await;
    let ids = stage.generate().await.add("A", 2, 1).await;
    let mut receiver = stage.receive(&["hold"]).await;
    assert_eq!(receiver.group().await, ids);
    assert_eq!(receiver.group().await, ids);
    stage.reaches(ids[1]).await;
}

async fn filtered_receiver_sees_what_it_wants(maker: Maker) {
    let stage = Stage::of(maker).await;
    let generate = stage.generate().await;
    generate.add("A", 2, 1).await;
    let wanted = generate.add("B", 1, 1).await;
    let door = stage.service.door("push", Way::Ws, Who::Clear);
    let options = json!({"component": "C", "want": ["B"]});
    let receiver = stage
        .client
        .receive_with("want", "reliable", &door, options, &[]);
    let mut receiver = receiver.await;
    assert_eq!(receiver.group().await, wanted);
    receiver.connected(1).await;
    generate.add("A", 3, 1).await;
    let wanted = generate.add("B", 1, 1).await;
    assert_eq!(receiver.group().await, wanted);
}

/// The original leaves the position where it is, and holds what follows.
#[tokio::test]
async fn position_passes_what_nobody_wants() {
    let stage = Stage::of(Maker::Ours).await;
    let door = stage.service.door("push", Way::Ws, Who::Clear);
    let options = json!({"component": "C", "want": ["B"]});
    let receiver = stage
        .client
        .receive_with("want", "reliable", &door, options, &[]);
    receiver.await.connected(1).await;
    let unwanted = stage.generate().await.add("A", 3, 1).await;
    stage.reaches(unwanted[2]).await;
}

/// A relay before the service of a stage, and a receiver through it.
async fn relayed<'a>(stage: &'a Stage, acts: &[&str]) -> (Relay, Receiver<'a>) {
    let relay = Relay::start().await;
    relay.lead_to(stage.service.address());
    let door = stage
        .service
        .door_at(relay.address(), "push", Way::Ws, Who::Clear);
    let mut receiver = stage.client.receive("reliable", "C", &door, acts).await;
    receiver.connected(1).await;
    (relay, receiver)
}

async fn receiver_returns_after_a_cut(maker: Maker) {
    let stage = Stage::of(maker).await;
    let generate = stage.generate().await;
    let (relay, mut receiver) = relayed(&stage, &[]).await;
    for _ in 0..3 {
        let ids = generate.add("A", 2, 1).await;
        assert_eq!(receiver.groups(2).await, ids);
        stage.reaches(ids[1]).await;
        relay.lead_nowhere();
        let lost = receiver.until("workerError").await;
        assert_eq!(lost[0], "Disconnect");
        let missed = generate.add("A", 2, 1).await;
        relay.lead_to(stage.service.address());
        assert_eq!(receiver.groups(2).await, missed);
        stage.reaches(missed[1]).await;
    }
}

/// The original's server would end here.
#[tokio::test]
async fn cut_under_a_group_brings_it_again() {
    let stage = Stage::of(Maker::Ours).await;
    let generate = stage.generate().await;
    let (relay, mut receiver) = relayed(&stage, &["hold", "take", "hold"]).await;
    for _ in 0..2 {
        let ids = generate.add("A", 1, 1).await;
        assert_eq!(receiver.group().await, ids);
        assert!(stage.position().await < ids[0]);
        relay.cut();
        assert_eq!(receiver.group().await, ids);
        stage.reaches(ids[0]).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_when_the_service_is_killed() {
    let relay = Relay::start().await;
    let client = Client::start();
    let mut service = Service::ours(builder()).await;
    let door = service.door_at(relay.address(), "push", Way::Ws, Who::Clear);
    let mut receiver = client.receive("reliable", "C", &door, &[]).await;
    let mut seen = Vec::new();
    for round in 0..4 {
        relay.lead_to(service.address());
        let door = service.door("gen", Way::Ws, Who::Clear);
        let generate = client.face(&format!("gen-{round}"), "gen", &door).await;
        let added = generate.add("A", 200, 8).await;
        // Some are on their way, some are answered and some are not.
        while seen.last() < added.first() {
            seen.extend(receiver.group().await);
        }
        relay.lead_nowhere();
        service = service.crash_and_restart().await;
    }
    relay.lead_to(service.address());
    while seen.last() != Some(&800) {
        seen.extend(receiver.group().await);
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.into_iter().eq(1..=800), "every id of four times 200");
}

/// The original stops after 500: it takes the answers for errors.
#[tokio::test]
async fn live_receiver_outlives_a_burst() {
    let stage = Stage::of(Maker::Ours).await;
    let door = stage.service.door("push", Way::Ws, Who::Clear);
    let mut live = stage.client.receive("live", "LIVE", &door, &[]).await;
    live.connected(1).await;
    let generate = stage.generate().await;
    for _ in 0..5 {
        let ids = generate.add("A", 400, 16).await;
        while live.group().await.last() != ids.last() {}
    }
}

/// What the original answers with `InternalError` for ever.
#[tokio::test]
async fn pages_are_cut_to_what_the_caller_takes() {
    let stage = Stage::of(Maker::Ours).await;
    let generate = stage.generate().await;
    let text = "x".repeat(3000);
    let mut added = Vec::new();
    for _ in 0..60 {
        added.push(generate.add_one("A", json!(text)).await);
    }
    for (way, version, pages) in [
        (Way::Http, "1.0", 3),
        (Way::Ws, "1.0", 3),
        (Way::Http, "1.1", 1),
        (Way::Ws, "1.1", 1),
    ] {
        let name = format!("{way:?}-{version}");
        let door = stage.service.door("poll", way, Who::Clear).version(version);
        let face = stage.client.face(&name, "poll", &door).await;
        let (mut seen, mut count) = (Vec::new(), 0);
        while seen.len() < added.len() {
            let after = seen.last().map(i64::to_string);
            let page = face.call("pollEvents", json!(["LIVE", after, null])).await;
            seen.extend(ids(&page));
            count += 1;
        }
        assert_eq!((&seen, count), (&added, pages), "{name}");
    }
}

/// As large as a caller of 1.1 takes; the client itself ends when an answer
/// over HTTP is larger.
#[tokio::test]
async fn largest_events_arrive() {
    let stage = Stage::of(Maker::Ours).await;
    let text = "x".repeat((8 << 20) - 300);
    let mut grpc = stage.service.server().clients().await;
    let large = add(&mut grpc, "A", &format!("\"{text}\"")).await;
    let small = add(&mut grpc, "A", "1").await;
    for way in [Way::Http, Way::Ws] {
        let door = stage.service.door("poll", way, Who::Clear);
        let face = stage.client.face(&format!("{way:?}"), "poll", &door).await;
        let page = face.call("pollEvents", json!(["LIVE", null, null])).await;
        assert_eq!(ids(&page)[0], large);
        assert!(page[0]["data"] == text, "{way:?}: the data is another one");
        let args = json!(["LIVE", large.to_string(), null]);
        assert_eq!(ids(&face.call("pollEvents", args).await), [small]);
    }
    let mut receiver = stage.receive(&[]).await;
    assert_eq!(receiver.groups(2).await, [large, small]);
    stage.reaches(small).await;
}

/// Both come back at once whenever the other one takes over.
#[tokio::test]
async fn two_receivers_of_a_consumer_leave_each_other_alone() {
    let stage = Stage::of(Maker::Ours).await;
    let generate = stage.generate().await;
    let door = stage.service.door("push", Way::Ws, Who::Clear);
    let twin = Client::start();
    let mut one = stage.client.receive("reliable", "C", &door, &[]).await;
    one.connected(1).await;
    let mut other = twin.receive("reliable", "C", &door, &[]).await;
    other.connected(1).await;
    let mut seen = Vec::new();
    for _ in 0..100 {
        let id = generate.add("A", 1, 1).await[0];
        while !seen.contains(&id) {
            tokio::select! {
                ids = one.group() => seen.extend(ids),
                ids = other.group() => seen.extend(ids),
            }
        }
    }
    // Each event may come to the one that is just being replaced, and again.
    let calm = one.connections() + other.connections();
    assert!(calm <= 10, "{calm} connections for 100 events");
}

both! {
    failed_group_comes_again
    slow_handler_holds_the_position
    handler_that_never_ends_is_asked_again
    filtered_receiver_sees_what_it_wants
    receiver_returns_after_a_cut
}
