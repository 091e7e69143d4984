//! A pod: an application and the service beside it, on a socket that only the
//! two have, started and stopped in the order of Kubernetes.

use std::{process::Stdio, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::journal::{Journal, produce};
use crate::{
    load::{endure, seed},
    postgres::Cluster,
    round_trip::{add, ready, register, subscribe},
    server::{PATIENCE, PROGRAM, Server, clean_command, eventually, signal},
};

/// The part of an application that receives, a process.
struct Receiver {
    child: Child,
    reading: JoinHandle<()>,
}

impl Receiver {
    fn start(address: &str, journal: &Arc<Journal>) -> Self {
        let mut child = clean_command(PROGRAM)
            .args(["tail", "SHOP", "--ack", "--json", "--addr", address])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let notes = Arc::clone(journal);
        let reading = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.expect("text") {
                let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                let id = event["id"].as_str().and_then(|id| id.parse().ok());
                notes.note(id.expect("an event"));
            }
        });
        Self { child, reading }
    }

    /// Told to end, it does so in good order.
    async fn end(mut self) {
        signal(self.child.id().expect("it runs"), "TERM");
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it ends").expect("it can be waited for");
        assert!(status.success(), "{status}");
        self.reading.await.expect("no panic inside");
    }
}

/// Adds events and receives them until it is told to end; what it added.
async fn application(address: &str, journal: &Arc<Journal>) -> Vec<(i64, Instant)> {
    const EVENTS: u64 = 100;
    let (answered, mut progress) = watch::channel(0);
    let stop = CancellationToken::new();
    let adding = tokio::spawn(produce(address.to_owned(), answered, stop.clone()));
    let receiver = Receiver::start(address, journal);
    let enough = timeout(PATIENCE, progress.wait_for(|&count| count >= EVENTS)).await;
    enough.expect("events are added").expect("it produces");
    // It receives some of them: it is not told to end before it has begun.
    journal.grows().await;
    stop.cancel();
    let added = adding.await.expect("no panic inside");
    receiver.end().await;
    added
}

/// What the startup probe runs, in the container itself.
async fn probe(address: &str, more: &[&str]) -> Option<i32> {
    let run = clean_command(PROGRAM)
        .args(["healthcheck", "--addr", address])
        .args(more)
        .output();
    let output = timeout(PATIENCE, run).await.expect("it ends");
    output.expect("it starts").status.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_end_in_the_order_of_kubernetes_lose_nothing() {
    let builder = Server::builder();
    let address = format!("unix:{}/grpc.sock", builder.dir().display());
    let journal = Arc::new(Journal::new());
    let mut added = Vec::new();
    let mut sidecar = builder.grpc(&address).start().await;
    register(&mut sidecar.clients().await, "SHOP").await;
    for _ in 0..3 {
        assert_eq!(
            probe(&address, &[]).await,
            Some(0),
            "the sidecar comes first"
        );
        added.extend(application(&address, &journal).await);
        // And goes last; nobody has to force it.
        sidecar.signal("TERM");
        assert_eq!(sidecar.ended().await.code(), Some(0));
        assert_eq!(probe(&address, &["--live"]).await, Some(2));
        sidecar = sidecar.again().start().await;
    }
    let receiver = Receiver::start(&address, &journal);
    let last = add(&mut sidecar.clients().await, "LAST", "{}").await;
    journal.reaches(last, "SHOP").await;
    receiver.end().await;
    let rows = sidecar.sqlite("SELECT id FROM evt_queue ORDER BY id");
    let stored: Vec<i64> = rows.lines().map(|id| id.parse().expect("an id")).collect();
    let added = added.iter().map(|&(id, _)| id).chain([last]);
    assert!(added.eq(stored.iter().copied()), "each once");
    journal.check(&stored, "SHOP");
    assert!(sidecar.terminate().await.success(), "it ends well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_straight_after_a_termination_loses_nothing() {
    let (figures, _) = endure(&["TERM", "KILL"], 5, seed()).await;
    assert!(figures.acknowledged > 0 && figures.delivered > 0);
}

#[tokio::test]
async fn liveness_outlasts_the_database_and_readiness_does_not() {
    let cluster = Cluster::start();
    let server = cluster.database().await.server().start().await;
    let address = server.grpc_address();
    assert_eq!(probe(address, &[]).await, Some(0));
    // Without a listener nothing is asked of the database.
    let mut clients = server.clients().await;
    let (_, _listening) = subscribe(&mut clients, ready("LIVE")).await;
    cluster.stop("immediate");
    eventually(async || match probe(address, &[]).await {
        Some(1) => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(probe(address, &["--live"]).await, Some(0));
    assert!(server.terminate().await.success(), "it ends well");
    assert_eq!(probe("127.0.0.1:1", &["--live"]).await, Some(2));
}
