//! A service under attack, and a bystander who wants nothing but to be served.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    round_trip::add,
    server::{Clients, PATIENCE, Server},
};

/// How much is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// Some seconds, with each run of the tests.
    Skirmish,
    /// Everything, and long enough for figures.
    Siege,
}

impl Strength {
    pub fn of(self, skirmish: usize, siege: usize) -> usize {
        match self {
            Self::Skirmish => skirmish,
            Self::Siege => siege,
        }
    }
}

/// What an attack was and what came of it.
pub struct Account {
    /// What was sent.
    pub sent: String,
    /// What the server did.
    pub outcome: String,
    /// KiB of memory that it may have cost.
    pub room: u64,
}

/// Somebody who adds events all the while.
struct Bystander {
    stop: CancellationToken,
    running: JoinHandle<Vec<Duration>>,
}

impl Bystander {
    fn start(mut clients: Clients) -> Self {
        const PAUSE: Duration = Duration::from_millis(2);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move {
            let mut took = Vec::new();
            while !stopped.is_cancelled() {
                let begun = Instant::now();
                let added = timeout(PATIENCE, add(&mut clients, "KIND", "1")).await;
                added.expect("an answer comes");
                took.push(begun.elapsed());
                sleep(PAUSE).await;
            }
            took
        });
        Self { stop, running }
    }

    async fn took(self) -> Vec<Duration> {
        self.stop.cancel();
        let mut took = self.running.await.expect("it was served all the while");
        took.sort_unstable();
        took
    }
}

/// KiB that an attack may cost: buffers of connections, and what an allocator
/// keeps of them.
pub const ROOM: u64 = 64 * 1024;

/// Lets an attack loose on a service. The bystander must be served, memory must
/// stay bounded, and the service must be whole afterwards.
pub async fn withstand(
    name: &str,
    server: Server,
    clients: Clients,
    strength: Strength,
    attack: impl AsyncFnOnce(&Server, Strength) -> Account,
) {
    let bystander = Bystander::start(clients.clone());
    sleep(Duration::from_millis(200)).await;
    let before = memory(&server, "VmRSS:");
    let begun = Instant::now();
    let Account {
        sent,
        outcome,
        room,
    } = attack(&server, strength).await;
    let lasted = begun.elapsed();
    let took = bystander.took().await;
    let peak = memory(&server, "VmHWM:");
    let p99 = took[(took.len() * 99 / 100).min(took.len() - 1)];
    eprintln!(
        "VERDICT|{name}|{sent}, {:.1} s|{outcome}|{} → {} MiB|{:.1} ms|0 of {}",
        lasted.as_secs_f64(),
        before / 1024,
        peak / 1024,
        p99.as_secs_f64() * 1000.0,
        took.len(),
    );
    assert!(peak < before + room, "{name}: {before} to {peak} KiB");
    let log = server.log().join("\n");
    assert!(!log.contains("panicked"), "{name}: {log}");
    assert!(server.terminate().await.success(), "{name}: it ends well");
}

/// A figure of the server's memory, in KiB.
fn memory(server: &Server, name: &str) -> u64 {
    let path = format!("/proc/{}/status", server.pid());
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    words.and_then(|kib| kib.parse().ok()).expect("a number")
}
