//! A service under attack, and a bystander who wants nothing but to be served:
//! it adds events and receives them all the while. Attackers may at most add
//! events; whatever they hear is searched for what the bystander wrote.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futoin_eventstream::{
    limits,
    proto::{AddEventRequest, ready_to_receive_response::Payload},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    calls::{ack, metric},
    round_trip::{next, ready, register, subscribe},
    server::{Clients, PATIENCE, Server, eventually},
};

/// How much is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// Some seconds, with each run of the tests.
    Skirmish,
    /// Everything, and long enough for figures.
    Siege,
}

/// Where an attack takes place.
pub struct Scene {
    pub server: Server,
    pub strength: Strength,
    /// Calls of the bystander that were answered.
    served: Arc<AtomicUsize>,
}

impl Scene {
    /// A number of something, by the strength.
    pub fn of(&self, skirmish: usize, siege: usize) -> usize {
        match self.strength {
            Strength::Skirmish => skirmish,
            Strength::Siege => siege,
        }
    }

    /// Goes on until the bystander was served as often as that.
    pub async fn while_served(&self, calls: usize) {
        let end = self.served.load(Ordering::Relaxed) + calls;
        eventually(async || {
            let served = self.served.load(Ordering::Relaxed);
            if served < end { Err(served) } else { Ok(()) }
        })
        .await;
    }

    /// Waits until the service has closed so many connections for this reason.
    pub async fn until_refused(&self, listener: &str, reason: &str, count: usize) {
        let name = "eventstream_connections_refused_total";
        let name = format!("{name}{{listener=\"{listener}\",reason=\"{reason}\"}}");
        eventually(async || {
            let refused = metric(&self.server, &name).await;
            let all = (refused - count as f64).abs() < 0.5;
            all.then_some(()).ok_or(refused)
        })
        .await;
    }
}

/// What an attack was and what came of it.
pub struct Account {
    /// What was sent.
    pub sent: String,
    /// What the server did.
    pub outcome: String,
    /// Bytes of memory that it may have cost, beside [`ROOM`].
    pub room: usize,
    /// All that the attackers were told.
    pub heard: Vec<u8>,
}

/// Bytes that a service may take meanwhile for the bystander: what it keeps for
/// its readers.
const ROOM: usize = limits::DEFAULT_RING_BYTES;

/// What stands in each event of the bystander.
const SECRET: &str = "for nobody but the bystander";

/// How the bystander fared.
#[derive(Default)]
struct Tally {
    /// Of each call that was answered; sorted at the end.
    took: Vec<Duration>,
    failed: usize,
    /// The last id that was given out.
    last: i64,
}

impl Tally {
    async fn call(&mut self, clients: &mut Clients) {
        const PAUSE: Duration = Duration::from_millis(2);
        let request = AddEventRequest {
            r#type: "KIND".into(),
            data_json: format!("{SECRET:?}"),
            request_id: String::new(),
        };
        let begun = Instant::now();
        match timeout(PATIENCE, clients.generate.add_event(request)).await {
            Ok(Ok(added)) => {
                self.took.push(begun.elapsed());
                self.last = added.into_inner().id;
            }
            Ok(Err(_)) | Err(_) => self.failed += 1,
        }
        // It thinks.
        sleep(PAUSE).await;
    }

    /// The time that so many of a hundred calls did not take longer than.
    fn percentile(&self, percent: usize) -> Duration {
        let at = (self.took.len() * percent / 100).min(self.took.len() - 1);
        self.took[at]
    }

    fn sorted(mut self) -> Self {
        assert!(!self.took.is_empty(), "the bystander was served");
        self.took.sort_unstable();
        self
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = |percent| self.percentile(percent).as_secs_f64() * 1000.0;
        write!(f, "{:.1} / {:.1} ms", millis(50), millis(99))
    }
}

/// Somebody who adds events all the while, and receives them.
struct Bystander {
    stop: CancellationToken,
    adding: JoinHandle<Tally>,
    receiving: JoinHandle<()>,
    received: watch::Receiver<i64>,
}

impl Bystander {
    async fn start(mut clients: Clients, served: Arc<AtomicUsize>) -> Self {
        let (tell, received) = watch::channel(0);
        let receiving = tokio::spawn(receive(clients.clone(), tell));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let adding = tokio::spawn(async move {
            let mut tally = Tally::default();
            while !stopped.is_cancelled() {
                tally.call(&mut clients).await;
                served.store(tally.took.len(), Ordering::Relaxed);
            }
            tally
        });
        Self {
            stop,
            adding,
            receiving,
            received,
        }
    }

    /// Its tally, once it has received all that it has added.
    async fn ended(mut self) -> Tally {
        self.stop.cancel();
        let tally = self.adding.await.expect("no panic inside");
        let all = self.received.wait_for(|id| *id >= tally.last);
        let all = timeout(PATIENCE, all).await.expect("in time");
        assert_eq!(*all.expect("it receives"), tally.last);
        self.receiving.abort();
        tally.sorted()
    }
}

/// Receives and acknowledges.
async fn receive(mut clients: Clients, tell: watch::Sender<i64>) {
    const COMPONENT: &str = "BYSTANDER";
    register(&mut clients, COMPONENT).await;
    let (started, mut stream) = subscribe(&mut clients, ready(COMPONENT)).await;
    loop {
        let Payload::Group(group) = next(&mut stream).await else {
            continue;
        };
        for event in &group.events {
            assert!(event.data_json.contains(SECRET), "{event:?}");
        }
        let last = group.last_id;
        let acked = ack(&mut clients, COMPONENT, last, Some(started.epoch)).await;
        acked.expect("acknowledged");
        tell.send_replace(last);
    }
}

/// Lets an attack loose on a service. The bystander must be served, memory must
/// stay bounded, nothing must be told to who may not know it, and the service
/// must be whole afterwards.
pub async fn withstand(
    name: &str,
    server: Server,
    mut clients: Clients,
    strength: Strength,
    attack: impl AsyncFnOnce(&Scene) -> Account,
) {
    let scene = Scene {
        server,
        strength,
        served: Arc::default(),
    };
    let mut undisturbed = Tally::default();
    for _ in 0..scene.of(50, 1000) {
        undisturbed.call(&mut clients).await;
    }
    let undisturbed = undisturbed.sorted();
    let bystander = Bystander::start(clients, Arc::clone(&scene.served)).await;
    scene.while_served(10).await;
    let before = memory(&scene.server, "VmRSS:");
    forget_peak(&scene.server);
    let begun = Instant::now();
    let account = attack(&scene).await;
    let lasted = begun.elapsed();
    scene.while_served(10).await;
    let tally = bystander.ended().await;
    let peak = memory(&scene.server, "VmHWM:");
    eprintln!(
        "VERDICT|{name}|{}, {:.1} s|{}|{} → {} MiB|{tally} ({undisturbed})|{} of {}",
        account.sent,
        lasted.as_secs_f64(),
        account.outcome,
        before >> 20,
        peak >> 20,
        tally.failed,
        tally.took.len() + tally.failed,
    );
    let room = ROOM + account.room;
    assert!(peak < before + room, "{name}: {before} to {peak} bytes");
    assert_eq!(tally.failed, 0, "{name}: calls of the bystander failed");
    if strength == Strength::Siege {
        // Attackers take their part of the same processors.
        let bound = undisturbed.percentile(99) * 20 + Duration::from_millis(100);
        assert!(tally.percentile(99) < bound, "{name}: {tally}");
    }
    let leaked = account.heard.windows(SECRET.len());
    assert!(!leaked.into_iter().any(|part| part == SECRET.as_bytes()));
    let log = scene.server.log().join("\n");
    assert!(!log.contains("panicked"), "{name}: {log}");
    assert!(scene.server.terminate().await.success(), "{name}: it ends");
}

/// A figure of the server's memory, in bytes.
fn memory(server: &Server, name: &str) -> usize {
    let path = format!("/proc/{}/status", server.pid());
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: usize = words.and_then(|kib| kib.parse().ok()).expect("a number");
    kib * 1024
}

/// Makes the peak of its memory begin now.
fn forget_peak(server: &Server) {
    let path = format!("/proc/{}/clear_refs", server.pid());
    std::fs::write(path, "5").expect("our own process");
}
