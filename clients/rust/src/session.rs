//! One push session: groups as they come, checked, and acknowledgements.
//!
//! It ends by itself when the service says nothing for three heartbeats, or
//! when a group is missing; it never reconnects.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Streaming;

use crate::{
    client::EventStream,
    error::{Error, Lost, ServiceError},
    event::Group,
    proto::{
        AckRequest, ReadyToReceiveRequest, ReadyToReceiveResponse, SubscriptionStarted,
        ready_to_receive_response::Payload,
    },
};

/// Of a service that was not asked for an interval and has not told its own.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a session brings.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// The session has begun; comes once, before every group.
    Started(Started),
    /// Events to handle.
    Group(Group),
    /// The service is about to end the stream: acknowledge what is done.
    Ending(String),
}

/// A session has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Started {
    /// Names the session in the service's log.
    pub session_id: String,
    /// Greater than that of every earlier session; 0 of a live one.
    pub epoch: i64,
    /// Events after this ID are delivered.
    pub start_after_id: i64,
}

/// An open push session of a component: a `Stream` of [`Message`]s that ends
/// after its first error. See [`ReliableReceiver::open`](crate::ReliableReceiver::open).
#[derive(Debug)]
pub struct Session {
    client: EventStream,
    component: String,
    messages: Streaming<ReadyToReceiveResponse>,
    clock: PeerClock,
    epoch: i64,
    /// `seq` of the next group.
    due: i64,
    ended: bool,
}

impl Session {
    pub(crate) async fn open(
        client: EventStream,
        request: ReadyToReceiveRequest,
    ) -> Result<Self, Error> {
        let component = request.component.clone();
        let asked = interval(request.heartbeat_interval.as_ref());
        let mut service = client.push_service();
        let opening = service.ready_to_receive(request);
        // A service that stands by may answer late, a dead one never.
        let longest = 3 * asked.unwrap_or(HEARTBEAT);
        let messages = tokio::time::timeout(longest, opening)
            .await
            .map_err(|_| Lost::DeadPeer(longest))??
            .into_inner();
        Ok(Self {
            client,
            component,
            messages,
            clock: PeerClock::new(asked.unwrap_or(HEARTBEAT)),
            epoch: 0,
            due: 0,
            ended: false,
        })
    }

    /// Acknowledges everything up to and including `last_id`, and returns the
    /// position that the service has stored.
    ///
    /// # Errors
    ///
    /// [`Error::Service`]; `STALE_EPOCH` when the session has a successor.
    pub async fn ack(&self, last_id: i64) -> Result<i64, Error> {
        self.acks().ack(last_id).await
    }

    pub(crate) fn acks(&self) -> Acks {
        Acks {
            client: self.client.clone(),
            component: self.component.clone(),
            epoch: self.epoch,
        }
    }

    /// `None` for what is of no interest here.
    fn take(&mut self, payload: Payload) -> Option<Result<Message, Error>> {
        match payload {
            Payload::Started(started) => Some(Ok(Message::Started(self.start(started)))),
            Payload::Group(group) => {
                Some(self.check(group.seq).map(|()| Message::Group(group.into())))
            }
            Payload::Ending(ending) => Some(Ok(Message::Ending(ending.reason))),
            Payload::Heartbeat(_) => None,
        }
    }

    fn start(&mut self, started: SubscriptionStarted) -> Started {
        self.epoch = started.epoch;
        if let Some(interval) = interval(started.heartbeat_interval.as_ref()) {
            self.clock.set(interval);
        }
        Started {
            session_id: started.session_id,
            epoch: started.epoch,
            start_after_id: started.start_after_id,
        }
    }

    /// A live session leaves gaps for what it dropped, a reliable one none.
    fn check(&mut self, seq: i64) -> Result<(), Error> {
        if self.component != crate::receiver::LIVE && seq != self.due {
            let expected = self.due;
            return Err(Lost::Gap { expected, got: seq }.into());
        }
        self.due = seq + 1;
        Ok(())
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        loop {
            let Poll::Ready(read) = Pin::new(&mut self.messages).poll_next(context) else {
                let silence = ready!(self.clock.poll_dead(context));
                return Poll::Ready(Err(Lost::DeadPeer(silence).into()));
            };
            let response = match read {
                Some(Ok(response)) => response,
                Some(Err(status)) => return Poll::Ready(Err(status.into())),
                None => return Poll::Ready(Err(Lost::Ended.into())),
            };
            self.clock.hear();
            // Kinds that this version does not know have no payload.
            if let Some(message) = response.payload.and_then(|payload| self.take(payload)) {
                return Poll::Ready(message);
            }
        }
    }
}

impl Stream for Session {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = ready!(self.poll_message(context));
        self.ended = message.is_err();
        Poll::Ready(Some(message))
    }
}

/// Acknowledges for a session, apart from its stream.
#[derive(Clone, Debug)]
pub(crate) struct Acks {
    client: EventStream,
    component: String,
    epoch: i64,
}

impl Acks {
    pub(crate) async fn ack(self, last_id: i64) -> Result<i64, Error> {
        let request = AckRequest {
            component: self.component,
            last_id,
            epoch: Some(self.epoch),
        };
        let mut service = self.client.push_service();
        let acking = tokio::time::timeout(ACK_TIMEOUT, service.ack(request));
        let acked = acking.await.unwrap_or_else(|_| {
            Err(tonic::Status::deadline_exceeded(
                "an acknowledgement was not answered",
            ))
        });
        Ok(acked.map_err(ServiceError::from)?.into_inner().acked_id)
    }
}

const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells when a peer is dead. Two heartbeats of silence make it suspect, and
/// one more dead: a program that itself stood still for long gets the time to
/// read what has come meanwhile.
#[derive(Debug)]
struct PeerClock {
    interval: Duration,
    heard: Instant,
    suspect: bool,
    sleep: Pin<Box<Sleep>>,
}

impl PeerClock {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            heard: Instant::now(),
            suspect: false,
            sleep: Box::pin(sleep(interval * 2)),
        }
    }

    fn set(&mut self, interval: Duration) {
        self.interval = interval;
        self.hear();
        self.sleep.as_mut().reset(self.heard + interval * 2);
    }

    /// Cheap: the timer is set again when it goes off.
    fn hear(&mut self) {
        self.heard = Instant::now();
        self.suspect = false;
    }

    /// Ready with the length of the silence.
    fn poll_dead(&mut self, context: &mut Context<'_>) -> Poll<Duration> {
        loop {
            ready!(self.sleep.as_mut().poll(context));
            let now = Instant::now();
            let next = if now < self.heard + self.interval * 2 {
                self.heard + self.interval * 2
            } else if self.suspect {
                return Poll::Ready(now - self.heard);
            } else {
                self.suspect = true;
                now + self.interval
            };
            self.sleep.as_mut().reset(next);
        }
    }
}

fn interval(duration: Option<&prost_types::Duration>) -> Option<Duration> {
    let interval = Duration::try_from(*duration?).ok()?;
    (!interval.is_zero()).then_some(interval)
}
