//! The stream: what FTN18 promises, on top of a [`Store`].
//!
//! [`EventStream`] is what both fronts call; it knows neither SQL nor a
//! protocol. One task each writes, follows the tail, commits positions and
//! keeps sessions; everything else runs in its caller. The twelve rules of
//! ARCHITECTURE that keep positions and frontier true are held here and in the
//! stores' SQL.

mod batch;
mod claim;
mod consumers;
mod dead;
mod delivery;
mod frontier;
mod gauges;
mod history;
mod hub;
mod journeys;
mod observer;
mod poll;
mod positions;
mod push;
mod reader;
mod segment;
mod sentinel;
mod sessions;
mod skips;
mod stall;
mod subscription;
mod tailer;
mod tailer_handle;
mod upkeep;
mod window;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::{
    consumers::{ConsumerState, Glance, Status},
    delivery::{Delivery, Group, PushLimits, Started},
    hub::{Follow, Hub, Tip},
    observer::{Lag, Lags, Observer, Seen},
    poll::{Poll, Polled},
    push::{Conflict, Subscribe},
    segment::{Encoded, Room, Segment, Selection, Slice},
    sentinel::{LatePolicy, SentinelSettings},
    sessions::SessionTiming,
    skips::Skipped,
    subscription::Subscription,
    tailer::{PollIntervals, jittered},
    tailer_handle::DatabaseState,
};
use self::{
    journeys::Journeys,
    positions::Positions,
    sentinel::Sentinel,
    sessions::Sessions,
    tailer::TailerTiming,
    tailer_handle::TailerHandle,
    writer::{AddLane, Adding, Writer},
};
use crate::{
    error::Error,
    event::{ConsumerKey, EventId, NewEvent, StartAt, User},
    lifecycle::Tasks,
    limits,
    store::{self, Append, Consumer, IdRuns, Store, history::Warehouse},
    telemetry,
};

/// How a stream behaves.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Looks for other applications' commits.
    pub intervals: PollIntervals,
    /// A frontier that waits this long for the same id is called by its cause.
    pub gap_warn_after: Duration,
    /// Looks at ids that were declared dead.
    pub sentinel: SentinelSettings,
    /// Bytes of recent events kept for subscribers.
    pub ring_bytes: usize,
    /// Heartbeats of this replica's sessions.
    pub sessions: SessionTiming,
    /// Push streams open at once.
    pub max_subscriptions: usize,
    /// Limits of a subscription that asks for none.
    pub push: PushLimits,
    /// The most unacknowledged events that a subscription may ask for.
    pub max_in_flight_events: usize,
    /// How long a stream that is to end waits for its last acknowledgements.
    pub ending_grace: Duration,
}

/// The stream. Cloning shares it.
#[derive(Debug, Clone)]
pub struct EventStream {
    engine: Arc<Engine>,
}

/// What the parts of the stream share.
struct Engine {
    store: Arc<dyn Store>,
    /// What was discarded can be read there.
    history: Option<Arc<dyn Warehouse>>,
    hub: Arc<Hub>,
    tailer: Arc<TailerHandle>,
    writer: Writer,
    positions: Positions,
    sessions: Arc<Sessions>,
    sentinel: Arc<Sentinel>,
    /// Epoch of the last seek or rewind that this process knows of.
    rewound: AtomicI64,
    settings: Settings,
    subscriptions: Arc<Semaphore>,
    /// As the last look at all consumers found them, whoever asked for it.
    lags: watch::Sender<Option<Lags>>,
    /// None while traces are off.
    journeys: Option<Arc<Journeys>>,
    open_streams: watch::Sender<usize>,
    draining: CancellationToken,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("tip", &self.hub.tip())
            .finish_non_exhaustive()
    }
}

impl EventStream {
    /// Starts the stream's tasks. Events that were discarded are read from
    /// `history`, which need not work yet. `draining` ends subscriptions and long polls,
    /// before the tasks themselves are stopped.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn start(
        store: Arc<dyn Store>,
        history: Option<Arc<dyn Warehouse>>,
        settings: Settings,
        tasks: &Tasks,
        draining: CancellationToken,
    ) -> Result<Self, store::Error> {
        let audit = store.audit(EventId::START).await?;
        let hub = Arc::new(Hub::new(audit.frontier, settings.ring_bytes));
        let tailer = Arc::new(TailerHandle::new());
        tailer.note_audit(&audit);
        let sessions = Arc::new(Sessions::new(
            Arc::clone(&store),
            Arc::clone(&tailer),
            settings.sessions,
            Uuid::new_v4(),
        ));
        tasks.spawn("sessions", Arc::clone(&sessions).keep(tasks.stopping()));
        let sentinel = Arc::new(Sentinel::new(
            Arc::clone(&store),
            Arc::clone(&hub),
            Arc::clone(&tailer),
            Arc::clone(&sessions),
            settings.sentinel,
        ));
        tasks.spawn("sentinel", Arc::clone(&sentinel).keep(tasks.stopping()));
        let task = tailer::Tailer::new(
            Arc::clone(&store),
            Arc::clone(&hub),
            Arc::clone(&tailer),
            Arc::clone(&sentinel),
            TailerTiming {
                intervals: settings.intervals,
                gap_warn_after: settings.gap_warn_after,
            },
        );
        tasks.spawn("tailer", task.run(tasks.stopping()));
        let journeys = Journeys::new();
        let lane = AddLane::new(Arc::clone(&store), Arc::clone(&tailer), journeys.clone());
        let writer = writer::start(lane, tasks);
        let (of, at) = (Arc::clone(&store), Arc::clone(&hub));
        let positions = positions::start(of, at, Arc::clone(&tailer), tasks);
        let engine = Engine {
            store,
            history,
            hub,
            tailer,
            writer,
            positions,
            sessions,
            sentinel,
            rewound: AtomicI64::new(0),
            settings,
            lags: watch::Sender::new(None),
            journeys,
            subscriptions: Arc::new(Semaphore::new(settings.max_subscriptions)),
            open_streams: watch::Sender::new(0),
            draining,
        };
        Ok(Self {
            engine: Arc::new(engine),
        })
    }

    /// Stores events in one transaction, durable when this returns. A retry
    /// with the same `request_id` returns the first ids.
    ///
    /// # Errors
    /// [`Error::Database`] tells whether they may have been stored.
    pub async fn add(
        &self,
        user: User,
        request_id: Option<Uuid>,
        events: Vec<NewEvent>,
    ) -> Result<IdRuns, Error> {
        let begun = Instant::now();
        let append = Append {
            user,
            request_id,
            events,
        };
        let journeys = self.engine.journeys.as_ref();
        let adding = Adding {
            append,
            origin: journeys.and_then(|journeys| journeys.origin()),
        };
        let ids = self.engine.writer.submit(adding).await?;
        metrics::histogram!(telemetry::ADD_SECONDS).record(begun.elapsed().as_secs_f64());
        Ok(ids)
    }

    /// The id itself if it is proven settled, else the frontier, which is lower.
    ///
    /// # Errors
    /// Of the database.
    pub async fn settled_up_to(&self, id: EventId) -> Result<EventId, Error> {
        let engine = &self.engine;
        if id > engine.hub.tip().frontier {
            engine.tailer.prove().await?;
        }
        Ok(id.min(engine.hub.tip().frontier))
    }

    /// Whether the database works, and every change of it.
    #[must_use]
    pub fn database(&self) -> watch::Receiver<DatabaseState> {
        self.engine.tailer.database()
    }

    /// Waits until no push stream is open, for as long as one that is to end
    /// may wait for its acknowledgements. A stream that nobody reads does not
    /// notice that it is to end.
    pub async fn streams_ended(&self) {
        let mut open = self.engine.open_streams.subscribe();
        let ended = open.wait_for(|open| *open == 0);
        let _ = tokio::time::timeout(self.engine.settings.ending_grace, ended).await;
    }

    /// How the stream behaves.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.engine.settings
    }
}

impl Engine {
    async fn registered(&self, key: &ConsumerKey) -> Result<Consumer, Error> {
        let found = self
            .store
            .consumer(key)
            .await
            .map_err(|error| self.tailer.failed(error))?;
        let consumer = found.ok_or_else(|| Error::NotRegistered {
            consumer: key.ident(),
        })?;
        self.heed_rewind(&consumer);
        Ok(consumer)
    }

    /// What this process holds in memory may lack what a consumer was moved
    /// back for, here or in another replica. Called before it reads.
    fn heed_rewind(&self, consumer: &Consumer) {
        if consumer.rewound > self.rewound.load(Ordering::Acquire) {
            self.hub.distrust();
            self.rewound.fetch_max(consumer.rewound, Ordering::AcqRel);
        }
    }

    /// Makes sure that `id` is at or below the frontier (ARCHITECTURE, rule 2).
    async fn ensure_settled(&self, id: EventId) -> Result<(), Error> {
        if id <= self.hub.tip().frontier {
            return Ok(());
        }
        // Following makes the tailer look again until the id is settled.
        let _listening = self.tailer.listen();
        let mut tip = self.hub.watch();
        self.tailer.prove().await?;
        let head = self.hub.tip().head;
        if id > head {
            return Err(Error::BeyondHead { id, head });
        }
        let settled = tip.wait_for(|tip| tip.frontier >= id);
        match tokio::time::timeout(limits::PROVE_TIMEOUT, settled).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::NotSettled {
                id,
                frontier: self.hub.tip().frontier,
            }),
        }
    }

    /// Resolves a place in the stream to "after this id".
    async fn resolve(&self, start: StartAt) -> Result<EventId, Error> {
        match start {
            StartAt::Now => Ok(self.hub.tip().frontier),
            StartAt::After(EventId::START) => self.oldest_of_all().await,
            StartAt::After(id) => {
                self.ensure_settled(id).await?;
                let oldest = self.oldest().await?;
                if id < oldest {
                    self.recorded_through(id, oldest).await?;
                }
                Ok(id)
            }
            StartAt::Time(time) => self.before_time(time).await,
        }
    }

    /// The same for a consumer's position; and how far what follows it can only
    /// be read in the warehouse.
    async fn resolve_position(&self, start: StartAt) -> Result<(EventId, EventId), Error> {
        let position = self.resolve(start).await?;
        let oldest = self.oldest().await?;
        Ok((position, oldest.max(position)))
    }

    /// Puts a consumer at a place that [`Self::resolve_position`] found; `None`
    /// if the discarder has passed it meanwhile.
    async fn put(
        &self,
        key: &ConsumerKey,
        place: EventId,
        kept_after: EventId,
    ) -> Result<Option<Option<Consumer>>, Error> {
        let sought = if place < kept_after {
            self.store.seek_archived(key, place, kept_after).await
        } else {
            self.store.seek(key, place).await
        };
        self.unless_passed(sought).await
    }

    /// What came of putting a consumer at a place; `None` if the discarder has
    /// passed it meanwhile, so that it is to be looked up again.
    async fn unless_passed<T>(&self, put: Result<T, store::Error>) -> Result<Option<T>, Error> {
        match put {
            Ok(put) => Ok(Some(put)),
            // Another replica may have proven more than this one.
            Err(store::Error::Discarded(to)) => self.ensure_settled(to).await.map(|()| None),
            Err(error) => Err(self.tailer.failed(error)),
        }
    }

    /// Every event above this id is still in the active table.
    async fn oldest(&self) -> Result<EventId, Error> {
        let bounds = self
            .store
            .bounds()
            .await
            .map_err(|error| self.tailer.failed(error))?;
        Ok(bounds.discarded_to.min(self.hub.tip().frontier))
    }

    /// A consumer that the original registered stands at 0, "from the oldest
    /// event kept" (FTN18). Its first use here writes that down, so that from
    /// then on events that vanish above its position are noticed.
    async fn placed(&self, mut consumer: Consumer) -> Result<Consumer, Error> {
        if consumer.position > EventId::START || consumer.epoch > 0 {
            return Ok(consumer);
        }
        let oldest = self.oldest().await?;
        if oldest > EventId::START {
            consumer.position = self.advance(&consumer.key, 0, oldest).await?;
        }
        Ok(consumer)
    }

    /// A stopped consumer gets nothing; one above the head is stopped now.
    async fn refuse_stopped(&self, consumer: &Consumer) -> Result<(), Error> {
        let mut reason = consumer.stopped.clone();
        if reason.is_none() && consumer.position > self.hub.tip().head {
            let audit = self.store.audit(consumer.position).await;
            let audit = audit.map_err(|error| self.tailer.failed(error))?;
            self.tailer.note_audit(&audit);
            if consumer.position > audit.head {
                reason = Some(format!(
                    "its position {} is above the head",
                    consumer.position
                ));
            }
        }
        match reason {
            Some(reason) => Err(Error::ConsumerStopped {
                consumer: consumer.key.ident(),
                reason,
            }),
            None => Ok(()),
        }
    }
}
