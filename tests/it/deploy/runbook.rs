//! `deploy/RUNBOOK.md` is true: its commands, as they stand there, make
//! backups and restore them on a server of each engine, and consumers are
//! told what it says.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::time::timeout;
use tonic::Code;

use crate::{
    calls::{ack, add_many, consumer, ids, poll, poll_of, refused},
    mysql,
    postgres::{self, run as run_sql},
    round_trip::{add, next_group, ready, register, subscribe},
    server::{PATIENCE, PROGRAM, Server, clean_command, sqlite},
};

const RUNBOOK: &str = include_str!("../../../deploy/RUNBOOK.md");

/// The commands with this name.
fn commands(name: &str) -> &'static str {
    let mark = format!("<!-- run: {name} -->\n```sh\n");
    let (_, rest) = RUNBOOK.split_once(&mark).expect("it is in the runbook");
    rest.split("```").next().expect("it ends")
}

#[test]
fn every_command_of_the_runbook_is_run_here() {
    let names = RUNBOOK.split("<!-- run: ").skip(1);
    for name in names.filter_map(|rest| rest.split(' ').next()) {
        let quoted = format!("\"{name}\"");
        assert!(include_str!("runbook.rs").contains(&quoted), "{name}");
    }
    let blocks = RUNBOOK.matches("```sh\n").count();
    assert_eq!(RUNBOOK.matches("<!-- run: ").count(), blocks);
}

/// Where an operator works: as whom, in which directory, with which settings.
struct Desk {
    words: Vec<String>,
    dir: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Desk {
    fn at(dir: &Path, words: Vec<String>, programs: &str) -> Self {
        let own = Path::new(PROGRAM).parent().expect("a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{programs}:{path}", own.display());
        Self {
            words,
            dir: dir.to_owned(),
            settings: vec![("PATH", path)],
        }
    }

    fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.settings.push((name, value.into()));
    }

    /// Runs commands of the runbook; what they said.
    async fn run(&self, name: &str) -> String {
        let mut words = self.words.clone();
        words.extend(["bash", "-euo", "pipefail", "-c", commands(name)].map(str::to_owned));
        let run = clean_command(&words[0])
            .args(&words[1..])
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output();
        let output = timeout(PATIENCE, run).await.expect("it ends");
        let output = output.expect("bash is there");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        said
    }
}

/// A directory that the owner of a server may write to.
fn directory_of(owner: &str, words: &[String]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    if words.first().is_some_and(|word| word == "setpriv") {
        let chown = std::process::Command::new("chown")
            .arg(owner)
            .arg(dir.path())
            .status();
        assert!(chown.expect("chown is there").success());
    }
    dir
}

/// Ten events, of which `SHOP` has five and `LATE` none.
async fn before_the_backup(server: &Server) {
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    register(&mut clients, "LATE").await;
    let added = add_many(&mut clients, "OLD", 10).await;
    assert!(added.into_iter().eq(1..=10));
    ack(&mut clients, "SHOP", 5, None).await.expect("acked");
}

/// Five more, and `SHOP` has them all; the epoch of its session.
async fn after_the_backup(server: &Server) -> i64 {
    let mut clients = server.clients().await;
    let (started, _stream) = subscribe(&mut clients, ready("SHOP")).await;
    let added = add_many(&mut clients, "LOST", 5).await;
    assert!(added.into_iter().eq(11..=15));
    let epoch = Some(started.epoch);
    ack(&mut clients, "SHOP", 15, epoch).await.expect("acked");
    started.epoch
}

/// What the runbook promises of a restored copy.
async fn carries_on(server: &Server, epoch: i64) {
    let mut clients = server.clients().await;
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 5);
    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    assert_eq!(started.start_after_id, 5);
    assert!(started.epoch > epoch, "{} > {epoch}", started.epoch);
    let group = next_group(&mut stream).await;
    assert!(ids(&group.events).into_iter().eq(6..=10));
    let late = ack(&mut clients, "SHOP", 8, Some(epoch)).await;
    refused(late, Code::FailedPrecondition, "STALE_EPOCH");

    // No id means two events.
    let id = add(&mut clients, "NEW", "1").await;
    assert!(id > 15, "{id}");
    let group = next_group(&mut stream).await;
    assert_eq!(ids(&group.events), [id]);
    let epoch = Some(started.epoch);
    ack(&mut clients, "SHOP", id, epoch).await.expect("acked");
    let polled = poll(&mut clients, poll_of("LATE")).await;
    let all: Vec<_> = (1..=10).chain([id]).collect();
    assert_eq!(ids(&polled.events), all);
}

/// A backup by `name` of a running service's file, restored.
async fn sqlite_restores(server: Server, desk: &Desk, epoch: i64) {
    desk.run("sqlite-restore").await;
    desk.run("sqlite-ids").await;
    let server = server.again().start().await;
    carries_on(&server, epoch).await;
    assert!(server.terminate().await.success(), "it ends well");
}

fn sqlite_desk(server: &Server) -> Desk {
    Desk::at(server.dir(), vec!["env".to_owned()], "/usr/bin")
}

#[tokio::test]
async fn sqlite_is_restored_from_a_backup_of_the_open_file() {
    for backup in ["sqlite-vacuum", "sqlite-backup"] {
        let mut server = Server::start().await;
        let desk = sqlite_desk(&server);
        before_the_backup(&server).await;
        desk.run(backup).await;
        let epoch = after_the_backup(&server).await;
        server.signal("TERM");
        assert!(server.ended().await.success(), "it ends well");
        sqlite_restores(server, &desk, epoch).await;
    }
}

#[tokio::test]
async fn sqlite_is_restored_from_a_copy_after_a_crash() {
    let mut server = Server::start().await;
    let desk = sqlite_desk(&server);
    before_the_backup(&server).await;
    server.signal("KILL");
    server.ended().await;
    assert!(server.dir().join("eventstream.db-wal").exists());
    desk.run("sqlite-copy").await;
    let mut server = server.again().start().await;
    let epoch = after_the_backup(&server).await;
    server.signal("TERM");
    assert!(server.ended().await.success(), "it ends well");
    sqlite_restores(server, &desk, epoch).await;
}

#[tokio::test]
async fn stopped_consumer_is_named_and_sought_by_the_runbook() {
    let mut server = Server::start().await;
    let mut desk = sqlite_desk(&server);
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "OLD", 3).await;
    server.signal("TERM");
    server.ended().await;
    // As where the events alone were restored.
    sqlite(
        &server.database(),
        "UPDATE evt_consumers SET last_evt_id = 100",
    );
    let server = server.again().start().await;
    desk.set("EVENTSTREAM_ADDR", server.grpc_address());
    let said = desk.run("look").await;
    assert!(said.contains("SHOP") && said.contains("restored"), "{said}");
    let mut clients = server.clients().await;
    let refusal = clients.poll.poll_events(poll_of("SHOP")).await;
    refused(refusal, Code::FailedPrecondition, "CONSUMER_STOPPED");
    desk.run("seek").await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [1, 2, 3]);
}

/// A server of its own with a database `shop`, and who works on it.
async fn postgres_shop() -> (
    postgres::Cluster,
    postgres::Database,
    Desk,
    tempfile::TempDir,
) {
    let cluster = postgres::Cluster::start();
    let mut admin = cluster.existing("postgres").session().await;
    run_sql(&mut admin, "CREATE DATABASE shop").await;
    let words = postgres::unprivileged();
    let dir = directory_of(postgres::OWNER, &words);
    let programs = postgres::programs().display().to_string();
    let mut desk = Desk::at(dir.path(), words, &programs);
    desk.set("PGHOST", cluster.path(""));
    desk.set("PGUSER", "postgres");
    let database = cluster.existing("shop");
    (cluster, database, desk, dir)
}

#[tokio::test]
async fn postgres_is_restored_from_a_dump() {
    let (_cluster, database, desk, _dir) = postgres_shop().await;
    let mut server = database.server().start().await;
    before_the_backup(&server).await;
    desk.run("postgres-dump").await;
    let epoch = after_the_backup(&server).await;
    server.signal("TERM");
    assert!(server.ended().await.success(), "it ends well");
    desk.run("postgres-restore").await;
    desk.run("postgres-ids").await;
    let server = server.again().start().await;
    carries_on(&server, epoch).await;
    assert!(server.terminate().await.success(), "it ends well");
}

#[tokio::test]
async fn postgres_is_restored_to_a_point_in_time() {
    let (cluster, database, mut desk, dir) = postgres_shop().await;
    let wal = dir.path().display().to_string();
    cluster.configure(&format!(
        "archive_mode = on\narchive_command = 'cp %p {wal}/%f'"
    ));
    cluster.restart("fast");
    desk.set("WAL", wal);
    desk.set("BASE", cluster.path("base"));
    desk.set("PGDATA", cluster.path("data"));
    desk.set("HIGHEST", "15");
    desk.run("postgres-base").await;
    let mut server = database.server().start().await;
    before_the_backup(&server).await;
    let mut admin = database.session().await;
    run_sql(&mut admin, "SELECT pg_create_restore_point('before')").await;
    drop(admin);
    let epoch = after_the_backup(&server).await;
    server.signal("TERM");
    assert!(server.ended().await.success(), "it ends well");
    desk.run("postgres-point").await;
    desk.run("postgres-point-ids").await;
    let server = server.again().start().await;
    carries_on(&server, epoch).await;
    assert!(server.terminate().await.success(), "it ends well");
}

/// The same of MariaDB.
async fn mariadb_shop() -> (mysql::Cluster, Server, Desk, tempfile::TempDir) {
    let cluster = mysql::Cluster::start();
    let mut admin = mysql::connect(&cluster.url("root", "mysql")).await;
    mysql::run(&mut admin, "CREATE DATABASE shop CHARACTER SET utf8mb4").await;
    let mut words = mysql::unprivileged();
    if words.is_empty() {
        words.push("env".to_owned());
    }
    let dir = directory_of(mysql::OWNER, &words);
    let client = format!(
        "[client]\nuser = root\nsocket = {}\n",
        cluster.path("socket")
    );
    std::fs::write(dir.path().join(".my.cnf"), client).expect("written");
    let mut desk = Desk::at(dir.path(), words, "/usr/sbin");
    desk.set("HOME", dir.path().display().to_string());
    let server = Server::builder().on(&cluster.url("root", "shop"));
    (cluster, server.start().await, desk, dir)
}

#[tokio::test]
async fn mariadb_is_restored_from_a_dump() {
    let (_cluster, mut server, desk, _dir) = mariadb_shop().await;
    before_the_backup(&server).await;
    desk.run("mariadb-dump").await;
    let epoch = after_the_backup(&server).await;
    server.signal("TERM");
    assert!(server.ended().await.success(), "it ends well");
    desk.run("mariadb-restore").await;
    let server = server.again().start().await;
    carries_on(&server, epoch).await;
    assert!(server.terminate().await.success(), "it ends well");
}

#[tokio::test]
async fn mariadb_is_restored_from_its_files() {
    let (cluster, mut server, mut desk, dir) = mariadb_shop().await;
    desk.set("BASE", dir.path().join("base").display().to_string());
    desk.set("DATA", cluster.path("data"));
    desk.set("HIGHEST", "15");
    before_the_backup(&server).await;
    desk.run("mariadb-files").await;
    let epoch = after_the_backup(&server).await;
    server.signal("TERM");
    assert!(server.ended().await.success(), "it ends well");
    cluster.stop();
    std::fs::rename(cluster.path("data"), cluster.path("lost")).expect("renamed");
    desk.run("mariadb-files-restore").await;
    cluster.start_again();
    desk.run("mariadb-files-ids").await;
    let server = server.again().start().await;
    carries_on(&server, epoch).await;
    assert!(server.terminate().await.success(), "it ends well");
}
