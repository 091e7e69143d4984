//! `kill -9` at random moments, every second time between the warehouse's commit
//! and the position's: the history has every event exactly once.
//!
//! `EVENTSTREAM_ARCHIVE_KILLS` sets how often, `EVENTSTREAM_SEED` repeats a run.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::stage::{Kind, Stage, archived, each_pair};
use crate::{
    calls::{add_many, status},
    load::seed,
    server::{Clients, eventually},
};

each_pair!(killed_archiver_neither_doubles_nor_loses);

/// Kills of one pair of databases, unless told otherwise.
const KILLS: u32 = 3;

async fn killed_archiver_neither_doubles_nor_loses(active: Kind, warehouse: Kind) {
    let kills = std::env::var("EVENTSTREAM_ARCHIVE_KILLS").map_or(KILLS, |text| {
        text.parse().expect("EVENTSTREAM_ARCHIVE_KILLS is a number")
    });
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut stage = Stage::start(active, warehouse).await;
    let mut last = 0;
    for _ in 0..kills {
        let mut clients = stage.clients().await;
        for _ in 0..random.random_range(3..10) {
            let count = random.random_range(1..200);
            let added = add_many(&mut clients, "A", count).await;
            last = *added.last().expect("some");
        }
        if random.random_bool(0.5) {
            in_the_midst(&mut clients, last, &mut random).await;
            kill(&mut stage).await;
        } else {
            archived(&mut clients, last).await;
            last = between_the_commits(&stage, &mut clients).await;
            kill(&mut stage).await;
            stage.active.thaw_positions().await;
        }
        stage.server = stage.server.again().start().await;
    }
    stage.archived(last).await;
    assert_eq!(
        stage.warehouse.history().await,
        stage.active.queue().await,
        "seed {seed}"
    );
    stage.warehouse.assert_sound().await;
}

/// Anywhere on the way to `last`.
async fn in_the_midst(clients: &mut Clients, last: i64, random: &mut StdRng) {
    let from = status(clients).await.archived_id;
    let until = random.random_range(from..=last);
    archived(clients, until).await;
    for _ in 0..random.random_range(0..2000) {
        tokio::task::yield_now().await;
    }
}

/// After the warehouse has committed what the position does not cover.
async fn between_the_commits(stage: &Stage, clients: &mut Clients) -> i64 {
    stage.active.freeze_positions().await;
    let last = *add_many(clients, "A", 20).await.last().expect("some");
    let newest = "SELECT CAST(COALESCE(MAX(id), 0) AS CHAR(20)) FROM evt_history";
    eventually(async || {
        let newest = stage.warehouse.lines(newest).await.remove(0);
        if newest.trim() == last.to_string() {
            Ok(())
        } else {
            Err(newest)
        }
    })
    .await;
    assert!(status(clients).await.archived_id < last);
    last
}

async fn kill(stage: &mut Stage) {
    stage.server.signal("KILL");
    stage.server.ended().await;
}
