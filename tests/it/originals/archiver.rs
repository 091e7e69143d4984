//! The original's `DBEventArchiver`, which pulls events into a database of its
//! own.

use serde_json::{Value, json};

use super::{
    client::{Client, Receiver},
    place::{Engine, Place},
    service::{Door, Maker, Service, Way, Who, both},
};

/// Starts the archiver of a process that knows the warehouse.
async fn archive<'a>(client: &'a Client, door: &Door) -> Receiver<'a> {
    let options = json!({"component": "ARCHIVER"});
    client
        .receive_with("archiver", "archiver", door, options, &[])
        .await
}

/// Waits until it has archived so many.
async fn archived(archiver: &mut Receiver<'_>, count: u64) {
    let mut done = 0;
    while done < count {
        done += archiver.until("archived").await.as_u64().expect("a count");
    }
    assert_eq!(done, count);
}

/// What is in a table of events, as values.
async fn content(place: &Place, table: &str) -> Vec<(i64, Value)> {
    let mut content = Vec::new();
    let ids = place.ids(table).await;
    let rest = format!("FROM {table} ORDER BY {table}.id");
    for (id, data) in ids.into_iter().zip(place.texts("data", &rest).await) {
        content.push((id, serde_json::from_str(&data).expect("JSON")));
    }
    content
}

async fn archiver_moves_every_event(maker: Maker, engine: Engine) {
    let (place, warehouse) = (Place::active(engine).await, Place::warehouse(engine).await);
    let service = Service::start(maker, &place).await;
    let door = service.door("push", Way::Ws, Who::Clear);
    let generator = Client::start();
    let generate = service.door("gen", Way::Ws, Who::Clear);
    let generate = generator.face("gen", "gen", &generate).await;
    generate.add("BACKLOG", 250, 8).await;
    for count in [250, 3] {
        // A process of its own each time, as after a restart of the archiver.
        let client = Client::start();
        let settings =
            json!({"ccm": "archiver", "name": "evtdwh", "settings": warehouse.settings()});
        client.obey("database", settings).await;
        let mut archiver = archive(&client, &door).await;
        archived(&mut archiver, count).await;
        archiver.connected(1).await;
        generate.add_one("TEXT", json!("ü \" \\ '")).await;
        archived(&mut archiver, 1).await;
        settled(&place).await;
        archiver.stop().await;
        for data in [
            json!({"nested": [1, {"a": null}]}),
            Value::Null,
            json!(-2.5),
        ] {
            generate.add_one("LATER", data).await;
        }
    }
    let (kept, moved) = (
        content(&place, "evt_queue").await,
        content(&warehouse, "evt_history").await,
    );
    assert_eq!(moved.len(), 250 + 1 + 3 + 1);
    assert_eq!(moved, kept[..moved.len()]);
}

/// Waits until the last group is acknowledged: the original's server ends when
/// a socket closes before that.
async fn settled(place: &Place) {
    let last = place.ids("evt_queue").await.pop().expect("some");
    place.reaches("1:ARCHIVER", last).await;
}

async fn archiver_moves_every_event_of_sqlite(maker: Maker) {
    archiver_moves_every_event(maker, Engine::Sqlite).await;
}

async fn archiver_moves_every_event_of_postgres(maker: Maker) {
    archiver_moves_every_event(maker, Engine::Postgres).await;
}

async fn archiver_moves_every_event_of_mysql(maker: Maker) {
    archiver_moves_every_event(maker, Engine::Mysql).await;
}

both! {
    archiver_moves_every_event_of_sqlite
    archiver_moves_every_event_of_postgres
    archiver_moves_every_event_of_mysql
}
