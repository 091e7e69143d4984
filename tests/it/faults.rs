//! A database that fails under a running service: what is acknowledged stays
//! true, what fails says so, and nobody has to restart anything afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use futoin_eventstream::proto::{
    AddEventRequest, GetStatusRequest, GetStatusResponse, PollEventsRequest, PollEventsResponse,
    ReadyToReceiveRequest, SeekConsumerRequest, StartAt, start_at::At,
};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    calls::{ack, end_of},
    round_trip::{add, next_group, ready, register, subscribe},
    server::{Clients, Server, eventually, http_get, sqlite},
};

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.expect("every error has ErrorInfo").reason
}

fn effect(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.expect("every error has ErrorInfo").metadata["effect"].clone()
}

/// `UNAVAILABLE` because of the database, with all that a caller needs.
pub fn assert_database_away(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(reason(status), "DATABASE_UNAVAILABLE");
    assert!(["none", "unknown"].contains(&effect(status).as_str()));
    let retry = status.get_details_retry_info();
    assert!(retry.is_some_and(|retry| retry.retry_delay.is_some()));
}

async fn try_add(clients: &mut Clients, data: &str) -> Result<i64, Status> {
    let request = AddEventRequest {
        r#type: "KIND".into(),
        data_json: data.to_owned(),
        request_id: String::new(),
    };
    Ok(clients.generate.add_event(request).await?.into_inner().id)
}

async fn try_poll(clients: &mut Clients, component: &str) -> Result<PollEventsResponse, Status> {
    let request = PollEventsRequest {
        component: component.to_owned(),
        ..Default::default()
    };
    Ok(clients.poll.poll_events(request).await?.into_inner())
}

async fn try_status(clients: &mut Clients) -> Result<GetStatusResponse, Status> {
    Ok(clients
        .admin
        .get_status(GetStatusRequest {})
        .await?
        .into_inner())
}

async fn seek(clients: &mut Clients, component: &str, to: At) {
    let request = SeekConsumerRequest {
        component: component.to_owned(),
        user: String::new(),
        start: Some(StartAt { at: Some(to) }),
    };
    clients.admin.seek_consumer(request).await.expect("sought");
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A copy of the database as it is now.
fn backup(server: &Server) -> PathBuf {
    let copy = server.dir().join("older.db");
    server.sqlite(&format!("VACUUM INTO '{}'", copy.display()));
    copy
}

/// Puts `copy` in the place of the database, as an operator does.
fn replace(database: &Path, copy: &Path) {
    fs::rename(database, beside(database, ".aside")).expect("moved");
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(beside(database, suffix));
    }
    fs::rename(copy, database).expect("moved");
}

/// Five events, of which SHOP has two; the copy; five more events, which SHOP
/// has got and AHEAD too. In the copy, AHEAD's position is that of later.
async fn history(server: &Server, clients: &mut Clients) -> PathBuf {
    register(clients, "SHOP").await;
    register(clients, "AHEAD").await;
    for number in 0..5 {
        add(clients, "BEFORE", &number.to_string()).await;
    }
    ack(clients, "SHOP", 2, None).await.expect("acked");
    let copy = backup(server);
    sqlite(
        &copy,
        "UPDATE evt_consumers SET last_evt_id = 9 WHERE ident = 'local:AHEAD'",
    );
    for number in 5..10 {
        add(clients, "LATER", &number.to_string()).await;
    }
    for component in ["SHOP", "AHEAD"] {
        ack(clients, component, 10, None).await.expect("acked");
    }
    copy
}

/// What holds after the copy of [`history`] took the place of the database.
async fn assert_restored(clients: &mut Clients) {
    let status = try_status(clients).await.expect("it works");
    assert!(
        status.problem.contains("restored from an older copy"),
        "{status:?}"
    );
    assert_eq!(status.head_id, 5);
    let stopped = &status.stopped_consumers;
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert_eq!(stopped[0].component, "AHEAD");
    assert!(stopped[0].problem.contains("above the highest id 5"));

    let refused = [
        try_poll(clients, "AHEAD").await.map(drop),
        clients
            .push
            .ready_to_receive(ready("AHEAD"))
            .await
            .map(drop),
        ack(clients, "AHEAD", 5, None).await.map(drop),
    ];
    for refused in refused {
        let status = refused.expect_err("it is stopped");
        assert_eq!(reason(&status), "CONSUMER_STOPPED", "{status:?}");
    }
    let beyond = ack(clients, "SHOP", 10, None).await;
    assert_eq!(reason(&beyond.expect_err("lost")), "BEYOND_HEAD");

    // The others go on from the copy, a stopped one after a seek.
    let (started, mut stream) = subscribe(clients, ready("SHOP")).await;
    assert_eq!(started.start_after_id, 2);
    assert_eq!(next_group(&mut stream).await.events.len(), 3);
    drop(stream);
    assert_eq!(add(clients, "AFTER", "1").await, 6);
    let still = try_poll(clients, "AHEAD").await;
    assert_eq!(reason(&still.expect_err("stopped")), "CONSUMER_STOPPED");
    seek(clients, "AHEAD", At::AfterId(4)).await;
    let page = try_poll(clients, "AHEAD").await.expect("sought");
    assert_eq!(page.events.len(), 2);
}

#[tokio::test]
async fn older_copy_under_a_running_service_is_noticed() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let copy = history(&server, &mut clients).await;
    let (_, mut reliable) = subscribe(&mut clients, ready("SHOP")).await;
    let (_, mut live) = subscribe(&mut clients, ready("LIVE")).await;

    replace(&server.database(), &copy);
    for stream in [&mut reliable, &mut live] {
        assert_database_away(&end_of(stream).await);
    }
    eventually(async || try_status(&mut clients.clone()).await).await;
    assert_restored(&mut clients).await;
    assert_eq!(
        server.sqlite("SELECT count(*) FROM evt_queue WHERE type = 'AFTER'"),
        "1",
        "it is in the file at the path"
    );
    let ready = eventually(
        async || match http_get(server.http_address(), "/readyz").await {
            Ok((200, text)) => Ok(text),
            other => Err(other),
        },
    );
    ready.await;
}

#[tokio::test]
async fn older_copy_under_a_stopped_service_is_noticed() {
    let server = Server::start().await;
    let copy = history(&server, &mut server.clients().await).await;
    let (database, again) = (server.database(), server.again());
    assert!(server.terminate().await.success());
    replace(&database, &copy);
    let server = again.start().await;
    assert_restored(&mut server.clients().await).await;
}

#[tokio::test]
async fn adds_are_acknowledged_only_into_the_file_at_the_path() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    add(&mut clients, "KIND", "0").await;
    for round in 0..5 {
        let copy = backup(&server);
        let mut busy = clients.clone();
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone();
        // Adds that are under way while the file is moved.
        let adding = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                let _ = try_add(&mut busy, "0").await;
            }
        });
        try_add(&mut clients, "0").await.expect("it works");
        replace(&server.database(), &copy);
        let data = format!(r#""after round {round}""#);
        let id = eventually(async || try_add(&mut clients.clone(), &data).await).await;
        stop.cancel();
        adding.await.expect("no panic");
        let found = server.sqlite(&format!(
            "SELECT id FROM evt_queue WHERE data = '{data}' ORDER BY id DESC LIMIT 1"
        ));
        assert_eq!(found, id.to_string());
    }
}

#[tokio::test]
async fn deleted_file_is_never_made_anew() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let id = add(&mut clients, "KIND", "1").await;
    let copy = backup(&server);
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(beside(&server.database(), suffix)).expect("removed");
    }
    assert_database_away(&end_of(&mut stream).await);
    // Enough of each at once to open every connection of the pools.
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        for component in ["SHOP", "LIVE"] {
            let mut clients = clients.clone();
            calls.spawn(async move { try_poll(&mut clients, component).await.map(drop) });
        }
        let mut clients = clients.clone();
        calls.spawn(async move { try_add(&mut clients, "2").await.map(drop) });
    }
    while let Some(outcome) = calls.join_next().await {
        assert_database_away(&outcome.expect("no panic").expect_err("there is no file"));
    }
    let not_ready = eventually(
        async || match http_get(server.http_address(), "/readyz").await {
            Ok((503, text)) => Ok(text),
            other => Err(other),
        },
    );
    assert!(not_ready.await.contains("database"));
    let (alive, _) = http_get(server.http_address(), "/livez").await.expect("up");
    assert_eq!(alive, 200);
    assert!(!server.database().exists(), "no empty database was made");

    fs::rename(copy, server.database()).expect("moved");
    let page = eventually(async || try_poll(&mut clients.clone(), "SHOP").await).await;
    assert_eq!(page.events[0].id, id);
}

/// A file system of a few megabytes.
struct SmallDisk {
    mount: TempDir,
}

impl SmallDisk {
    fn new() -> Self {
        let mount = tempfile::tempdir().expect("a directory");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "none"])
            .arg(mount.path())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "a small tmpfs must be mounted to fill a disk: run this test as root"
        );
        Self { mount }
    }

    /// Takes all the space that is left.
    fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.mount.path().join("filler");
        let mut filler = fs::File::create(&path).expect("made");
        for block in [64 << 10, 1 << 12, 1] {
            while filler.write_all(&vec![0; block]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.mount.path())
            .status();
    }
}

#[tokio::test]
async fn full_disk_refuses_adds_and_nothing_else() {
    let disk = SmallDisk::new();
    let dir = TempDir::new_in(disk.mount.path()).expect("a directory");
    let server = Server::builder_in(Arc::new(dir)).start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let data = format!(r#""{}""#, "x".repeat(20_000));
    let mut acknowledged = Vec::new();
    for _ in 0..3 {
        acknowledged.push(try_add(&mut clients, &data).await.expect("there is room"));
    }
    // As if SHOP had not been seen for long: a poll would like to note it.
    server.sqlite("UPDATE evt_consumers SET last_time = '2020-01-01 00:00:00'");
    let (_, mut stream) = subscribe(&mut clients, ready("LIVE")).await;

    let filler = disk.fill();
    let refused = loop {
        match try_add(&mut clients, &data).await {
            Ok(id) => acknowledged.push(id),
            Err(status) => break status,
        }
    };
    assert_database_away(&refused);
    assert_eq!(effect(&refused), "none");
    for component in ["LIVE", "SHOP"] {
        let page = try_poll(&mut clients, component)
            .await
            .expect("reads go on");
        let ids: Vec<_> = page.events.iter().map(|event| event.id).collect();
        assert_eq!(ids, acknowledged, "{component}");
    }
    assert_eq!(
        try_status(&mut clients).await.expect("it works").problem,
        ""
    );
    let from_start = ReadyToReceiveRequest {
        start: Some(StartAt {
            at: Some(At::AfterId(0)),
        }),
        ..ready("LIVE")
    };
    let (_, mut replay) = subscribe(&mut clients, from_start).await;
    assert_eq!(next_group(&mut replay).await.events[0].id, acknowledged[0]);

    fs::remove_file(filler).expect("removed");
    acknowledged.push(eventually(async || try_add(&mut clients.clone(), "1").await).await);
    while next_group(&mut stream).await.last_id < *acknowledged.last().expect("some") {}
    let stored = server.sqlite("SELECT group_concat(id) FROM evt_queue");
    let ids: Vec<_> = acknowledged.iter().map(i64::to_string).collect();
    assert_eq!(stored, ids.join(","));
    assert_eq!(server.sqlite("PRAGMA integrity_check"), "ok");
    assert!(server.terminate().await.success());
}

/// Runs the service as somebody without rights.
const NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

fn give_to(owner: u32, path: &Path) {
    std::os::unix::fs::chown(path, Some(owner), Some(owner))
        .expect("files can be given away: run this test as root");
}

#[tokio::test]
async fn read_only_file_is_an_error_until_it_is_writable_again() {
    let builder = Server::builder().through(&NOBODY);
    give_to(65534, builder.dir());
    let server = builder.start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let id = add(&mut clients, "KIND", "1").await;
    // Open connections stay writable whatever the mode becomes; new ones do
    // not. They are made when a copy that belongs to somebody else comes in.
    let copy = backup(&server);
    replace(&server.database(), &copy);
    let refused = eventually(async || match try_add(&mut clients.clone(), "2").await {
        Err(status) if effect(&status) == "none" => Ok(status),
        other => Err(other),
    });
    assert_database_away(&refused.await);
    let (alive, _) = http_get(server.http_address(), "/livez").await.expect("up");
    assert_eq!(alive, 200);
    let why = async || match server.log() {
        log if log.iter().any(|line| line.contains("readonly")) => Ok(()),
        log => Err(log),
    };
    eventually(why).await;

    give_to(65534, &server.database());
    eventually(async || try_add(&mut clients.clone(), "3").await).await;
    let page = try_poll(&mut clients, "SHOP").await.expect("it works");
    assert_eq!(page.events[0].id, id);

    // At a start, what can be read is served.
    let (database, again) = (server.database(), server.again());
    assert!(server.terminate().await.success());
    give_to(0, &database);
    let server = again.start().await;
    let mut clients = server.clients().await;
    let refused = try_add(&mut clients, "4").await.expect_err("read-only");
    assert_database_away(&refused);
    assert_eq!(effect(&refused), "none");
    let page = try_poll(&mut clients, "SHOP").await.expect("it works");
    assert_eq!(page.events.len(), 2);
    give_to(65534, &database);
    eventually(async || try_add(&mut clients.clone(), "5").await).await;
    assert_eq!(
        server.sqlite("SELECT group_concat(data) FROM evt_queue"),
        "1,3,5"
    );
}

#[tokio::test]
async fn long_foreign_transaction_refuses_adds_for_certain() {
    let server = Server::builder().arg("--db-busy-timeout=1s").start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let id = add(&mut clients, "KIND", "1").await;
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let options = SqliteConnectOptions::new().filename(server.database());
    let mut other = SqliteConnection::connect_with(&options)
        .await
        .expect("opened");
    let tx = other.begin_with("BEGIN IMMEDIATE").await.expect("locked");

    let refused = try_add(&mut clients, "2").await.expect_err("it is locked");
    assert_database_away(&refused);
    assert_eq!(effect(&refused), "none");
    let group = next_group(&mut stream).await;
    assert_eq!(group.last_id, id, "reading goes on");
    let page = try_poll(&mut clients, "LIVE")
        .await
        .expect("reading goes on");
    assert_eq!(page.events.len(), 1);
    try_status(&mut clients).await.expect("reading goes on");

    tx.rollback().await.expect("released");
    other.close().await.expect("closed");
    let third = eventually(async || try_add(&mut clients.clone(), "3").await).await;
    assert_eq!(next_group(&mut stream).await.last_id, third);
    assert_eq!(
        server.sqlite("SELECT group_concat(data) FROM evt_queue"),
        "1,3"
    );
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_refused_at_the_start() {
    type Prepare = fn(&Path);
    let prepare: [(Prepare, &str); 3] = [
        (
            |path| fs::write(path, "this is not a database at all ".repeat(100)).expect("written"),
            "not a database",
        ),
        (|path| fs::create_dir(path).expect("made"), "unable to open"),
        (
            |path| {
                sqlite(
                    path,
                    "CREATE TABLE evt_queue (id INTEGER PRIMARY KEY, type VARCHAR(16) NOT NULL,
                     data TEXT NOT NULL, ts TIMESTAMP NOT NULL)",
                );
            },
            "is not AUTOINCREMENT",
        ),
    ];
    for (prepare, why) in prepare {
        let builder = Server::builder();
        let path = builder.dir().join("eventstream.db");
        prepare(&path);
        let (code, log) = builder.refused().await;
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(why), "{why} is missing in {log}");
        assert!(log.contains("db.url"), "the option is named in {log}");
        assert!(log.contains("eventstream.db"), "the file is named in {log}");
    }
}

#[tokio::test]
async fn two_streams_in_one_file_do_not_see_each_other() {
    let first = Server::start().await;
    let second = Server::builder()
        .beside(&first)
        .arg("--db-queue-table=other_queue")
        .arg("--db-consumers-table=other_consumers")
        .start()
        .await;
    let mut streams = Vec::new();
    for (server, data) in [(&first, "1"), (&second, "2")] {
        let mut clients = server.clients().await;
        register(&mut clients, "SHOP").await;
        let (_, stream) = subscribe(&mut clients, ready("SHOP")).await;
        streams.push((stream, data));
    }
    for (server, data) in [(&first, "1"), (&second, "2")] {
        assert_eq!(add(&mut server.clients().await, "KIND", data).await, 1);
    }
    for (stream, data) in &mut streams {
        let group = next_group(stream).await;
        let seen: Vec<_> = group.events.iter().map(|event| &event.data_json).collect();
        assert_eq!(seen, [data]);
    }
    let status = try_status(&mut first.clients().await)
        .await
        .expect("it works");
    assert_eq!((status.head_id, status.open_streams), (1, 1));
    // A seek of one is none of the other.
    seek(&mut first.clients().await, "SHOP", At::Now(true)).await;
    let status = end_of(&mut streams[0].0).await;
    assert_eq!(reason(&status), "STALE_EPOCH");
    let id = add(&mut second.clients().await, "KIND", "3").await;
    assert_eq!(next_group(&mut streams[1].0).await.last_id, id);
}
