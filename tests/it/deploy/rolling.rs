//! Three replicas on PostgreSQL, replaced one after the other under load.

use std::{convert::Infallible, sync::Arc};

use futoin_eventstream_client::{Event, EventStream, Start};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    fleet::Fleet,
    journal::{Journal, produce},
};
use crate::{
    calls::subscribed,
    postgres::{Cluster, Database},
    server::{PATIENCE, eventually},
};

/// The receiver of the Rust client.
struct Receiver {
    component: &'static str,
    journal: Arc<Journal>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Receiver {
    fn start(address: &str, component: &'static str) -> Self {
        let journal = Arc::new(Journal::new());
        let stop = CancellationToken::new();
        let stream = EventStream::connect(&format!("http://{address}")).expect("an address");
        let (notes, stopped) = (Arc::clone(&journal), stop.clone());
        let running = tokio::spawn(async move {
            let receiver = stream
                .receive(component)
                .start(Start::Oldest)
                .stop_on(stopped.cancelled_owned());
            let handle = |event: Event| {
                notes.note(event.id());
                std::future::ready(Ok::<_, Infallible>(()))
            };
            receiver.run(handle).await.expect("it goes on");
        });
        Self {
            component,
            journal,
            stop,
            running,
        }
    }

    /// Ends it when it has them all.
    async fn finish(self, stored: &[i64]) {
        let last = *stored.last().expect("some events");
        self.journal.reaches(last, self.component).await;
        self.stop.cancel();
        let ended = timeout(PATIENCE, self.running).await;
        ended.expect("it ends").expect("no panic inside");
        self.journal.check(stored, self.component);
    }
}

/// Every id of the stream.
pub async fn stored(database: &Database) -> Vec<i64> {
    sqlx::query_scalar("SELECT id FROM evt_queue ORDER BY id")
        .fetch_all(&mut database.session().await)
        .await
        .expect("read")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_replaced_under_load_and_nothing_is_lost() {
    const EVENTS_BETWEEN: u64 = 150;
    let database = Cluster::shared().database().await;
    let replica = database.server();
    let mut fleet = Fleet::start(&replica, 3).await;
    let components = ["ONE", "TWO", "THREE"];
    let receivers = components.map(|name| Receiver::start(fleet.address(), name));
    let mut clients = fleet.replicas()[0].clients().await;
    eventually(async || subscribed(&mut clients, components.len()).await).await;

    let (answered, mut progress) = watch::channel(0);
    let stop = CancellationToken::new();
    let producing = tokio::spawn(produce(fleet.address().to_owned(), answered, stop.clone()));
    for number in 0..4 {
        let goal = *progress.borrow() + EVENTS_BETWEEN;
        let reached = timeout(PATIENCE, progress.wait_for(|&count| count >= goal)).await;
        reached.expect("events are added").expect("it produces");
        if number < 3 {
            fleet.replace_oldest(&replica).await;
        } else {
            fleet.kill_oldest(&replica).await;
        }
    }
    stop.cancel();
    let answers = producing.await.expect("no panic inside");
    let stored = stored(&database).await;
    assert!(answers.iter().map(|(id, _)| id).eq(&stored), "each once");
    for receiver in receivers {
        receiver.finish(&stored).await;
    }
    fleet.end().await;
}
