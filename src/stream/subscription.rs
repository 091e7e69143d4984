//! Push: one subscriber's stream of groups.
//!
//! Driven by whoever calls [`Subscription::next`]: a subscriber that does not
//! take its groups makes no work and holds no connection to the database. A
//! reliable one pauses at its window and never skips; a live one that falls
//! behind the ring jumps and counts what it missed.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Histogram};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    Engine,
    claim::{Claim, Claimed},
    delivery::{Delivery, Group, PushLimits, Started},
    hub::Tip,
    reader::{Found, Reader},
    segment::{Room, Selection, Slice},
    tailer_handle::Listening,
    window::Window,
};
use crate::{error::Error, event::EventId, telemetry};

/// A subscriber's place; see [`super::EventStream::subscribe`].
#[derive(Debug)]
pub struct Subscription {
    engine: Arc<Engine>,
    claim: Claim,
    id: Uuid,
    reader: Reader,
    /// Where to start once the consumer is ours; `None`: at its position.
    start: Option<EventId>,
    limits: PushLimits,
    window: Window,
    seq: i64,
    /// Last id of the last group.
    sent: EventId,
    /// Live: events of the ring passed so far; `None` before joining it.
    passed: Option<u64>,
    tip: watch::Receiver<Tip>,
    next_heartbeat: Instant,
    phase: Phase,
    meters: Meters,
    _listening: Listening,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

/// Looked up once: a group to a thousand subscribers would look them up a
/// thousand times.
#[derive(Debug)]
struct Meters {
    delivered: Counter,
    redelivered: Counter,
    dropped: Counter,
    seconds: Histogram,
}

impl Meters {
    fn new(live: bool) -> Self {
        let mode = if live { "live" } else { "reliable" };
        Self {
            delivered: metrics::counter!(telemetry::EVENTS_DELIVERED, "mode" => mode),
            redelivered: metrics::counter!(telemetry::EVENTS_REDELIVERED),
            dropped: metrics::counter!(telemetry::LIVE_DROPPED_EVENTS),
            seconds: metrics::histogram!(telemetry::DELIVERY_SECONDS),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Delivering,
    /// `Ending` was sent; the stream ends then at the latest.
    Ending(Instant),
    Over,
}

/// Filtered progress without a group may grow to this many ids before an empty
/// group makes it acknowledgeable.
const UNSENT_IDS: i64 = 1000;

impl Subscription {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            engine,
            claim,
            id,
            reader,
            start,
            limits,
            listening,
            permit,
        } = parts;
        engine.open_streams.send_modify(|open| *open += 1);
        Self {
            sent: reader.cursor(),
            tip: engine.hub.watch(),
            window: Window::new(limits.in_flight_events, limits.in_flight_bytes),
            passed: None,
            seq: 0,
            next_heartbeat: Instant::now() + limits.heartbeat,
            phase: Phase::Opening,
            meters: Meters::new(matches!(claim, Claim::Live)),
            engine,
            claim,
            id,
            reader,
            start,
            limits,
            _listening: listening,
            _permit: permit,
        }
    }

    /// Whether everything that is settled was read.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.reader.is_caught_up()
    }

    /// The next message; `None` after the end. An error is the end.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        let outcome = match self.phase {
            Phase::Over => return None,
            Phase::Opening => self.open().await,
            Phase::Delivering => self.deliver().await,
            Phase::Ending(until) => self.wind_down(until).await,
        };
        if let Err(error) = &outcome {
            self.phase = Phase::Over;
            self.note_end(error);
        }
        Some(outcome)
    }

    /// Completes when the consumer was lost, which the next message then tells.
    /// For whoever does not take messages for a while.
    pub async fn lost(&self) {
        if let Claim::Held(held) = &self.claim {
            let mut end = held.session.end();
            // The session holds the sender.
            let _ = end.wait_for(Option::is_some).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Standing by if need be, until the consumer is ours.
    async fn open(&mut self) -> Result<Delivery, Error> {
        while let Claim::StandBy(session) = &self.claim {
            let session = session.clone();
            let mut released = self.engine.sessions.released();
            if let Claimed::Held(held, position) = self.engine.claim(&session).await? {
                self.reader
                    .skip_to(self.start.map_or(position, |start| start.min(position)));
                self.sent = self.reader.cursor();
                self.claim = Claim::Held(held);
                break;
            }
            if self.next_heartbeat <= Instant::now() {
                return Ok(self.heartbeat());
            }
            let until = self
                .next_heartbeat
                .min(Instant::now() + self.engine.sessions.timing().beat);
            tokio::select! {
                biased;
                () = self.engine.draining.cancelled() => return Ok(self.announce_end()),
                _ = released.changed() => {}
                () = sleep_until(until) => {}
            }
        }
        self.phase = Phase::Delivering;
        let epoch = match &self.claim {
            Claim::Held(held) => held.session.epoch(),
            Claim::Live | Claim::StandBy(_) => 0,
        };
        Ok(Delivery::Started(Started {
            session: self.id,
            epoch,
            start_after: self.reader.cursor(),
            limits: self.limits,
        }))
    }

    /// Groups, and heartbeats between them.
    async fn deliver(&mut self) -> Result<Delivery, Error> {
        loop {
            self.check_session()?;
            if self.engine.draining.is_cancelled() {
                return Ok(self.announce_end());
            }
            self.tip.borrow_and_update();
            let room = self.room();
            self.set_stalled(room.is_none());
            if let Some(room) = room {
                self.linger().await;
                if let Some(group) = self.gather(room).await? {
                    self.next_heartbeat = Instant::now() + self.limits.heartbeat;
                    return Ok(Delivery::Group(group));
                }
                if !self.reader.is_caught_up() {
                    continue;
                }
            }
            if self.next_heartbeat <= Instant::now() {
                return Ok(self.flush_progress().unwrap_or_else(|| self.heartbeat()));
            }
            self.wait(room.is_some()).await;
        }
    }

    /// Until something may have changed.
    async fn wait(&mut self, may_send: bool) {
        let engine = Arc::clone(&self.engine);
        let draining = &engine.draining;
        let tip = &mut self.tip;
        let tip_changed = async {
            // A hub that is gone means that the process ends.
            if may_send && tip.changed().await.is_ok() {
                return;
            }
            std::future::pending::<()>().await;
        };
        let Claim::Held(held) = &self.claim else {
            tokio::select! {
                () = draining.cancelled() => {}
                () = tip_changed => {}
                () = sleep_until(self.next_heartbeat) => {}
            }
            return;
        };
        let (mut end, mut acked) = (held.session.end(), held.session.acked());
        if end.borrow_and_update().is_some() {
            return;
        }
        let credited = *acked.borrow_and_update();
        if !self.window.is_empty() {
            self.window.acked(credited);
            if !may_send && self.window.room().is_some() {
                return;
            }
        }
        tokio::select! {
            () = draining.cancelled() => {}
            _ = end.changed() => {}
            _ = acked.changed() => {}
            () = tip_changed => {}
            () = sleep_until(self.next_heartbeat) => {}
        }
    }

    /// What one group may take now; `None` before an ack.
    fn room(&mut self) -> Option<Room> {
        let group = Room {
            events: self.limits.group_events,
            bytes: self.limits.group_bytes,
        };
        let Claim::Held(held) = &self.claim else {
            return Some(group);
        };
        self.window.acked(*held.session.acked().borrow());
        let window = self.window.room()?;
        Some(Room {
            events: group.events.min(window.events),
            bytes: group.bytes.min(window.bytes),
        })
    }

    /// Waits for more after the first event, if the subscriber asked for that.
    async fn linger(&mut self) {
        if self.limits.linger.is_zero() || self.reader.is_caught_up() {
            return;
        }
        let until = Instant::now() + self.limits.linger;
        let full = self.reader.cursor();
        let enough = i64::try_from(self.limits.group_events).unwrap_or(i64::MAX);
        let filled = self
            .tip
            .wait_for(|tip| tip.frontier.distance_from(full) >= enough);
        let _ = timeout(until - Instant::now(), filled).await;
    }

    /// The next group, if there is anything to send.
    async fn gather(&mut self, room: Room) -> Result<Option<Group>, Error> {
        let mut skipped = 0;
        let found = match (&self.claim, self.passed) {
            (Claim::Live, Some(passed)) => match self.reader.follow(room)? {
                Found::Behind { floor, published } => {
                    skipped = published.saturating_sub(passed);
                    self.reader.skip_to(floor);
                    self.reader.follow(room)?
                }
                found => found,
            },
            _ => self.reader.read(room).await?,
        };
        let Found::Selection(selection) = found else {
            return Ok(None);
        };
        if matches!(self.claim, Claim::Live) && selection.published() > 0 {
            self.passed = Some(selection.published());
        }
        Ok(self.group(selection, skipped))
    }

    fn group(&mut self, selection: Selection, skipped: u64) -> Option<Group> {
        let unsent = selection.reached().distance_from(self.sent);
        let worth_sending = match self.claim {
            Claim::Live => selection.count() > 0 || skipped > 0,
            _ => selection.count() > 0 || unsent >= UNSENT_IDS,
        };
        if !worth_sending {
            return None;
        }
        self.meters.dropped.increment(skipped);
        let dropped_groups = skipped.div_ceil(self.limits.group_events as u64);
        let seq = self.seq + i64::try_from(dropped_groups).unwrap_or(0);
        self.seq = seq + 1;
        self.sent = selection.reached();
        self.note_delivery(&selection);
        if matches!(self.claim, Claim::Held(_)) {
            self.window
                .sent(selection.reached(), selection.count(), selection.bytes());
        }
        Some(Group {
            seq,
            selection,
            skipped,
        })
    }

    /// An empty group for filtered progress, instead of a heartbeat.
    fn flush_progress(&mut self) -> Option<Delivery> {
        let reached = self.reader.cursor();
        if !matches!(self.claim, Claim::Held(_)) || reached <= self.sent {
            return None;
        }
        self.window.room()?;
        self.next_heartbeat = Instant::now() + self.limits.heartbeat;
        let seq = self.seq;
        self.seq += 1;
        self.sent = reached;
        self.window.sent(reached, 0, 0);
        Some(Delivery::Group(Group {
            seq,
            selection: Selection::at(reached),
            skipped: 0,
        }))
    }

    fn heartbeat(&mut self) -> Delivery {
        self.next_heartbeat = Instant::now() + self.limits.heartbeat;
        let started = self.phase == Phase::Delivering;
        Delivery::Heartbeat {
            frontier: self.engine.hub.tip().frontier,
            caught_up: started && self.reader.is_caught_up(),
        }
    }

    fn announce_end(&mut self) -> Delivery {
        let grace = if self.window.is_empty() {
            Duration::ZERO
        } else {
            self.engine.settings.ending_grace
        };
        self.phase = Phase::Ending(Instant::now() + grace);
        Delivery::Ending { grace }
    }

    /// Waits for the last acks, then ends.
    async fn wind_down(&mut self, until: Instant) -> Result<Delivery, Error> {
        if let Claim::Held(held) = &self.claim {
            let mut acked = held.session.acked();
            let window = &mut self.window;
            let all_acked = acked.wait_for(|acked| {
                window.acked(*acked);
                window.is_empty()
            });
            let _ = timeout(until.saturating_duration_since(Instant::now()), all_acked).await;
        }
        Err(Error::Draining)
    }

    fn check_session(&self) -> Result<(), Error> {
        let Claim::Held(held) = &self.claim else {
            return Ok(());
        };
        let end = held.session.end();
        let end = end.borrow();
        end.as_ref().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn set_stalled(&self, stalled: bool) {
        if let Claim::Held(held) = &self.claim {
            held.session.set_stalled(stalled);
        }
    }

    fn note_delivery(&self, selection: &Selection) {
        if let Claim::Held(held) = &self.claim {
            let ids = selection.events().map(|event| event.id);
            let again = self.engine.sessions.note_delivered(&held.key, ids);
            self.meters.redelivered.increment(again as u64);
        }
        if let Some(journeys) = &self.engine.journeys {
            let to = match &self.claim {
                Claim::Held(held) => Some(&held.key),
                Claim::Live | Claim::StandBy(_) => None,
            };
            journeys.delivered(to, selection);
        }
        self.meters.delivered.increment(selection.count() as u64);
        if let Some(settled_at) = selection.slices().first().and_then(Slice::settled_at) {
            let delay = settled_at.elapsed();
            self.meters.seconds.record(delay.as_secs_f64());
        }
    }

    fn note_end(&self, error: &Error) {
        tracing::debug!(%error, session = %self.id, "subscription ended");
        if let (Claim::Held(held), Error::EventUnreadable { .. }) = (&self.claim, error) {
            tracing::error!(%error, consumer = %held.key, "consumer is blocked");
            self.engine
                .sessions
                .note_problem(&held.key, error.to_string());
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.engine.open_streams.send_modify(|open| *open -= 1);
    }
}

/// What [`super::EventStream::subscribe`] prepared.
pub(super) struct Parts {
    pub engine: Arc<Engine>,
    pub claim: Claim,
    pub id: Uuid,
    pub reader: Reader,
    pub start: Option<EventId>,
    pub limits: PushLimits,
    pub listening: Listening,
    pub permit: tokio::sync::OwnedSemaphorePermit,
}
