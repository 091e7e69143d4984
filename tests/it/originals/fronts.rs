//! One body of tests for both fronts: what generating, polling and pushing
//! mean does not depend on the protocol.

use futoin_eventstream::proto::{
    self, AddEventRequest, PollEventsRequest, ReadyToReceiveRequest, ReadyToReceiveResponse,
    RegisterConsumerRequest,
};
use serde_json::{Value, json};
use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;

use super::{
    client::{Client, Receiver, Refused, number},
    place::{Engine, Place},
    service::{Maker, Service, Way, Who},
};
use crate::{
    calls::{self, ack},
    round_trip::{next_group, subscribe},
    server::Clients,
};

/// An event as both fronts show it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    id: i64,
    kind: String,
    data: Value,
}

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Invalid,
    NotRegistered,
    LiveNotAllowed,
}

/// Ids of no events.
const NOTHING: [i64; 0] = [];

/// How a program uses the service.
trait Front {
    type Subscription<'a>: Subscription
    where
        Self: 'a;

    async fn add(&self, kind: &str, data: &Value) -> Result<i64, Fault>;
    async fn register(&self, component: &str) -> Result<(), Fault>;
    async fn poll(
        &self,
        component: &str,
        last_id: Option<i64>,
        want: Option<&[&str]>,
    ) -> Result<Vec<Event>, Fault>;
    /// A subscription that has begun.
    async fn subscribe(&self, component: &str, want: Option<&[&str]>) -> Self::Subscription<'_>;

    /// Adds this many; their ids.
    async fn add_many(&self, kind: &str, count: i64) -> Vec<i64> {
        let mut ids = Vec::new();
        for number in 0..count {
            ids.push(self.add(kind, &json!(number)).await.expect("added"));
        }
        ids
    }

    /// Ids of a poll that must work.
    async fn polled(
        &self,
        component: &str,
        last_id: Option<i64>,
        want: Option<&[&str]>,
    ) -> Vec<i64> {
        let events = self.poll(component, last_id, want).await.expect("polled");
        events.iter().map(|event| event.id).collect()
    }
}

/// Groups that wait for their acknowledgement one by one.
trait Subscription {
    /// The next group that is not empty.
    async fn group(&mut self) -> Vec<Event>;
    /// Acknowledges the last group.
    async fn acknowledge(&mut self);
    /// Goes away.
    async fn leave(self);

    /// Ids of so many events, all acknowledged.
    async fn take(&mut self, count: usize) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.extend(self.group().await.iter().map(|event| event.id));
            self.acknowledge().await;
        }
        ids
    }
}

/// Over gRPC.
struct Grpc {
    clients: Clients,
}

fn fault(status: &Status) -> Fault {
    let details = status.get_error_details();
    match details.error_info().map(|info| info.reason.as_str()) {
        Some("INVALID_FIELD") => Fault::Invalid,
        Some("NOT_REGISTERED") => Fault::NotRegistered,
        Some("LIVE_NOT_ALLOWED") => Fault::LiveNotAllowed,
        _ => panic!("{status:?}"),
    }
}

fn of_grpc(event: proto::Event) -> Event {
    Event {
        id: event.id,
        kind: event.r#type,
        data: serde_json::from_str(&event.data_json).expect("JSON"),
    }
}

impl Front for Grpc {
    type Subscription<'a> = Stream;

    async fn add(&self, kind: &str, data: &Value) -> Result<i64, Fault> {
        let request = AddEventRequest {
            r#type: kind.to_owned(),
            data_json: data.to_string(),
            request_id: String::new(),
        };
        let added = self.clients.generate.clone().add_event(request).await;
        Ok(added.map_err(|status| fault(&status))?.into_inner().id)
    }

    async fn register(&self, component: &str) -> Result<(), Fault> {
        let request = RegisterConsumerRequest {
            component: component.to_owned(),
            start: None,
        };
        let done = self.clients.poll.clone().register_consumer(request).await;
        done.map(drop).map_err(|status| fault(&status))
    }

    async fn poll(
        &self,
        component: &str,
        last_id: Option<i64>,
        want: Option<&[&str]>,
    ) -> Result<Vec<Event>, Fault> {
        let request = PollEventsRequest {
            last_id,
            want: want.and_then(calls::want),
            ..calls::poll_of(component)
        };
        let polled = self.clients.poll.clone().poll_events(request).await;
        let polled = polled.map_err(|status| fault(&status))?.into_inner();
        Ok(polled.events.into_iter().map(of_grpc).collect())
    }

    async fn subscribe(&self, component: &str, want: Option<&[&str]>) -> Stream {
        let request = ReadyToReceiveRequest {
            component: component.to_owned(),
            want: want.and_then(calls::want),
            ..Default::default()
        };
        let mut clients = self.clients.clone();
        let (started, messages) = subscribe(&mut clients, request).await;
        Stream {
            clients,
            messages,
            component: component.to_owned(),
            epoch: started.epoch,
            last_id: 0,
        }
    }
}

/// A subscription over gRPC.
struct Stream {
    clients: Clients,
    messages: Streaming<ReadyToReceiveResponse>,
    component: String,
    epoch: i64,
    last_id: i64,
}

impl Subscription for Stream {
    async fn group(&mut self) -> Vec<Event> {
        loop {
            let group = next_group(&mut self.messages).await;
            self.last_id = group.last_id;
            if !group.events.is_empty() {
                return group.events.into_iter().map(of_grpc).collect();
            }
            self.acknowledge().await;
        }
    }

    async fn acknowledge(&mut self) {
        if self.component != "LIVE" {
            let done = ack(
                &mut self.clients,
                &self.component,
                self.last_id,
                Some(self.epoch),
            );
            assert_eq!(done.await.expect("acknowledged"), self.last_id);
        }
    }

    async fn leave(self) {}
}

/// Over FutoIn, by the original's clients.
struct Futoin {
    client: Client,
    service: Service,
}

impl Futoin {
    async fn to(service: Service) -> Self {
        let client = Client::start();
        for (name, way) in [("gen", Way::Ws), ("poll", Way::Http)] {
            client
                .face(name, name, &service.door(name, way, Who::Local))
                .await;
        }
        Self { client, service }
    }

    async fn call(&self, face: &str, method: &str, args: Value) -> Result<Value, Fault> {
        let args = json!({"face": face, "method": method, "args": args});
        let done = self.client.ask("call", args).await;
        done.map_err(|Refused { error, about }| match error.as_str() {
            "InvalidRequest" => Fault::Invalid,
            "NotRegistered" => Fault::NotRegistered,
            "LiveNotAllowed" => Fault::LiveNotAllowed,
            _ => panic!("{error}: {about}"),
        })
    }
}

fn of_futoin(events: &Value) -> Vec<Event> {
    let events = events.as_array().expect("a list");
    let event = |event: &Value| Event {
        id: number(&event["id"]),
        kind: event["type"].as_str().expect("a text").to_owned(),
        data: event["data"].clone(),
    };
    events.iter().map(event).collect()
}

impl Front for Futoin {
    type Subscription<'a> = Receiver<'a>;

    async fn add(&self, kind: &str, data: &Value) -> Result<i64, Fault> {
        let id = self.call("gen", "addEvent", json!([kind, data])).await?;
        Ok(number(&id))
    }

    async fn register(&self, component: &str) -> Result<(), Fault> {
        let done = self
            .call("poll", "registerConsumer", json!([component]))
            .await?;
        assert_eq!(done, true);
        Ok(())
    }

    async fn poll(
        &self,
        component: &str,
        last_id: Option<i64>,
        want: Option<&[&str]>,
    ) -> Result<Vec<Event>, Fault> {
        let last_id = last_id.map(|id| id.to_string());
        let args = json!([component, last_id, want]);
        Ok(of_futoin(&self.call("poll", "pollEvents", args).await?))
    }

    async fn subscribe(&self, component: &str, want: Option<&[&str]>) -> Receiver<'_> {
        let door = self.service.door("push", Way::Ws, Who::Local);
        let options = json!({"component": component, "want": want});
        // The stock receiver of live events cannot be slow.
        let (kind, acts) = match component {
            "LIVE" => ("live", &[][..]),
            _ => ("reliable", &["hold"; 100][..]),
        };
        let receiver = self
            .client
            .receive_with(component, kind, &door, options, acts);
        let mut receiver = receiver.await;
        receiver.connected(1).await;
        receiver
    }
}

impl Subscription for Receiver<'_> {
    async fn group(&mut self) -> Vec<Event> {
        of_futoin(&self.until("events").await)
    }

    async fn acknowledge(&mut self) {
        self.release().await;
    }

    async fn leave(self) {
        self.stop().await;
    }
}

async fn events_keep_their_content(front: &impl Front) {
    front.register("C").await.expect("registered");
    let kinds = ["A", "_", "ABCDEFGHIJKLMNOP"];
    let texts = [
        json!(null),
        json!({"é": [1.5, "😀", {}]}),
        json!("\u{0}\"\\"),
    ];
    let mut expected = Vec::new();
    for (kind, data) in kinds.into_iter().zip(texts) {
        let id = front.add(kind, &data).await.expect("added");
        let kind = kind.to_owned();
        expected.push(Event { id, kind, data });
    }
    assert_eq!(front.poll("C", None, None).await.expect("polled"), expected);
    let mut pushed = front.subscribe("C", None).await;
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        seen.extend(pushed.group().await);
        pushed.acknowledge().await;
    }
    assert_eq!(seen, expected);
}

async fn polls_acknowledge(front: &impl Front) {
    let ids = front.add_many("A", 3).await;
    front.register("C").await.expect("registered");
    // Nothing is acknowledged by looking.
    assert_eq!(front.polled("C", None, None).await, ids);
    assert_eq!(front.polled("C", Some(ids[0]), None).await, ids[1..]);
    assert_eq!(front.polled("C", None, None).await, ids[1..]);
    // A position does not go back, and a second registration is none.
    assert_eq!(front.polled("C", Some(ids[0]), None).await, ids[1..]);
    front.register("C").await.expect("registered");
    assert_eq!(front.polled("C", Some(ids[2]), None).await, NOTHING);
    front.register("D").await.expect("registered");
    assert_eq!(front.polled("D", None, None).await, ids);
    assert_eq!(front.polled("LIVE", Some(ids[1]), None).await, ids[2..]);
    assert_eq!(front.polled("LIVE", None, None).await, ids);
}

async fn polls_filter(front: &impl Front) {
    let unwanted = front.add_many("A", 2).await;
    let wanted = front.add_many("B", 2).await;
    front.register("C").await.expect("registered");
    assert_eq!(front.polled("C", None, Some(&["B"])).await, wanted);
    assert_eq!(front.polled("C", None, Some(&["B", "C"])).await, wanted);
    let all = [unwanted, wanted].concat();
    assert_eq!(front.polled("C", None, None).await, all);
    // The position passes what the filter leaves out.
    assert_eq!(front.polled("C", None, Some(&["NONE"])).await, NOTHING);
    assert_eq!(front.polled("C", None, None).await, NOTHING);
}

async fn refusals_have_their_names(front: &impl Front) {
    assert_eq!(front.polled("LIVE", None, None).await, NOTHING);
    assert_eq!(front.poll("C", None, None).await, Err(Fault::NotRegistered));
    assert_eq!(front.register("LIVE").await, Err(Fault::LiveNotAllowed));
}

async fn unacknowledged_groups_come_again(front: &impl Front) {
    front.register("C").await.expect("registered");
    let first = front.add_many("A", 2).await;
    let mut subscription = front.subscribe("C", None).await;
    assert_eq!(subscription.take(2).await, first);
    let second = front.add_many("A", 1).await;
    let group = subscription.group().await;
    assert_eq!(group[0].id, second[0]);
    subscription.leave().await;
    let third = front.add_many("A", 1).await;
    let mut subscription = front.subscribe("C", None).await;
    assert_eq!(subscription.take(2).await, [second, third].concat());
}

async fn subscriptions_filter(front: &impl Front) {
    front.register("C").await.expect("registered");
    let mut subscription = front.subscribe("C", Some(&["B"])).await;
    for _ in 0..3 {
        front.add_many("A", 2).await;
        let wanted = front.add_many("B", 1).await;
        assert_eq!(subscription.take(1).await, wanted);
    }
}

async fn live_subscriptions_begin_now(front: &impl Front) {
    front.add_many("A", 3).await;
    let mut subscription = front.subscribe("LIVE", None).await;
    let now = front.add_many("A", 1).await;
    assert_eq!(subscription.group().await[0].id, now[0]);
}

async fn service() -> (Place, Service) {
    let place = Place::active(Engine::Sqlite).await;
    let service = Service::start(Maker::Ours, &place).await;
    (place, service)
}

/// Each body over each front.
macro_rules! fronts {
    ($($body:ident)*) => {
        mod grpc {
            $(#[tokio::test]
            async fn $body() {
                let (_place, service) = super::service().await;
                let clients = service.server().clients().await;
                super::$body(&super::Grpc { clients }).await;
            })*
        }
        mod futoin {
            $(#[tokio::test]
            async fn $body() {
                let (_place, service) = super::service().await;
                super::$body(&super::Futoin::to(service).await).await;
            })*
        }
    };
}

fronts! {
    events_keep_their_content
    polls_acknowledge
    polls_filter
    refusals_have_their_names
    unacknowledged_groups_come_again
    subscriptions_filter
    live_subscriptions_begin_now
}

/// A consumer is the same whoever asks for it.
#[tokio::test]
async fn consumer_moves_from_front_to_front() {
    let (_place, service) = service().await;
    let grpc = Grpc {
        clients: service.server().clients().await,
    };
    let futoin = Futoin::to(service).await;
    futoin.register("C").await.expect("registered");
    let ids = [futoin.add_many("A", 2).await, grpc.add_many("A", 2).await].concat();
    assert_eq!(futoin.polled("C", Some(ids[0]), None).await, ids[1..]);
    let mut stream = grpc.subscribe("C", None).await;
    let pushed = stream.group().await;
    assert_eq!(pushed[0].id, ids[1]);
    stream.acknowledge().await;
    let position = pushed.last().expect("some").id;
    stream.leave().await;
    let later = futoin.add_many("A", 1).await;
    let mut receiver = futoin.subscribe("C", None).await;
    let rest: Vec<i64> = ids
        .iter()
        .chain(&later)
        .copied()
        .filter(|&id| id > position)
        .collect();
    assert_eq!(receiver.take(rest.len()).await, rest);
    receiver.leave().await;
    // The old receiver may still be there for a moment: polls wait for it.
    crate::server::eventually(async || {
        grpc.poll_quietly("C")
            .await
            .map(|events| assert_eq!(events, NOTHING))
    })
    .await;
}

impl Grpc {
    /// A poll that may come too early.
    async fn poll_quietly(&self, component: &str) -> Result<Vec<i64>, Status> {
        let mut poll = self.clients.poll.clone();
        let polled = poll.poll_events(calls::poll_of(component)).await?;
        Ok(calls::ids(&polled.into_inner().events))
    }
}
