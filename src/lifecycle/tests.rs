//! The order of the end, and every way it can go wrong, on paused time.

use super::*;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(10);

/// Signals that a test sends; the sender dropped means none come.
struct Sent(mpsc::Receiver<&'static str>);

impl Signals for Sent {
    async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }
}

fn signals(count: usize) -> Sent {
    let (tx, rx) = mpsc::channel(4);
    for _ in 0..count {
        tx.try_send("TEST").unwrap();
    }
    Sent(rx)
}

fn no_close() -> impl Future<Output = anyhow::Result<()>> {
    std::future::ready(Ok(()))
}

type Journal = Arc<Mutex<Vec<&'static str>>>;

fn until_stopped(tasks: &Tasks, name: &'static str, journal: &Journal) {
    let stopping = tasks.stopping();
    let journal = Arc::clone(journal);
    tasks.spawn(name, async move {
        stopping.cancelled().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        locked(&journal).push(name);
        Ok(())
    });
}

#[tokio::test(start_paused = true)]
async fn stages_end_in_order_then_close() {
    let life = Lifecycle::new();
    let journal = Journal::default();
    let readiness = life.readiness();
    life.set_readiness(Readiness::Ready);
    until_stopped(&life.engine, "engine", &journal);
    until_stopped(&life.fronts, "front", &journal);
    let close = async {
        locked(&journal).push("close");
        Ok(())
    };
    life.run_until_signal(signals(1), DEADLINE, close)
        .await
        .unwrap();
    assert_eq!(*locked(&journal), ["front", "engine", "close"]);
    assert_eq!(*readiness.borrow(), Readiness::Draining);
    life.set_readiness(Readiness::Ready);
    assert_eq!(*readiness.borrow(), Readiness::Draining);
}

#[tokio::test(start_paused = true)]
async fn failed_task_stops_the_others_and_is_reported() {
    let life = Lifecycle::new();
    let journal = Journal::default();
    until_stopped(&life.fronts, "front", &journal);
    life.engine
        .spawn("tailer", async { Err(anyhow!("disk on fire")) });
    let error = life
        .run_until_signal(signals(0), DEADLINE, no_close())
        .await
        .unwrap_err();
    assert_eq!(format!("{error:#}"), "task tailer: disk on fire");
    assert_eq!(*locked(&journal), ["front"]);
}

#[tokio::test(start_paused = true)]
async fn panic_is_a_failure() {
    let life = Lifecycle::new();
    life.engine.spawn("writer", async {
        assert!(DEADLINE.is_zero(), "on purpose");
        Ok(())
    });
    let error = life
        .run_until_signal(signals(0), DEADLINE, no_close())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "task writer panicked");
}

#[tokio::test(start_paused = true)]
async fn deadline_kills_and_names_who_hung() {
    let life = Lifecycle::new();
    let killed = life.fronts.killed();
    life.fronts.spawn("grpc", async move {
        killed.cancelled().await;
        Ok(())
    });
    let start = Instant::now();
    let error = life
        .run_until_signal(signals(1), DEADLINE, no_close())
        .await
        .unwrap_err();
    assert_eq!(start.elapsed(), DEADLINE);
    let text = error.to_string();
    assert!(
        text.contains("deadline of 10s") && text.contains("[grpc]"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn second_signal_kills_at_once_even_who_ignores_it() {
    let life = Lifecycle::new();
    life.engine.spawn("stubborn", std::future::pending());
    let start = Instant::now();
    let error = life
        .run_until_signal(signals(2), DEADLINE, no_close())
        .await
        .unwrap_err();
    assert_eq!(start.elapsed(), limits::KILL_GRACE);
    assert!(error.to_string().contains("second signal"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn close_is_under_the_same_deadline() {
    let life = Lifecycle::new();
    let error = life
        .run_until_signal(signals(1), DEADLINE, std::future::pending())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("deadline"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn crowd_is_dropped_when_killed() {
    let killed = CancellationToken::new();
    let crowd = Crowd::new(killed.clone());
    crowd.spawn(std::future::pending());
    killed.cancel();
    crowd.ended().await;
}
