//! `kill -9` at random moments loses no promise, only time.
//!
//! `EVENTSTREAM_KILLS` sets how often, `EVENTSTREAM_SEED` repeats a run.

use crate::load::{endure, seed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing() {
    let kills = std::env::var("EVENTSTREAM_KILLS").map_or(8, |text| {
        text.parse().expect("EVENTSTREAM_KILLS is a number")
    });
    let (figures, took) = endure(&["KILL"], kills, seed()).await;
    eprintln!("{kills} kills in {took:.1?}: {figures}");
    assert!(figures.acknowledged > 0 && figures.delivered > 0);
}
