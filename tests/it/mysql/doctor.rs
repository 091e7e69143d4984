//! What the doctor finds in MariaDB, each broken for real.

use super::{Cluster, LockMode, Offer, run};
use crate::observe::doctor::examine;

/// Breaks, mends, and what is found in between: check, verdict, remedy.
const SETTINGS: [(&str, &str, &str, &str, &str); 11] = [
    (
        "GLOBAL auto_increment_increment = 2",
        "GLOBAL auto_increment_increment = 1",
        "role of the server",
        "problem",
        "db.galera",
    ),
    (
        "GLOBAL read_only = 1",
        "GLOBAL read_only = 0",
        "role of the server",
        "problem",
        "",
    ),
    (
        "GLOBAL max_allowed_packet = 4194304",
        "GLOBAL max_allowed_packet = 16777216",
        "role of the server",
        "problem",
        "",
    ),
    (
        "GLOBAL sql_mode = ''",
        "GLOBAL sql_mode = 'STRICT_TRANS_TABLES'",
        "sql_mode",
        "warning",
        "STRICT_TRANS_TABLES",
    ),
    (
        "GLOBAL innodb_flush_log_at_trx_commit = 2",
        "GLOBAL innodb_flush_log_at_trx_commit = 1",
        "durability",
        "warning",
        "set it to 1",
    ),
    (
        "GLOBAL TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "isolation",
        "warning",
        "REPEATABLE READ",
    ),
    (
        "GLOBAL TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
        "GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "isolation",
        "warning",
        "REPEATABLE READ",
    ),
    (
        "GLOBAL TRANSACTION READ ONLY",
        "GLOBAL TRANSACTION READ WRITE",
        "isolation",
        "warning",
        "TRANSACTION READ WRITE",
    ),
    (
        "GLOBAL autocommit = OFF",
        "GLOBAL autocommit = ON",
        "isolation",
        "warning",
        "autocommit = ON",
    ),
    (
        "GLOBAL init_connect = 'SET autocommit = 0'",
        "GLOBAL init_connect = ''",
        "isolation",
        "warning",
        "with autocommit",
    ),
    (
        "GLOBAL max_connections = 10",
        "GLOBAL max_connections = 300",
        "connections",
        "warning",
        "max_connections",
    ),
];

#[tokio::test]
async fn each_misconfiguration_is_told_with_what_to_do() {
    let settings = "innodb_flush_log_at_trx_commit = 1";
    let cluster = Cluster::start_as(Offer::Schema, LockMode::Consecutive, settings);
    let database = cluster.database().await;
    let found = examine(&database.url, &[]).await;
    found.expect("schema", "warning", "eventstream migrate");
    drop(database.server().start().await);
    let found = examine(&database.url, &[]).await;
    assert_eq!(
        (found.code, found.bad()),
        (Some(0), vec![]),
        "{:#?}",
        found.findings
    );

    for (breaks, mends, check, verdict, remedy) in SETTINGS {
        database.run(&format!("SET {breaks}")).await;
        examine(&database.url, &[])
            .await
            .expect(check, verdict, remedy);
        database.run(&format!("SET {mends}")).await;
    }
    database.run("ALTER TABLE evt_queue ENGINE = MyISAM").await;
    examine(&database.url, &[])
        .await
        .expect("tables", "problem", "ENGINE = InnoDB");
    database.run("ALTER TABLE evt_queue ENGINE = InnoDB").await;
    database
        .run("DELETE FROM evt_migrations WHERE version > 3")
        .await;
    let found = examine(&database.url, &[]).await;
    found.expect("schema", "warning", "eventstream migrate");
}

#[tokio::test]
async fn missing_privilege_is_told_with_the_grant() {
    let database = Cluster::shared().database().await;
    drop(database.server().start().await);
    let url = database.user("").await;
    let user = url
        .split(['/', '@'])
        .find(|part| part.starts_with("user_"))
        .expect("it is in the URL");
    let mut session = database.session().await;
    run(
        &mut session,
        &format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}"),
    )
    .await;
    let all = format!("GRANT SELECT ON {}.* TO {user}", database.name);
    run(&mut session, &all).await;
    let found = examine(&url, &[]).await;
    found.expect("privileges", "problem", "GRANT INSERT ON evt_queue");
}
