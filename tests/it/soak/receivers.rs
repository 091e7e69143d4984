//! A receiver of each language at once, through the deaths of the service.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::recorder::{LANGUAGES, Recorder};
use crate::{
    calls::subscribed,
    deploy::journal::produce,
    load::seed,
    server::{PATIENCE, Server, eventually},
};

const KILLS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_of_five_languages_lose_nothing() {
    let mut rng = StdRng::seed_from_u64(seed());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let mut server = Server::builder().grpc(&address).start().await;
    let recorders = LANGUAGES.map(|language| Recorder::start(language, &address));
    let mut clients = server.clients().await;
    eventually(async || subscribed(&mut clients, LANGUAGES.len()).await).await;

    let (answered, mut progress) = watch::channel(0);
    let stop = CancellationToken::new();
    let producing = tokio::spawn(produce(address, answered, stop.clone()));
    for _ in 0..KILLS {
        let goal = *progress.borrow() + rng.random_range(100..700);
        let reached = timeout(PATIENCE, progress.wait_for(|&count| count >= goal)).await;
        reached.expect("events are added").expect("it produces");
        server = server.crash_and_restart().await;
    }
    stop.cancel();
    producing.await.expect("no panic inside");

    let rows = server.sqlite("SELECT id FROM evt_queue ORDER BY id");
    let stored: Vec<i64> = rows.lines().map(|id| id.parse().expect("an id")).collect();
    for recorder in recorders {
        let language = recorder.language;
        let again = recorder.finish(&stored).await;
        eprintln!(
            "VERDICT|{language}, {KILLS} kills|{} events, each handled, in order; {again} handled again",
            stored.len()
        );
    }
    assert!(server.terminate().await.success(), "it ends well");
}
