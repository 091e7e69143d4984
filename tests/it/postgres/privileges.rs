//! Roles that may do no more than they must, and those that may less.

use super::{
    Cluster, Database,
    cases::{late_commit, rollback_gap},
    cluster::{insert, insert_into, run},
    contract::original,
    stage::Stage,
};
use crate::{
    calls::{ack, consumer, ids, poll, poll_of},
    round_trip::{add, register},
    server::{eventually, program},
};

/// A role that may use the tables of the original and of the service, but not
/// the sequence that gives out ids.
async fn without_the_sequence() -> (Database, String) {
    let database = original().await;
    let role = format!("{}_role", database.name);
    drop(database.server().start().await);
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN;
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
             REVOKE ALL ON SEQUENCE evt_queue_id_seq FROM {role}, public"
        ))
        .await;
    (database, role)
}

#[tokio::test]
async fn case_21_role_that_may_not_read_the_sequence() {
    let (database, role) = without_the_sequence().await;
    let mut before = database.session().await;
    run(&mut before, "BEGIN").await;
    let first = insert(&mut before).await;
    let second = insert(&mut database.session().await).await;
    let limited = database.of(&role).server();
    let mut stage = Stage::with(database, limited).await;
    let grant = format!("GRANT USAGE ON SEQUENCE public.evt_queue_id_seq TO {role}");
    stage.until_logged(&grant).await;
    stage.expect_frontier(first - 1).await;
    run(&mut before, "COMMIT").await;
    stage.expect(&[first, second]).await;
    late_commit(&mut stage).await;
    rollback_gap(&mut stage).await;
    // Two that overlap and commit in the other order, seen in between.
    let (mut early, mut late) = (stage.transaction().await, stage.transaction().await);
    let one = insert(&mut early).await;
    let two = insert(&mut late).await;
    let three = insert(&mut early).await;
    stage.expect_frontier(one - 1).await;
    run(&mut late, "COMMIT").await;
    stage.expect_frontier(one - 1).await;
    run(&mut early, "COMMIT").await;
    stage.expect(&[one, two, three]).await;
}

#[tokio::test]
async fn case_21_emptied_table_is_no_restore_but_lower_ids_are() {
    let (database, role) = without_the_sequence().await;
    let limited = database.of(&role).server();
    let mut stage = Stage::with(database, limited).await;
    let mut application = stage.database.session().await;
    let ids = [
        insert(&mut application).await,
        insert(&mut application).await,
    ];
    stage.expect(&ids).await;
    ack(&mut stage.clients, "SHOP", ids[1], None)
        .await
        .expect("acknowledged");
    run(&mut application, "DELETE FROM evt_queue").await;
    stage.expect_frontier(ids[1]).await;
    let next = insert(&mut application).await;
    stage.expect(&[next]).await;
    ack(&mut stage.clients, "SHOP", next, None)
        .await
        .expect("acknowledged");
    run(&mut application, "TRUNCATE evt_queue RESTART IDENTITY").await;
    assert_eq!(insert(&mut application).await, 1);
    let mut clients = stage.clients.clone();
    eventually(async || {
        let request = futoin_eventstream::proto::GetStatusRequest {};
        let status = clients.admin.get_status(request).await;
        let status = status.map_err(|error| error.to_string())?.into_inner();
        match &status.stopped_consumers[..] {
            [stopped] if stopped.component == "SHOP" => Ok(()),
            _ => Err(format!("{status:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn case_21_role_that_may_only_draw_reads_the_sequence_by_function() {
    let (database, role) = without_the_sequence().await;
    let grant = format!("GRANT USAGE ON SEQUENCE evt_queue_id_seq TO {role}");
    database.run(&grant).await;
    let limited = database.of(&role).server();
    let mut stage = Stage::with(database, limited).await;
    let mut session = stage.transaction().await;
    let dead = insert(&mut session).await;
    run(&mut session, "ROLLBACK").await;
    // Without a row above it, only the sequence tells of it.
    stage.expect_frontier(dead).await;
    late_commit(&mut stage).await;
    rollback_gap(&mut stage).await;
}

/// What `migrate --print-grants` says, as statements.
async fn grants(database: &Database) -> Vec<String> {
    let args = [
        "migrate",
        "--print-grants",
        "--db",
        &database.url,
        "--db-schema=events",
    ];
    let output = program(&args).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let statements = text.lines().filter(|line| line.starts_with("GRANT"));
    statements.map(str::to_owned).collect()
}

/// The printed statements, for roles of this database's own.
async fn granted(database: &Database) -> (String, String, Vec<String>) {
    let (service, producer) = (
        format!("{}_service", database.name),
        format!("{}_producer", database.name),
    );
    database
        .run(&format!(
            "CREATE ROLE {service} LOGIN; CREATE ROLE {producer} LOGIN"
        ))
        .await;
    let statements = grants(database).await.into_iter().map(|statement| {
        let statement = statement.replace(" TO eventstream;", &format!(" TO {service}"));
        statement.replace(" TO producer;", &format!(" TO {producer}"))
    });
    let statements: Vec<String> = statements.collect();
    database.run(&statements.join(";")).await;
    (service, producer, statements)
}

async fn migrated() -> Database {
    let database = Cluster::shared().database().await;
    let output = program(&["migrate", "--db", &database.url, "--db-schema=events"]).await;
    assert!(output.status.success(), "{output:?}");
    database
}

#[tokio::test]
async fn printed_grants_are_enough() {
    let database = migrated().await;
    let (service, producer, _) = granted(&database).await;
    let server = database.of(&service).server().arg("--db-schema=events");
    let server = server.start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let own = add(&mut clients, "T", "1").await;
    let mut application = database.of(&producer).session().await;
    run(
        &mut application,
        "INSERT INTO events.evt_queue (type, data, ts) VALUES ('T', '2', now())",
    )
    .await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [own, own + 1]);
    ack(&mut clients, "SHOP", own, None)
        .await
        .expect("acknowledged");
    let (_, stream) =
        crate::round_trip::subscribe(&mut clients, crate::round_trip::ready("SHOP")).await;
    drop(stream);
    assert_eq!(consumer(&mut clients, "SHOP").await.position, own);
    let warned = |line: &String| line.contains("\"WARN\"");
    assert!(!server.log().iter().any(warned), "{:?}", server.log());
}

/// `GRANT A, B ON x TO r` as `GRANT A ON x TO r` and `GRANT B ON x TO r`.
fn singly(statement: &str) -> Vec<String> {
    let (privileges, rest) = statement
        .strip_prefix("GRANT ")
        .and_then(|statement| statement.split_once(" ON "))
        .expect("a grant");
    let privileges = privileges.split(", ");
    privileges
        .map(|one| format!("GRANT {one} ON {rest}"))
        .collect()
}

#[tokio::test]
async fn each_missing_grant_is_named() {
    let database = migrated().await;
    let (service, _, statements) = granted(&database).await;
    let of_service = statements.iter().filter(|text| text.ends_with(&service));
    let mut missing = 0;
    for grant in of_service.flat_map(|statement| singly(statement)) {
        let revoke = grant
            .replacen("GRANT", "REVOKE", 1)
            .replace(" TO ", " FROM ");
        database.run(&revoke).await;
        let server = database.of(&service).server().arg("--db-schema=events");
        // The tables are in the search path of the service.
        let named = grant.replace(" events.", " ");
        if grant.contains("evt_queue_id_seq") {
            let server = server.start().await;
            let log = server.log().join("\n");
            assert!(log.contains(&grant), "{grant}: {log}");
        } else {
            let (code, log) = server.refused().await;
            assert_eq!(code, Some(1), "{grant}: {log}");
            assert!(
                log.contains(&grant) || log.contains(&named),
                "{grant}: {log}"
            );
        }
        database.run(&grant).await;
        missing += 1;
    }
    assert_eq!(missing, 43);
}

#[tokio::test]
async fn migration_by_a_role_that_may_not_says_who_may() {
    let database = Cluster::shared().database().await;
    let role = format!("{}_role", database.name);
    database.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let (_, log) = database.of(&role).server().refused().await;
    assert!(
        log.contains("eventstream migrate` as their owner") && log.contains("--print-grants"),
        "{log}"
    );
}

#[tokio::test]
async fn grants_are_printed_before_the_tables_are_there_and_for_ids_of_any_kind() {
    let database = Cluster::shared().database().await;
    database.run("CREATE SCHEMA events").await;
    let printed = grants(&database).await.join("\n");
    assert!(
        printed.contains("SEQUENCE events.evt_queue_id_seq TO producer"),
        "{printed}"
    );
    let made = database.run("DROP SCHEMA events CASCADE");
    made.await;
    let _ = migrated_with_identity(&database).await;
    let printed = grants(&database).await.join("\n");
    assert!(!printed.contains("evt_queue_id_seq"), "{printed}");
}

/// Ids that are an identity need no grant on their sequence.
async fn migrated_with_identity(database: &Database) -> i64 {
    let sql = "CREATE SCHEMA events; CREATE TABLE events.evt_queue (
            id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
            type varchar(16) NOT NULL, data json NOT NULL, ts timestamp NOT NULL)";
    database.run(sql).await;
    let output = program(&["migrate", "--db", &database.url, "--db-schema=events"]).await;
    assert!(output.status.success(), "{output:?}");
    let (service, producer, _) = granted(database).await;
    let server = database.of(&service).server().arg("--db-schema=events");
    let server = server.start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add(&mut clients, "T", "1").await;
    let mut application = database.of(&producer).session().await;
    run(
        &mut application,
        "INSERT INTO events.evt_queue (type, data, ts) VALUES ('T', '2', now())",
    )
    .await;
    let mut owner = database.session().await;
    let last = insert_into(&mut owner, "events.evt_queue").await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(polled.events.len(), 3);
    last
}

#[tokio::test]
async fn sqlite_prints_that_permissions_of_the_file_apply() {
    let output = program(&["migrate", "--print-grants", "--db", "sqlite:es.db"]).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        text.contains("file's permissions") && text.contains("es.db"),
        "{text}"
    );
    assert!(!std::path::Path::new("es.db").exists());
}

#[tokio::test]
async fn clock_of_the_database_that_is_far_off_is_told_and_decides_nothing() {
    let database = Cluster::shared().database().await;
    let name = &database.name;
    database
        .run(&format!(
            "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql
                AS 'SELECT pg_catalog.clock_timestamp() + interval ''1 hour''';
             ALTER DATABASE {name} SET search_path = public, pg_catalog"
        ))
        .await;
    let mut stage = Stage::on(database).await;
    stage.until_logged("let NTP set both").await;
    stage.until_logged("\"database_ahead_ms\":3").await;
    late_commit(&mut stage).await;
}
