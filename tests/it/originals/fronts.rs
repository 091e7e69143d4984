//! A consumer is the same whoever asks for it: a program of the original over
//! FutoIn, and another one over gRPC.

use serde_json::json;

use super::{
    client::{Client, ids},
    place::{Engine, Place},
    service::{Maker, Service, Way, Who},
};
use crate::{
    calls::{self, ack, poll, poll_of},
    round_trip::{add, next_group, ready, subscribe},
};

#[tokio::test]
async fn consumer_goes_on_over_the_other_front() {
    let place = Place::active(Engine::Sqlite).await;
    let service = Service::start(Maker::Ours, &place).await;
    let client = Client::start();
    let mut grpc = service.server().clients().await;
    let generate = service.door("gen", Way::Http, Who::Local);
    let generate = client.face("gen", "gen", &generate).await;
    let polls = service.door("poll", Way::Http, Who::Local);
    let polls = client.face("poll", "poll", &polls).await;

    polls.call("registerConsumer", json!(["C"])).await;
    generate.add("A", 2, 1).await;
    add(&mut grpc, "B", "1").await;
    let page = polls.call("pollEvents", json!(["C", "1", null])).await;
    assert_eq!(ids(&page), [2, 3]);

    let (started, mut stream) = subscribe(&mut grpc, ready("C")).await;
    assert_eq!(started.start_after_id, 1);
    let group = next_group(&mut stream).await;
    assert_eq!(calls::ids(&group.events), [2, 3]);
    let acked = ack(&mut grpc, "C", 3, Some(started.epoch)).await;
    assert_eq!(acked.expect("acknowledged"), 3);
    drop(stream);
    calls::until_unsubscribed(&mut grpc, "C").await;

    let later = generate.add("A", 2, 1).await;
    let door = service.door("push", Way::Ws, Who::Local);
    let mut receiver = client.receive("reliable", "C", &door, &[]).await;
    assert_eq!(receiver.groups(2).await, later);
    place.reaches("local:C", later[1]).await;
    receiver.stop().await;
    calls::until_unsubscribed(&mut grpc, "C").await;
    assert_eq!(poll(&mut grpc, poll_of("C")).await.events, []);
}
