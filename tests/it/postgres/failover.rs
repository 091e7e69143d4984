//! Another server takes over: a promoted standby, one that was behind, the old
//! primary, an older copy. The service is led there as by a virtual address.

use sqlx::Row as _;
use tonic::Code;

use super::{
    Cluster, Database,
    cluster::{Door, insert, run},
    stage::Stage,
};
use crate::{
    calls::{ack, consumer, refused, seek},
    server::eventually,
};

/// A primary, its standby, and a service that reaches the primary by a door.
struct Pair {
    primary: Cluster,
    standby: Cluster,
    door: Door,
    stage: Stage,
    name: String,
}

impl Pair {
    async fn open() -> Self {
        let primary = Cluster::start();
        let database = primary.database().await;
        let standby = Cluster::standby_of(&primary);
        let door = Door::to(&primary);
        let name = database.name.clone();
        let server = door.database(&name).server();
        let stage = Stage::with(database, server).await;
        Self {
            primary,
            standby,
            door,
            stage,
            name,
        }
    }

    /// Waits until the standby has everything.
    async fn catch_up(&self) {
        let at: String = value(&self.stage.database, "SELECT pg_current_wal_lsn()::text").await;
        let behind = format!("SELECT (pg_last_wal_replay_lsn() < '{at}')::text");
        let there = self.standby.existing(&self.name);
        eventually(async || match value(&there, &behind).await.as_str() {
            "false" => Ok(()),
            other => Err(other.to_owned()),
        })
        .await;
    }

    /// The standby gets nothing any more.
    async fn cut_off(&self) {
        let there = self.standby.existing("postgres");
        there.run("ALTER SYSTEM SET primary_conninfo = ''").await;
        there.run("SELECT pg_reload_conf()").await;
        eventually(async || {
            let streaming = "SELECT count(*)::text FROM pg_stat_wal_receiver";
            match value(&there, streaming).await.as_str() {
                "0" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
    }

    /// The standby is the primary from now on.
    async fn fail_over(&mut self) {
        self.primary.stop("immediate");
        self.standby.promote();
        self.door.lead_to(&self.standby);
        self.stage.database = self.standby.existing(&self.name);
        self.stage.recover().await;
    }
}

async fn value(database: &Database, sql: &str) -> String {
    let mut session = database.session().await;
    let row = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut session);
    row.await.expect("read").get(0)
}

/// Ends every connection of the service.
async fn terminate(database: &Database) {
    database
        .run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name LIKE 'eventstream%'",
        )
        .await;
}

async fn insert_many(database: &Database, count: usize) -> Vec<i64> {
    let mut session = database.session().await;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(insert(&mut session).await);
    }
    ids
}

#[tokio::test]
async fn failover_to_a_standby_that_has_everything() {
    let mut pair = Pair::open().await;
    let ids = insert_many(&pair.stage.database, 3).await;
    pair.stage.expect(&ids).await;
    ack(&mut pair.stage.clients, "SHOP", ids[1], None)
        .await
        .expect("acknowledged");
    let mut prepared = pair.stage.transaction().await;
    let held = insert(&mut prepared).await;
    run(&mut prepared, "PREPARE TRANSACTION 'kept'").await;
    // This one ends with its server.
    let mut open = pair.stage.transaction().await;
    insert(&mut open).await;
    pair.stage.expect_frontier(ids[2]).await;
    pair.catch_up().await;
    pair.fail_over().await;
    pair.stage.until_logged("another server or timeline").await;

    pair.stage.expect(&ids[2..]).await;
    let after = insert_many(&pair.stage.database, 1).await[0];
    pair.stage.expect_frontier(held - 1).await;
    pair.stage.database.run("COMMIT PREPARED 'kept'").await;
    pair.stage.expect(&[held, after]).await;
    let status = pair.stage.status().await;
    assert!(
        status.problem.is_empty() && status.stopped_consumers.is_empty(),
        "{status:?}"
    );
}

#[tokio::test]
async fn failover_that_rolls_ids_back_is_an_alarm() {
    let mut pair = Pair::open().await;
    let kept = insert_many(&pair.stage.database, 2).await;
    pair.stage.expect(&kept).await;
    ack(&mut pair.stage.clients, "SHOP", kept[0], None)
        .await
        .expect("acknowledged");
    pair.catch_up().await;
    pair.cut_off().await;
    // More than a sequence is written ahead.
    let lost = insert_many(&pair.stage.database, 100).await;
    pair.stage.expect(&lost).await;
    let highest = lost[99];
    ack(&mut pair.stage.clients, "SHOP", highest, None)
        .await
        .expect("acknowledged");
    pair.fail_over().await;

    // The position went back with everything else.
    pair.stage.expect(&kept[1..]).await;
    let status = pair.stage.status().await;
    assert!(status.problem.contains("restored"), "{status:?}");
    assert!(status.head_id < highest, "{status:?}");
    let beyond = ack(&mut pair.stage.clients, "SHOP", highest, None).await;
    refused(beyond, Code::OutOfRange, "BEYOND_HEAD");
    let next = insert_many(&pair.stage.database, 3).await;
    pair.stage.expect(&next).await;
}

#[tokio::test]
async fn old_primary_that_comes_back_as_a_standby_is_refused() {
    let mut pair = Pair::open().await;
    let ids = insert_many(&pair.stage.database, 2).await;
    pair.stage.expect(&ids).await;
    pair.catch_up().await;
    pair.fail_over().await;
    pair.stage.expect(&ids).await;

    // It left the common way and is wound back to it.
    pair.primary.start_again();
    pair.primary.stop("fast");
    let from = format!(
        "host={} user=postgres dbname=postgres",
        pair.standby.dir().display()
    );
    let data = pair.primary.path("data");
    pair.primary.program(
        "pg_rewind",
        &[
            "-D",
            &data,
            "--source-server",
            &from,
            "--write-recovery-conf",
            "--no-sync",
        ],
    );
    let own = format!(
        "unix_socket_directories = '{}'",
        pair.primary.dir().display()
    );
    pair.primary.configure(&own);
    pair.primary.start_again();
    pair.door.lead_to(&pair.primary);
    terminate(&pair.stage.database).await;
    pair.stage.until_logged("the server is a standby").await;
    pair.stage.until_away().await;
    pair.door.lead_to(&pair.standby);
    pair.stage.recover().await;
    pair.stage.expect(&ids).await;
    let next = insert_many(&pair.stage.database, 1).await;
    pair.stage.expect(&next).await;
}

#[tokio::test]
async fn older_copy_of_the_whole_server_is_noticed() {
    let primary = Cluster::start();
    let database = primary.database().await;
    let door = Door::to(&primary);
    let name = database.name.clone();
    let server = door.database(&name).server();
    let mut stage = Stage::with(database, server).await;
    let kept = insert_many(&stage.database, 2).await;
    stage.expect(&kept).await;
    let copy = Cluster::copy_of(&primary);
    let lost = insert_many(&stage.database, 100).await;
    stage.expect(&lost).await;
    ack(&mut stage.clients, "SHOP", lost[99], None)
        .await
        .expect("acknowledged");
    primary.stop("fast");
    door.lead_to(&copy);
    stage.database = copy.existing(&name);
    stage.recover().await;
    stage.expect(&kept).await;
    let status = stage.status().await;
    assert!(status.problem.contains("restored"), "{status:?}");
    let next = insert_many(&stage.database, 2).await;
    stage.expect(&next).await;
}

#[tokio::test]
async fn older_copy_of_the_queue_stops_who_is_above_it_by_name() {
    let mut stage = Stage::open().await;
    let kept = insert_many(&stage.database, 2).await;
    stage.expect(&kept).await;
    let dump = stage.database.dump("evt_queue");
    let lost = insert_many(&stage.database, 3).await;
    stage.expect(&lost).await;
    ack(&mut stage.clients, "SHOP", lost[2], None)
        .await
        .expect("acknowledged");
    stage.database.run("DROP TABLE evt_queue").await;
    stage.database.restore(&dump);
    let end = crate::calls::end_of(&mut stage.stream).await;
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    stage.until_working().await;
    let status = stage.status().await;
    assert!(status.problem.contains("restored"), "{status:?}");
    let [stopped] = &status.stopped_consumers[..] else {
        panic!("one is above the head: {status:?}");
    };
    assert_eq!(stopped.component, "SHOP");
    seek(&mut stage.clients, "SHOP", kept[1])
        .await
        .expect("sought");
    assert_eq!(consumer(&mut stage.clients, "SHOP").await.position, kept[1]);
    stage.subscribe().await;
    let next = insert_many(&stage.database, 1).await;
    stage.expect(&next).await;
}
