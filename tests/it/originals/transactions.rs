//! The original's `DBGenFace.addXferEvent`: events in the application's own
//! transaction, in the database that is served.

use serde_json::json;

use super::{
    client::{Client, ids},
    place::{Engine, Place},
    service::{Maker, Service, Way, Who, both},
};

async fn events_of_transactions_arrive(maker: Maker, engine: Engine) {
    let place = Place::active(engine).await;
    place.run("CREATE TABLE orders (item VARCHAR(16))").await;
    let service = Service::start(maker, &place).await;
    let client = Client::start();
    let door = service.door("push", Way::Ws, Who::Clear);
    let mut receiver = client.receive("reliable", "C", &door, &[]).await;
    receiver.connected(1).await;

    let door = service.door("gen", Way::Ws, Who::Clear);
    client.face_in("shop", "shop", "dbgen", &door).await;
    let settings = json!({"ccm": "shop", "name": "evt", "settings": place.settings()});
    client.obey("database", settings).await;
    let transaction = |item: &str, then: &str| {
        let events = json!([
            {"type": "ORDER", "data": {"item": item}},
            {"type": "PAID", "data": "it's 9.90 €"},
        ]);
        json!({
            "ccm": "shop", "face": "shop", "table": "orders", "row": {"item": item},
            "events": events, "then": then,
        })
    };
    let mut seen = Vec::new();
    for item in ["tea", "rice"] {
        client
            .obey("transaction", transaction(item, "commit"))
            .await;
        let failed = client.ask("transaction", transaction("lost", "fail")).await;
        assert_eq!(failed.expect_err("it fails").error, "XferCondition");
        let mut group = Vec::new();
        while group.len() < 2 {
            let events = receiver.until("events").await;
            seen.extend(ids(&events));
            group.extend(events.as_array().expect("a list").clone());
        }
        assert_eq!(group[0]["data"], json!({"item": item}));
        assert_eq!(
            (&group[1]["type"], &group[1]["data"]),
            (&json!("PAID"), &json!("it's 9.90 €"))
        );
    }
    assert_eq!(seen, place.ids("evt_queue").await);
    let orders = place.texts("item", "FROM orders ORDER BY item");
    assert_eq!(orders.await, ["rice", "tea"]);
}

async fn events_of_transactions_arrive_from_sqlite(maker: Maker) {
    events_of_transactions_arrive(maker, Engine::Sqlite).await;
}

async fn events_of_transactions_arrive_from_postgres(maker: Maker) {
    events_of_transactions_arrive(maker, Engine::Postgres).await;
}

async fn events_of_transactions_arrive_from_mysql(maker: Maker) {
    events_of_transactions_arrive(maker, Engine::Mysql).await;
}

both! {
    events_of_transactions_arrive_from_sqlite
    events_of_transactions_arrive_from_postgres
    events_of_transactions_arrive_from_mysql
}
