//! `eventstream archive`, a process of its own that reads over gRPC.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    time::timeout,
};

use super::stage::{Kind, Peek, archived, each_pair};
use crate::{
    calls::{add_many, status},
    server::{PATIENCE, PROGRAM, Server, clean_command},
};

each_pair!(process_of_its_own_archives);

/// Started, and archiving.
async fn archive(server: &str, warehouse: &Peek) -> Child {
    let mut child = clean_command(PROGRAM)
        .args(["archive", "--from", server, "--to", &warehouse.url])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stderr = child.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(stderr).lines();
    let started = async {
        loop {
            let line = lines.next_line().await.expect("text").expect("not the end");
            if line.contains("archiving what follows") {
                return;
            }
        }
    };
    timeout(PATIENCE, started)
        .await
        .expect("it starts to archive");
    // Goes on to be read, so that it never waits for us.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

async fn process_of_its_own_archives(active: Kind, warehouse: Kind) {
    let (active, warehouse) = (Peek::new(active).await, Peek::new(warehouse).await);
    let dir = tempfile::tempdir().expect("a directory");
    let socket = format!("unix:{}", dir.path().join("grpc").display());
    let server = Server::builder()
        .on(&active.url)
        .grpc(&socket)
        .arg("--stream-session-beat=100ms")
        .arg("--stream-session-lapse=300ms")
        .start()
        .await;
    let mut clients = server.clients().await;
    let first = add_many(&mut clients, "A", 500).await;
    let mut process = archive(&socket, &warehouse).await;
    archived(&mut clients, first[499]).await;

    // It dies, and another one goes on.
    process.kill().await.expect("killed");
    let second = add_many(&mut clients, "A", 300).await;
    let process = archive(&socket, &warehouse).await;
    archived(&mut clients, second[299]).await;

    // The server dies, and it comes back to the next one.
    let server = server.crash_and_restart().await;
    let mut clients = server.clients().await;
    let third = add_many(&mut clients, "A", 300).await;
    archived(&mut clients, third[299]).await;
    assert_eq!(warehouse.history().await, active.queue().await);
    warehouse.assert_sound().await;
    assert_eq!(status(&mut clients).await.archived_id, third[299]);

    let pid = process.id().expect("it runs");
    crate::server::signal(pid, "INT");
    let mut process = process;
    let ended = timeout(PATIENCE, process.wait()).await.expect("it ends");
    assert!(ended.expect("waited for").success());
}
