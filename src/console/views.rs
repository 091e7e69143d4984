//! What the page is told, as JSON: plain structures made from the stream's state.
//!
//! Ids are texts: they have more digits than a browser's number. Times are
//! milliseconds since 1970, ages milliseconds. Long lists are cut, the worst
//! first, and say how many there are. Each consumer says whether the caller may
//! act on it; the gate judges by itself all the same.

use std::{cmp::Reverse, time::Duration};

use serde::Serialize;

use super::{
    Facts,
    history::{Slot, Tally},
};
use crate::{
    auth::Principal,
    event::{ConsumerKey, Moment},
    limits,
    store::{Blocker, Lease},
    stream::{ConsumerState, Glance, Lag},
};

/// Answer of `state`.
#[derive(Serialize)]
pub(super) struct State {
    now: i64,
    user: String,
    version: &'static str,
    database: &'static str,
    replica: String,
    frontier: String,
    head: String,
    /// Ids between the two.
    waiting: String,
    oldest: Option<String>,
    discarded_to: String,
    archived: String,
    held: Option<Held>,
    problem: Option<String>,
    blockers: Vec<BlockerView>,
    leases: Vec<LeaseView>,
    open_streams: usize,
    ring_bytes: usize,
    upkeep: Facts,
    consumers: Consumers,
}

/// What the frontier waits for.
#[derive(Serialize)]
struct Held {
    id: String,
    waited: u64,
}

#[derive(Serialize)]
struct BlockerView {
    session: String,
    client: String,
    age: u64,
    prepared: bool,
}

#[derive(Serialize)]
struct LeaseView {
    task: String,
    replica: String,
    here: bool,
}

/// The consumers, the worst first.
#[derive(Serialize)]
struct Consumers {
    /// Registered.
    total: usize,
    connected: usize,
    /// That match what was searched for.
    found: usize,
    /// Of those, as many as one answer has.
    shown: Vec<Consumer>,
}

/// One of them.
#[derive(Serialize)]
pub(super) struct Consumer {
    user: String,
    component: String,
    position: String,
    epoch: String,
    lag: String,
    lag_age: Option<u64>,
    last_time: Option<i64>,
    reg_time: Option<i64>,
    connected: bool,
    label: String,
    replica: String,
    problem: Option<String>,
    /// Whether the oldest events are kept for it.
    holds_oldest: bool,
    /// Whether the caller may move and remove it.
    governed: bool,
}

/// An event of the tail.
#[derive(Serialize)]
pub(super) struct Event {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: Box<str>,
    pub(super) time: Option<i64>,
    /// The beginning of its text.
    pub(super) data: Box<str>,
    /// Of the whole text.
    pub(super) bytes: usize,
}

/// Answer of `history`.
#[derive(Serialize)]
pub(super) struct HistoryView {
    pub(super) now: i64,
    /// Length of a slot.
    pub(super) step: u64,
    pub(super) slots: Vec<SlotView>,
}

#[derive(Serialize)]
pub(super) struct SlotView {
    at: i64,
    watched: bool,
    /// Type, events, bytes.
    counts: Vec<(String, u64, u64)>,
    other: (u64, u64),
    missed: u64,
    frontier: Option<String>,
    waiting: Option<String>,
    /// Consumer, ids, age.
    lags: Option<Vec<(String, String, Option<u64>)>>,
}

impl State {
    pub(super) fn of(glance: &Glance, facts: Facts, caller: &Principal, search: &str) -> Self {
        let status = &glance.status;
        let waiting = status.bounds.head.distance_from(status.frontier);
        Self {
            now: Moment::now().unix_millis(),
            user: caller.user.as_str().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            database: status.database,
            replica: status.replica.to_string(),
            frontier: status.frontier.to_string(),
            head: status.bounds.head.to_string(),
            waiting: waiting.to_string(),
            oldest: status.bounds.oldest.map(|id| id.to_string()),
            discarded_to: status.bounds.discarded_to.to_string(),
            archived: status.archived.to_string(),
            held: status.held.map(|(id, waited)| Held {
                id: id.to_string(),
                waited: millis(waited),
            }),
            problem: status.problem.clone(),
            blockers: status.blockers.iter().map(blocker).collect(),
            leases: status
                .leases
                .iter()
                .map(|lease| self::lease(lease, &status.replica.to_string()))
                .collect(),
            open_streams: status.open_streams,
            ring_bytes: status.ring_bytes,
            upkeep: facts,
            consumers: consumers(glance, caller, search),
        }
    }
}

fn consumers(glance: &Glance, caller: &Principal, search: &str) -> Consumers {
    let all = &glance.consumers;
    let search = search.to_lowercase();
    let matches = |state: &&ConsumerState| {
        let label = state.consumer.session.as_ref();
        let names = [
            state.consumer.key.ident(),
            label
                .map(|label| label.as_str().to_owned())
                .unwrap_or_default(),
        ];
        names
            .iter()
            .any(|name| name.to_lowercase().contains(&search))
    };
    let mut found: Vec<_> = all.iter().filter(matches).collect();
    found.sort_by_key(|state| (state.problem.is_none(), Reverse(state.lag_ids)));
    let slowest = glance.status.slowest.as_ref();
    let slowest = slowest.filter(|state| state.lag_ids > 0 || state.problem.is_some());
    let slowest = slowest.map(|state| &state.consumer.key);
    Consumers {
        total: all.len(),
        connected: all.iter().filter(|state| is_connected(state)).count(),
        found: found.len(),
        shown: found
            .iter()
            .take(limits::CONSOLE_CONSUMERS)
            .map(|state| Consumer::of(state, caller, slowest))
            .collect(),
    }
}

fn is_connected(state: &ConsumerState) -> bool {
    state.consumer.session.is_some()
}

impl Consumer {
    pub(super) fn of(
        state: &ConsumerState,
        caller: &Principal,
        slowest: Option<&ConsumerKey>,
    ) -> Self {
        let consumer = &state.consumer;
        let label = consumer.session.as_ref();
        Self {
            user: consumer.key.user.as_str().to_owned(),
            component: consumer.key.component.as_str().to_owned(),
            position: consumer.position.to_string(),
            epoch: consumer.epoch.to_string(),
            lag: state.lag_ids.to_string(),
            lag_age: state.lag_age.map(millis),
            last_time: consumer.last_time.map(Moment::unix_millis),
            reg_time: consumer.reg_time.map(Moment::unix_millis),
            connected: is_connected(state),
            label: label
                .map(|label| label.as_str().to_owned())
                .unwrap_or_default(),
            replica: consumer.place.clone().unwrap_or_default(),
            problem: state.problem.clone(),
            holds_oldest: slowest == Some(&consumer.key),
            governed: caller.may_govern(&consumer.key),
        }
    }
}

impl SlotView {
    pub(super) fn of(slot: &Slot) -> Self {
        let count = |(name, Tally { events, bytes }): &(std::sync::Arc<str>, Tally)| {
            (name.to_string(), *events, *bytes)
        };
        let waiting = slot.tip.map(|tip| tip.head.distance_from(tip.frontier));
        Self {
            at: slot.at.unix_millis(),
            watched: slot.watched,
            counts: slot.counts.iter().map(count).collect(),
            other: (slot.other.events, slot.other.bytes),
            missed: slot.missed,
            frontier: slot.tip.map(|tip| tip.frontier.to_string()),
            waiting: waiting.map(|ids| ids.to_string()),
            lags: slot
                .lags
                .as_ref()
                .map(|lags| lags.furthest.iter().map(lag).collect()),
        }
    }
}

fn lag(lag: &Lag) -> (String, String, Option<u64>) {
    (lag.key.ident(), lag.ids.to_string(), lag.age.map(millis))
}

fn blocker(blocker: &Blocker) -> BlockerView {
    BlockerView {
        session: blocker.session.clone(),
        client: blocker.client.clone(),
        age: millis(blocker.age),
        prepared: blocker.prepared,
    }
}

fn lease(lease: &Lease, replica: &str) -> LeaseView {
    LeaseView {
        task: lease.task.clone(),
        replica: lease.place.clone(),
        here: lease.holder == replica,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
