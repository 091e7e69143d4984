//! Writers that hold, roll back and prepare, while the service crashes; and
//! many that hold nothing.

use std::collections::BTreeSet;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sqlx::MySqlConnection;

use super::{
    cluster::{LockMode, insert, run},
    stage::{Evidence, Stage},
};
use crate::{
    calls::{poll, poll_of},
    round_trip::next_group,
    server::Clients,
};

const WRITERS: u64 = 8;
const TRANSACTIONS: usize = 80;

/// Committed ids of one writer.
async fn write(mut session: MySqlConnection, name: String, seed: u64) -> Vec<i64> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut committed = Vec::new();
    for number in 0..TRANSACTIONS {
        let two_phase = random.random_ratio(1, 10);
        let transaction = format!("{name}_{seed}_{number}");
        if two_phase {
            run(&mut session, &format!("XA START '{transaction}'")).await;
        } else {
            run(&mut session, "BEGIN").await;
        }
        let mut ids = Vec::new();
        for _ in 0..random.random_range(1..4) {
            ids.push(insert(&mut session).await);
            let pause = random.random_range(0..8);
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        }
        if two_phase {
            let end = format!("XA END '{transaction}'; XA PREPARE '{transaction}'");
            run(&mut session, &end).await;
            run(&mut session, &format!("XA COMMIT '{transaction}'")).await;
            committed.extend(ids);
        } else if random.random_ratio(1, 5) {
            run(&mut session, "ROLLBACK").await;
        } else {
            run(&mut session, "COMMIT").await;
            committed.extend(ids);
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

/// Lost nothing, in order, each once.
fn judge(seen: &[i64], committed: &BTreeSet<i64>) {
    assert!(seen.is_sorted_by(|a, b| a < b), "in order, each once");
    let seen: BTreeSet<i64> = seen.iter().copied().collect();
    let missing: Vec<_> = committed.difference(&seen).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    assert_eq!(seen, *committed, "what was rolled back never arrives");
}

async fn crashes_of_the_reader(evidence: Evidence, mode: LockMode) {
    let Stage {
        database,
        mut server,
        mut clients,
        stream,
    } = Stage::with(evidence, mode).await;
    drop(stream);
    let mut writers = Vec::new();
    for seed in 0..WRITERS {
        let session = database.session().await;
        writers.push(tokio::spawn(write(session, database.name.clone(), seed)));
    }
    crate::calls::until_unsubscribed(&mut clients, "SHOP").await;
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
    let end = committed.last().copied().expect("some");
    while last < end {
        seen.extend(drain(&mut clients, &mut last).await);
    }
    judge(&seen, &committed);
}

#[tokio::test]
async fn case_19_crashes_of_the_reader_under_load() {
    crashes_of_the_reader(Evidence::Plugin, LockMode::Consecutive).await;
}

#[tokio::test]
async fn case_19_crashes_of_the_reader_under_load_by_the_performance_schema() {
    crashes_of_the_reader(Evidence::Schema, LockMode::Interleaved).await;
}

#[tokio::test]
async fn case_19_crashes_of_the_reader_under_load_by_the_list_of_processes() {
    crashes_of_the_reader(Evidence::List, LockMode::Interleaved).await;
}

const HAMMERS: u64 = 64;
const BLOWS: usize = 15;

/// Autocommit as fast as it goes, now and then rolled back.
async fn hammer(mut session: MySqlConnection, seed: u64) -> Vec<i64> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut committed = Vec::new();
    for _ in 0..BLOWS {
        if random.random_ratio(3, 100) {
            run(&mut session, "BEGIN").await;
            insert(&mut session).await;
            run(&mut session, "ROLLBACK").await;
        } else {
            committed.push(insert(&mut session).await);
        }
    }
    committed
}

async fn many_writers(evidence: Evidence, mode: LockMode) {
    let mut stage = Stage::with(evidence, mode).await;
    let mut writers = Vec::new();
    for seed in 0..HAMMERS {
        let session = stage.database.session().await;
        writers.push(tokio::spawn(hammer(session, seed)));
    }
    let mut seen = Vec::new();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let group = next_group(&mut stage.stream).await;
        seen.extend(group.events.iter().map(|event| event.id));
    }
    let mut committed = BTreeSet::new();
    for writer in writers {
        committed.extend(writer.await.expect("no writer fails"));
    }
    let end = committed.last().copied().expect("some");
    while seen.last().is_none_or(|last| *last < end) {
        let group = next_group(&mut stage.stream).await;
        seen.extend(group.events.iter().map(|event| event.id));
    }
    judge(&seen, &committed);
}

#[tokio::test]
async fn case_17_hammer_of_64_sessions() {
    many_writers(Evidence::Plugin, LockMode::Consecutive).await;
    many_writers(Evidence::Plugin, LockMode::Interleaved).await;
}

#[tokio::test]
async fn case_17_hammer_of_64_sessions_by_the_performance_schema() {
    many_writers(Evidence::Schema, LockMode::Consecutive).await;
}

#[tokio::test]
async fn case_17_hammer_of_64_sessions_by_the_list_of_processes() {
    many_writers(Evidence::List, LockMode::Interleaved).await;
}

#[tokio::test]
async fn case_17_hammer_of_64_sessions_without_privileges() {
    many_writers(Evidence::Nothing, LockMode::Interleaved).await;
}
