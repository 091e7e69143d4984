//! Three replicas on PostgreSQL, replaced one after the other under load and
//! the receivers of all five clients: nothing is lost, and nobody hears nothing
//! for a second. The same from another version of the program to this one.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    number,
    recorder::{LANGUAGES, Recorder},
};
use crate::{
    calls::subscribed,
    deploy::{fleet::Fleet, journal::produce, rolling::stored},
    postgres::{Cluster, Database},
    server::{Builder, PATIENCE, eventually},
};

/// About two seconds of load between two replacements.
const EVENTS_BETWEEN: u64 = 1000;

/// No receiver may hear nothing for longer, while events are added.
fn longest_silence() -> Duration {
    Duration::from_millis(number("EVENTSTREAM_SILENCE_MS", 1000) as u64)
}

/// Replaces the replicas of a fleet of `first` by these, one after the other,
/// the last of them with a SIGKILL straight after the SIGTERM.
async fn roll(name: &str, database: &Database, first: &Builder, next: &[&Builder]) {
    let mut fleet = Fleet::start(first, 3).await;
    let recorders = LANGUAGES.map(|language| Recorder::start(language, fleet.address()));
    let mut clients = fleet.replicas()[0].clients().await;
    eventually(async || subscribed(&mut clients, LANGUAGES.len()).await).await;
    let (answered, mut progress) = watch::channel(0);
    let stop = CancellationToken::new();
    let producing = tokio::spawn(produce(fleet.address().to_owned(), answered, stop.clone()));
    let mut replaced = Vec::new();
    for (number, replica) in next.iter().enumerate() {
        more(&mut progress).await;
        replaced.push(Instant::now());
        if number == next.len() - 1 {
            fleet.kill_oldest(replica).await;
        } else {
            fleet.replace_oldest(replica).await;
        }
    }
    more(&mut progress).await;
    stop.cancel();
    let answers = producing.await.expect("no panic inside");
    let stored = stored(database).await;
    assert!(answers.iter().map(|(id, _)| id).eq(&stored), "each once");
    let mut silent = Vec::new();
    for recorder in recorders {
        let (language, journal) = (recorder.language, recorder.journal.clone());
        let again = recorder.finish(&stored).await;
        let gaps = journal.gaps(&answers, &replaced);
        eprintln!(
            "VERDICT|{name}, {language}|{} events, each handled, in order; {again} handled again; longest silence \
             by replacement: median {} ms, longest {} ms; longest delay {} ms",
            stored.len(),
            gaps.median().as_millis(),
            gaps.longest().as_millis(),
            gaps.delay.as_millis()
        );
        if gaps.longest() > longest_silence() {
            silent.push((language, gaps.longest()));
        }
    }
    assert!(silent.is_empty(), "silent for too long: {silent:?}");
    fleet.end().await;
}

/// Waits for the events between two replacements.
async fn more(progress: &mut watch::Receiver<u64>) {
    let goal = *progress.borrow() + EVENTS_BETWEEN;
    let reached = timeout(PATIENCE, progress.wait_for(|&count| count >= goal)).await;
    reached.expect("events are added").expect("it produces");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_lose_nothing_for_five_languages() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let replica = database.server();
    roll("rolling restart", &database, &replica, &[&replica; 7]).await;
}

/// `EVENTSTREAM_EARLIER`: any other version of the program; `scripts/soak.sh` runs
/// it with the last one before a step of the schema, which then comes under
/// load, and with the previous commit's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_upgrade_loses_nothing_for_five_languages() {
    let earlier = std::env::var("EVENTSTREAM_EARLIER").expect("scripts/soak.sh builds one");
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let now = database.server();
    let before = database.server().program(&earlier);
    // Forward; one of the old ones is even started again after the new one.
    let next = [&now, &before, &now, &now, &now, &now];
    roll("rolling upgrade", &database, &before, &next).await;
}
