//! Messages of the contract as people and programs see them.
//!
//! The JSON form follows the proto JSON mapping (64-bit numbers are strings,
//! times RFC 3339, durations in seconds) with the contract's own field names.
//! One difference: `data` is the event's JSON itself, spliced in as the text
//! that was stored, so that no number in it passes through a double.

use std::borrow::Cow;

use prost_types::{Duration, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use super::output::plain;
use crate::proto::{Blocker, Consumer, Event, GetStatusResponse, SkipFrontierResponse};

#[derive(Serialize)]
pub(super) struct EventView<'a> {
    id: String,
    r#type: &'a str,
    data: Box<RawValue>,
    /// An application stored something that is no JSON; `data` is a string.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    data_invalid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<String>,
}

impl<'a> EventView<'a> {
    pub(super) fn of(event: &'a Event) -> Self {
        let (data, data_invalid) = data(&event.data_json);
        Self {
            id: event.id.to_string(),
            r#type: &event.r#type,
            data,
            data_invalid,
            ts: event.ts.map(time),
        }
    }
}

/// The stored text on one line, or as a JSON string where it is no JSON.
fn data(text: &str) -> (Box<RawValue>, bool) {
    // A line break in JSON is white space: inside strings it is escaped.
    let one_line = if text.contains(['\n', '\r']) {
        Cow::Owned(text.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(text)
    };
    if let Ok(json) = serde_json::from_str::<&RawValue>(&one_line) {
        return (json.to_owned(), false);
    }
    let string = serde_json::value::to_raw_value(text).expect("a string is always JSON");
    (string, true)
}

#[derive(Serialize)]
pub(super) struct ConsumerView<'a> {
    component: &'a str,
    user: &'a str,
    position: String,
    epoch: String,
    subscribed: bool,
    lag_ids: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_age: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reg_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_time: Option<String>,
    problem: &'a str,
    client_label: &'a str,
    replica: &'a str,
}

impl<'a> ConsumerView<'a> {
    pub(super) fn of(consumer: &'a Consumer) -> Self {
        Self {
            component: &consumer.component,
            user: &consumer.user,
            position: consumer.position.to_string(),
            epoch: consumer.epoch.to_string(),
            subscribed: consumer.subscribed,
            lag_ids: consumer.lag_ids.to_string(),
            lag_age: consumer.lag_age.map(|age| age.to_string()),
            reg_time: consumer.reg_time.map(time),
            last_time: consumer.last_time.map(time),
            problem: &consumer.problem,
            client_label: &consumer.client_label,
            replica: &consumer.replica,
        }
    }
}

pub(super) const CONSUMER_COLUMNS: [&str; 8] = [
    "CONSUMER",
    "POSITION",
    "LAG",
    "OLDEST",
    "SESSION",
    "LAST SEEN",
    "CLIENT",
    "PROBLEM",
];

pub(super) fn consumer_row(consumer: &Consumer) -> [String; 8] {
    let session = match (consumer.subscribed, plain(&consumer.replica)) {
        (false, _) => "-".to_owned(),
        (true, replica) if replica.is_empty() => "open".to_owned(),
        (true, replica) => format!("open on {replica}"),
    };
    [
        format!("{}:{}", plain(&consumer.user), plain(&consumer.component)),
        consumer.position.to_string(),
        consumer.lag_ids.to_string(),
        consumer
            .lag_age
            .as_ref()
            .map_or_else(|| "-".to_owned(), age),
        session,
        consumer.last_time.map_or_else(|| "-".to_owned(), time),
        or_dash(&consumer.client_label),
        or_dash(&consumer.problem),
    ]
}

fn or_dash(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => plain(text).into_owned(),
    }
}

#[derive(Serialize)]
struct BlockerView<'a> {
    session: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<String>,
    prepared: bool,
}

impl<'a> BlockerView<'a> {
    fn of(blocker: &'a Blocker) -> Self {
        Self {
            session: &blocker.session,
            client: &blocker.client,
            age: blocker.age.map(|age| age.to_string()),
            prepared: blocker.prepared,
        }
    }
}

#[derive(Serialize)]
pub(super) struct SkipView<'a> {
    frontier_before_id: String,
    frontier_after_id: String,
    blockers: Vec<BlockerView<'a>>,
}

impl<'a> SkipView<'a> {
    pub(super) fn of(skipped: &'a SkipFrontierResponse) -> Self {
        Self {
            frontier_before_id: skipped.frontier_before_id.to_string(),
            frontier_after_id: skipped.frontier_after_id.to_string(),
            blockers: skipped.blockers.iter().map(BlockerView::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct LeaseView<'a> {
    task: &'a str,
    replica_id: &'a str,
    replica: &'a str,
    fence: String,
}

#[derive(Serialize)]
pub(super) struct StatusView<'a> {
    version: &'a str,
    database: &'a str,
    replica_id: &'a str,
    frontier_id: String,
    head_id: String,
    oldest_id: String,
    archived_id: String,
    discarded_to_id: String,
    open_streams: i32,
    ring_bytes: String,
    problem: &'a str,
    held_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_for: Option<String>,
    blockers: Vec<BlockerView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slowest_consumer: Option<ConsumerView<'a>>,
    stopped_consumers: Vec<ConsumerView<'a>>,
    leases: Vec<LeaseView<'a>>,
}

impl<'a> StatusView<'a> {
    pub(super) fn of(status: &'a GetStatusResponse) -> Self {
        let leases = status.leases.iter().map(|lease| LeaseView {
            task: &lease.task,
            replica_id: &lease.replica_id,
            replica: &lease.replica,
            fence: lease.fence.to_string(),
        });
        Self {
            version: &status.version,
            database: &status.database,
            replica_id: &status.replica_id,
            frontier_id: status.frontier_id.to_string(),
            head_id: status.head_id.to_string(),
            oldest_id: status.oldest_id.to_string(),
            archived_id: status.archived_id.to_string(),
            discarded_to_id: status.discarded_to_id.to_string(),
            open_streams: status.open_streams,
            ring_bytes: status.ring_bytes.to_string(),
            problem: &status.problem,
            held_id: status.held_id.to_string(),
            held_for: status.held_for.map(|waited| waited.to_string()),
            blockers: status.blockers.iter().map(BlockerView::of).collect(),
            slowest_consumer: status.slowest_consumer.as_ref().map(ConsumerView::of),
            stopped_consumers: status
                .stopped_consumers
                .iter()
                .map(ConsumerView::of)
                .collect(),
            leases: leases.collect(),
        }
    }
}

/// RFC 3339 in UTC.
pub(super) fn time(timestamp: Timestamp) -> String {
    timestamp.to_string()
}

/// A duration in its two largest units: `3m 12s`.
pub(super) fn age(duration: &Duration) -> String {
    let seconds = u64::try_from(duration.seconds).unwrap_or_default();
    match seconds {
        0 => format!("{}ms", duration.nanos.max(0) / 1_000_000),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(data_json: &str) -> String {
        let event = Event {
            id: 12,
            r#type: "ORDER".to_owned(),
            data_json: data_json.to_owned(),
            ts: Some(Timestamp {
                seconds: 1_793_577_600,
                nanos: 500_000_000,
            }),
        };
        serde_json::to_string(&EventView::of(&event)).unwrap()
    }

    #[test]
    fn data_is_spliced_in_as_it_was_stored() {
        assert_eq!(
            shown(r#"{"b": 9007199254740993, "a":1.10, "a":"\u0000"}"#),
            r#"{"id":"12","type":"ORDER","data":{"b": 9007199254740993, "a":1.10, "a":"\u0000"},"ts":"2026-11-02T00:00:00.500Z"}"#
        );
    }

    #[test]
    fn an_event_is_one_line() {
        assert!(shown("[1,\r\n 2]").contains(r#""data":[1,   2]"#));
    }

    #[test]
    fn data_that_is_no_json_is_a_string_and_says_so() {
        assert!(shown("oops\n{").contains(r#""data":"oops\n{","data_invalid":true"#));
        assert!(shown("").contains(r#""data":"","data_invalid":true"#));
        assert!(!shown("\"oops\"").contains("data_invalid"));
    }

    #[test]
    fn depth_of_data_is_not_limited() {
        let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
        assert!(shown(&deep).contains(&deep));
    }

    #[test]
    fn ages() {
        let age_of = |seconds, nanos| age(&Duration { seconds, nanos });
        assert_eq!(age_of(0, 20_000_000), "20ms");
        assert_eq!(age_of(59, 0), "59s");
        assert_eq!(age_of(192, 0), "3m 12s");
        assert_eq!(age_of(7260, 0), "2h 1m");
        assert_eq!(age_of(90_000, 0), "1d 1h");
    }
}
