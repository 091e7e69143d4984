//! The table of cases: its form, and what is filled in.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One case: receivers, and what happens to them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    #[serde(rename = "case")]
    pub(crate) name: String,
    /// What it is about; for people.
    #[serde(rename = "about")]
    _about: String,
    #[serde(default = "one_receiver")]
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) script: Vec<Step>,
}

/// What the runner is told to make.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receiver {
    #[serde(default = "one")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) kind: Kind,
    /// Started by a `tell`, not at once.
    #[serde(default)]
    pub(crate) wait: bool,
    #[serde(default)]
    pub(crate) options: Options,
    #[serde(default)]
    pub(crate) handler: Vec<Handling>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    #[default]
    Reliable,
    Live,
}

/// The options of `clients/README.md` that cases use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    pub(crate) component: Option<String>,
    pub(crate) want: Option<Vec<String>>,
    pub(crate) start: Option<Start>,
    pub(crate) replay: bool,
    pub(crate) register: bool,
    pub(crate) on_failure: Option<Value>,
    pub(crate) workers: usize,
    pub(crate) by: Option<String>,
    pub(crate) max_in_flight_events: i32,
    pub(crate) max_in_flight_bytes: i64,
    pub(crate) max_group_events: i32,
    pub(crate) max_linger_ms: Option<u64>,
    pub(crate) heartbeat_interval_ms: Option<u64>,
    pub(crate) backoff_initial_ms: u64,
    pub(crate) backoff_max_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            component: None,
            want: None,
            start: None,
            replay: false,
            register: true,
            on_failure: None,
            workers: 1,
            by: None,
            max_in_flight_events: 0,
            max_in_flight_bytes: 0,
            max_group_events: 0,
            max_linger_ms: None,
            heartbeat_interval_ms: None,
            backoff_initial_ms: 20,
            backoff_max_ms: 80,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    pub(crate) after_id: i64,
}

/// What the handler does for an event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Handling {
    pub(crate) event: i64,
    /// The number of calls that fail, or "always".
    pub(crate) fail: Option<Value>,
    #[serde(default)]
    pub(crate) wait: bool,
    /// The number of calls of the dead-letter callback that fail.
    #[serde(default)]
    pub(crate) dead_letter_fail: u32,
}

/// An error as the service answers it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) reason: Option<String>,
    pub(crate) retry_after_ms: Option<u64>,
}

/// One line of a script. Those that wait do so for the subject, the receiver
/// that the latest `as` named; the first one before.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Changes the subject.
    As(String),
    /// Tells the runner: start, stop, cancel or release the subject.
    Tell(Tell),
    /// Waits for a registration, and answers it.
    Register(Register),
    /// Waits for a subscription with this conflict policy, and answers it.
    Subscribe(Subscribe),
    /// Sends `started`, and heartbeats in the background until `silence`.
    Started(Started),
    Group(Group),
    Heartbeat,
    /// Sends a kind of message that is not in the contract yet.
    Unknown,
    Ending,
    /// Ends the stream: without error, or with one.
    End(Option<Failure>),
    /// Sends no more heartbeats.
    Silence,
    /// Cuts every connection, hard.
    Cut,
    /// The same, and refuses new ones.
    Shut,
    Reopen,
    /// How the next acknowledgements are answered; those after them with success.
    AnswerAcks(Vec<AckAnswer>),
    /// Answers the acknowledgement that is held.
    AnswerHeld,
    /// Waits until this position was acknowledged with success.
    Acked(i64),
    /// Waits for an acknowledgement of this position that is not answered with success.
    AckAsked(i64),
    /// Requires that the next acknowledgement is of this position.
    NextAck(i64),
    /// Waits for the handler's next call.
    Handle(i64),
    /// Waits for the handler's return.
    Handled(i64),
    /// Waits for call and return of each, in this order.
    Handles(Vec<i64>),
    /// The same in any order that the keys allow, and calls alone.
    AnyOrder(AnyOrder),
    /// Waits for the dead-letter callback.
    DeadLetter(i64),
    /// Waits for so many calls of it, and any number of the handler's between them.
    DeadLetters(DeadLetters),
    /// Waits for a report of the hook with this attempt.
    Reconnect(u32),
    /// Waits for this total.
    Dropped(i64),
    /// Waits until the receiver has closed its stream.
    Closed,
    /// Waits for an end without error.
    Ended,
    /// Waits for an end with an error that has what is given here.
    Failed(Map<String, Value>),
    /// Nothing may happen for so many milliseconds.
    Quiet(u64),
    /// Lets so many milliseconds pass: what was sent to the client on two ways
    /// shall not overtake itself.
    Pause(u64),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tell {
    Start,
    Stop,
    Cancel,
    Release,
}

impl Tell {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Cancel => "cancel",
            Self::Release => "release",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(crate) struct Register {
    /// The stored position of the answer.
    pub(crate) position: i64,
    pub(crate) fail: Option<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subscribe {
    /// `take_over` or `stand_by`; not judged when left out.
    pub(crate) conflict: Option<Conflict>,
    /// The start that it must have; none when left out.
    pub(crate) start_after: Option<i64>,
    pub(crate) fail: Option<Failure>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Conflict {
    TakeOver,
    StandBy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Started {
    pub(crate) epoch: i64,
    #[serde(default)]
    pub(crate) start_after: i64,
    /// What it promises; it sends heartbeats four times as often.
    #[serde(default = "rarely")]
    pub(crate) heartbeat_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    #[serde(default)]
    pub(crate) events: Vec<EventSpec>,
    /// That of the last event when left out.
    pub(crate) last_id: Option<i64>,
    /// The next one when left out. Another one is a gap.
    pub(crate) seq: Option<i64>,
    #[serde(default)]
    pub(crate) skipped: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnyOrder {
    pub(crate) handles: Vec<i64>,
    #[serde(default)]
    pub(crate) handle: Vec<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetters {
    pub(crate) event: i64,
    pub(crate) calls: usize,
}

/// An event by its number, or with what is special about it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum EventSpec {
    Id(i64),
    Special(SpecialEvent),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpecialEvent {
    pub(crate) id: i64,
    /// The `"k"` of its data.
    pub(crate) key: Option<String>,
    /// The size of its data.
    pub(crate) mib: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AckAnswer {
    /// Not before `answer_held`.
    Hold,
    Fail(Failure),
}

/// The cases in the order of the table.
pub(crate) fn all() -> Result<Vec<Case>> {
    serde_saphyr::from_str(include_str!("../cases.yaml")).context("cases.yaml")
}

fn one() -> String {
    "one".to_owned()
}

fn one_receiver() -> Vec<Receiver> {
    vec![Receiver {
        name: one(),
        ..Receiver::default()
    }]
}

fn rarely() -> u64 {
    60_000
}

impl Case {
    /// The first line of the conversation.
    pub(crate) fn announcement(&self, address: &str) -> Value {
        let receivers: Vec<Value> = self.receivers.iter().map(Receiver::announcement).collect();
        json!({ "address": address, "receivers": receivers })
    }
}

impl Receiver {
    fn announcement(&self) -> Value {
        json!({
            "name": self.name,
            "kind": match self.kind { Kind::Reliable => "reliable", Kind::Live => "live" },
            "wait": self.wait,
            "options": self.options_announced(),
            "handler": self.handler.iter().map(Handling::announcement).collect::<Vec<_>>(),
        })
    }

    /// Only what differs from the default is announced.
    fn options_announced(&self) -> Value {
        let options = &self.options;
        let mut announced = json!({
            "component": self.component(),
            "backoff_initial_ms": options.backoff_initial_ms,
            "backoff_max_ms": options.backoff_max_ms,
        });
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                announced[name] = value;
            }
        };
        add("want", options.want.as_ref().map(|want| json!(want)));
        add(
            "start",
            options
                .start
                .map(|start| json!({ "after_id": start.after_id })),
        );
        add("replay", options.replay.then_some(json!(true)));
        add("register", (!options.register).then_some(json!(false)));
        add("on_failure", options.on_failure.clone());
        add(
            "workers",
            (options.workers > 1).then_some(json!(options.workers)),
        );
        add("by", options.by.as_ref().map(|by| json!(by)));
        add(
            "max_in_flight_events",
            above_zero(options.max_in_flight_events.into()),
        );
        add(
            "max_in_flight_bytes",
            above_zero(options.max_in_flight_bytes),
        );
        add(
            "max_group_events",
            above_zero(options.max_group_events.into()),
        );
        add(
            "max_linger_ms",
            options.max_linger_ms.map(|linger| json!(linger)),
        );
        add(
            "heartbeat_interval_ms",
            options
                .heartbeat_interval_ms
                .map(|interval| json!(interval)),
        );
        announced
    }

    pub(crate) fn component(&self) -> &str {
        match self.kind {
            Kind::Live => "LIVE",
            Kind::Reliable => self.options.component.as_deref().unwrap_or("SCRIPTED"),
        }
    }

    pub(crate) fn by_group(&self) -> bool {
        self.options.by.as_deref() == Some("group")
    }

    pub(crate) fn handling(&self, event: i64) -> Option<&Handling> {
        self.handler.iter().find(|handling| handling.event == event)
    }

    /// The longest delay of an attempt.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        let doubled = 2u64.saturating_pow(attempt.saturating_sub(1));
        let delay = self.options.backoff_initial_ms.saturating_mul(doubled);
        Duration::from_millis(delay.min(self.options.backoff_max_ms))
    }
}

fn above_zero(number: i64) -> Option<Value> {
    (number > 0).then_some(json!(number))
}

impl Handling {
    fn announcement(&self) -> Value {
        let mut announced = json!({ "event": self.event });
        if let Some(fail) = &self.fail {
            announced["fail"] = fail.clone();
        }
        if self.wait {
            announced["wait"] = json!(true);
        }
        if self.dead_letter_fail > 0 {
            announced["dead_letter_fail"] = json!(self.dead_letter_fail);
        }
        announced
    }
}

impl EventSpec {
    pub(crate) fn id(&self) -> i64 {
        match self {
            Self::Id(id) => *id,
            Self::Special(event) => event.id,
        }
    }

    /// What orders it among others where workers work side by side.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Id(_) => "",
            Self::Special(event) => event.key.as_deref().unwrap_or_default(),
        }
    }

    pub(crate) fn data_json(&self) -> String {
        match self {
            Self::Special(SpecialEvent { mib: Some(mib), .. }) => {
                format!("\"{}\"", "x".repeat((mib << 20) - 2))
            }
            _ => json!({ "k": self.key(), "n": self.id() }).to_string(),
        }
    }
}
