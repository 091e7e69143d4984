//! `kill -9` at random moments: the history has every event exactly once.
//!
//! `EVENTSTREAM_ARCHIVE_KILLS` sets how often, `EVENTSTREAM_SEED` repeats a run.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::stage::{Kind, Stage, each_pair};
use crate::{
    calls::{add_many, status},
    load::seed,
    server::eventually,
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
            last = *add_many(&mut clients, "A", count)
                .await
                .last()
                .expect("some");
        }
        // Somewhere in the midst of archiving them.
        let from = status(&mut clients).await.archived_id;
        let until = random.random_range(from..=last);
        eventually(async || match status(&mut clients).await.archived_id {
            at if at >= until => Ok(()),
            at => Err(at),
        })
        .await;
        for _ in 0..random.random_range(0..2000) {
            tokio::task::yield_now().await;
        }
        stage.server.signal("KILL");
        stage.server.ended().await;
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
