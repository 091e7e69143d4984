//! What one receiver has handled, when, and whether that is the stream.

#[cfg(feature = "soak")]
pub mod gaps;

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use futoin_eventstream::proto::AddEventRequest;
use tokio::{
    sync::watch,
    time::{Instant, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::server::{Clients, PATIENCE};

/// Of one producer.
pub const EVENTS_A_SECOND: u64 = 500;

/// Ids in the order in which a receiver handled them.
pub struct Journal {
    handled: Mutex<Vec<(i64, Instant)>>,
    highest: watch::Sender<i64>,
}

impl Journal {
    pub fn new() -> Self {
        Self {
            handled: Mutex::default(),
            highest: watch::Sender::new(0),
        }
    }

    /// This id was handled now.
    pub fn note(&self, id: i64) {
        let now = Instant::now();
        self.handled.lock().expect("no panic").push((id, now));
        self.highest
            .send_modify(|highest| *highest = id.max(*highest));
    }

    /// Waits until one more was handled than at present.
    pub async fn grows(&self) {
        let mut highest = self.highest.subscribe();
        let changed = timeout(PATIENCE, highest.changed()).await;
        changed.expect("events come").expect("it is kept");
    }

    /// Waits until `last` was handled.
    pub async fn reaches(&self, last: i64, who: &str) {
        let mut highest = self.highest.subscribe();
        let reached = timeout(PATIENCE * 3, highest.wait_for(|&id| id >= last)).await;
        reached
            .unwrap_or_else(|_| panic!("{who} reaches {last}"))
            .expect("it is kept");
    }

    /// Every id of the stream, in order; what comes again is a run that begins
    /// at or before the last one, and is itself without a gap. How many came
    /// again.
    pub fn check(&self, stored: &[i64], who: &str) -> usize {
        let handled = self.handled.lock().expect("no panic");
        let next = |id: i64| stored.get(stored.partition_point(|&other| other <= id));
        let mut last = 0;
        for (index, &(id, _)) in handled.iter().enumerate() {
            let follows = next(last) == Some(&id);
            assert!(
                follows || id <= last,
                "{who}: {id} came after {last}, as number {index}"
            );
            last = id;
        }
        let all: BTreeSet<_> = handled.iter().map(|&(id, _)| id).collect();
        assert!(all.iter().eq(stored), "{who} has them all");
        handled.len() - stored.len()
    }
}

/// Adds at a fixed rate until told to stop, and repeats what was not answered;
/// each id with the time of its answer.
pub async fn produce(
    address: String,
    answered: watch::Sender<u64>,
    stop: CancellationToken,
) -> Vec<(i64, Instant)> {
    let mut ticks = interval(Duration::from_millis(1000 / EVENTS_A_SECOND));
    let mut clients = Clients::lazy(&address);
    let mut answers = Vec::new();
    while !stop.is_cancelled() {
        ticks.tick().await;
        let request = AddEventRequest {
            r#type: "CHAOS".to_owned(),
            data_json: "{}".to_owned(),
            request_id: Uuid::new_v4().to_string(),
        };
        let id = loop {
            match clients.generate.add_event(request.clone()).await {
                Ok(added) => break added.into_inner().id,
                Err(_) => ticks.tick().await,
            };
        };
        answers.push((id, Instant::now()));
        answered.send_modify(|count| *count += 1);
    }
    answers
}
