//! A receiver's life: one session after another, until it is stopped or
//! another try is pointless.
//!
//! A session begins at the service's position, never at one from memory; only
//! a replay asks for a start of its own, until it has passed that position.

use tokio::time::sleep;

use super::{
    handle::{Failures, handle},
    options::{Options, Reconnect},
    stop::Stop,
    unit::Unit,
    work::{End, Work},
};
use crate::{
    client::EventStream,
    error::{BoxError, Error},
    proto::{ConflictPolicy, RegisterConsumerRequest, StartAt},
    session::Session,
    start::Start,
};

pub(crate) struct Life<'a> {
    client: EventStream,
    pub(crate) options: &'a Options,
    registered: bool,
    /// Another session had the consumer: it is not fought for.
    stand_by: bool,
    /// The position that the service has stored, as far as it was told.
    pub(crate) stored: Option<i64>,
    /// Where a replay goes on.
    pub(crate) replay: Option<Start>,
    /// Sessions since one that brought a group.
    attempt: u32,
    pub(crate) dropped: i64,
}

impl<'a> Life<'a> {
    pub(crate) fn new(client: EventStream, options: &'a Options) -> Self {
        Self {
            client,
            options,
            registered: !options.register,
            stand_by: false,
            stored: None,
            replay: options.start.filter(|_| options.replay),
            attempt: 0,
            dropped: 0,
        }
    }

    pub(crate) async fn run<U, H, F, E>(mut self, mut stop: Stop, handler: H) -> Result<(), Error>
    where
        U: Unit,
        H: Fn(U) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<BoxError>,
    {
        let options = self.options;
        let failures = Failures::default();
        loop {
            let opened = tokio::select! {
                biased;
                () = stop.wished() => return Ok(()),
                opened = self.open() => opened,
            };
            let error = match opened {
                Err(error) => error,
                Ok(session) => {
                    let start = |item, give_up| handle(&handler, options, &failures, item, give_up);
                    match Work::new(session, &mut self).run(&mut stop, start).await {
                        End::Stopped => return Ok(()),
                        End::Lost(error) => error,
                    }
                }
            };
            if !error.is_survivable() {
                return Err(error);
            }
            self.stand_by |= error.is_fencing();
            self.pause(&mut stop, &error).await;
        }
    }

    /// Registers unless that was done, and subscribes.
    pub(crate) async fn open(&mut self) -> Result<Session, Error> {
        if !self.registered {
            self.register().await?;
        }
        let mut request = self.options.request.clone();
        let conflict = if self.stand_by {
            ConflictPolicy::StandBy
        } else {
            self.options.conflict.into()
        };
        request.set_conflict_policy(conflict);
        request.start = self.replay_start().map(StartAt::from);
        Session::open(self.client.clone(), request).await
    }

    async fn register(&mut self) -> Result<(), Error> {
        let request = RegisterConsumerRequest {
            component: self.options.request.component.clone(),
            start: self.options.start.map(StartAt::from),
        };
        let registered = self
            .client
            .poll_service()
            .register_consumer(request)
            .await?;
        self.stored = registered
            .into_inner()
            .consumer
            .map(|consumer| consumer.position);
        self.registered = true;
        Ok(())
    }

    /// Nothing once the replay has come to the stored position.
    fn replay_start(&mut self) -> Option<Start> {
        let at = match self.replay? {
            Start::Oldest => Some(0),
            Start::After(id) => Some(id),
            Start::At(_) | Start::Now => None,
        };
        if at.is_some() && self.stored.is_some() && at >= self.stored {
            self.replay = None;
        }
        self.replay
    }

    /// A session brought a group.
    pub(crate) fn progress(&mut self) {
        self.attempt = 0;
    }

    async fn pause(&mut self, stop: &mut Stop, error: &Error) {
        self.attempt += 1;
        let attempt = self.attempt;
        let delay = self.options.backoff.delay(attempt, error.retry_after());
        let component = &self.options.request.component;
        tracing::info!(component, attempt, ?delay, %error, "reconnecting");
        if let Some(hook) = &self.options.on_reconnect {
            hook(&Reconnect {
                attempt,
                delay,
                error,
            });
        }
        tokio::select! {
            biased;
            () = stop.wished() => {}
            () = sleep(delay) => {}
        }
    }
}
