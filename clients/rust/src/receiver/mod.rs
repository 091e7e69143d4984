//! Receivers: what they are made of, and how they are run.
//!
//! A receiver is a value that is built and then run to its end. Dropping the
//! future of `run` cancels it: the handler is dropped where it waits, and
//! nothing of its event is acknowledged.

mod acker;
mod handle;
mod life;
mod options;
mod progress;
mod queue;
mod stop;
mod unit;
mod work;

use std::{fmt, future::Future, marker::PhantomData, time::Duration};

pub use options::{Conflict, DeadLetter, OnFailure, Reconnect};

use crate::{
    backoff::Backoff,
    client::EventStream,
    error::{BoxError, Error},
    event::{Event, Group},
    session::{Session, Started},
    start::Start,
};
use life::Life;
use options::Options;
use stop::Stop;
use unit::Unit;

/// The component that nobody registers.
pub(crate) const LIVE: &str = "LIVE";

/// Marks [`ReliableReceiver`].
#[derive(Debug)]
pub struct Reliable(());

/// Marks [`LiveReceiver`].
#[derive(Debug)]
pub struct Live(());

/// Gets every event of a component, in order, at least once: registers,
/// subscribes, hands events to the handler, acknowledges what is handled, and
/// reconnects for ever.
pub type ReliableReceiver = Receiver<Reliable>;

/// Gets what happens from now on. It may miss events: those that were dropped
/// because it was too slow are counted, those of a lost session are not.
pub type LiveReceiver = Receiver<Live>;

/// A receiver with its options; see [`ReliableReceiver`] and [`LiveReceiver`].
#[must_use = "nothing is received before `run`"]
pub struct Receiver<K> {
    client: EventStream,
    options: Options,
    stop: Stop,
    kind: PhantomData<K>,
}

impl<K> fmt::Debug for Receiver<K> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let component = &self.options.request.component;
        out.debug_struct("Receiver")
            .field("component", component)
            .finish_non_exhaustive()
    }
}

impl<K> Receiver<K> {
    fn of(client: EventStream, component: &str) -> Self {
        Self {
            client,
            options: Options::new(component),
            stop: Stop::never(),
            kind: PhantomData,
        }
    }

    fn set(mut self, set: impl FnOnce(&mut Options)) -> Self {
        set(&mut self.options);
        self
    }

    /// Only events of these types; every type by default.
    pub fn want<T: Into<String>>(self, types: impl IntoIterator<Item = T>) -> Self {
        let types = types.into_iter().map(Into::into).collect();
        self.set(|options| options.request.want = Some(crate::proto::Want { types }))
    }

    /// What happens when the handler fails; [`OnFailure::Retry`] by default.
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        self.set(|options| options.on_failure = on_failure)
    }

    /// Up to so many handlers at once: events with the same key one after
    /// another in their order, others side by side. Acknowledged is only what
    /// has no gap below it. For groups the first event has the key.
    pub fn workers<T: std::hash::Hash>(
        self,
        workers: usize,
        key: impl Fn(&Event) -> T + Send + Sync + 'static,
    ) -> Self {
        self.set(|options| options.work_by_key(workers, key))
    }

    /// How many events the service sends ahead of what is acknowledged.
    pub fn max_in_flight_events(self, events: i32) -> Self {
        self.set(|options| options.request.max_in_flight_events = events)
    }

    /// The same in bytes of event data.
    pub fn max_in_flight_bytes(self, bytes: i64) -> Self {
        self.set(|options| options.request.max_in_flight_bytes = bytes)
    }

    /// Events in a group; at most 1000.
    pub fn max_group_events(self, events: i32) -> Self {
        self.set(|options| options.request.max_group_events = events)
    }

    /// How long the service may wait to fill a group; not at all by default.
    pub fn max_linger(self, linger: Duration) -> Self {
        let linger = prost_types::Duration::try_from(linger).ok();
        self.set(|options| options.request.max_linger = linger)
    }

    /// How often an idle service says that it is there. Three of them without
    /// a word, and the receiver reconnects.
    pub fn heartbeat_interval(self, interval: Duration) -> Self {
        let interval = prost_types::Duration::try_from(interval).ok();
        self.set(|options| options.request.heartbeat_interval = interval)
    }

    /// What operators see of this receiver: host name, pod, version.
    pub fn label(self, label: impl Into<String>) -> Self {
        self.set(|options| options.request.client_label = label.into())
    }

    /// The delays before a failed handler and a lost session are tried again.
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.set(|options| options.backoff = backoff)
    }

    /// Called before each delay after a lost session.
    pub fn on_reconnect(self, hook: impl Fn(&Reconnect<'_>) + Send + Sync + 'static) -> Self {
        self.set(|options| options.on_reconnect = Some(Box::new(hook)))
    }

    /// Called when a session has begun.
    pub fn on_started(self, hook: impl Fn(&Started) + Send + Sync + 'static) -> Self {
        self.set(|options| options.on_started = Some(Box::new(hook)))
    }

    /// Ends the receiver when the future is ready: the event in the handler is
    /// finished and acknowledged, no further one begun.
    pub fn stop_on(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Stop::on(stop);
        self
    }

    /// Runs until it is stopped, handing each event to the handler.
    ///
    /// # Errors
    ///
    /// [`Error::Service`] where another try is pointless, [`Error::Handler`]
    /// with [`OnFailure::Stop`].
    pub async fn run<H, F, E>(self, handler: H) -> Result<(), Error>
    where
        H: Fn(Event) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        self.run_units(handler).await
    }

    /// The same with groups, which succeed or fail as a whole.
    ///
    /// # Errors
    ///
    /// As [`Self::run`]; [`Error::Handler`] names the group's first event.
    pub async fn run_groups<H, F, E>(self, handler: H) -> Result<(), Error>
    where
        H: Fn(Group) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        self.run_units(handler).await
    }

    async fn run_units<U, H, F, E>(self, handler: H) -> Result<(), Error>
    where
        U: Unit,
        H: Fn(U) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        Life::new(self.client, &self.options)
            .run(self.stop, handler)
            .await
    }
}

impl Receiver<Reliable> {
    pub(crate) fn new(client: EventStream, component: &str) -> Self {
        Self::of(client, component)
    }

    /// Where a new registration starts; [`Start::Oldest`] by default.
    pub fn start(self, start: Start) -> Self {
        self.set(|options| options.start = Some(start))
    }

    /// Starts this run here, although the consumer's position is further, and
    /// goes on where it stands.
    pub fn replay(self, start: Start) -> Self {
        self.start(start).set(|options| options.replay = true)
    }

    /// Whether the component is registered first, which it is by default.
    pub fn register(self, register: bool) -> Self {
        self.set(|options| options.register = register)
    }

    /// What the first subscription does to another receiver of the same
    /// component; [`Conflict::TakeOver`] by default.
    pub fn conflict(self, conflict: Conflict) -> Self {
        self.set(|options| options.conflict = conflict)
    }

    /// Opens one session, for whoever wants to acknowledge by hand: a `Stream`
    /// that ends with its first error, and is not opened again.
    ///
    /// # Errors
    ///
    /// [`Error::Service`], [`Error::Lost`]
    pub async fn open(self) -> Result<Session, Error> {
        Life::new(self.client, &self.options).open().await
    }
}

impl Receiver<Live> {
    pub(crate) fn new(client: EventStream) -> Self {
        Self::of(client, LIVE).set(|options| options.register = false)
    }

    /// Called with the number of all events that were dropped because this
    /// receiver was too slow, whenever it has grown.
    pub fn on_dropped(self, hook: impl Fn(i64) + Send + Sync + 'static) -> Self {
        self.set(|options| options.on_dropped = Some(Box::new(hook)))
    }
}
