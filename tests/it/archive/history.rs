//! Places, filters and bounds of reading history, and what it refuses.

use futoin_eventstream::proto::{PollEventsRequest, ReadyToReceiveRequest, start_at::At};
use tonic::Code;

use super::stage::{Kind, Stage, each_pair};
use crate::{
    calls::{
        add_many, after, at, consumer, end_of, ids, invalid, metadata, poll, poll_of, refused,
        seek, status, want,
    },
    round_trip::{next_group, ready, register, subscribe},
    server::Server,
};

each_pair!(
    times_are_found,
    times_of_a_clock_that_jumps_are_found,
    filters_and_bounds_hold,
    holes_are_told
);

fn json_id(line: &str) -> i64 {
    let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let id = event["id"].as_str().expect("as the JSON mapping has it");
    id.parse().expect("a number")
}

/// Seconds since 1970 of 2026-01-01, where the events of these tests begin.
const BEGIN: i64 = 1_767_225_600;

/// Events 1 to 30, one a minute; each fifth has the time of the one before.
async fn minutes(stage: &Stage) {
    for number in 1..=30 {
        let minute = if number % 5 == 0 { number - 1 } else { number };
        happened(stage, number, minute).await;
    }
}

/// The next event, of this number, at this minute.
async fn happened(stage: &Stage, number: i64, minute: i64) {
    let parity = if number % 2 == 0 { "EVEN" } else { "ODD" };
    let event = format!(
        "INSERT INTO evt_queue (type, data, ts)
         VALUES ('MIN_{parity}', '{number}', '2026-01-01 00:{minute:02}:00')"
    );
    stage.active.run(&event).await;
}

fn minute(minute: i64) -> At {
    At::Time(prost_types::Timestamp {
        seconds: BEGIN + minute * 60,
        nanos: 0,
    })
}

/// Archived up to 30, discarded up to 20, and nothing in memory.
async fn old(active: Kind, warehouse: Kind) -> Stage {
    let mut stage = Stage::start(active, warehouse).await;
    minutes(&stage).await;
    stage.archived(30).await;
    stage.active.discard(20).await;
    stage.restart().await;
    stage
}

async fn times_are_found(active: Kind, warehouse: Kind) {
    let stage = old(active, warehouse).await;
    let mut clients = stage.clients().await;
    for (time, first) in [(0, 1), (1, 1), (4, 4), (5, 6), (20, 21), (24, 24), (29, 29)] {
        let request = PollEventsRequest {
            start: at(minute(time)),
            ..poll_of("LIVE")
        };
        let polled = poll(&mut clients, request).await;
        assert_eq!(
            polled.events.first().map(|event| event.id),
            Some(first),
            "minute {time}"
        );
        let request = ReadyToReceiveRequest {
            start: at(minute(time)),
            ..ready("LIVE")
        };
        let (started, _stream) = subscribe(&mut clients, request).await;
        assert_eq!(started.start_after_id, first - 1, "minute {time}");
    }
    // Later than everything: from now on.
    let request = ReadyToReceiveRequest {
        start: at(minute(60)),
        ..ready("LIVE")
    };
    let (started, _stream) = subscribe(&mut clients, request).await;
    assert_eq!(started.start_after_id, 30);
    let tail = [
        "tail",
        "--since",
        "2026-01-01T00:07Z",
        "--count",
        "24",
        "--json",
    ];
    let output = stage.server.cli(&tail).await;
    let text = String::from_utf8(output.stdout).expect("text");
    let seen: Vec<_> = text.lines().map(json_id).collect();
    assert_eq!(seen, (7..=30).collect::<Vec<_>>());
}

/// A time is that of the lowest id at or after it, whatever the clock did.
async fn times_of_a_clock_that_jumps_are_found(active: Kind, warehouse: Kind) {
    let mut stage = Stage::start(active, warehouse).await;
    // Half an hour ahead at 4 and back at 6, behind at 9.
    let minutes = [1, 2, 3, 34, 35, 6, 7, 8, 4, 10, 11, 12];
    for (number, minute) in (1..).zip(minutes) {
        happened(&stage, number, minute).await;
        stage.archived(number).await;
    }
    for discarded in [0, 5, 11] {
        stage.active.discard(discarded).await;
        stage.restart().await;
        let mut clients = stage.clients().await;
        for (time, first) in [(0, 1), (3, 3), (4, 4), (9, 4), (34, 4), (35, 5)] {
            let request = PollEventsRequest {
                start: at(minute(time)),
                ..poll_of("LIVE")
            };
            let polled = poll(&mut clients, request).await;
            let found = polled.events.first().map(|event| event.id);
            assert_eq!(found, Some(first), "minute {time}, {discarded} discarded");
        }
    }
}

async fn filters_and_bounds_hold(active: Kind, warehouse: Kind) {
    let stage = old(active, warehouse).await;
    let mut clients = stage.clients().await;
    let request = PollEventsRequest {
        last_id: Some(0),
        want: want(&["MIN_EVEN"]),
        max_events: 4,
        ..poll_of("LIVE")
    };
    let polled = poll(&mut clients, request).await;
    assert_eq!((ids(&polled.events), polled.more), (vec![2, 4, 6, 8], true));
    // Nothing is wanted: the answer still gets on.
    let request = PollEventsRequest {
        last_id: Some(5),
        want: want(&["NONE"]),
        ..poll_of("LIVE")
    };
    let polled = poll(&mut clients, request).await;
    assert!(
        polled.events.is_empty() && polled.last_id >= 20,
        "{polled:?}"
    );
    // One event always travels.
    let request = PollEventsRequest {
        last_id: Some(5),
        max_bytes: 1,
        ..poll_of("LIVE")
    };
    assert_eq!(ids(&poll(&mut clients, request).await.events), [6]);
    let request = ReadyToReceiveRequest {
        start: after(0),
        want: want(&["MIN_ODD"]),
        ..ready("LIVE")
    };
    let (_, mut stream) = subscribe(&mut clients, request).await;
    let mut seen = Vec::new();
    while seen.len() < 15 {
        seen.extend(ids(&next_group(&mut stream).await.events));
    }
    assert_eq!(seen, (1..30).step_by(2).collect::<Vec<_>>());
    // A position in the history, also after a restart.
    register(&mut clients, "BACK").await;
    assert_eq!(
        seek(&mut clients, "BACK", 7)
            .await
            .expect("sought")
            .position,
        7
    );
    let mut stage = stage;
    stage.restart().await;
    let mut clients = stage.clients().await;
    let polled = poll(&mut clients, poll_of("BACK")).await;
    assert_eq!(ids(&polled.events).first(), Some(&8));
    assert_eq!(consumer(&mut clients, "BACK").await.position, 7);
    let request = PollEventsRequest {
        start: after(3),
        ..poll_of("BACK")
    };
    let refusal = clients.poll.poll_events(request).await;
    invalid(refusal, "start", "SeekConsumer");
}

async fn holes_are_told(active: Kind, warehouse: Kind) {
    let mut stage = old(active, warehouse).await;
    stage.stop_archiving().await;
    let mut clients = stage.clients().await;
    // Somebody lost a part of the history.
    stage
        .warehouse
        .run(
            "UPDATE evt_archived SET last_id = 10;
             INSERT INTO evt_archived (history, first_id, last_id, events, checksum, newest, archived)
                VALUES ('evt_history', 16, 18, 3, '0', NULL, '2026-01-01 00:00:00')",
        )
        .await;
    for (last_id, oldest) in [(10, "15"), (12, "15"), (18, "20"), (19, "20")] {
        let request = PollEventsRequest {
            last_id: Some(last_id),
            ..poll_of("LIVE")
        };
        let refusal = clients.poll.poll_events(request).await;
        let refusal = refused(refusal, Code::OutOfRange, "DISCARDED");
        assert_eq!(
            metadata(&refusal, "oldest_after_id").as_deref(),
            Some(oldest),
            "{last_id}"
        );
        assert!(refusal.message().contains(oldest), "{refusal}");
    }
    // A stream ends where the hole begins, never beyond.
    let request = ReadyToReceiveRequest {
        start: after(4),
        ..ready("LIVE")
    };
    let (_, mut stream) = subscribe(&mut clients, request).await;
    assert_eq!(
        ids(&next_group(&mut stream).await.events),
        [5, 6, 7, 8, 9, 10]
    );
    refused(
        Err::<(), _>(end_of(&mut stream).await),
        Code::OutOfRange,
        "DISCARDED",
    );
    let (sound, text) = stage.warehouse.verify().await;
    assert!(
        !sound && text.contains("11 to 15 is not recorded"),
        "{text}"
    );
}

#[tokio::test]
async fn without_a_warehouse_times_that_may_be_gone_are_refused() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    add_many(&mut clients, "A", 10).await;
    server.sqlite("UPDATE evt_queue SET ts = '2026-01-01 00:' || printf('%02d', id) || ':00'");
    server.sqlite("DELETE FROM evt_queue WHERE id <= 5");
    for time in [0, 3, 6] {
        let request = ReadyToReceiveRequest {
            start: at(minute(time)),
            ..ready("LIVE")
        };
        let refusal = clients.push.ready_to_receive(request).await;
        let refusal = refused(refusal.map(|_| ()), Code::OutOfRange, "DISCARDED");
        assert_eq!(metadata(&refusal, "oldest_after_id").as_deref(), Some("5"));
    }
    let request = ReadyToReceiveRequest {
        start: at(minute(7)),
        ..ready("LIVE")
    };
    let (started, _stream) = subscribe(&mut clients, request).await;
    assert_eq!(started.start_after_id, 6);
    assert_eq!(status(&mut clients).await.archived_id, 0);
}

#[tokio::test]
async fn replica_that_only_reads_history_archives_nothing() {
    let stage = old(Kind::Sqlite, Kind::Sqlite).await;
    let reader = super::stage::service(&stage.active, &stage.warehouse)
        .arg("--archive-run=false")
        .start()
        .await;
    let mut clients = reader.clients().await;
    let all = super::round_trips::read_all(&mut clients, 0, 1000).await;
    assert_eq!(ids(&all), (1..=30).collect::<Vec<_>>());
    assert_eq!(status(&mut clients).await.archived_id, 30);
    assert!(
        !reader
            .log()
            .iter()
            .any(|line| line.contains("\"archiving\""))
    );
}
