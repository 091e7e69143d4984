//! The life of consumers, and the state of the stream for operators.

use std::time::Duration;

use uuid::Uuid;

use super::{EventStream, observer::Lags};
use crate::{
    error::Error,
    event::{Component, ConsumerKey, EventId, StartAt, User},
    store::{Blocker, Bounds, Consumer, ConsumerPage, Lease},
};

/// A consumer and how it stands to the frontier.
#[derive(Debug, Clone)]
pub struct ConsumerState {
    /// As stored.
    pub consumer: Consumer,
    /// Settled ids above its position.
    pub lag_ids: i64,
    /// Age of the oldest settled event that it has not got.
    pub lag_age: Option<Duration>,
    /// Why nothing is delivered to it until an operator acts.
    pub problem: Option<String>,
}

impl ConsumerState {
    /// Events above it are kept because of this consumer. Where a stopped one
    /// will go on is not known, so it holds everything.
    pub(super) fn holds_from(&self) -> EventId {
        match self.consumer.stopped {
            Some(_) => EventId::START,
            None => self.consumer.position,
        }
    }
}

/// The stream at a glance.
#[derive(Debug, Clone)]
pub struct Status {
    /// Highest settled id.
    pub frontier: EventId,
    /// Ends of the active table.
    pub bounds: Bounds,
    /// Everything up to it is in the archive.
    pub archived: EventId,
    /// Open transactions that keep the frontier below the head.
    pub blockers: Vec<Blocker>,
    /// The lowest id that the frontier waits for, and for how long this replica
    /// has seen it wait.
    pub held: Option<(EventId, Duration)>,
    /// The consumer that holds the oldest events.
    pub slowest: Option<ConsumerState>,
    /// Consumers with a problem.
    pub stopped: Vec<ConsumerState>,
    /// What is wrong with the stream as a whole.
    pub problem: Option<String>,
    /// Who does which task of upkeep.
    pub leases: Vec<Lease>,
    /// Push streams open here.
    pub open_streams: usize,
    /// Bytes in the ring.
    pub ring_bytes: usize,
    /// Kind of database.
    pub database: &'static str,
    /// This replica.
    pub replica: Uuid,
}

/// What an operator looks at: [`Status`] and every consumer, of the same moment.
#[derive(Debug, Clone)]
pub struct Glance {
    /// The stream as a whole.
    pub status: Status,
    /// By ident.
    pub consumers: Vec<ConsumerState>,
}

/// Whose position tells what is archived, as in the original: the service's own
/// archiver, or one that is a process of its own.
pub(super) const ARCHIVER: &str = "ARCHIVER";

/// Consumers read at once when all are looked at.
const PAGE: usize = 1000;

impl EventStream {
    /// Registers a consumer; the flag tells whether this call did it.
    ///
    /// # Errors
    /// [`Error::LiveNotAllowed`], or a start that cannot be.
    pub async fn register(
        &self,
        user: User,
        component: Component,
        start: Option<StartAt>,
    ) -> Result<(ConsumerState, bool), Error> {
        let engine = &self.engine;
        if component.is_live() {
            return Err(Error::LiveNotAllowed);
        }
        engine.tailer.prove().await?;
        let key = ConsumerKey { user, component };
        let (consumer, created) = loop {
            let (place, kept_after) = match start {
                Some(start) => engine.resolve_position(start).await?,
                None => engine.oldest().await.map(|oldest| (oldest, oldest))?,
            };
            let registered = engine.store.register(&key, kept_after).await;
            let Some((consumer, created)) = engine.unless_passed(registered).await? else {
                continue;
            };
            if !created || place == kept_after {
                break (consumer, created);
            }
            let sought = engine.put(&key, place, kept_after).await?;
            if let Some(Some(consumer)) = sought {
                break (consumer, created);
            }
        };
        Ok((self.state(consumer), created))
    }

    /// Forgets a consumer and ends its session.
    ///
    /// # Errors
    /// [`Error::NotRegistered`].
    pub async fn unregister(&self, user: User, component: Component) -> Result<(), Error> {
        let engine = &self.engine;
        let key = ConsumerKey { user, component };
        let removed = engine.store.unregister(&key).await;
        let removed = removed.map_err(|error| engine.tailer.failed(error))?;
        let consumer = key.ident();
        engine.sessions.fence(
            &key,
            i64::MAX,
            Error::NotRegistered {
                consumer: consumer.clone(),
            },
        );
        engine.sessions.clear_problem(&key);
        if removed {
            Ok(())
        } else {
            Err(Error::NotRegistered { consumer })
        }
    }

    /// Puts a consumer's position anywhere up to the frontier, under a new epoch.
    ///
    /// # Errors
    /// [`Error::NotRegistered`], [`Error::BeyondHead`], [`Error::Discarded`].
    pub async fn seek(
        &self,
        user: User,
        component: Component,
        to: StartAt,
    ) -> Result<ConsumerState, Error> {
        let engine = &self.engine;
        engine.tailer.prove().await?;
        let key = ConsumerKey { user, component };
        let before = engine.registered(&key).await?;
        let sought = loop {
            let (place, kept_after) = engine.resolve_position(to).await?;
            if let Some(sought) = engine.put(&key, place, kept_after).await? {
                break sought;
            }
        };
        let consumer = sought.ok_or_else(|| Error::NotRegistered {
            consumer: key.ident(),
        })?;
        engine.sessions.fence(
            &key,
            consumer.epoch,
            Error::StaleEpoch {
                consumer: key.ident(),
                given: before.epoch,
                current: consumer.epoch,
            },
        );
        engine.sessions.clear_problem(&key);
        engine.heed_rewind(&consumer);
        Ok(self.state(consumer))
    }

    /// Consumers by ident, after `after`.
    ///
    /// # Errors
    /// Of the database.
    pub async fn consumers(
        &self,
        user: Option<&User>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ConsumerState>, Error> {
        let engine = &self.engine;
        engine.tailer.prove().await?;
        let listed = engine
            .store
            .consumers(&ConsumerPage { user, after, limit })
            .await;
        let listed = listed.map_err(|error| engine.tailer.failed(error))?;
        Ok(listed
            .into_iter()
            .map(|consumer| self.state(consumer))
            .collect())
    }

    /// The stream at a glance.
    ///
    /// # Errors
    /// Of the database.
    pub async fn status(&self) -> Result<Status, Error> {
        Ok(self.glance().await?.status)
    }

    /// The same with every consumer.
    ///
    /// # Errors
    /// Of the database.
    pub async fn glance(&self) -> Result<Glance, Error> {
        let engine = &self.engine;
        engine.tailer.prove().await?;
        let bounds = engine
            .store
            .bounds()
            .await
            .map_err(|error| engine.tailer.failed(error))?;
        let blockers = self.blockers().await?;
        let consumers = self.all_consumers().await?;
        let slowest = consumers.iter().min_by_key(|state| state.holds_from());
        let leases = engine.store.leases().await;
        let leases = leases.map_err(|error| engine.tailer.failed(error))?;
        let is_one = |state: &&ConsumerState| state.consumer.key.component.as_str() == ARCHIVER;
        let archived = consumers.iter().filter(is_one);
        let archived = archived.map(|state| state.consumer.position).max();
        let stopped = consumers.iter().filter(|state| state.problem.is_some());
        let stopped: Vec<_> = stopped.cloned().collect();
        let status = Status {
            frontier: engine.hub.tip().frontier,
            slowest: slowest.cloned(),
            problem: self.problem(bounds.head, !stopped.is_empty()).await?,
            held: engine.tailer.held(),
            stopped,
            archived: archived.unwrap_or(EventId::START),
            bounds,
            blockers,
            leases,
            open_streams: *engine.open_streams.borrow(),
            ring_bytes: engine.hub.usage().0,
            database: engine.store.kind(),
            replica: engine.sessions.replica(),
        };
        Ok(Glance { status, consumers })
    }

    /// What is wrong with the stream as a whole.
    async fn problem(&self, head: EventId, anybody_stopped: bool) -> Result<Option<String>, Error> {
        let engine = &self.engine;
        let restore = engine.tailer.problem(head, anybody_stopped);
        let late = engine.sentinel.problem().await;
        let late = late.map_err(|error| engine.tailer.failed(error))?;
        let problems: Vec<String> = restore.into_iter().chain(late).collect();
        Ok((!problems.is_empty()).then(|| problems.join("; ")))
    }

    /// Nobody, if nothing is held back.
    pub(super) async fn blockers(&self) -> Result<Vec<Blocker>, Error> {
        let engine = &self.engine;
        let tip = engine.hub.tip();
        if tip.frontier >= tip.head {
            return Ok(Vec::new());
        }
        let blockers = engine.store.blockers().await;
        blockers.map_err(|error| engine.tailer.failed(error))
    }

    /// Every consumer, by ident.
    ///
    /// # Errors
    /// Of the database.
    pub async fn all_consumers(&self) -> Result<Vec<ConsumerState>, Error> {
        let mut all = self.consumers(None, "", PAGE).await?;
        while all.len().is_multiple_of(PAGE)
            && let Some(last) = all.last().map(|state| state.consumer.key.ident())
        {
            let next = self.consumers(None, &last, PAGE).await?;
            if next.is_empty() {
                break;
            }
            all.extend(next);
        }
        self.engine.lags.send_replace(Some(Lags::of(&all)));
        Ok(all)
    }

    fn state(&self, consumer: Consumer) -> ConsumerState {
        let engine = &self.engine;
        let lag_ids = engine.hub.tip().frontier.distance_from(consumer.position);
        let oldest = consumer.oldest_missing.filter(|_| lag_ids > 0);
        ConsumerState {
            lag_ids,
            lag_age: oldest.map(|oldest| oldest.until(consumer.now)),
            problem: consumer
                .stopped
                .clone()
                .or_else(|| engine.sessions.problem(&consumer.key)),
            consumer,
        }
    }
}
