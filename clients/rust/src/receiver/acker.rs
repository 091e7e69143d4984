//! Acknowledges a session's position: one call at a time, each with the latest
//! position, never one below an earlier one.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Sleep, sleep};

use crate::{
    backoff::Backoff,
    error::{Error, ServiceError},
    session::Acks,
};

type Call = Pin<Box<dyn Future<Output = Result<i64, Error>> + Send>>;

pub(crate) struct Acker {
    backoff: Backoff,
    /// None before the session has begun, and once nothing may be acknowledged.
    acks: Option<Acks>,
    /// Acknowledged, or given up with the session.
    settled: Option<i64>,
    call: Option<(i64, Call)>,
    delay: Option<Pin<Box<Sleep>>>,
    attempt: u32,
    /// The session is over: each position has one try.
    last_try: bool,
}

impl Acker {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            acks: None,
            settled: None,
            call: None,
            delay: None,
            attempt: 0,
            last_try: false,
        }
    }

    pub(crate) fn begin(&mut self, acks: Acks) {
        self.acks = Some(acks);
    }

    /// Another session has the consumer, or its position was moved.
    pub(crate) fn fence_off(&mut self) {
        self.acks = None;
        self.call = None;
    }

    /// The session is over.
    pub(crate) fn try_last(&mut self) {
        self.last_try = true;
        self.delay = None;
    }

    /// Whether nothing is left to do for this position.
    pub(crate) fn is_done(&self, position: Option<i64>) -> bool {
        self.call.is_none() && (self.acks.is_none() || position <= self.settled)
    }

    /// Ready with the stored position after each call that succeeded, without
    /// one when a call was given up, and with an error that no repetition mends.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        position: Option<i64>,
    ) -> Poll<Result<Option<i64>, Error>> {
        loop {
            if let Some((asked, call)) = &mut self.call {
                let answer = ready!(call.as_mut().poll(context));
                let asked = *asked;
                self.call = None;
                if let Some(answer) = self.settle(asked, answer) {
                    return Poll::Ready(answer);
                }
            }
            if let Some(delay) = &mut self.delay {
                ready!(delay.as_mut().poll(context));
                self.delay = None;
            }
            let (Some(acks), Some(asked)) = (&self.acks, position) else {
                return Poll::Pending;
            };
            if position <= self.settled {
                return Poll::Pending;
            }
            self.call = Some((asked, Box::pin(acks.clone().ack(asked))));
        }
    }

    /// `None` where the call is to be repeated.
    fn settle(
        &mut self,
        asked: i64,
        answer: Result<i64, Error>,
    ) -> Option<Result<Option<i64>, Error>> {
        let error = match answer {
            Ok(stored) => {
                self.settled = Some(asked);
                self.attempt = 0;
                return Some(Ok(Some(stored)));
            }
            Err(error) => error,
        };
        if !error.service().is_some_and(ServiceError::is_transient) {
            self.acks = None;
            return Some(Err(error));
        }
        if self.last_try {
            self.settled = Some(asked);
            return Some(Ok(None));
        }
        self.attempt += 1;
        let delay = self.backoff.delay(self.attempt, error.retry_after());
        tracing::debug!(%error, ?delay, "an acknowledgement is repeated");
        self.delay = Some(Box::pin(sleep(delay)));
        None
    }
}
