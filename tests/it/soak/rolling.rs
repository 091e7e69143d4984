//! Three replicas on PostgreSQL, replaced one after the other under load and
//! the receivers of all five clients; the same from an earlier version of the
//! program to this one, which brings steps of the schema with it.

use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::recorder::{LANGUAGES, Recorder};
use crate::{
    calls::subscribed,
    deploy::{
        fleet::Fleet,
        journal::{gaps::Gaps, produce},
        rolling::stored,
    },
    postgres::{Cluster, Database},
    server::{Builder, PATIENCE, eventually},
};

/// About two seconds of load between two replacements.
const EVENTS_BETWEEN: u64 = 1000;

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
    let last = next.len() - 1;
    for (number, replica) in next.iter().enumerate() {
        let goal = *progress.borrow() + EVENTS_BETWEEN;
        let reached = timeout(PATIENCE, progress.wait_for(|&count| count >= goal)).await;
        reached.expect("events are added").expect("it produces");
        if number == last {
            fleet.kill_oldest(replica).await;
        } else {
            fleet.replace_oldest(replica).await;
        }
    }
    let goal = *progress.borrow() + EVENTS_BETWEEN;
    let reached = timeout(PATIENCE, progress.wait_for(|&count| count >= goal)).await;
    reached.expect("events are added").expect("it produces");
    stop.cancel();
    let answers = producing.await.expect("no panic inside");
    let stored = stored(database).await;
    assert!(answers.iter().map(|(id, _)| id).eq(&stored), "each once");
    for recorder in recorders {
        let (language, journal) = (recorder.language, recorder.journal.clone());
        let again = recorder.finish(&stored).await;
        let Gaps { silence, delay } = journal.gaps(&answers);
        eprintln!(
            "VERDICT|{name}, {language}|{} events, each handled, in order; {again} handled again; \
             longest silence {} ms, longest delay {} ms",
            stored.len(),
            silence.as_millis(),
            delay.as_millis()
        );
    }
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_lose_nothing_for_five_languages() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let replica = database.server();
    roll("rolling restart", &database, &replica, &[&replica; 7]).await;
}

/// `EVENTSTREAM_EARLIER`: a program that knows fewer steps of the schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_upgrade_with_a_migration_loses_nothing_for_five_languages() {
    let earlier = std::env::var("EVENTSTREAM_EARLIER").expect("scripts/soak.sh builds one");
    let cluster = Cluster::start();
    let database = cluster.database().await;
    let now = database.server();
    let before = database.server().program(&earlier);
    // Forward; one of the old ones is even started again after the migration.
    let next = [&now, &before, &now, &now, &now, &now];
    roll("rolling upgrade", &database, &before, &next).await;
}
