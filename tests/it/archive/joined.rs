//! Archiver and discarder together: nothing goes before it is archived, and what
//! is gone can still be read.

use futoin_eventstream::proto::ReadyToReceiveRequest;

use super::stage::{Kind, Stage, archived, each_pair};
use crate::{
    calls::{ack, add_many, after, consumer, ids, poll, poll_of, seek, status},
    round_trip::{next_group, ready, register, subscribe},
    server::{Clients, eventually},
    upkeep::{discarded_to, doer_but},
};

each_pair!(
    nothing_goes_before_it_is_archived,
    replay_joins_live_while_the_discarder_runs,
    place_below_what_is_gone_is_served_and_holds,
    two_replicas_do_each_task_once,
);

/// Everything up to `id` is what `SHOP` has.
async fn has(clients: &mut Clients, id: i64) {
    ack(clients, "SHOP", id, None).await.expect("acknowledged");
}

async fn nothing_goes_before_it_is_archived(active: Kind, warehouse: Kind) {
    let stage = Stage::discarding(active, warehouse).await;
    let mut clients = stage.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 10).await;
    stage.archived(10).await;
    let conflict = "INSERT INTO evt_history (id, type, data, ts)
        VALUES (15, 'OTHER', '1', '2026-01-01 00:00:00')";
    stage.warehouse.run(conflict).await;
    add_many(&mut clients, "A", 10).await;
    let problem = stage.problem().await;
    assert!(problem.contains("event 15"), "{problem}");
    has(&mut clients, 20).await;
    discarded_to(&clients, 14).await;
    let slowest = status(&mut clients).await.slowest_consumer;
    assert_eq!(slowest.expect("somebody").component, "ARCHIVER");
    let kept = stage.active.queue().await;
    assert_eq!(kept.len(), 6, "{kept:?}");

    let mend = "DELETE FROM evt_history WHERE id = 15";
    stage.warehouse.run(mend).await;
    stage.archived(20).await;
    discarded_to(&clients, 19).await;
    let history = stage.warehouse.history().await;
    assert_eq!((history.len(), &history[14..]), (20, &kept[..]));
    stage.warehouse.assert_sound().await;
}

/// A reader that replays, behind which and in front of which events go.
async fn replay_joins_live_while_the_discarder_runs(active: Kind, warehouse: Kind) {
    let stage = Stage::discarding(active, warehouse).await;
    let mut clients = stage.clients().await;
    register(&mut clients, "SHOP").await;
    for _ in 0..10 {
        add_many(&mut clients, "OLD", 50).await;
    }
    stage.archived(500).await;
    has(&mut clients, 200).await;
    discarded_to(&clients, 200).await;
    let request = ReadyToReceiveRequest {
        start: after(0),
        max_group_events: 7,
        ..ready("LIVE")
    };
    let (_, mut stream) = subscribe(&mut clients, request).await;
    let mut seen = Vec::new();
    while seen.len() < 520 {
        seen.extend(ids(&next_group(&mut stream).await.events));
        let gone = match seen.len() {
            // Still in the history.
            70..77 => 350,
            // Right where it comes back to the active table.
            343..350 => 499,
            490..497 => {
                add_many(&mut clients, "NEW", 20).await;
                stage.archived(520).await;
                519
            }
            _ => continue,
        };
        has(&mut clients, gone + i64::from(gone > 350)).await;
        discarded_to(&clients, gone).await;
    }
    assert_eq!(seen, (1..=520).collect::<Vec<_>>(), "each once, in order");
    let all = super::round_trips::read_all(&mut clients, 0, 1000).await;
    assert_eq!(ids(&all), seen);
    stage.warehouse.assert_sound().await;
}

async fn place_below_what_is_gone_is_served_and_holds(active: Kind, warehouse: Kind) {
    let stage = Stage::discarding(active, warehouse).await;
    let mut clients = stage.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 20).await;
    stage.archived(20).await;
    has(&mut clients, 20).await;
    discarded_to(&clients, 19).await;
    seek(&mut clients, "SHOP", 5).await.expect("sought");
    add_many(&mut clients, "A", 10).await;
    stage.archived(30).await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    let read = ids(&polled.events);
    assert_eq!(read, (6..).take(read.len()).collect::<Vec<_>>());
    assert_eq!(consumer(&mut clients, "SHOP").await.position, 5);
    assert_eq!(stage.active.queue().await.len(), 11, "it holds the rest");
    let rest = super::round_trips::read_all(&mut clients, 5, 7).await;
    assert_eq!(ids(&rest), (6..=30).collect::<Vec<_>>());
    has(&mut clients, 30).await;
    discarded_to(&clients, 29).await;
    stage.warehouse.assert_sound().await;
}

/// The one that archives is stopped, wakes up, and is killed.
async fn two_replicas_do_each_task_once(active: Kind, warehouse: Kind) {
    let mut stage = Stage::discarding(active, warehouse).await;
    let first = doer_but(&stage.clients().await, "archive", "").await;
    let other = stage.server.again().start().await;
    let mut clients = other.clients().await;
    register(&mut clients, "SHOP").await;
    let mut last = 0;
    // One that is stopped in a write keeps SQLite's only lock; two calls of one
    // transaction of MySQL may be cut in two as well.
    let signals: &[_] = match active {
        Kind::Postgres => &["", "STOP", "CONT", "KILL"],
        _ => &["", "KILL"],
    };
    for &signal in signals {
        if !signal.is_empty() {
            stage.server.signal(signal);
        }
        if signal == "STOP" {
            for task in ["archive", "discard"] {
                let next = doer_but(&clients, task, &first.replica_id).await;
                assert!(next.fence > first.fence || task == "discard");
            }
        }
        last = *add_many(&mut clients, "A", 50).await.last().expect("some");
        archived(&mut clients, last).await;
        has(&mut clients, last).await;
        discarded_to(&clients, last - 1).await;
    }
    stage.server.ended().await;
    let history = stage.warehouse.history().await;
    assert_eq!(history.len(), usize::try_from(last).expect("few"));
    stage.warehouse.assert_sound().await;
}

/// Ids that settle late, right when what is around them is archived and
/// discarded.
async fn late_commit_is_archived_before_it_goes(active: Kind, warehouse: Kind) {
    let stage = Stage::discarding(active, warehouse).await;
    let mut clients = stage.clients().await;
    register(&mut clients, "SHOP").await;
    let mut first = 0;
    for _ in 0..3 {
        let before = *add_many(&mut clients, "A", 5).await.last().expect("some");
        let mut held = stage.active.begin().await;
        let late = held.insert().await;
        let after = *add_many(&mut clients, "A", 5).await.last().expect("some");
        stage.archived(before).await;
        has(&mut clients, before).await;
        discarded_to(&clients, before).await;
        assert_eq!(status(&mut clients).await.archived_id, before);
        held.run("COMMIT").await;
        eventually(async || {
            let polled = poll(&mut clients.clone(), poll_of("SHOP")).await;
            let read = ids(&polled.events);
            if read == (late..=after).collect::<Vec<_>>() {
                Ok(())
            } else {
                Err(read)
            }
        })
        .await;
        stage.archived(after).await;
        has(&mut clients, after).await;
        discarded_to(&clients, after - 1).await;
        first = first.max(after);
    }
    let history = stage.warehouse.history().await;
    assert_eq!(history.len(), usize::try_from(first).expect("few"));
    stage.warehouse.assert_sound().await;
}

#[tokio::test]
async fn late_commit_of_postgres_is_archived_before_it_goes() {
    late_commit_is_archived_before_it_goes(Kind::Postgres, Kind::Postgres).await;
    late_commit_is_archived_before_it_goes(Kind::Postgres, Kind::Sqlite).await;
}

#[tokio::test]
async fn late_commit_of_mysql_is_archived_before_it_goes() {
    late_commit_is_archived_before_it_goes(Kind::Mysql, Kind::Mysql).await;
    late_commit_is_archived_before_it_goes(Kind::Mysql, Kind::Postgres).await;
}

#[tokio::test]
async fn replica_that_only_reads_history_discards_nothing_before_somebody_archives() {
    let mut stage = Stage::start(Kind::Sqlite, Kind::Sqlite).await;
    stage.archived(0).await;
    stage.stop_archiving().await;
    stage.active.run("DELETE FROM evt_consumers").await;
    let reader = crate::upkeep::discarding(stage.server.again())
        .start()
        .await;
    let mut clients = reader.clients().await;
    register(&mut clients, "SHOP").await;
    add_many(&mut clients, "A", 10).await;
    has(&mut clients, 10).await;
    eventually(async || {
        let log = reader.log();
        let told = log
            .iter()
            .any(|line| line.contains("the archiver has not begun"));
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(status(&mut clients).await.discarded_to_id, 0);
    let archiver = super::stage::service(&stage.active, &stage.warehouse);
    let archiver = archiver.start().await;
    archived(&mut archiver.clients().await, 10).await;
    discarded_to(&clients, 9).await;
    assert_eq!(stage.warehouse.history().await.len(), 10);
}
