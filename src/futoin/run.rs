//! A push under way: groups on their way to the client, in order.
//!
//! A reliable group is offered under its `seq` until the client takes it; the
//! position follows in order, and past what a filter left out only after
//! everything before was taken. A call without an answer ends the push: the
//! client may have done its work, and would wait for ever for the next `seq`.
//! A live group is done with any answer.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::time::{Instant, sleep};

use super::{
    Shim,
    events::{self, Unsendable},
    peer::{NoAnswer, Peer, Reply},
    push::{End, Push},
};
use crate::{
    error::Error,
    event::{ConsumerKey, Event, EventId},
    limits,
    stream::{Delivery, Group},
    telemetry,
};

/// Beside the events of an `onEvents`.
const CALL_OVERHEAD: usize = 200;

/// One call to come; none for what a filter left out.
struct Part {
    /// The parameters, as JSON.
    p: Option<String>,
    /// Everything up to here is done when the client took it.
    reached: EventId,
}

/// What the client is done with.
struct Taken {
    reached: EventId,
    /// From the call to the answer.
    took: Duration,
}

/// A push under way.
pub(super) struct Run {
    shim: Arc<Shim>,
    push: Push,
    live: bool,
    epoch: i64,
    /// Of the next call.
    seq: i64,
    /// Of the stream's next group; steps in it are groups that were dropped.
    next_group: i64,
    parts: VecDeque<Part>,
    flight: FuturesOrdered<BoxFuture<'static, Result<Taken, NoAnswer>>>,
    /// Calls on their way, at most.
    window: usize,
    /// Stored as soon as the position before is.
    to_ack: Option<EventId>,
    acking: Option<BoxFuture<'static, Result<EventId, Error>>>,
    /// The stream ends: no more groups.
    ending: bool,
    /// Comes after the last part.
    blocked: Option<Unsendable>,
}

impl Run {
    pub(super) fn new(shim: &Arc<Shim>, push: Push) -> Self {
        let live = push.key.component.is_live();
        let window = if live { shim.options.live_window } else { 1 };
        Self {
            shim: Arc::clone(shim),
            push,
            live,
            epoch: 0,
            seq: 0,
            next_group: 0,
            parts: VecDeque::new(),
            flight: FuturesOrdered::new(),
            window,
            to_ack: None,
            acking: None,
            ending: false,
            blocked: None,
        }
    }

    /// Delivers until it cannot go on.
    pub(super) async fn deliver(mut self) -> End {
        loop {
            self.begin();
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    /// Starts what can be started.
    fn begin(&mut self) {
        while self.flight.len() < self.window
            && let Some(part) = self.parts.pop_front()
        {
            let call = self.call(part);
            self.flight.push_back(call);
        }
        if self.acking.is_none()
            && let Some(id) = self.to_ack.take()
        {
            let component = self.push.key.component.clone();
            let (gate, caller) = (self.shim.gate.clone(), self.push.caller.clone());
            let epoch = Some(self.epoch);
            let ack = async move { gate.ack(&caller, component, id, epoch).await };
            self.acking = Some(Box::pin(ack));
        }
    }

    /// Waits for the next thing to happen, and does what follows from it.
    async fn step(&mut self) -> Result<(), End> {
        let idle = self.flight.is_empty() && self.acking.is_none();
        if idle && let Some(unsendable) = self.blocked.take() {
            return Err(End::Blocked(unsendable));
        }
        let room = self.parts.is_empty() && self.flight.len() < self.window;
        let may_take = room && self.blocked.is_none() && (idle || !self.ending);
        let delivery = self.push.source.next(may_take);
        let stored = async {
            match self.acking.as_mut() {
                Some(acking) => acking.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            stored = stored => {
                self.acking = None;
                stored.map_err(End::Stream)?;
            }
            Some(taken) = self.flight.next() => {
                self.note(&taken.map_err(End::NoAnswer)?);
            }
            delivery = delivery => match delivery {
                Some(Ok(delivery)) => self.take(delivery),
                Some(Err(error)) => return Err(End::Stream(error)),
                None => return Err(End::Stream(Error::Draining)),
            },
        }
        Ok(())
    }

    /// The client is done with a group. A second one is on its way only while
    /// it is quick: its time for a group begins with the arrival.
    fn note(&mut self, taken: &Taken) {
        if !self.live {
            let quick = taken.took < limits::QUICK_ANSWER;
            self.window = if quick {
                self.shim.options.reliable_window
            } else {
                1
            };
            self.to_ack = Some(taken.reached);
        }
    }

    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Started(started) => self.epoch = started.epoch,
            Delivery::Group(group) => self.cut(&group),
            Delivery::Heartbeat { .. } => {}
            Delivery::Ending { .. } => self.ending = true,
        }
    }

    /// Makes calls of a group: one, if it fits.
    fn cut(&mut self, group: &Group) {
        if self.live {
            self.seq += group.seq - self.next_group;
        }
        self.next_group = group.seq + 1;
        let reached = group.selection.reached();
        let events: Vec<&Event> = group.selection.events().collect();
        if events.is_empty() {
            // FutoIn has no empty group.
            self.parts.push_back(Part { p: None, reached });
        }
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let room = self.push.limit - CALL_OVERHEAD;
            match events::list(rest.iter().copied(), room) {
                Ok(list) => {
                    let (now, later) = rest.split_at(list.ends.len());
                    let up_to = match now.last() {
                        Some(event) if !later.is_empty() => event.id,
                        _ => reached,
                    };
                    self.offer(&list.json, up_to);
                    rest = later;
                }
                Err(unsendable) if self.live => {
                    self.shim.note_blocked(&self.push.key, &unsendable);
                    // A step in the numbers shows that something is missing.
                    self.seq += 1;
                    rest = &rest[1..];
                }
                Err(unsendable) => {
                    self.blocked = Some(unsendable);
                    return;
                }
            }
        }
    }

    fn offer(&mut self, events: &str, reached: EventId) {
        let p = format!(r#"{{"seq":{},"events":{events}}}"#, self.seq);
        self.seq += 1;
        self.parts.push_back(Part {
            p: Some(p),
            reached,
        });
    }

    fn call(&self, part: Part) -> BoxFuture<'static, Result<Taken, NoAnswer>> {
        let reached = part.reached;
        let offer = Offer {
            peer: Arc::clone(&self.push.peer),
            receiver: self.push.receiver,
            patience: self.shim.options.callback_timeout,
            key: self.push.key.clone(),
            live: self.live,
        };
        Box::pin(async move {
            let took = match part.p {
                Some(p) => offer.until_taken(&p).await?,
                None => Duration::ZERO,
            };
            Ok(Taken { reached, took })
        })
    }
}

/// How calls are made.
struct Offer {
    peer: Arc<Peer>,
    receiver: &'static str,
    patience: Duration,
    key: ConsumerKey,
    live: bool,
}

/// Of refusals in a row, one in so many is logged.
const LOGGED_REFUSALS: u32 = 16;

impl Offer {
    /// Calls until the client takes it; how long the last call took.
    async fn until_taken(&self, p: &str) -> Result<Duration, NoAnswer> {
        let mut pause = limits::SHORTEST_RETRY;
        for attempt in 0.. {
            let begun = Instant::now();
            match self.peer.call(self.receiver, p, self.patience).await? {
                Reply::Refused(why) if !self.live => self.note_refusal(attempt, &why),
                _ => return Ok(begun.elapsed()),
            }
            sleep(pause).await;
            pause = (pause * 2).min(limits::LONGEST_RETRY);
        }
        Err(NoAnswer::Late)
    }

    fn note_refusal(&self, attempt: u32, why: &str) {
        metrics::counter!(telemetry::FUTOIN_REFUSALS).increment(1);
        if attempt.is_multiple_of(LOGGED_REFUSALS) {
            let why: String = why.chars().take(limits::LOGGED_REFUSAL).collect();
            tracing::warn!(consumer = %self.key, attempt, why, "the receiver does not take a group");
        }
    }
}
