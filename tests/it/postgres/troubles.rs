//! A server that works, but not for us: the service says so, loses nothing and
//! goes on by itself when it can.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futoin_eventstream::proto::AddEventRequest;
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{
    Cluster, Database,
    cluster::{insert, run},
    stage::Stage,
};
use crate::{
    calls::{poll, poll_of},
    faults::assert_database_away,
    round_trip::{add, next_group, register},
    server::{Clients, PATIENCE, eventually},
};

fn request(data: &str, request_id: u128) -> AddEventRequest {
    let request_id = match request_id {
        0 => String::new(),
        id => uuid::Uuid::from_u128(id).to_string(),
    };
    AddEventRequest {
        r#type: "T".into(),
        data_json: data.to_owned(),
        request_id,
    }
}

async fn try_add(clients: &Clients, data: &str) -> Result<i64, Status> {
    let added = clients.clone().generate.add_event(request(data, 0)).await;
    Ok(added?.into_inner().id)
}

/// It failed because of the database, and certainly had no effect.
fn assert_without_effect(status: &Status) {
    assert_database_away(status);
    let info = status.get_details_error_info().expect("ErrorInfo");
    assert_eq!(info.metadata["effect"], "none", "{status:?}");
}

/// Ends every connection of the service on this database.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'eventstream%'";

/// Waits until this many sessions wait for a lock.
async fn until_blocked(database: &Database, count: i64) {
    let mut session = database.session().await;
    eventually(async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&mut session)
            .await
            .expect("read");
        if waiting == count {
            Ok(())
        } else {
            Err(waiting)
        }
    })
    .await;
}

/// Adds events under request ids of their own until each is answered; which
/// got which id.
async fn add_all(clients: Clients, keys: Range<u128>, done: Arc<AtomicUsize>) -> Vec<(u128, i64)> {
    let mut stored = Vec::new();
    for key in keys {
        let answered = async {
            loop {
                let request = request(&key.to_string(), key + 1);
                match clients.clone().generate.add_event(request).await {
                    Ok(added) => break added.into_inner().id,
                    Err(status) => assert_database_away(&status),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let id = timeout(PATIENCE, answered).await.expect("in time");
        stored.push((key, id));
        done.fetch_add(1, Ordering::Relaxed);
    }
    stored
}

#[tokio::test]
async fn connections_killed_under_load_lose_and_repeat_nothing() {
    const EVENTS: u128 = 100;
    const CALLERS: u128 = 6;
    const KILLS: usize = 8;
    let database = Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let done = Arc::new(AtomicUsize::new(0));
    let callers = (0..CALLERS).map(|caller| {
        let keys = caller * EVENTS..(caller + 1) * EVENTS;
        tokio::spawn(add_all(clients.clone(), keys, Arc::clone(&done)))
    });
    let callers: Vec<_> = callers.collect();
    let mut killer = database.session().await;
    let all = usize::try_from(EVENTS * CALLERS).expect("small");
    for kill in 1..=KILLS {
        // Each in the midst of it.
        eventually(async || match done.load(Ordering::Relaxed) {
            done if done >= kill * all / (KILLS + 2) => Ok(()),
            done => Err(done),
        })
        .await;
        run(&mut killer, TERMINATE).await;
    }
    let mut stored = BTreeMap::new();
    for caller in callers {
        for (key, id) in caller.await.expect("no caller fails") {
            assert_eq!(stored.insert(id, key.to_string()), None, "an id for each");
        }
    }
    let mut found = BTreeMap::new();
    let mut last = 0;
    loop {
        let mut request = poll_of("SHOP");
        request.last_id = Some(last);
        let polled = eventually(async || clients.clone().poll.poll_events(request.clone()).await);
        let polled = polled.await.into_inner();
        if polled.events.is_empty() {
            break;
        }
        last = polled.last_id;
        found.extend(
            polled
                .events
                .into_iter()
                .map(|event| (event.id, event.data_json)),
        );
    }
    assert_eq!(found, stored);
}

#[tokio::test]
async fn password_that_changes_while_it_runs() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    database
        .run("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'old'; SELECT pg_reload_conf()")
        .await;
    cluster.authenticate("local all guarded scram-sha-256");
    database.run("SELECT pg_reload_conf()").await;
    let guarded = Database {
        url: database.url.replace("postgres@", "guarded:old@"),
        name: database.name.clone(),
    };
    let server = guarded.server();
    let mut stage = Stage::with(database, server).await;
    let first = add(&mut stage.clients, "T", "1").await;
    stage.expect(&[first]).await;
    stage
        .database
        .run("ALTER ROLE guarded PASSWORD 'new'")
        .await;
    // Connections that are there go on.
    let second = insert(&mut stage.database.session().await).await;
    stage.expect(&[second]).await;
    stage.database.run(TERMINATE).await;
    stage.until_logged("password authentication failed").await;
    stage.until_away().await;
    assert_without_effect(&try_add(&stage.clients, "2").await.expect_err("away"));
    stage
        .database
        .run("ALTER ROLE guarded PASSWORD 'old'")
        .await;
    stage.recover().await;
    stage.expect(&[first, second]).await;
    let third = add(&mut stage.clients, "T", "3").await;
    stage.expect(&[third]).await;
}

#[tokio::test]
async fn server_that_takes_no_more_connections() {
    let database = Cluster::shared().database().await;
    let name = database.name.clone();
    let role = format!("{name}_role");
    // The limit does not bind a superuser.
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN; ALTER DATABASE {name} OWNER TO {role}"
        ))
        .await;
    database
        .run(&format!("GRANT ALL ON SCHEMA public TO {role}"))
        .await;
    let server = database.of(&role).server();
    let mut stage = Stage::with(database, server).await;
    let first = insert(&mut stage.database.session().await).await;
    stage.expect(&[first]).await;
    stage
        .database
        .run(&format!("ALTER ROLE {role} CONNECTION LIMIT 0"))
        .await;
    stage.database.run(TERMINATE).await;
    stage.until_logged("too many connections").await;
    stage.until_away().await;
    let refusal = try_add(&stage.clients, "1")
        .await
        .expect_err("no connection");
    assert_without_effect(&refusal);
    stage
        .database
        .run(&format!("ALTER ROLE {role} CONNECTION LIMIT -1"))
        .await;
    stage.recover().await;
    stage.expect(&[first]).await;
}

#[tokio::test]
async fn lock_that_somebody_keeps_is_waited_for_to_the_time_out() {
    let database = Cluster::shared().database().await;
    let server = database.server().arg("--db-statement-timeout=1s");
    let mut stage = Stage::with(database, server).await;
    let mut locker = stage.transaction().await;
    run(&mut locker, "LOCK TABLE evt_queue IN EXCLUSIVE MODE").await;
    let refusal = try_add(&stage.clients, "1").await.expect_err("it waits");
    assert_without_effect(&refusal);
    stage.until_logged("statement timeout").await;
    run(&mut locker, "COMMIT").await;
    // The stream has not ended.
    let id = add(&mut stage.clients, "T", "1").await;
    stage.expect(&[id]).await;
}

#[tokio::test]
async fn lock_time_out_of_the_role_is_no_loss() {
    let database = Cluster::shared().database().await;
    let name = &database.name;
    database
        .run(&format!("ALTER DATABASE {name} SET lock_timeout = '20ms'"))
        .await;
    let mut stage = Stage::on(database).await;
    let mut locker = stage.transaction().await;
    run(&mut locker, "LOCK TABLE evt_queue IN EXCLUSIVE MODE").await;
    let refusal = try_add(&stage.clients, "1").await.expect_err("it waits");
    assert_without_effect(&refusal);
    run(&mut locker, "COMMIT").await;
    let id = add(&mut stage.clients, "T", "1").await;
    stage.expect(&[id]).await;
}

/// Takes `other` after somebody opened the gate.
const DEADLOCK: &str = "CREATE TABLE other (n int);
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock_shared(5);
        LOCK TABLE other;
        RETURN NEW; END $$;
    CREATE TRIGGER wait BEFORE INSERT ON evt_queue FOR EACH ROW EXECUTE FUNCTION wait()";

#[tokio::test]
async fn victim_of_a_deadlock_had_no_effect() {
    let database = Cluster::shared().database().await;
    let name = &database.name;
    // Whoever waits last looks for deadlocks; the application never does.
    database
        .run(&format!(
            "ALTER DATABASE {name} SET deadlock_timeout = '20ms'"
        ))
        .await;
    let server = database.server().arg("--db-statement-timeout=1m");
    let mut stage = Stage::with(database, server).await;
    stage.database.run(DEADLOCK).await;
    let mut gate = stage.database.session().await;
    run(&mut gate, "SELECT pg_advisory_lock(5)").await;
    let mut application = stage.transaction().await;
    run(
        &mut application,
        "SET LOCAL deadlock_timeout = '1h'; LOCK TABLE other",
    )
    .await;
    let clients = stage.clients.clone();
    let adding = tokio::spawn(async move {
        let added = clients.clone().generate.add_event(request("1", 7)).await;
        added.map(drop)
    });
    // It has claimed its request id and waits for the gate.
    until_blocked(&stage.database, 1).await;
    let claimed = tokio::spawn(async move {
        let id = uuid::Uuid::from_u128(7);
        let sql = format!(
            "INSERT INTO evt_requests VALUES ('evt_queue', 'local', '{id}', '', '', 0); ROLLBACK"
        );
        run(&mut application, &sql).await;
    });
    until_blocked(&stage.database, 2).await;
    run(&mut gate, "SELECT pg_advisory_unlock(5)").await;
    let refusal = adding.await.expect("answered").expect_err("the victim");
    assert_without_effect(&refusal);
    claimed.await.expect("the other one goes on");
    stage.until_logged("deadlock").await;
    let added = stage.clients.generate.add_event(request("1", 7)).await;
    let id = added.expect("added").into_inner().id;
    stage.expect(&[id]).await;
}

#[tokio::test]
async fn idle_connections_are_kept_whatever_the_server_thinks_of_them() {
    let database = Cluster::shared().database().await;
    let name = &database.name;
    database
        .run(&format!(
            "ALTER DATABASE {name} SET idle_session_timeout = '1s'"
        ))
        .await;
    let mut stage = Stage::on(database).await;
    let mut idle = stage.database.session().await;
    // Ends when the time-out has passed over the service's connections too.
    eventually(async || {
        let alive = sqlx::raw_sql("SELECT 1 WHERE pg_sleep(0) IS NULL").execute(&mut idle);
        match alive.await {
            Ok(_) => {
                tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
                Err("alive")
            }
            Err(_) => Ok(()),
        }
    })
    .await;
    let id = add(&mut stage.clients, "T", "1").await;
    stage.expect(&[id]).await;
    poll(&mut stage.clients, poll_of("LIVE")).await;
    let lost = |line: &String| line.contains("database was lost");
    assert!(
        !stage.server.log().iter().any(lost),
        "{:?}",
        stage.server.log()
    );
}

/// A file system of some megabytes, for a tablespace.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12m", "none"])
            .arg(dir.path())
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "a small tmpfs must be mounted to fill a disk: run this test as root"
        );
        let disk = Self(dir);
        let space = disk.0.path().join("space");
        std::fs::create_dir(&space).expect("made");
        let owner = super::cluster::OWNER;
        for path in [disk.0.path(), &space] {
            let status = Command::new("chown").arg(owner).arg(path).status();
            assert!(status.expect("chown is there").success());
        }
        disk
    }

    /// Takes all the space that is left.
    fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.0.path().join("filler");
        let mut filler = std::fs::File::create(&path).expect("made");
        for block in [64 << 10, 1 << 12, 1] {
            while filler.write_all(&vec![0; block]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn full_disk_refuses_adds_and_nothing_else() {
    let disk = SmallDisk::new();
    let cluster = Cluster::start();
    let mut stage = Stage::on(cluster.database().await).await;
    let space = disk.0.path().join("space");
    stage
        .database
        .run(&format!(
            "CREATE TABLESPACE small LOCATION '{}'",
            space.display()
        ))
        .await;
    stage
        .database
        .run("ALTER TABLE evt_queue SET TABLESPACE small")
        .await;
    let first = add(&mut stage.clients, "T", "1").await;
    stage.expect(&[first]).await;
    let filler = disk.fill();
    // Digits that do not compress to nothing.
    let text: Vec<String> = (0..4000u64)
        .map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_string())
        .collect();
    let data = format!("[{}]", text.join(","));
    let mut added = Vec::new();
    let refusal = loop {
        match try_add(&stage.clients, &data).await {
            Ok(id) => added.push(id),
            Err(refusal) => break refusal,
        }
    };
    assert_without_effect(&refusal);
    stage.until_logged("No space left").await;
    let polled = poll(&mut stage.clients, poll_of("LIVE")).await;
    assert_eq!(polled.events[0].id, first, "reads go on");
    std::fs::remove_file(filler).expect("removed");
    added.push(eventually(async || try_add(&stage.clients, "2").await).await);
    let mut seen = Vec::new();
    while seen.last() != added.last() {
        let group = next_group(&mut stage.stream).await;
        seen.extend(group.events.iter().map(|event| event.id));
    }
    assert_eq!(seen, added);
}
