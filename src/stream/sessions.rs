//! Push sessions of this replica.
//!
//! A session is a row that refers to its replica's heartbeat, so that a crash
//! locks nobody out. This registry ends the local ones that were taken over,
//! sought or unregistered: at once if that happened here, at the next heartbeat
//! if it happened in another replica. Fencing does not depend on it: the SQL
//! of every position does that.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::tailer_handle::TailerHandle;
use crate::{
    error::Error,
    event::{ConsumerKey, EventId},
    store::{Effect, NewSession, Standing, Store},
    telemetry,
};

/// Heartbeats of this replica.
#[derive(Debug, Clone, Copy)]
pub struct SessionTiming {
    /// Interval.
    pub beat: Duration,
    /// Without one for this long the sessions are lost.
    pub lapse: Duration,
}

/// The open sessions of this process.
pub(super) struct Sessions {
    store: Arc<dyn Store>,
    tailer: Arc<TailerHandle>,
    timing: SessionTiming,
    replica: Uuid,
    registry: Mutex<Registry>,
    changed: Notify,
    released: watch::Sender<u64>,
}

#[derive(Default)]
struct Registry {
    open: HashMap<ConsumerKey, Arc<Session>>,
    /// Ended, but their rows may still be there.
    closing: Vec<(ConsumerKey, Uuid)>,
    /// Highest id delivered by earlier sessions of this process.
    delivered: HashMap<ConsumerKey, EventId>,
    /// Consumers that this process could not go on delivering to.
    problems: HashMap<ConsumerKey, String>,
}

/// One open session.
#[derive(Debug)]
pub(super) struct Session {
    key: ConsumerKey,
    id: Uuid,
    epoch: i64,
    acked: watch::Sender<EventId>,
    end: watch::Sender<Option<Error>>,
    stalled: AtomicBool,
}

/// The first wait between beats while a full window may be waiting for acks
/// that went to another replica; doubled up to the usual interval.
const STALLED_BEAT: Duration = Duration::from_millis(100);

/// Consumers whose delivery state is remembered for metrics and status.
const REMEMBERED: usize = 10_000;

impl Session {
    pub(super) fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Highest id acknowledged in this session, by any way.
    pub(super) fn acked(&self) -> watch::Receiver<EventId> {
        self.acked.subscribe()
    }

    /// Set once the session is over.
    pub(super) fn end(&self) -> watch::Receiver<Option<Error>> {
        self.end.subscribe()
    }

    /// Tells that nothing can be sent before an ack.
    pub(super) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    fn credit(&self, acked: EventId) {
        self.acked.send_if_modified(|old| {
            let higher = acked > *old;
            *old = acked.max(*old);
            higher
        });
    }

    fn finish(&self, error: Error) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(error);
            first
        });
    }
}

impl Sessions {
    pub(super) fn new(
        store: Arc<dyn Store>,
        tailer: Arc<TailerHandle>,
        timing: SessionTiming,
        replica: Uuid,
    ) -> Self {
        Self {
            store,
            tailer,
            timing,
            replica,
            registry: Mutex::default(),
            changed: Notify::new(),
            released: watch::Sender::new(0),
        }
    }

    /// A session that the store is asked to open next.
    pub(super) fn attempt<'a>(&'a self, session: &'a NewSession) -> Attempt<'a> {
        Attempt {
            sessions: self,
            session,
            settled: false,
        }
    }

    /// Enters a session that the store has opened; ends the one before.
    fn enter(&self, opened: &NewSession, epoch: i64) -> Arc<Session> {
        let key = &opened.key;
        let session = Arc::new(Session {
            key: key.clone(),
            id: opened.id,
            epoch,
            acked: watch::Sender::new(EventId::START),
            end: watch::Sender::new(None),
            stalled: false.into(),
        });
        let before = self
            .registry()
            .open
            .insert(key.clone(), Arc::clone(&session));
        if let Some(before) = before {
            metrics::counter!(telemetry::TAKEOVERS).increment(1);
            before.finish(Error::TakenOver {
                consumer: key.ident(),
            });
        }
        self.changed.notify_one();
        session
    }

    /// Takes a session out; its row is removed soon.
    pub(super) fn leave(&self, session: &Arc<Session>) {
        let mut registry = self.registry();
        let is_current = registry
            .open
            .get(&session.key)
            .is_some_and(|open| Arc::ptr_eq(open, session));
        if is_current {
            registry.open.remove(&session.key);
            registry.closing.push((session.key.clone(), session.id));
        }
        drop(registry);
        self.changed.notify_one();
    }

    /// Epoch of the consumer's session here.
    pub(super) fn epoch(&self, key: &ConsumerKey) -> Option<i64> {
        Some(self.registry().open.get(key)?.epoch)
    }

    /// Ends the consumer's session here, if there is one of before `epoch`.
    pub(super) fn fence(&self, key: &ConsumerKey, epoch: i64, error: Error) {
        let session = self.registry().open.get(key).cloned();
        if let Some(session) = session.filter(|session| session.epoch < epoch) {
            session.finish(error);
        }
    }

    /// Passes an ack on to the session's window; false if it is not here.
    pub(super) fn credit(&self, key: &ConsumerKey, epoch: Option<i64>, acked: EventId) -> bool {
        let session = self.registry().open.get(key).cloned();
        let session = session.filter(|open| epoch.is_none_or(|epoch| epoch == open.epoch));
        session.inspect(|session| session.credit(acked)).is_some()
    }

    /// Whether a session that the store shows as open has just ended here; its
    /// row is gone when this returns. Callers may be dropped while they wait,
    /// so what is to be closed is forgotten only afterwards.
    pub(super) async fn flush(&self) -> Result<bool, Error> {
        let closing = self.registry().closing.clone();
        if closing.is_empty() {
            return Ok(false);
        }
        let closed = self.store.close_sessions(&closing).await;
        closed.map_err(|error| self.tailer.failed(error))?;
        self.registry()
            .closing
            .retain(|(_, id)| !closing.iter().any(|(_, closed)| closed == id));
        self.released.send_modify(|count| *count += 1);
        Ok(true)
    }

    /// Signals that some session's row was removed.
    pub(super) fn released(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    pub(super) fn timing(&self) -> SessionTiming {
        self.timing
    }

    pub(super) fn replica(&self) -> Uuid {
        self.replica
    }

    /// Notes a delivery; returns how many of `ids` were delivered before.
    pub(super) fn note_delivered(
        &self,
        key: &ConsumerKey,
        ids: impl Iterator<Item = EventId>,
    ) -> usize {
        let mut registry = self.registry();
        registry.problems.remove(key);
        let before = registry
            .delivered
            .get(key)
            .copied()
            .unwrap_or(EventId::START);
        let mut highest = before;
        let again = ids
            .inspect(|id| highest = highest.max(*id))
            .filter(|id| *id <= before)
            .count();
        if registry.delivered.len() < REMEMBERED || registry.delivered.contains_key(key) {
            registry.delivered.insert(key.clone(), highest);
        }
        again
    }

    /// Notes why a consumer gets nothing more.
    pub(super) fn note_problem(&self, key: &ConsumerKey, problem: String) {
        let mut registry = self.registry();
        if registry.problems.len() < REMEMBERED {
            registry.problems.insert(key.clone(), problem);
        }
    }

    /// Forgets a problem that has passed.
    pub(super) fn lift_problem(&self, key: &ConsumerKey) {
        self.registry().problems.remove(key);
    }

    /// Forgets the problem of a consumer that was sought or unregistered.
    pub(super) fn clear_problem(&self, key: &ConsumerKey) {
        let mut registry = self.registry();
        registry.problems.remove(key);
        registry.delivered.remove(key);
    }

    /// Consumers that this process could not go on delivering to.
    pub(super) fn problem(&self, key: &ConsumerKey) -> Option<String> {
        self.registry().problems.get(key).cloned()
    }

    /// Beats while there are sessions, and removes the rows of ended ones.
    pub(super) async fn keep(self: Arc<Self>, stopping: CancellationToken) -> anyhow::Result<()> {
        let mut last_beat = Instant::now();
        let mut stalled_beat = STALLED_BEAT;
        loop {
            let (any_open, any_stalled) = self.occupancy();
            // Acks of a stalled session may be going to another replica.
            stalled_beat = if any_stalled {
                stalled_beat
            } else {
                STALLED_BEAT
            };
            let interval = if any_stalled {
                stalled_beat
            } else {
                self.timing.beat
            };
            let due = last_beat + interval;
            let next_look = (Instant::now() + STALLED_BEAT).min(due);
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                () = self.changed.notified() => {}
                () = sleep_until(next_look), if any_open => {}
            }
            // A failure is logged; the rows lapse with the heartbeat anyway.
            let _ = self.flush().await;
            if !any_open {
                last_beat = Instant::now();
            } else if due <= Instant::now() {
                self.beat(&mut last_beat).await;
                stalled_beat = (stalled_beat * 2).min(self.timing.beat);
            }
        }
        let _ = self.flush().await;
        Ok(())
    }

    /// Whether any session is open, and whether any is stalled.
    fn occupancy(&self) -> (bool, bool) {
        let registry = self.registry();
        let stalled = |session: &Arc<Session>| session.stalled.load(Ordering::Relaxed);
        (
            !registry.open.is_empty(),
            registry.open.values().any(stalled),
        )
    }

    async fn beat(&self, last_beat: &mut Instant) {
        let open: Vec<Arc<Session>> = self.registry().open.values().cloned().collect();
        let named: Vec<_> = open
            .iter()
            .map(|session| (session.key.clone(), session.epoch))
            .collect();
        match self.store.beat(self.replica, &named).await {
            Ok(standings) => {
                *last_beat = Instant::now();
                for (session, standing) in open.iter().zip(standings) {
                    session.stands(standing);
                }
            }
            Err(error) => {
                let error = self.tailer.failed(error);
                if last_beat.elapsed() > self.timing.lapse {
                    for session in open {
                        session.finish(Error::Database {
                            effect: Effect::None,
                        });
                    }
                }
                tracing::debug!(%error, "heartbeat failed");
            }
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is being opened. When that is given up half way, because the
/// client is gone or the consumer is stopped, its row is removed again.
pub(super) struct Attempt<'a> {
    sessions: &'a Sessions,
    session: &'a NewSession,
    settled: bool,
}

impl Attempt<'_> {
    /// The store has opened it under `epoch`.
    pub(super) fn enter(mut self, epoch: i64) -> Arc<Session> {
        self.settled = true;
        self.sessions.enter(self.session, epoch)
    }

    /// The store has not opened it.
    pub(super) fn refused(mut self) {
        self.settled = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let row = (self.session.key.clone(), self.session.id);
            self.sessions.registry().closing.push(row);
            self.sessions.changed.notify_one();
        }
    }
}

impl Session {
    fn stands(&self, standing: Standing) {
        let consumer = self.key.ident();
        match standing {
            Standing::Current { acked } => self.credit(acked),
            Standing::TakenOver => {
                metrics::counter!(telemetry::TAKEOVERS).increment(1);
                self.finish(Error::TakenOver { consumer });
            }
            Standing::Stale(current) => {
                self.finish(Error::StaleEpoch {
                    consumer,
                    given: self.epoch,
                    current,
                });
            }
        }
    }
}
