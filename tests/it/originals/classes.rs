//! Every class of client, in every version, over every transport, with every
//! kind of credentials and every coder: what each is for works.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    client::{Client, Face, Refused, ids, number},
    place::{Engine, Place},
    service::{Door, Maker, Service, Way, Who, both},
};

/// Credentials that the original's server knows too.
const KNOWN: [Who; 6] = [
    Who::Clear,
    Who::Hmac("MD5"),
    Who::Hmac("SHA224"),
    Who::Hmac("SHA256"),
    Who::Hmac("SHA384"),
    Who::Hmac("SHA512"),
];
const SMAC: [Who; 4] = [
    Who::Smac("HMD5"),
    Who::Smac("HS256"),
    Who::Smac("HS384"),
    Who::Smac("HS512"),
];
const VERSIONS: [&str; 2] = ["1.0", "1.1"];
const CODERS: [&str; 3] = ["JSON", "MPCK", "CBOR"];

/// Text, numbers, nesting, and what a MAC has to be careful with.
fn data() -> Value {
    json!({"9": 2, "10": [1, 2.5, null, {}], "é": "ü€😀", "k:;": "v;:", "none": null})
}

/// Who called how, and how many calls were answered as they should be.
#[derive(Default)]
struct Tally(BTreeMap<String, usize>);

impl Tally {
    fn count(&mut self, class: &str, way: Way, version: &str, who: Who, coder: &str, calls: usize) {
        let line = format!("{class:<16} {way:?} {version} {who:?} {coder}");
        *self.0.entry(line).or_default() += calls;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (line, calls) in &self.0 {
            writeln!(f, "{line}: {calls}")?;
        }
        write!(
            f,
            "{} kinds, {} calls",
            self.0.len(),
            self.0.values().sum::<usize>()
        )
    }
}

/// All that is common to the calls of one test.
struct Round {
    service: Service,
    client: Client,
    tally: Tally,
    consumers: usize,
}

impl Round {
    async fn on(maker: Maker, place: &Place) -> Self {
        Self {
            service: Service::start(maker, place).await,
            client: Client::start(),
            tally: Tally::default(),
            consumers: 0,
        }
    }

    fn door(&self, kind: &str, way: Way, version: &str, who: Who, coder: &str) -> Door {
        let door = self.service.door(kind, way, who);
        door.version(version).with("coder", coder)
    }

    /// A component that nobody has had.
    fn component(&mut self) -> String {
        self.consumers += 1;
        format!("C_{}", self.consumers)
    }

    /// `GenFace` and `PollFace`.
    async fn callers(&mut self, way: Way, version: &str, who: Who, coder: &str) {
        let component = self.component();
        let generate = self.door("gen", way, version, who, coder);
        let poll = self.door("poll", way, version, who, coder);
        let generate = self
            .client
            .face(&format!("gen-{component}"), "gen", &generate)
            .await;
        let id = generates(&generate).await;
        let poll = self
            .client
            .face(&format!("poll-{component}"), "poll", &poll)
            .await;
        let calls = polls(&poll, &component, id).await;
        self.tally.count("GenFace", way, version, who, coder, 3);
        self.tally
            .count("PollFace", way, version, who, coder, calls);
    }

    /// `PushFace`, and the receivers that have one inside.
    async fn pushed(&mut self, version: &str, who: Who, coder: &str) {
        let component = self.component();
        let door = self.door("push", Way::Ws, version, who, coder);
        let generate = self.door("gen", Way::Ws, "1.1", who, coder);
        let push = self
            .client
            .face(&format!("push-{component}"), "push", &door)
            .await;
        let generate = self
            .client
            .face(&format!("gen-{component}"), "gen", &generate)
            .await;
        let calls = pushes(&push, &component).await;

        let mut reliable = self
            .client
            .receive("reliable", &component, &door, &[])
            .await;
        let mut options = door.options.clone();
        options["want"] = json!(["LIVE"]);
        let name = format!("live-{component}");
        let live = self.client.receive_with(&name, "live", &door, options, &[]);
        let mut live = live.await;
        live.connected(1).await;
        let id = generate.add_one("LIVE", data()).await;
        assert_eq!(live.until("events").await[0]["data"], data());
        while reliable.group().await.last() != Some(&id) {}
        self.tally
            .count("PushFace", Way::Ws, version, who, coder, calls);
        self.tally
            .count("ReliableReceiver", Way::Ws, version, who, coder, 1);
        self.tally
            .count("LiveReceiver", Way::Ws, version, who, coder, 1);
    }
}

/// Three calls of a `GenFace`; the id of its last event.
async fn generates(face: &Face<'_>) -> i64 {
    assert_eq!(face.call("ping", json!([5])).await, 5);
    let first = face.add_one("A", Value::Null).await;
    let second = face.add_one("B_C", data()).await;
    assert!(second > first);
    second
}

/// Calls of a `PollFace` after `id` was added; how many.
async fn polls(face: &Face<'_>, component: &str, id: i64) -> usize {
    assert_eq!(face.call("ping", json!([-7])).await, -7);
    let unknown = face.try_call("pollEvents", json!([component, null, null]));
    assert_eq!(unknown.await.expect_err("unknown").error, "NotRegistered");
    let live = face.try_call("registerConsumer", json!(["LIVE"]));
    let refused = live.await.expect_err("LIVE is nobody's");
    let about = "Live consumer should not register".to_owned();
    let error = "LiveNotAllowed".to_owned();
    assert_eq!(refused, Refused { error, about });
    for _ in 0..2 {
        assert_eq!(
            face.call("registerConsumer", json!([component])).await,
            true
        );
    }
    let before = Some(id - 2).filter(|&id| id > 0).map(|id| id.to_string());
    let first = face
        .call("pollEvents", json!([component, before, null]))
        .await;
    let first = first.as_array().expect("a list");
    let event = first.iter().find(|event| number(&event["id"]) == id);
    let event = event.expect("it is in the first page");
    assert_eq!((&event["type"], &event["data"]), (&json!("B_C"), &data()));
    let filtered = json!(["LIVE", before, ["B_C"]]);
    assert_eq!(ids(&face.call("pollEvents", filtered).await)[0], id);
    let rest = face
        .call("pollEvents", json!([component, id.to_string(), null]))
        .await;
    assert!(ids(&rest).iter().all(|&later| later > id), "{rest}");
    7
}

/// Calls of a `PushFace`; how many.
async fn pushes(face: &Face<'_>, component: &str) -> usize {
    assert_eq!(face.call("ping", json!([1])).await, 1);
    let unknown = face.try_call("readyToReceive", json!([component, null]));
    assert_eq!(unknown.await.expect_err("unknown").error, "NotRegistered");
    assert_eq!(
        face.call("registerConsumer", json!([component])).await,
        true
    );
    let events = face
        .call("pollEvents", json!([component, null, ["NO_SUCH"]]))
        .await;
    assert_eq!(events, json!([]));
    4
}

async fn everybody(round: &mut Round, credentials: &[Who]) {
    for &who in credentials {
        for version in VERSIONS {
            for way in [Way::Http, Way::Ws] {
                round.callers(way, version, who, "JSON").await;
            }
            round.pushed(version, who, "JSON").await;
        }
    }
}

async fn all_classes_work(maker: Maker) {
    let place = Place::active(Engine::Sqlite).await;
    let mut round = Round::on(maker, &place).await;
    everybody(&mut round, &KNOWN).await;
    for coder in CODERS {
        for who in [Who::Clear, Who::Hmac("SHA256")] {
            for way in [Way::Http, Way::Ws] {
                round.callers(way, "1.1", who, coder).await;
            }
            round.pushed("1.1", who, coder).await;
        }
    }
    eprintln!("{maker:?}:\n{}", round.tally);
}

/// MACs by the key of FTN8, which the original's server lacks a package for.
#[tokio::test]
async fn all_classes_work_with_the_newer_mac() {
    let place = Place::active(Engine::Sqlite).await;
    let mut round = Round::on(Maker::Ours, &place).await;
    everybody(&mut round, &SMAC).await;
    eprintln!("{}", round.tally);
}

/// Faces of one CCM share a socket, whoever they call as.
async fn one_socket_carries_several_users(maker: Maker) {
    let place = Place::active(Engine::Sqlite).await;
    let service = Service::start(maker, &place).await;
    let client = Client::start();
    for (name, who) in [("one", Who::Clear), ("two", Who::Hmac("MD5"))] {
        let door = service.door("poll", Way::Ws, who);
        let face = client.face_in("shared", name, "poll", &door).await;
        face.call("registerConsumer", json!(["SAME"])).await;
    }
    let idents = place.texts("ident", "FROM evt_consumers ORDER BY ident");
    assert_eq!(idents.await, ["1:SAME", "2:SAME"]);
}

async fn wrong_credentials_are_refused(maker: Maker) {
    let place = Place::active(Engine::Sqlite).await;
    let service = Service::start(maker, &place).await;
    let client = Client::start();
    for (way, who) in [(Way::Http, Who::Clear), (Way::Ws, Who::Hmac("MD5"))] {
        let mut door = service.door("poll", way, who);
        door.credentials = match who {
            Who::Clear => "user:wrong",
            _ => "-hmac:user",
        };
        let face = client.face(&format!("{way:?}"), "poll", &door).await;
        let refused = face.try_call("registerConsumer", json!(["C"])).await;
        assert_eq!(refused.expect_err("refused").error, "SecurityError");
    }
    let mut door = service.door("push", Way::Ws, Who::Clear);
    door.credentials = "user:wrong";
    let mut receiver = client.receive("reliable", "C", &door, &[]).await;
    assert_eq!(receiver.until("workerError").await[0], "SecurityError");
    receiver.stop().await;
    assert!(place.ids("evt_consumers").await.is_empty());
}

both! {
    all_classes_work
    one_socket_carries_several_users
    wrong_credentials_are_refused
}
