//! Opening push subscriptions, and acknowledging what they carried.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    EventStream,
    claim::{Claim, Claimed},
    delivery::PushLimits,
    reader::Reader,
    subscription::{Parts, Subscription},
};
use crate::{
    error::Error,
    event::{Component, ConsumerKey, EventId, Label, StartAt, User, Want},
    store::{Advance, NewSession},
    telemetry::traces::now,
};

/// What to do when another session of the consumer is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// End it.
    TakeOver,
    /// Refuse this one.
    Reject,
    /// Wait for its end.
    StandBy,
}

/// A subscription to open.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// Who asks.
    pub user: User,
    /// As which component; `LIVE` reads without a position.
    pub component: Component,
    /// Types of interest.
    pub want: Want,
    /// `None`: the position (live: now).
    pub start: Option<StartAt>,
    /// Bounds and timing.
    pub limits: PushLimits,
    /// Competing sessions.
    pub conflict: Conflict,
    /// For operators.
    pub label: Label,
}

impl EventStream {
    /// Opens a push subscription.
    ///
    /// # Errors
    /// As `crate::error` lists; an open session of the consumer is then left alone.
    pub async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, Error> {
        let engine = &self.engine;
        if engine.draining.is_cancelled() {
            return Err(Error::Draining);
        }
        let permit = Arc::clone(&engine.subscriptions)
            .try_acquire_owned()
            .map_err(|_full| Error::overloaded("the number of push streams"))?;
        let listening = engine.tailer.listen();
        engine.tailer.prove().await?;
        let id = Uuid::new_v4();
        let (claim, cursor, start) = if subscribe.component.is_live() {
            let start = engine
                .resolve(subscribe.start.unwrap_or(StartAt::Now))
                .await?;
            (Claim::Live, start, None)
        } else {
            self.claim_consumer(&subscribe, id).await?
        };
        Ok(Subscription::new(Parts {
            engine: Arc::clone(engine),
            claim,
            id,
            reader: Reader::new(Arc::clone(engine), cursor, subscribe.want),
            start,
            limits: subscribe.limits,
            listening,
            permit,
        }))
    }

    async fn claim_consumer(
        &self,
        subscribe: &Subscribe,
        id: Uuid,
    ) -> Result<(Claim, EventId, Option<EventId>), Error> {
        let engine = &self.engine;
        let key = ConsumerKey {
            user: subscribe.user.clone(),
            component: subscribe.component.clone(),
        };
        let consumer = engine.registered(&key).await?;
        engine.refuse_stopped(&consumer).await?;
        let consumer = engine.placed(consumer).await?;
        // Checked before the claim, so that a mistake fences nobody off.
        let start = match subscribe.start {
            None => None,
            Some(start) => Some(engine.resolve(start).await?),
        };
        let position = consumer.position;
        if let Some(start) = start.filter(|start| *start > position) {
            return Err(Error::StartAbovePosition { start, position });
        }
        let session = NewSession {
            key,
            id,
            replica: engine.sessions.replica(),
            label: subscribe.label.clone(),
            yields: subscribe.conflict != Conflict::TakeOver,
        };
        match engine.claim(&session).await? {
            Claimed::Held(held, position) => {
                let cursor = start.unwrap_or(position);
                Ok((Claim::Held(held), cursor, start))
            }
            Claimed::Occupied(_) if subscribe.conflict == Conflict::StandBy => {
                Ok((Claim::StandBy(session), position, start))
            }
            Claimed::Occupied(label) => Err(Error::SubscriptionActive {
                consumer: session.key.ident(),
                label: label.as_str().to_owned(),
            }),
        }
    }

    /// Acknowledges everything up to `last_id`; returns the stored position.
    ///
    /// # Errors
    /// As `crate::error` lists; the position is unchanged then, unless
    /// [`Error::Database`] says that this is unknown.
    pub async fn ack(
        &self,
        user: User,
        component: Component,
        last_id: EventId,
        epoch: Option<i64>,
    ) -> Result<EventId, Error> {
        let engine = &self.engine;
        let begun = engine.journeys.as_ref().map(|_| now());
        engine.ensure_settled(last_id).await?;
        let key = ConsumerKey { user, component };
        let advance = Advance {
            key: key.clone(),
            epoch,
            to: last_id,
        };
        let position = engine.positions.submit(advance).await?;
        engine.note_ack(&key, last_id, begun);
        let here = engine.sessions.credit(&key, epoch, last_id);
        // Without an epoch the session here may be one that another replica
        // has taken over and that does not know it yet.
        if !here || epoch.is_none() {
            let credited = engine.store.credit(&key, epoch, last_id).await;
            credited.map_err(|error| engine.tailer.failed(error))?;
        }
        Ok(position)
    }
}
