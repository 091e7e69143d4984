//! Polling: FTN18's `pollEvents`, with a long poll.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout_at};

use super::{
    Engine, EventStream,
    reader::{Found, Reader},
    segment::{Room, Selection},
};
use crate::{
    error::Error,
    event::{Component, ConsumerKey, EventId, StartAt, User, Want},
    store::{Advance, Consumer},
    telemetry::{self, traces::now},
};

/// One call.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Who asks.
    pub user: User,
    /// As which component; `LIVE` reads without a position.
    pub component: Component,
    /// Last id the caller has processed: moves the position there.
    pub last_id: Option<EventId>,
    /// `LIVE` without a `last_id`: where to start; `None`: with the oldest
    /// event of the active table.
    pub start: Option<StartAt>,
    /// Types of interest.
    pub want: Want,
    /// Events at most.
    pub max_events: usize,
    /// Bytes at most, but always one event.
    pub max_bytes: usize,
    /// Waits this long for a first event.
    pub max_wait: Duration,
    /// Fencing number from an earlier answer.
    pub epoch: Option<i64>,
}

/// Its answer.
#[derive(Debug)]
pub struct Polled {
    /// The events.
    pub selection: Selection,
    /// To be passed as `last_id` next time.
    pub last_id: EventId,
    /// Whether more was ready.
    pub more: bool,
    /// The consumer's epoch; 0 for `LIVE`.
    pub epoch: i64,
}

/// A position that a poll does not move is noted as a sign of life when the
/// last one is this old.
const SIGN_OF_LIFE: Duration = Duration::from_mins(1);

impl EventStream {
    /// Events after the position, or after `last_id`, which is acknowledged.
    ///
    /// # Errors
    /// As `crate::error` lists; nothing is acknowledged then, unless [`Error::Database`]
    /// says that this is unknown.
    pub async fn poll(&self, poll: Poll) -> Result<Polled, Error> {
        let engine = &self.engine;
        engine.tailer.prove().await?;
        if poll.component.is_live() {
            let after = match (poll.last_id, poll.start) {
                (None, None) => engine.oldest().await?,
                (None, Some(start)) => engine.resolve(start).await?,
                (Some(EventId::START), _) => engine.oldest_of_all().await?,
                (Some(id), _) => {
                    engine.ensure_settled(id).await?;
                    id
                }
            };
            let selection = self.read_from(after, &poll).await?;
            engine.note_journey(None, &selection);
            return Ok(polled(engine, selection, 0));
        }
        let key = ConsumerKey {
            user: poll.user.clone(),
            component: poll.component.clone(),
        };
        let consumer = engine.pollable(&key, poll.epoch).await?;
        let epoch = consumer.epoch;
        let position = engine.acknowledge(&consumer, poll.last_id).await?;
        let selection = self.read_from(position, &poll).await.inspect_err(|error| {
            if matches!(error, Error::EventUnreadable { .. }) {
                engine.sessions.note_problem(&key, error.to_string());
            }
        })?;
        if selection.count() == 0 && selection.reached() > position {
            // Everything up to there was filtered out (FTN18).
            engine.advance(&key, epoch, selection.reached()).await?;
        }
        engine.note_journey(Some(&key), &selection);
        let ids = selection.events().map(|event| event.id);
        let again = engine.sessions.note_delivered(&key, ids);
        metrics::counter!(telemetry::EVENTS_REDELIVERED).increment(again as u64);
        Ok(polled(engine, selection, epoch))
    }

    /// One bounded read, or the first that finds something until `max_wait`.
    async fn read_from(&self, after: EventId, poll: &Poll) -> Result<Selection, Error> {
        let engine = &self.engine;
        let room = Room {
            events: poll.max_events,
            bytes: poll.max_bytes,
        };
        let deadline = Instant::now() + poll.max_wait;
        let mut reader = Reader::new(engine.clone(), after, poll.want.clone());
        let _listening = (!poll.max_wait.is_zero()).then(|| engine.tailer.listen());
        let mut tip = engine.hub.watch();
        loop {
            tip.borrow_and_update();
            if let Found::Selection(selection) = reader.read(room).await?
                && (selection.count() > 0 || Instant::now() >= deadline)
            {
                return Ok(selection);
            }
            if !reader.is_caught_up() && Instant::now() < deadline {
                continue;
            }
            tokio::select! {
                biased;
                () = engine.draining.cancelled() => return Ok(Selection::at(reader.cursor())),
                changed = timeout_at(deadline, tip.changed()) => {
                    if changed.is_err() {
                        return Ok(Selection::at(reader.cursor()));
                    }
                }
            }
        }
    }
}

impl Engine {
    /// The consumer, if it may be polled now.
    async fn pollable(&self, key: &ConsumerKey, epoch: Option<i64>) -> Result<Consumer, Error> {
        let mut consumer = self.registered(key).await?;
        // The session in the way may have ended here a moment ago, and its row
        // may be gone by now, whoever removed it.
        if consumer.session.is_some() {
            self.sessions.flush().await?;
            consumer = self.registered(key).await?;
        }
        self.refuse_stopped(&consumer).await?;
        if let Some(given) = epoch.filter(|given| *given != consumer.epoch) {
            let current = consumer.epoch;
            return Err(Error::StaleEpoch {
                consumer: key.ident(),
                given,
                current,
            });
        }
        match &consumer.session {
            Some(label) => Err(Error::SubscriptionActive {
                consumer: key.ident(),
                label: label.as_str().to_owned(),
            }),
            None => self.placed(consumer).await,
        }
    }

    /// Moves the position to `last_id` if that is higher; returns it.
    async fn acknowledge(
        &self,
        consumer: &Consumer,
        last_id: Option<EventId>,
    ) -> Result<EventId, Error> {
        let position = consumer.position;
        let quiet = consumer
            .last_time
            .is_none_or(|last| last.until(consumer.now) > SIGN_OF_LIFE);
        match last_id.filter(|last_id| *last_id > position) {
            Some(last_id) => {
                self.ensure_settled(last_id).await?;
                let begun = self.journeys.as_ref().map(|_| now());
                let position = self.advance(&consumer.key, consumer.epoch, last_id).await?;
                self.note_ack(&consumer.key, last_id, begun);
                Ok(position)
            }
            None if quiet && position <= self.hub.tip().frontier => {
                let noted = self.advance(&consumer.key, consumer.epoch, position).await;
                match noted {
                    // A database that cannot be written can still be read.
                    Err(Error::Database { .. }) => Ok(position),
                    noted => noted,
                }
            }
            None => Ok(position),
        }
    }

    fn note_journey(&self, to: Option<&ConsumerKey>, selection: &Selection) {
        if let Some(journeys) = &self.journeys {
            journeys.delivered(to, selection);
        }
    }

    /// Something was acknowledged, in a call that began then.
    pub(super) fn note_ack(&self, by: &ConsumerKey, last: EventId, begun: Option<SystemTime>) {
        if let (Some(journeys), Some(begun)) = (&self.journeys, begun) {
            journeys.acknowledged(by, last, begun);
        }
    }

    pub(super) async fn advance(
        &self,
        key: &ConsumerKey,
        epoch: i64,
        to: EventId,
    ) -> Result<EventId, Error> {
        let advance = Advance {
            key: key.clone(),
            epoch: Some(epoch),
            to,
        };
        self.positions.submit(advance).await
    }
}

fn polled(engine: &Engine, selection: Selection, epoch: i64) -> Polled {
    metrics::counter!(telemetry::EVENTS_DELIVERED, "mode" => "poll")
        .increment(selection.count() as u64);
    let last_id = selection.reached();
    let more = selection.is_full() || last_id < engine.hub.tip().frontier;
    Polled {
        selection,
        last_id,
        more,
        epoch,
    }
}
