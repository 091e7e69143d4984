//! The long runs behind the feature `soak`: `make soak` enables it, so that
//! they are never skipped where they seem to have run.

mod receivers;
mod recorder;
mod rolling;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    load::{Load, Reading, Style, endure, seed},
    postgres::Cluster,
    server::Server,
    soak_command::{soak_within, verdict},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_kills_lose_nothing() {
    let kills = number("EVENTSTREAM_KILLS", 100);
    let (figures, took) = endure(&["KILL"], kills, seed()).await;
    eprintln!("VERDICT|{kills} kills, {took:.0?}|{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hours_of_load_lose_nothing_and_grow_nothing() {
    const PACE: Duration = Duration::from_millis(50);
    let minutes = number("SOAK_MINUTES", 30);
    let consumers = [
        Reading {
            slow: Some(Duration::from_millis(5)),
            ..Reading::push("SLOW")
        },
        Reading {
            filtered: true,
            ..Reading::push("FILTERED")
        },
        Reading {
            leaves_after: Some(500),
            ..Reading::push("RESTARTED")
        },
    ];
    let producers = [
        Style::Retried,
        Style::Once,
        Style::Batches,
        Style::Foreign,
        Style::Foreign,
    ];
    let server = Server::start().await;
    let mut load = Load::start(&server, seed(), &producers, &consumers, Some(PACE)).await;
    load.answers(200).await;
    let first = resident(&server);
    let end = Instant::now() + Duration::from_secs(60 * minutes as u64);
    let mut highest = first;
    while Instant::now() < end {
        // Pacing of the sample, not of the load.
        sleep(Duration::from_secs(5).min(end - Instant::now())).await;
        load.answers(1).await;
        highest = highest.max(resident(&server));
    }
    let last = resident(&server);
    let answered = load.answered();
    let figures = load.finish(&server).await;
    eprintln!("VERDICT|{minutes} min of load, {answered} transactions|{figures}");
    eprintln!("VERDICT|memory in KiB: start, highest, end|{first}, {highest}, {last}");
    assert!(server.terminate().await.success(), "it ends well");
}

/// `eventstream soak` with everything on; its verdict.
async fn prove(engine: &str, url: &str, args: &[&str]) {
    let events = number("EVENTSTREAM_EVENTS", 100_000);
    let seed = seed().to_string();
    let events_text = events.to_string();
    let common = ["--events", &events_text, "--seed", &seed];
    let limit = Duration::from_hours(1);
    let output = soak_within(limit, url, &[&common[..], args].concat()).await;
    let verdict = verdict(&output, events as u64);
    let service = &verdict["service"];
    eprintln!(
        "VERDICT|{engine}, {} events of 48 writers|nothing lost, added delay p50 {} us, p99 {} us",
        service["committed"], service["added_delay"]["p50_us"], service["added_delay"]["p99_us"]
    );
}

const EVERYTHING: [&str; 6] = [
    "--two-phase",
    "--compare",
    "--long-unrelated",
    "60",
    "--long-related",
    "15",
];

#[tokio::test]
async fn writers_on_postgres() {
    let database = Cluster::shared().database().await;
    prove("postgres", &database.url, &EVERYTHING).await;
}

#[tokio::test]
async fn writers_on_mysql() {
    let database = crate::mysql::Cluster::shared().database().await;
    prove("mysql", &database.url, &EVERYTHING).await;
}

#[tokio::test]
async fn writers_on_sqlite() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let url = format!("sqlite:{}/soak.db", dir.path().display());
    prove("sqlite", &url, &["--compare"]).await;
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Resident memory of the server in KiB.
fn resident(server: &Server) -> u64 {
    let path = format!("/proc/{}/status", server.pid());
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    words.and_then(|kib| kib.parse().ok()).expect("a number")
}
