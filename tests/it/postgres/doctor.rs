//! What the doctor finds in PostgreSQL, each broken for real.

use super::{
    Cluster,
    cluster::{insert, run},
    pooler::Pooler,
};
use crate::observe::doctor::examine;

#[tokio::test]
async fn each_misconfiguration_is_told_with_what_to_do() {
    let database = Cluster::shared().database().await;
    let found = examine(&database.url, &[]).await;
    found.expect("schema", "warning", "eventstream migrate");
    drop(database.server().start().await);

    let role = format!("{}_role", database.name);
    database.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let limited = database.of(&role);
    let found = examine(&limited.url, &[]).await;
    found.expect("schema", "problem", "GRANT SELECT, INSERT ON evt_queue");
    database
        .run(&format!(
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await;
    database
        .run(&format!("REVOKE INSERT ON evt_queue FROM {role}"))
        .await;
    let found = examine(&limited.url, &[]).await;
    found.expect("privileges", "problem", "GRANT INSERT ON evt_queue");

    for (breaks, mends, check, remedy) in [
        (
            "ALTER SEQUENCE evt_queue_id_seq CACHE 20",
            "ALTER SEQUENCE evt_queue_id_seq CACHE 1",
            "table and sequence",
            "CACHE 1",
        ),
        (
            "ALTER SEQUENCE evt_queue_id_seq INCREMENT BY 2",
            "ALTER SEQUENCE evt_queue_id_seq INCREMENT BY 1",
            "table and sequence",
            "INCREMENT BY 1",
        ),
        (
            "ALTER TABLE evt_queue SET UNLOGGED",
            "ALTER TABLE evt_queue SET LOGGED",
            "table and sequence",
            "SET LOGGED",
        ),
    ] {
        database.run(breaks).await;
        examine(&database.url, &[])
            .await
            .expect(check, "problem", remedy);
        database.run(mends).await;
    }
    database
        .run("DELETE FROM evt_migrations WHERE version > 3")
        .await;
    let found = examine(&database.url, &[]).await;
    found.expect("schema", "warning", "eventstream migrate");
}

#[tokio::test]
async fn sessions_of_producers_that_begin_badly_are_told() {
    let database = Cluster::shared().database().await;
    drop(database.server().start().await);
    let name = &database.name;
    let (producer, reader) = (format!("{name}_producer"), format!("{name}_reader"));
    database
        .run(&format!(
            "CREATE ROLE {producer}; GRANT INSERT ON evt_queue TO {producer};
             CREATE ROLE {reader}; GRANT SELECT ON evt_queue TO {reader};
             ALTER ROLE {reader} SET default_transaction_read_only = on"
        ))
        .await;
    // Who only reads may be kept from writing.
    assert_eq!(
        examine(&database.url, &[]).await.of("isolation")["verdict"],
        "ok"
    );
    for (whose, setting, value, check) in [
        (
            format!("ROLE {producer} IN DATABASE {name}"),
            "default_transaction_read_only",
            "on",
            "isolation",
        ),
        (
            format!("DATABASE {name}"),
            "default_transaction_isolation",
            "serializable",
            "isolation",
        ),
        (
            format!("ROLE {producer}"),
            "synchronous_commit",
            "off",
            "durability",
        ),
    ] {
        let broken = format!("ALTER {whose} SET {setting} = '{value}'");
        database.run(&broken).await;
        let found = examine(&database.url, &[]).await;
        found.expect(check, "warning", &format!("RESET {setting}"));
        // What is to be done mends it; the server of the tests does not sync.
        let remedies = found.of(check)["remedy"].as_str().expect("a remedy");
        let mends = remedies.split("; ").find(|it| it.contains("RESET"));
        database.run(mends.expect("one of them")).await;
        let found = examine(&database.url, &[]).await;
        let left = found.of(check)["remedy"].as_str().unwrap_or_default();
        assert!(!left.contains("RESET"), "{left}");
    }
}

#[tokio::test]
async fn who_holds_events_back_is_told() {
    let database = Cluster::shared().database().await;
    drop(database.server().start().await);
    let mut held = database.session().await;
    run(&mut held, "BEGIN").await;
    insert(&mut held).await;
    // As old as the doctor minds.
    crate::server::eventually(async || {
        let found = examine(&database.url, &[]).await;
        let verdict = found.of("open transactions")["verdict"].clone();
        if verdict == "warning" {
            Ok(())
        } else {
            Err(verdict)
        }
    })
    .await;
    let found = examine(&database.url, &["--probe"]).await;
    found.expect("open transactions", "warning", "end it");
    found.expect("wake-up", "warning", "open transactions");
}

#[tokio::test]
async fn standby_and_pooler_are_told_with_what_to_do() {
    let primary = Cluster::start();
    let name = primary.database().await.name;
    let standby = Cluster::standby_of(&primary);
    let found = examine(&standby.existing(&name).url, &[]).await;
    found.expect("connection", "problem", "point db.url at the primary");

    let database = Cluster::shared().database().await;
    let pooler = Pooler::start("pool_mode = transaction").await;
    let found = examine(&pooler.to(&database).url, &[]).await;
    found.expect("connection", "problem", "pool_mode = session");
    let found = examine("postgres://nobody@127.0.0.1:1/none", &[]).await;
    found.expect("connection", "problem", "");
}
