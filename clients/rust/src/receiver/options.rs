//! What a receiver may be told.

use std::{
    error::Error as StdError,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use super::LIVE;
use crate::{
    backoff::Backoff,
    error::{BoxError, Error},
    event::Event,
    proto::{ConflictPolicy, ReadyToReceiveRequest},
    session::Started,
    start::Start,
};

type Key = Box<dyn Fn(&Event) -> u64 + Send + Sync>;
type ReconnectHook = Box<dyn Fn(&Reconnect<'_>) + Send + Sync>;
type StartedHook = Box<dyn Fn(&Started) + Send + Sync>;
type DroppedHook = Box<dyn Fn(i64) + Send + Sync>;
type Buried = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
type Bury = Box<dyn Fn(DeadLetter) -> Buried + Send + Sync>;

pub(crate) struct Options {
    /// The subscription, apart from its start and conflict policy.
    pub(crate) request: ReadyToReceiveRequest,
    pub(crate) start: Option<Start>,
    pub(crate) replay: bool,
    pub(crate) register: bool,
    pub(crate) conflict: Conflict,
    pub(crate) on_failure: OnFailure,
    pub(crate) workers: usize,
    key: Option<Key>,
    pub(crate) backoff: Backoff,
    pub(crate) on_reconnect: Option<ReconnectHook>,
    pub(crate) on_started: Option<StartedHook>,
    pub(crate) on_dropped: Option<DroppedHook>,
}

impl Options {
    pub(crate) fn new(component: &str) -> Self {
        let request = ReadyToReceiveRequest {
            component: component.to_owned(),
            ..ReadyToReceiveRequest::default()
        };
        Self {
            request,
            start: None,
            replay: false,
            register: true,
            conflict: Conflict::TakeOver,
            on_failure: OnFailure::Retry,
            workers: 1,
            key: None,
            backoff: Backoff::default(),
            on_reconnect: None,
            on_started: None,
            on_dropped: None,
        }
    }

    pub(crate) fn work_by_key<T: Hash>(
        &mut self,
        workers: usize,
        key: impl Fn(&Event) -> T + Send + Sync + 'static,
    ) {
        self.workers = workers.max(1);
        self.key = Some(Box::new(move |event| {
            let mut hasher = DefaultHasher::new();
            key(event).hash(&mut hasher);
            hasher.finish()
        }));
    }

    /// Two keys of one number are handled one after another: safe, if slower.
    pub(crate) fn key(&self, event: &Event) -> u64 {
        self.key.as_ref().map_or(0, |key| key(event))
    }

    pub(crate) fn is_live(&self) -> bool {
        self.request.component == LIVE
    }
}

/// What the first subscription does to another open session of the consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// Ends the other session.
    #[default]
    TakeOver,
    /// Waits until the other one has ended.
    StandBy,
    /// Ends with `SUBSCRIPTION_ACTIVE`.
    Reject,
}

impl From<Conflict> for ConflictPolicy {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::TakeOver => Self::TakeOver,
            Conflict::StandBy => Self::StandBy,
            Conflict::Reject => Self::Reject,
        }
    }
}

/// What happens when the handler fails.
#[derive(Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// The same event again, with back-off, for ever.
    #[default]
    Retry,
    /// The receiver ends with [`Error::Handler`]; what was before the event is
    /// acknowledged.
    Stop,
    /// After some attempts the event goes elsewhere; see [`OnFailure::dead_letter`].
    #[doc(hidden)]
    DeadLetter { attempts: u32, bury: Bury },
}

impl OnFailure {
    /// After so many attempts the event and its error go to the callback, and
    /// the receiver goes on. A callback that fails counts as a failing handler.
    pub fn dead_letter<F, E>(
        attempts: u32,
        callback: impl Fn(DeadLetter) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let bury = move |letter| -> Buried {
            let buried = callback(letter);
            Box::pin(async { buried.await.map_err(Into::into) })
        };
        Self::DeadLetter {
            attempts,
            bury: Box::new(bury),
        }
    }
}

impl fmt::Debug for OnFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry => out.write_str("Retry"),
            Self::Stop => out.write_str("Stop"),
            Self::DeadLetter { attempts, .. } => write!(out, "DeadLetter({attempts})"),
        }
    }
}

/// An event that was given up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The event.
    pub event: Event,
    /// How often its handler was called.
    pub attempts: u32,
    /// The error of the latest call.
    pub error: Arc<dyn StdError + Send + Sync>,
}

/// What the hook of a lost session is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reconnect<'a> {
    /// 1, 2, …; again 1 after a session that brought a group.
    pub attempt: u32,
    /// How long the receiver waits now.
    pub delay: Duration,
    /// Why the session was lost, or could not be opened.
    pub error: &'a Error,
}
