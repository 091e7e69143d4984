//! Databases that are refused, each with what to do; and those that are adopted.

use tonic::Code;

use super::{
    Cluster, Database,
    cluster::{LockMode, Offer, insert, run},
};
use crate::{
    calls::{ids, poll, poll_of, refused, seek, status},
    round_trip::{add, register},
    server::{Clients, Server, eventually, program},
};
use futoin_eventstream::proto::GetStatusRequest;

/// The tables as the original makes them, before and after its second step.
pub const ORIGINAL: &str = "
    CREATE TABLE evt_queue (id BIGINT UNSIGNED NOT NULL auto_increment PRIMARY KEY,
        type VARCHAR(16) NOT NULL COMMENT 'Convert to enum for efficiency',
        data TEXT NOT NULL, ts DATETIME NOT NULL)
        ENGINE=InnoDB CHARACTER SET 'utf8' COMMENT 'Main high load table';
    CREATE TABLE evt_consumers (id SMALLINT NOT NULL auto_increment PRIMARY KEY,
        last_evt_id BIGINT UNSIGNED NOT NULL DEFAULT 0, reg_time DATETIME NOT NULL,
        last_time DATETIME NOT NULL, ident VARCHAR(64) NOT NULL UNIQUE,
        INDEX last_evt_id (last_evt_id) USING BTREE)
        ENGINE=InnoDB CHARACTER SET 'utf8' COMMENT 'Event Consumers';";
pub const ORIGINAL_UTF8MB4: &str = "
    ALTER TABLE evt_queue CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci,
        MODIFY `data` TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
    ALTER TABLE evt_consumers CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci";

pub async fn original() -> Database {
    let database = Cluster::shared().database().await;
    database.run(ORIGINAL).await;
    database
}

async fn refuses(change: &str, remedy: &str) {
    let database = original().await;
    database.run(change).await;
    is_refused(database.server(), remedy).await;
}

async fn is_refused(server: crate::server::Builder, remedy: &str) {
    let (code, log) = server.refused().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(remedy), "{log}");
}

#[tokio::test]
async fn table_without_transactions_is_refused() {
    refuses("ALTER TABLE evt_queue ENGINE = Aria", "ENGINE = InnoDB").await;
}

#[tokio::test]
async fn ids_that_the_database_does_not_give_out_are_refused() {
    let change = "ALTER TABLE evt_queue MODIFY id BIGINT UNSIGNED NOT NULL";
    refuses(change, "AUTO_INCREMENT").await;
}

#[tokio::test]
async fn table_that_is_not_ordered_by_id_is_refused() {
    let change = "ALTER TABLE evt_queue DROP PRIMARY KEY, ADD KEY (id)";
    refuses(change, "primary key").await;
}

#[tokio::test]
async fn idents_that_are_not_unique_are_refused() {
    refuses("ALTER TABLE evt_consumers DROP KEY ident", "ADD UNIQUE").await;
}

#[tokio::test]
async fn view_in_the_place_of_the_queue_is_refused() {
    let change = "RENAME TABLE evt_queue TO real_queue;
        CREATE VIEW evt_queue AS SELECT * FROM real_queue";
    refuses(change, "not a table").await;
}

#[tokio::test]
async fn user_without_privileges_is_told_which() {
    let database = original().await;
    drop(database.server().start().await);
    let url = database.user("").await;
    let user = url
        .split(['/', '@'])
        .find(|part| part.starts_with("user_"))
        .expect("it is in the URL");
    // What is printed is enough, and without any part of it the start says which.
    let printed = program(&["migrate", "--print-grants", "--db", &database.url]).await;
    let printed = String::from_utf8(printed.stdout).expect("text");
    let own = "'eventstream'@'localhost'";
    let granted: Vec<String> = printed
        .lines()
        .filter(|line| line.starts_with("GRANT") && line.contains(own))
        .map(|line| line.replace(own, user))
        .collect();
    assert_eq!(granted.len(), 13, "{printed}");
    let mut session = database.session().await;
    let revoke = format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}");
    run(&mut session, &revoke).await;
    for grant in &granted {
        run(&mut session, grant).await;
    }
    let limited = || Server::builder().on(&url);
    for grant in &granted {
        let (privileges, table) = grant
            .strip_prefix("GRANT ")
            .and_then(|rest| rest.split_once(" ON "))
            .expect("it is a GRANT");
        let table = table.split(' ').next().expect("a table");
        let last = privileges.rsplit(", ").next().expect("a privilege");
        let revoke = format!("REVOKE {last} ON {table} FROM {user}");
        run(&mut session, &revoke).await;
        is_refused(limited(), &format!("GRANT {last} ON {table}")).await;
        run(&mut session, grant).await;
    }
    let server = limited().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let id = add(&mut clients, "T", "1").await;
    assert_eq!(ids(&poll(&mut clients, poll_of("SHOP")).await.events), [id]);
}

#[tokio::test]
async fn server_that_cannot_be_used_is_told_from_one_that_is_away() {
    let database = Cluster::shared().database().await;
    let with = |from: &str, to: &str| Server::builder().on(&database.url.replace(from, to));
    is_refused(
        with(&database.name, "nowhere"),
        "Unknown database 'nowhere'",
    )
    .await;
    is_refused(
        with("root@", "nobody:hunter2@"),
        "Access denied for user 'nobody'",
    )
    .await;
    let (_, log) = with("root@", "nobody:hunter2@").refused().await;
    assert!(!log.contains("hunter2"), "{log}");
    is_refused(with("socket=", "socket=/nowhere"), "cannot connect").await;
}

#[tokio::test]
async fn unfit_servers_are_refused() {
    let settings = "max_allowed_packet = 4M\nlog_bin = binlog\nbinlog_format = STATEMENT";
    let cluster = Cluster::start_as(Offer::Schema, LockMode::Consecutive, settings);
    let database = cluster.database().await;
    is_refused(database.server(), "max_allowed_packet").await;
    database
        .run("SET GLOBAL max_allowed_packet = 16777216")
        .await;
    is_refused(database.server(), "binlog_format").await;
    database.run("SET GLOBAL binlog_format = MIXED").await;
    drop(database.server().start().await);
    for (change, back, remedy) in [
        (
            "read_only = 1",
            "read_only = 0",
            "point db.url at the primary",
        ),
        (
            "auto_increment_increment = 2",
            "auto_increment_increment = 1",
            "db.galera",
        ),
    ] {
        database.run(&format!("SET GLOBAL {change}")).await;
        is_refused(database.server(), remedy).await;
        database.run(&format!("SET GLOBAL {back}")).await;
    }
}

#[tokio::test]
async fn replica_is_refused() {
    let settings = "log_bin = binlog\nserver_id = 1";
    let primary = Cluster::start_as(Offer::Schema, LockMode::Consecutive, settings);
    let settings = "server_id = 2";
    let cluster = Cluster::start_as(Offer::Schema, LockMode::Consecutive, settings);
    let replica = cluster.database().await;
    let _kept = primary;
    replica
        .run(
            "CHANGE MASTER TO MASTER_HOST = 'primary.example', MASTER_USER = 'r';
             START REPLICA SQL_THREAD",
        )
        .await;
    is_refused(replica.server(), "replicates from primary.example").await;
    replica.run("STOP REPLICA").await;
    drop(replica.server().start().await);
}

#[tokio::test]
async fn database_of_the_original_is_adopted_and_can_go_back() {
    for change in ["SELECT 1", ORIGINAL_UTF8MB4] {
        let database = original().await;
        database.run(change).await;
        let mut application = database.session().await;
        for _ in 0..5 {
            insert(&mut application).await;
        }
        run(
            &mut application,
            "INSERT INTO evt_consumers (last_evt_id, reg_time, last_time, ident)
             VALUES (3, NOW(), NOW(), 'local:OLD'); DELETE FROM evt_queue WHERE id <= 2",
        )
        .await;
        let server = database.server().start().await;
        let mut clients = server.clients().await;
        let polled = poll(&mut clients, poll_of("OLD")).await;
        assert_eq!(ids(&polled.events), [4, 5]);
        drop(server);
        // The original's statements still work.
        run(
            &mut application,
            "INSERT INTO evt_consumers (reg_time, last_time, ident) VALUES (NOW(), NOW(), 'u:NEW');
             UPDATE evt_consumers SET last_evt_id = 5 WHERE ident = 'local:OLD'",
        )
        .await;
    }
}

#[tokio::test]
async fn names_of_the_tables_can_be_chosen() {
    let database = Cluster::shared().database().await;
    let server = database
        .server()
        .arg("--db-queue-table=shop_queue")
        .arg("--db-consumers-table=shop_consumers")
        .start()
        .await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    database
        .run("INSERT INTO shop_queue (type, data, ts) VALUES ('T', '1', UTC_TIMESTAMP())")
        .await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(polled.events.len(), 1);
    let other = database.server().start().await;
    let mut clients = other.clients().await;
    register(&mut clients, "SHOP").await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert!(polled.events.is_empty(), "a stream of its own");
}

/// What a killed migration leaves behind.
#[tokio::test]
async fn migration_that_ended_half_way_is_completed() {
    let database = original().await;
    database
        .run(
            "CREATE TABLE evt_migrations (stream VARCHAR(64) NOT NULL, version BIGINT NOT NULL,
                name VARCHAR(64) NOT NULL, applied DATETIME NOT NULL,
                PRIMARY KEY (stream, version));
             INSERT INTO evt_migrations VALUES ('evt_queue', 1, 'ftn18_tables', NOW());
             ALTER TABLE evt_consumers ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0",
        )
        .await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
}

/// Polls one event, acknowledging up to `last_id`.
async fn poll_one(clients: &mut Clients, last_id: i64) -> Vec<i64> {
    let mut request = poll_of("SHOP");
    request.last_id = Some(last_id);
    request.max_events = 1;
    ids(&poll(clients, request).await.events)
}

#[tokio::test]
async fn deletes_of_somebody_else_are_noticed() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let mut application = database.session().await;
    let mut added = Vec::new();
    for _ in 0..6 {
        added.push(insert(&mut application).await);
    }
    assert_eq!(poll_one(&mut clients, 0).await, added[..1]);
    assert_eq!(poll_one(&mut clients, added[1]).await, added[2..3]);
    // What the consumer has had may go.
    run(&mut application, "DELETE FROM evt_queue WHERE id <= 2").await;
    assert_eq!(poll_one(&mut clients, added[1]).await, added[2..3]);
    // What it has not had leaves a hole.
    run(&mut application, "DELETE FROM evt_queue WHERE id <= 4").await;
    let mut request = poll_of("SHOP");
    request.last_id = Some(added[1]);
    let hole = clients.poll.poll_events(request).await;
    refused(hole, Code::OutOfRange, "DISCARDED");
    assert_eq!(status(&mut clients).await.discarded_to_id, added[3]);
    seek(&mut clients, "SHOP", added[3]).await.expect("sought");
    assert_eq!(poll_one(&mut clients, added[3]).await, added[4..5]);
}

#[tokio::test]
async fn gap_above_deleted_rows_is_no_hole() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let mut application = database.session().await;
    let first = insert(&mut application).await;
    assert_eq!(poll_one(&mut clients, 0).await, [first]);
    assert!(poll_one(&mut clients, first).await.is_empty());
    run(&mut application, "BEGIN").await;
    insert(&mut application).await;
    run(&mut application, "ROLLBACK; DELETE FROM evt_queue").await;
    let next = insert(&mut application).await;
    assert_eq!(poll_one(&mut clients, first).await, [next]);
}

#[tokio::test]
async fn emptied_table_goes_on_with_its_ids() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let first = insert(&mut database.session().await).await;
    assert_eq!(poll_one(&mut clients, 0).await, [first]);
    assert!(poll_one(&mut clients, first).await.is_empty());
    database.run("DELETE FROM evt_queue").await;
    // Neither now, nor after starts of the service and of the server.
    for restart in ["none", "service", "server"] {
        let server = match restart {
            "none" => None,
            "service" => Some(database.server().start().await),
            _ => {
                cluster.restart();
                Some(database.server().start().await)
            }
        };
        if let Some(server) = &server {
            clients = server.clients().await;
        }
        let status = status(&mut clients).await;
        assert_eq!(
            (&*status.problem, status.frontier_id),
            ("", first),
            "{restart}"
        );
        assert!(poll_one(&mut clients, first).await.is_empty(), "{restart}");
        drop(server);
    }
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    let next = add(&mut clients, "T", "1").await;
    assert_eq!(next, first + 1);
    assert_eq!(poll_one(&mut clients, first).await, [next]);
}

#[tokio::test]
async fn ids_that_were_set_back_stop_the_consumers_above() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    register(&mut clients, "LATE").await;
    let mut application = database.session().await;
    for _ in 0..3 {
        insert(&mut application).await;
    }
    assert!(poll_one(&mut clients, 3).await.is_empty());
    run(&mut application, "TRUNCATE evt_queue").await;
    insert(&mut application).await;
    let server = {
        drop(server);
        database.server().start().await
    };
    let mut clients = server.clients().await;
    let refusal = clients.poll.poll_events(poll_of("SHOP")).await;
    refused(refusal, Code::FailedPrecondition, "CONSUMER_STOPPED");
    let status = status(&mut clients).await;
    assert!(status.problem.contains("restored"), "{status:?}");
    let polled = poll(&mut clients, poll_of("LATE")).await;
    assert_eq!(ids(&polled.events), [1]);
}

/// Runs one of the server's clients on a database, with this input; its output.
fn client(name: &str, database: &Database, input: &[u8]) -> Vec<u8> {
    use std::{io::Write as _, process::Stdio};
    let (_, socket) = database.url.split_once("socket=").expect("it has one");
    let mut process = std::process::Command::new(name)
        .args(["--no-defaults", "--user=root", "--socket", socket])
        .arg(&database.name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let mut stdin = process.stdin.take().expect("it is piped");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let output = process.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[tokio::test]
async fn older_copy_restored_under_a_running_service_is_noticed() {
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    for _ in 0..3 {
        add(&mut clients, "T", "1").await;
    }
    assert_eq!(poll_one(&mut clients, 2).await, [3]);
    let copy = client("mariadb-dump", &database, b"");
    for _ in 0..3 {
        add(&mut clients, "T", "1").await;
    }
    assert_eq!(poll_one(&mut clients, 5).await, [6]);
    client("mariadb", &database, &copy);
    eventually(async || {
        let status = clients.clone().admin.get_status(GetStatusRequest {}).await;
        let problem = status
            .map_err(|error| error.to_string())?
            .into_inner()
            .problem;
        if problem.contains("restored") {
            Ok(())
        } else {
            Err(problem)
        }
    })
    .await;
    assert_eq!(add(&mut clients, "T", "2").await, 4);
    assert_eq!(poll_one(&mut clients, 3).await, [4]);
}

/// Runs `migrate --widen`; what it said.
async fn widen(database: &Database) -> String {
    let output = tokio::process::Command::new(crate::server::PROGRAM)
        .args(["migrate", "--widen", "--db", &database.url])
        .output()
        .await
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn limits_of_adopted_tables_are_told_and_lifted_by_widening() {
    let database = original().await;
    let server = database.server().start().await;
    let log = server.log().join("\n");
    assert!(
        log.contains("emoji") && log.contains("upper from lower"),
        "{log}"
    );
    assert!(log.contains("65535 bytes"), "{log}");
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let emoji = "\"\u{1F980}\"";
    let oversized = format!("\"{}\"", "x".repeat(70_000));
    for text in [emoji, &oversized] {
        let request = futoin_eventstream::proto::AddEventRequest {
            r#type: "T".into(),
            data_json: text.into(),
            request_id: String::new(),
        };
        let refusal = clients.generate.add_event(request).await;
        refused(refusal, Code::FailedPrecondition, "EVENT_REFUSED");
    }
    let before = add(&mut clients, "T", "\"gr\u{fc}n\"").await;
    drop(server);

    assert!(widen(&database).await.contains("longtext"));
    assert_eq!(widen(&database).await.trim(), "nothing to do");
    let server = database.server().start().await;
    let log = server.log().join("\n");
    assert!(!log.contains("--widen"), "{log}");
    let mut clients = server.clients().await;
    register(&mut clients, "shop").await;
    for text in [emoji, &oversized] {
        add(&mut clients, "T", text).await;
    }
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    let texts: Vec<&str> = polled
        .events
        .iter()
        .map(|event| &*event.data_json)
        .collect();
    assert_eq!(polled.events[0].id, before);
    assert_eq!(texts, ["\"gr\u{fc}n\"", emoji, &oversized]);
}

#[tokio::test]
async fn event_without_data_blocks_who_wants_it_by_name() {
    let database = original().await;
    // The original's second step allows it.
    database.run(ORIGINAL_UTF8MB4).await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    database
        .run("INSERT INTO evt_queue (type, ts) VALUES ('T', UTC_TIMESTAMP())")
        .await;
    let refusal = clients.poll.poll_events(poll_of("SHOP")).await;
    refused(refusal, Code::FailedPrecondition, "EVENT_UNREADABLE");
}

#[tokio::test]
async fn name_that_an_adopted_column_does_not_tell_apart_is_refused() {
    let database = original().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let request = futoin_eventstream::proto::RegisterConsumerRequest {
        component: "shop".into(),
        ..Default::default()
    };
    let refusal = clients.poll.register_consumer(request).await;
    assert_eq!(refusal.expect_err("refused").code(), Code::Unavailable);
    let log = server.log().join("\n");
    assert!(log.contains("differs from local:shop only"), "{log}");
    // Nor is it taken for the other one.
    let refusal = clients.poll.poll_events(poll_of("shop")).await;
    refused(refusal, Code::NotFound, "NOT_REGISTERED");
}
