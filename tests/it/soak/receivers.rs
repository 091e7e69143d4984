//! A receiver of each language at once, through the deaths of the service.

use std::{
    collections::BTreeSet,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use futoin_eventstream::proto::{AddEventRequest, ListConsumersRequest};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    load::seed,
    server::{Clients, PATIENCE, Server, eventually},
};

const LANGUAGES: [&str; 5] = ["rust", "python", "typescript", "go", "java"];
const KILLS: usize = 30;
const EVENTS_A_SECOND: u64 = 500;

/// A client's `recorder.sh`: it prints the ids that its receiver has handled.
struct Recorder {
    language: &'static str,
    child: Child,
    handled: Arc<Mutex<Vec<i64>>>,
    highest: watch::Receiver<i64>,
    reading: JoinSet<()>,
}

impl Recorder {
    fn start(language: &'static str, address: &str) -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let mut child = Command::new(format!("{root}/clients/{language}/recorder.sh"))
            .args([address, &component(language)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the recorder starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let handled = Arc::new(Mutex::new(Vec::new()));
        let (reached, highest) = watch::channel(0);
        let mut reading = JoinSet::new();
        let keep = Arc::clone(&handled);
        reading.spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let id: i64 = line.parse().expect("an id");
                keep.lock().expect("no panic inside").push(id);
                reached.send_modify(|highest| *highest = id.max(*highest));
            }
        });
        Self {
            language,
            child,
            handled,
            highest,
            reading,
        }
    }

    /// Ends it when it has handled `last`; what it handled.
    async fn finish(mut self, last: i64) -> Vec<i64> {
        let reached = timeout(PATIENCE * 3, self.highest.wait_for(|&id| id >= last)).await;
        let language = self.language;
        reached
            .unwrap_or_else(|_| panic!("{language} reaches {last}"))
            .expect("it goes on reading");
        drop(self.child.stdin.take());
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("it ends").expect("it can be waited for");
        assert!(status.success(), "{language} ended with {status}");
        self.reading.join_all().await;
        std::mem::take(&mut self.handled.lock().expect("no panic inside"))
    }
}

fn component(language: &str) -> String {
    format!("CHAOS_{}", language.to_uppercase())
}

async fn all_are_subscribed(clients: &mut Clients) -> Result<(), usize> {
    let listed = clients
        .admin
        .list_consumers(ListConsumersRequest::default());
    let consumers = listed.await.expect("listed").into_inner().consumers;
    let open = consumers.iter().filter(|one| one.subscribed).count();
    if open == LANGUAGES.len() {
        Ok(())
    } else {
        Err(open)
    }
}

/// Adds at a fixed rate until told to stop; repeats what was not answered.
async fn produce(address: String, answered: watch::Sender<u64>, stop: CancellationToken) {
    let mut ticks = interval(Duration::from_millis(1000 / EVENTS_A_SECOND));
    let mut clients = Clients::lazy(&address);
    while !stop.is_cancelled() {
        ticks.tick().await;
        let request = AddEventRequest {
            r#type: "CHAOS".to_owned(),
            data_json: "{}".to_owned(),
            request_id: Uuid::new_v4().to_string(),
        };
        while clients.generate.add_event(request.clone()).await.is_err() {
            ticks.tick().await;
        }
        answered.send_modify(|count| *count += 1);
    }
}

/// Every id of the stream, in order; what comes again is a run that begins at
/// or before the last one, and is itself without a gap. How many came again.
fn check(handled: &[i64], stored: &[i64], language: &str) -> usize {
    let next = |id: i64| stored.get(stored.partition_point(|&other| other <= id));
    let mut last = 0;
    for (index, &id) in handled.iter().enumerate() {
        let follows = next(last) == Some(&id);
        assert!(
            follows || id <= last,
            "{language}: {id} came after {last}, as number {index}"
        );
        last = id;
    }
    let all: BTreeSet<_> = handled.iter().copied().collect();
    assert!(all.iter().eq(stored), "{language} has them all");
    handled.len() - stored.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_of_five_languages_lose_nothing() {
    let mut rng = StdRng::seed_from_u64(seed());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let mut server = Server::builder().grpc(&address).start().await;
    let recorders = LANGUAGES.map(|language| Recorder::start(language, &address));
    let mut clients = server.clients().await;
    eventually(async || all_are_subscribed(&mut clients).await).await;

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
    let last = *stored.last().expect("some events");
    for recorder in recorders {
        let language = recorder.language;
        let handled = recorder.finish(last).await;
        let again = check(&handled, &stored, language);
        eprintln!(
            "VERDICT|{language}, {KILLS} kills|{} events, each handled, in order; {again} handled again",
            stored.len()
        );
    }
    assert!(server.terminate().await.success(), "it ends well");
}
