//! The work of one session: reads on while handlers work, begins what may be
//! begun, acknowledges what is done.
//!
//! When it is over, for whatever reason, the events in handlers are finished,
//! the rest is forgotten, and the last position is acknowledged.

use std::future::poll_fn;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{
    acker::Acker,
    handle::{Finished, Outcome},
    life::Life,
    progress::Progress,
    queue::{Item, Queue},
    stop::Stop,
    unit::Unit,
};
use crate::{
    error::{Error, Lost},
    event::Group,
    session::{Message, Session},
    start::Start,
};

/// What a live receiver holds before it lets the service drop events.
const LIVE_QUEUE: usize = 1000;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    Stopped,
    Lost(Error),
}

pub(crate) struct Work<'w, 'a, U> {
    session: Session,
    life: &'w mut Life<'a>,
    queue: Queue<U>,
    progress: Progress,
    acker: Acker,
    give_up: CancellationToken,
    /// Whether the stream may still bring something.
    reading: bool,
    end: Option<End>,
}

impl<'w, 'a, U: Unit> Work<'w, 'a, U> {
    pub(crate) fn new(session: Session, life: &'w mut Life<'a>) -> Self {
        Self {
            session,
            acker: Acker::new(life.options.backoff),
            life,
            queue: Queue::new(),
            progress: Progress::default(),
            give_up: CancellationToken::new(),
            reading: true,
            end: None,
        }
    }

    pub(crate) async fn run<F: Future<Output = Finished>>(
        mut self,
        stop: &mut Stop,
        start: impl Fn(Item<U>, CancellationToken) -> F,
    ) -> End {
        let mut busy = FuturesUnordered::new();
        loop {
            // Before anything is begun: a handler may have asked for it.
            if self.end.is_none() && stop.is_wished().await {
                self.finish(End::Stopped);
            }
            while busy.len() < self.life.options.workers
                && let Some(item) = self.queue.pop()
            {
                busy.push(start(item, self.give_up.clone()));
            }
            let position = self.progress.position();
            if busy.is_empty()
                && self.acker.is_done(position)
                && let Some(end) = self.end.take()
            {
                return end;
            }
            tokio::select! {
                () = stop.wished(), if self.end.is_none() => self.finish(End::Stopped),
                Some(finished) = busy.next() => self.finished(finished),
                acked = poll_fn(|context| self.acker.poll(context, position)) => self.acked(acked),
                message = self.session.next(), if self.reads() => self.read(message),
            }
        }
    }

    /// Live sessions are read no further than can be held, so that the service
    /// counts what it drops; reliable ones have a window.
    fn reads(&self) -> bool {
        self.reading && (!self.life.options.is_live() || self.queue.len() < LIVE_QUEUE)
    }

    fn read(&mut self, message: Option<Result<Message, Error>>) {
        match message.unwrap_or(Err(Lost::Ended.into())) {
            Ok(Message::Started(started)) => {
                if !self.life.options.is_live() {
                    self.acker.begin(self.session.acks());
                }
                let component = &self.life.options.request.component;
                tracing::debug!(component, started.epoch, started.start_after_id, "started");
                if let Some(hook) = &self.life.options.on_started {
                    hook(&started);
                }
            }
            Ok(Message::Group(group)) if self.end.is_none() => self.enqueue(group),
            Ok(Message::Group(_)) => {}
            Ok(Message::Ending(reason)) => tracing::debug!(reason, "the session is about to end"),
            Err(error) => self.lose(error),
        }
    }

    fn enqueue(&mut self, group: Group) {
        self.life.progress();
        if group.skipped_events > 0 {
            self.life.dropped += group.skipped_events;
            if let Some(hook) = &self.life.options.on_dropped {
                hook(self.life.dropped);
            }
        }
        if group.events.is_empty() {
            let number = self.progress.add(group.last_id);
            self.progress.finish(number);
            self.remember();
        }
        for (unit, position) in U::of(group) {
            let key = self.life.options.key(&unit.events()[0]);
            let number = self.progress.add(position);
            self.queue.push(Item { unit, key, number });
        }
    }

    fn finished(&mut self, finished: Finished) {
        match finished.outcome {
            Outcome::Done => {
                self.progress.finish(finished.number);
                self.remember();
            }
            Outcome::Failed { event, source } => {
                self.finish(End::Lost(Error::Handler { event, source }));
            }
            Outcome::GivenUp => {}
        }
        self.queue.release(finished.key);
    }

    /// A replay that is interrupted goes on here.
    fn remember(&mut self) {
        if let (Some(replay), Some(position)) = (&mut self.life.replay, self.progress.position()) {
            *replay = Start::After(position);
        }
    }

    fn acked(&mut self, acked: Result<Option<i64>, Error>) {
        match acked {
            Ok(stored) => self.life.stored = stored.or(self.life.stored),
            Err(error) => self.finish(End::Lost(error)),
        }
    }

    /// The stream is over.
    fn lose(&mut self, error: Error) {
        self.reading = false;
        if error.is_fencing() {
            self.acker.fence_off();
        }
        self.acker.try_last();
        self.finish(End::Lost(error));
    }

    /// Begins nothing more. The first reason counts.
    fn finish(&mut self, end: End) {
        self.queue.clear();
        self.give_up.cancel();
        self.end.get_or_insert(end);
    }
}
