//! The archiver: a reliable consumer whose processing is a commit in the
//! warehouse.
//!
//! It reads as every consumer does, and its position follows the warehouse's
//! commits, never the other way round: whatever ends it between the two makes it
//! store the same again, which changes nothing. Where the warehouse has less than
//! the position says (it was restored, or is another one), it goes back to what
//! the warehouse has. What the warehouse does not take stops it, by name; then
//! nothing more is archived, and so nothing more discarded, until somebody acts.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Chore, Failure, Next};
use crate::{
    error::Error,
    event::{ConsumerKey, Label, StartAt, Want},
    limits,
    store::{
        Fence, Task,
        history::{Batch, Deposited, Warehouse, deposit, ledger::RANGE_EVENTS},
    },
    stream::{Conflict, Delivery, EventStream, PushLimits, Subscribe, Subscription},
    telemetry,
};

/// How much is archived in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Events at most.
    pub events: usize,
    /// Bytes, after which no more are added.
    pub bytes: usize,
}

/// Copies the stream into a warehouse.
pub struct Archiver {
    stream: EventStream,
    warehouse: Arc<dyn Warehouse>,
    limits: BatchLimits,
    key: ConsumerKey,
    work: Option<Work>,
}

/// One session and what of it is not in the warehouse yet.
struct Work {
    fence: Fence,
    epoch: i64,
    session: Subscription,
    batch: Batch,
    /// The session has ended; what was read is stored all the same.
    ended: bool,
}

/// The pause before a session that was ended is opened again.
const PAUSE: Duration = Duration::from_secs(1);

impl Archiver {
    /// An archiver that has done nothing yet.
    ///
    /// # Panics
    /// Never: its own name is valid.
    #[must_use]
    pub fn new(stream: EventStream, warehouse: Arc<dyn Warehouse>, limits: BatchLimits) -> Self {
        Self {
            stream,
            warehouse,
            limits,
            key: ConsumerKey::from_ident(ConsumerKey::ARCHIVER).expect("a valid name"),
            work: None,
        }
    }

    /// Registers the archiver, so that nothing is discarded before it has it.
    ///
    /// # Errors
    /// Of the database.
    pub async fn register(&self) -> Result<(), Error> {
        let ConsumerKey { user, component } = self.key.clone();
        self.stream.register(user, component, None).await?;
        Ok(())
    }

    /// Opens a session where the warehouse ends; `None` if there is more to do
    /// before.
    async fn begin(&self, fence: Fence) -> Result<Option<Work>, Failure> {
        let ConsumerKey { user, component } = self.key.clone();
        let registered = self.stream.register(user.clone(), component.clone(), None);
        let (state, _) = registered.await?;
        let position = state.consumer.position;
        let limit = usize::try_from(RANGE_EVENTS).unwrap_or(usize::MAX);
        let stock = self.warehouse.take_stock(position, limit).await;
        if stock.map_err(|error| self.away(&error))? > 0 {
            return Ok(None);
        }
        let extent = self.warehouse.extent().await;
        let extent = extent.map_err(|error| self.away(&error))?;
        let start = self.stream.archive_start(extent, position).await;
        let start = start.map_err(|error| match error {
            Error::BeyondHead { .. } => self.stuck(format!(
                "the archive is ahead of the database, which was restored: {error}"
            )),
            error => error.into(),
        })?;
        let room = self.limits.bytes.max(limits::MAX_EVENT_BYTES);
        let subscribe = Subscribe {
            user,
            component,
            want: Want::All,
            start: start.map(StartAt::After),
            limits: PushLimits {
                in_flight_events: self.limits.events * 2,
                in_flight_bytes: room * 2,
                group_events: self.limits.events,
                group_bytes: self.limits.bytes,
                linger: Duration::ZERO,
                heartbeat: limits::DEFAULT_HEARTBEAT,
            },
            // Who archives is decided by the lease.
            conflict: Conflict::TakeOver,
            label: Label::parse("the archiver").unwrap_or_default(),
        };
        let mut session = self.stream.subscribe(subscribe).await?;
        match session.next().await {
            Some(Ok(Delivery::Started(started))) => {
                tracing::info!(after = %started.start_after, warehouse = self.warehouse.kind(),
                    "archiving");
                Ok(Some(Work {
                    fence,
                    epoch: started.epoch,
                    session,
                    batch: Batch::new(started.start_after),
                    ended: false,
                }))
            }
            Some(Err(error)) => Err(error.into()),
            _ => Err(Failure::Retry("the session did not start".to_owned())),
        }
    }

    /// Reads a batch; an empty one if there is nothing to read.
    async fn fill(&self, work: &mut Work) -> Result<(), Error> {
        loop {
            match work.session.next().await {
                Some(Ok(Delivery::Group(group))) => {
                    let events = group.selection.events().cloned();
                    work.batch.extend(group.selection.reached(), events);
                }
                // An event that cannot be read comes after those before it.
                Some(Err(error)) if work.batch.is_empty() => return Err(error),
                Some(Err(_) | Ok(Delivery::Ending { .. })) | None => work.ended = true,
                Some(Ok(Delivery::Heartbeat { .. } | Delivery::Started(_))) => {}
            }
            let full = work.batch.events().len() >= self.limits.events
                || work.batch.bytes() >= self.limits.bytes;
            if full || work.ended || work.session.is_caught_up() {
                return Ok(());
            }
        }
    }

    /// Moves the position behind what is stored.
    async fn acknowledge(&self, work: &mut Work, done: &Deposited) -> Result<(), Error> {
        if done.through <= work.batch.after() {
            return Ok(());
        }
        let ConsumerKey { user, component } = self.key.clone();
        let acked = self
            .stream
            .ack(user, component, done.through, Some(work.epoch));
        acked.await?;
        work.batch.forget_through(done.through);
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        metrics::counter!(telemetry::EVENTS_ARCHIVED).increment(count(done.stored.fresh));
        metrics::counter!(telemetry::EVENTS_ARCHIVED_LATE).increment(count(done.stored.late));
        tracing::debug!(through = %done.through, events = done.stored.fresh, "archived");
        Ok(())
    }

    /// Stores what was read, and acknowledges what is stored.
    async fn store(&mut self, mut work: Work) -> Result<Next, Failure> {
        // After a failure the warehouse may be another one, or an older copy:
        // the next session starts where that ends.
        let done = deposit(&*self.warehouse, &work.batch).await;
        let done = done.map_err(|error| self.away(&error))?;
        self.acknowledge(&mut work, &done).await?;
        let Some(rejection) = done.rejection else {
            self.stream.note_problem(&self.key, None);
            if work.ended {
                return Ok(Next::After(PAUSE));
            }
            self.work = Some(work);
            return Ok(Next::Now);
        };
        metrics::counter!(telemetry::ARCHIVE_REJECTIONS).increment(1);
        self.work = Some(work);
        Err(self.stuck(rejection.to_string()))
    }

    fn away(&self, error: &crate::store::Error) -> Failure {
        metrics::counter!(telemetry::ARCHIVE_ERRORS, "class" => error.class()).increment(1);
        let text = format!("the warehouse does not work: {error}");
        self.stream.note_problem(&self.key, Some(text.clone()));
        Failure::Retry(text)
    }

    fn stuck(&self, text: String) -> Failure {
        self.stream.note_problem(&self.key, Some(text.clone()));
        Failure::Stuck(text)
    }

    /// One piece of work that may end with the stream itself.
    async fn step(&mut self, fence: Fence) -> Result<Next, Failure> {
        // Taken out: a tick that is cut off leaves nothing half done behind.
        let work = self.work.take().filter(|work| work.fence == fence);
        let mut work = match work {
            Some(work) => work,
            None => match self.begin(fence).await? {
                Some(work) => work,
                None => return Ok(Next::Now),
            },
        };
        if work.batch.is_empty() {
            match self.fill(&mut work).await {
                Ok(()) => {}
                Err(error @ (Error::EventUnreadable { .. } | Error::Discarded { .. })) => {
                    return Err(self.stuck(error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.store(work).await
    }
}

#[async_trait]
impl Chore for Archiver {
    fn task(&self) -> Task {
        Task::Archive
    }

    async fn tick(&mut self, fence: Fence) -> Result<Next, Failure> {
        match self.step(fence).await {
            // The end has begun.
            Err(Failure::Retry(text)) if text == Error::Draining.to_string() => {
                Ok(Next::After(PAUSE))
            }
            outcome => outcome,
        }
    }
}
