//! `futoin.evt.poll`: registration, and reading by request.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{
    Delivery, Shim,
    call::{Call, Done, Room},
    check::Params,
    doc::Value,
    events::{self, List, Unsendable},
    message::Fault,
};
use crate::{
    auth::Principal,
    error::Error,
    event::{Component, ConsumerKey, EventId, EventType, User, Want},
    limits,
    stream::{Conflict, Poll, Polled, Subscribe},
    telemetry,
};

impl Shim {
    /// `registerConsumer`.
    pub(super) async fn register_consumer(&self, call: Call<'_>) -> Result<Done, Fault> {
        let component = component(call.params)?;
        if self.options.delivery == Delivery::Live && !component.is_live() {
            return Err(Fault::security("Registration is not allowed"));
        }
        self.gate.register(&call.caller, component, None).await?;
        Ok(Done::with("true"))
    }

    /// `pollEvents`. A filter that finds little is followed for half the time
    /// that a request has; what was passed by then counts.
    pub(super) async fn poll_events(&self, call: Call<'_>) -> Result<Done, Fault> {
        let mut poll = self.poll_of(&call).await?;
        let until = Instant::now() + self.options.request_timeout / 2;
        loop {
            let polled = self.poll_once(&call.caller, &mut poll).await?;
            if polled.selection.count() > 0 {
                return self.listed(&call.room, &poll, &polled).map(Done::with);
            }
            if !polled.more || Instant::now() >= until {
                return Ok(Done::with("[]"));
            }
            // The position of a registered consumer has moved by itself.
            poll.last_id = Some(polled.last_id).filter(|_| poll.component.is_live());
        }
    }

    async fn poll_of(&self, call: &Call<'_>) -> Result<Poll, Fault> {
        let component = component(call.params)?;
        if self.options.delivery == Delivery::Push {
            return Err(Fault::security("Only event push is allowed"));
        }
        if self.options.delivery == Delivery::Live && !component.is_live() {
            return Err(Fault::security("Reliable delivery is disabled"));
        }
        let want = want(call.params)?;
        // What follows asks the database.
        self.gate.may_receive(&call.caller, &component, &want)?;
        let last_id = match call.params.get("last_id").and_then(Value::text) {
            // No position passes the frontier (ARCHITECTURE, rule 2), and the
            // original believes every number.
            Some(text) => Some(self.gate.settled_up_to(event_id(text)?).await?),
            None => None,
        };
        Ok(Poll {
            user: call.caller.user.clone(),
            component,
            last_id,
            start: None,
            want,
            max_events: limits::MAX_GROUP_EVENTS,
            max_bytes: call.room.bytes.min(limits::MAX_GROUP_BYTES),
            max_wait: std::time::Duration::ZERO,
            epoch: None,
        })
    }

    /// One read, past what only gRPC clients are told.
    async fn poll_once(&self, caller: &Principal, poll: &mut Poll) -> Result<Polled, Fault> {
        match self.gate.poll(caller, poll.clone()).await {
            Err(Error::SubscriptionActive { .. }) => {
                self.end_session(caller, poll).await?;
                Ok(self.gate.poll(caller, poll.clone()).await?)
            }
            // LIVE may miss events.
            Err(Error::Discarded { oldest, .. }) if poll.component.is_live() => {
                poll.last_id = Some(oldest);
                Ok(self.gate.poll(caller, poll.clone()).await?)
            }
            polled => Ok(polled?),
        }
    }

    /// Who polls has no receiver any more, or wants none (rule 4).
    async fn end_session(&self, caller: &Principal, poll: &Poll) -> Result<(), Error> {
        let taken_over = Subscribe {
            user: poll.user.clone(),
            component: poll.component.clone(),
            want: Want::All,
            start: None,
            limits: self.gate.settings().push,
            conflict: Conflict::TakeOver,
            label: super::push::label(),
        };
        self.gate.subscribe(caller, taken_over).await.map(drop)
    }

    /// The events as they fit.
    fn listed(&self, room: &Room, poll: &Poll, polled: &Polled) -> Result<String, Fault> {
        let fitting = events::list(polled.selection.events(), room.bytes)
            .and_then(|list| fitting(room, list));
        fitting.map_err(|unsendable| {
            let key = key(&poll.user, &poll.component);
            Fault::new("InternalError", self.note_blocked(&key, &unsendable))
        })
    }

    /// Reports an event that a consumer cannot get this way; what was reported.
    pub(super) fn note_blocked(&self, key: &ConsumerKey, unsendable: &Unsendable) -> String {
        let Unsendable { id, reason } = unsendable;
        let problem = format!(
            "event {id} cannot be sent over FutoIn: {reason}; take it over gRPC, or SeekConsumer \
             to {id} goes past it"
        );
        metrics::counter!(telemetry::FUTOIN_BLOCKED).increment(1);
        tracing::error!(consumer = %key, event = %id, reason, "consumer is blocked");
        if !key.component.is_live() {
            self.gate.note_problem(key, Some(problem.clone()));
        }
        problem
    }
}

/// The list, or as much of it as is short enough in the coding of the answer.
fn fitting(room: &Room, list: List) -> Result<String, Unsendable> {
    if room.fits(&list.json) {
        return Ok(list.json);
    }
    let mut count = list.ends.len() / 2;
    while count > 0 {
        let json = list.first(count);
        if room.fits(&json) {
            return Ok(json);
        }
        count /= 2;
    }
    Err(Unsendable {
        id: list.first_id.unwrap_or_default(),
        reason: format!("it needs more than {} bytes", room.bytes),
    })
}

/// The parameter `component`.
pub(super) fn component(params: Params<'_>) -> Result<Component, Error> {
    let text = params.get("component").and_then(Value::text);
    Component::parse(text.unwrap_or_default()).map_err(Error::field("component"))
}

/// The parameter `want`: null is all, an empty list is none.
pub(super) fn want(params: Params<'_>) -> Result<Want, Error> {
    let Some(list) = params.get("want") else {
        return Ok(Want::All);
    };
    let types: Result<BTreeSet<EventType>, _> = list
        .elements()
        .map(|element| EventType::parse(element.text().unwrap_or_default()))
        .collect();
    types.map(Want::Only).map_err(Error::field("want"))
}

fn event_id(text: &str) -> Result<EventId, Error> {
    let raw = text.parse().unwrap_or_default();
    EventId::parse(raw).map_err(Error::field("last_id"))
}

/// The identity of a consumer.
pub(super) fn key(user: &User, component: &Component) -> ConsumerKey {
    ConsumerKey {
        user: user.clone(),
        component: component.clone(),
    }
}
