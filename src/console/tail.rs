//! The live tail: a `LIVE` subscription as Server-Sent Events, at a pace that a
//! person can follow.
//!
//! Driven by the connection like every subscription. What comes faster than
//! messages are sent, and what the ring has dropped, is counted and said. An
//! event that cannot be delivered is named and passed. It ends on a drain.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::response::sse;
use futures_util::Stream;
use serde::Serialize;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{answer::Failure, views};
use crate::{
    auth::{Gate, Principal, Supervised},
    error::Error,
    event::{Component, Event, EventId, Label, StartAt, Want},
    limits,
    stream::{Conflict, Delivery, Group, PushLimits, Subscribe},
};

/// One page's tail.
pub(super) struct Tail {
    gate: Gate,
    caller: Principal,
    want: Want,
    subscription: Supervised,
    /// What the next message has, the latest of what came.
    shown: VecDeque<views::Event>,
    skipped: u64,
    next_message: Instant,
    /// To be said when everything before it was.
    last_words: Option<Said>,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

/// What a tail says beside events.
enum Said {
    Ending,
    Failed(Failure),
}

/// Some events.
#[derive(Serialize)]
struct Events<'a> {
    events: &'a VecDeque<views::Event>,
    /// Events that came and are not shown.
    skipped: u64,
}

impl Tail {
    /// Begins shortly before the frontier.
    pub(super) async fn open(
        gate: &Gate,
        caller: Principal,
        want: Want,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, Error> {
        let live = Component::parse(Component::LIVE).map_err(Error::field("component"))?;
        gate.may_receive(&caller, &live, &want)?;
        let frontier = gate.settled_up_to(EventId::MAX).await?;
        let near = EventId::stored(frontier.get() - limits::CONSOLE_TAIL_BACK);
        let subscription = match subscribe(gate, &caller, &want, StartAt::After(near)).await {
            Err(Error::Discarded { .. } | Error::Archive) => {
                subscribe(gate, &caller, &want, StartAt::Now).await?
            }
            opened => opened?,
        };
        Ok(Self {
            gate: gate.clone(),
            caller,
            want,
            subscription,
            shown: VecDeque::new(),
            skipped: 0,
            next_message: Instant::now(),
            last_words: None,
            over: false,
            _permit: permit,
        })
    }

    /// The body of the answer.
    pub(super) fn messages(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        futures_util::stream::unfold(self, async |mut tail| {
            let message = tail.message().await?;
            Some((Ok(message), tail))
        })
    }

    /// The next message; `None` after the end.
    async fn message(&mut self) -> Option<sse::Event> {
        loop {
            if self.over {
                return None;
            }
            let waits = !self.shown.is_empty() || self.skipped > 0;
            if waits && (self.last_words.is_some() || self.next_message <= Instant::now()) {
                return Some(self.flush());
            }
            if let Some(said) = self.last_words.take() {
                self.over = true;
                return Some(match said {
                    Said::Ending => event("ending", &()),
                    Said::Failed(failure) => event("failed", &failure.view()),
                });
            }
            let delivery = if waits {
                match timeout_at(self.next_message, self.subscription.next()).await {
                    Ok(delivery) => delivery,
                    Err(_elapsed) => continue,
                }
            } else {
                self.subscription.next().await
            };
            if let Some(message) = self.take(delivery).await {
                return Some(message);
            }
        }
    }

    /// Keeps what is to be shown; what can be said at once is returned.
    async fn take(&mut self, delivery: Option<Result<Delivery, Error>>) -> Option<sse::Event> {
        let Some(delivery) = delivery else {
            self.over = true;
            return None;
        };
        match delivery {
            Ok(Delivery::Started(_)) => return Some(event("started", &())),
            Ok(Delivery::Heartbeat { .. }) => return Some(event("beat", &())),
            Ok(Delivery::Group(group)) => self.keep(&group),
            Ok(Delivery::Ending { .. }) => self.last_words = Some(Said::Ending),
            Err(Error::EventUnreadable { id, fault }) => return self.pass(id, &fault).await,
            Err(error) => self.last_words = Some(Said::Failed(error.into())),
        }
        None
    }

    fn keep(&mut self, group: &Group) {
        self.skipped += group.skipped;
        for event in group.selection.events() {
            if self.shown.len() == limits::CONSOLE_TAIL_EVENTS {
                self.shown.pop_front();
                self.skipped += 1;
            }
            self.shown.push_back(shown(event));
        }
    }

    /// Goes on after an event that cannot be delivered.
    async fn pass(&mut self, id: EventId, fault: &impl ToString) -> Option<sse::Event> {
        let start = StartAt::After(id);
        match subscribe(&self.gate, &self.caller, &self.want, start).await {
            Ok(subscription) => {
                self.subscription = subscription;
                Some(event("unreadable", &(id.to_string(), fault.to_string())))
            }
            Err(error) => {
                self.last_words = Some(Said::Failed(error.into()));
                None
            }
        }
    }

    fn flush(&mut self) -> sse::Event {
        let message = event(
            "events",
            &Events {
                events: &self.shown,
                skipped: self.skipped,
            },
        );
        self.shown.clear();
        self.skipped = 0;
        self.next_message = Instant::now() + limits::CONSOLE_TAIL_PACE;
        message
    }
}

async fn subscribe(
    gate: &Gate,
    caller: &Principal,
    want: &Want,
    start: StartAt,
) -> Result<Supervised, Error> {
    let subscribe = Subscribe {
        user: caller.user.clone(),
        component: Component::parse(Component::LIVE).map_err(Error::field("component"))?,
        want: want.clone(),
        start: Some(start),
        limits: PushLimits {
            // Nothing is acknowledged.
            in_flight_events: limits::MAX_GROUP_EVENTS,
            in_flight_bytes: limits::DEFAULT_IN_FLIGHT_BYTES,
            group_events: limits::MAX_GROUP_EVENTS,
            group_bytes: limits::DEFAULT_GROUP_BYTES,
            linger: Duration::ZERO,
            heartbeat: limits::CONSOLE_HEARTBEAT,
        },
        conflict: Conflict::StandBy,
        label: Label::default(),
    };
    gate.subscribe(caller, subscribe).await
}

fn shown(event: &Event) -> views::Event {
    let cut = event.data.floor_char_boundary(limits::CONSOLE_TAIL_DATA);
    views::Event {
        id: event.id.to_string(),
        kind: event.kind.clone(),
        time: event.ts.map(crate::event::Moment::unix_millis),
        data: event.data[..cut].into(),
        bytes: event.data.len(),
    }
}

/// JSON has no line breaks of its own, so each message is one line of data.
fn event(name: &str, data: &impl Serialize) -> sse::Event {
    let data = serde_json::to_string(data).unwrap_or_default();
    sse::Event::default().event(name).data(data)
}
