//! Writers that hold, roll back and prepare, while the service crashes.

use std::collections::BTreeSet;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sqlx::PgConnection;

use super::{
    Cluster,
    cluster::{insert, run},
};
use crate::{
    calls::{poll, poll_of},
    round_trip::register,
    server::Clients,
};

const WRITERS: u64 = 8;
const TRANSACTIONS: usize = 120;

/// Committed ids of one writer.
async fn write(mut session: PgConnection, name: String, seed: u64) -> Vec<i64> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut committed = Vec::new();
    for number in 0..TRANSACTIONS {
        run(&mut session, "BEGIN").await;
        let mut ids = Vec::new();
        for _ in 0..random.random_range(1..4) {
            ids.push(insert(&mut session).await);
            let pause = random.random_range(0..8);
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        }
        match random.random_range(0..10) {
            0..2 => run(&mut session, "ROLLBACK").await,
            2 => {
                let transaction = format!("{name}_{seed}_{number}");
                run(
                    &mut session,
                    &format!("PREPARE TRANSACTION '{transaction}'"),
                )
                .await;
                run(&mut session, &format!("COMMIT PREPARED '{transaction}'")).await;
                committed.extend(ids);
            }
            _ => {
                run(&mut session, "COMMIT").await;
                committed.extend(ids);
            }
        }
    }
    committed
}

/// Polls to the end; what came.
async fn drain(clients: &mut Clients, last: &mut i64) -> Vec<i64> {
    let mut seen = Vec::new();
    loop {
        let mut request = poll_of("SHOP");
        request.last_id = Some(*last);
        let polled = poll(clients, request).await;
        *last = polled.last_id;
        if polled.events.is_empty() {
            return seen;
        }
        seen.extend(crate::calls::ids(&polled.events));
    }
}

#[tokio::test]
async fn case_17_crashes_of_the_reader_under_load() {
    let database = Cluster::shared().database().await;
    let mut server = database.server().start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let mut writers = Vec::new();
    for seed in 0..WRITERS {
        let session = database.session().await;
        writers.push(tokio::spawn(write(session, database.name.clone(), seed)));
    }
    let (mut last, mut seen) = (0, Vec::new());
    let mut looks = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        seen.extend(drain(&mut clients, &mut last).await);
        looks += 1;
        if looks % 20 == 0 {
            server = server.crash_and_restart().await;
            clients = server.clients().await;
        }
    }
    let mut committed = BTreeSet::new();
    for writer in writers {
        committed.extend(writer.await.expect("no writer fails"));
    }
    seen.extend(drain(&mut clients, &mut last).await);
    assert!(seen.is_sorted_by(|a, b| a < b), "in order, each once");
    let seen: BTreeSet<i64> = seen.into_iter().collect();
    let missing: Vec<_> = committed.difference(&seen).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    assert_eq!(seen, committed, "what was rolled back never arrives");
}
