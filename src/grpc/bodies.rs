//! Messages on their way: what has come of a message is held until its end is
//! there, so all of them together have a bound, and each has a time.
//!
//! A message that comes in one frame costs nothing here. Bytes are let through
//! as they are; only the lengths in gRPC's framing are looked at.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{body::Body, extract::Request};
use bytes::{Buf as _, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::Status;

use crate::{error::Error, limits};

/// Flag and length before each message.
const PREFIX: usize = 5;

/// Room for all messages that are on their way to one listener.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self::of(limits::MESSAGES_UNDER_WAY_BYTES)
    }
}

impl Room {
    fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// The request, its body inside the bounds.
    pub(super) fn bound(&self, request: Request) -> Request {
        request.map(|body| {
            Body::new(Bounded {
                body,
                room: self.clone(),
                framing: Framing::default(),
                held: None,
                time: None,
            })
        })
    }
}

/// Where in a message a body is.
#[derive(Debug, Default)]
struct Framing {
    prefix: [u8; PREFIX],
    /// How much of the prefix is there.
    known: usize,
    /// Bytes that are still to come, if all of it is.
    left: usize,
    /// Bytes of the message that are there.
    here: usize,
}

impl Framing {
    /// Goes on by these bytes; whether a message has ended meanwhile.
    fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            if self.known < PREFIX {
                let more = (PREFIX - self.known).min(bytes.len());
                self.prefix[self.known..self.known + more].copy_from_slice(&bytes[..more]);
                bytes.advance(more);
                self.known += more;
                self.here += more;
                self.left = (&self.prefix[1..]).get_u32() as usize;
            } else {
                let more = self.left.min(bytes.len());
                bytes.advance(more);
                self.left -= more;
                self.here += more;
            }
            if self.known == PREFIX && self.left == 0 {
                *self = Self::default();
                ended = true;
            }
        }
        ended
    }
}

/// A body that takes room for what is there of an unfinished message.
struct Bounded {
    body: Body,
    room: Room,
    framing: Framing,
    held: Option<OwnedSemaphorePermit>,
    /// Until when the message must be there.
    time: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    fn account(&mut self, bytes: &Bytes) -> Result<(), Status> {
        if self.framing.pass(bytes) {
            (self.held, self.time) = (None, None);
        }
        if self.framing.here == 0 {
            return Ok(());
        }
        if self.time.is_none() {
            self.time = Some(Box::pin(sleep(limits::MESSAGE_TIMEOUT)));
        }
        let held = self
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let free = limits::FREE_MESSAGE_BYTES;
        let wanted = self.framing.here.saturating_sub(free + held);
        if wanted == 0 {
            return Ok(());
        }
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.room.0).try_acquire_many_owned(wanted);
        let more = more.map_err(|_full| Error::overloaded("the room for messages on their way"))?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

impl hyper::body::Body for Bounded {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let Some(time) = &mut this.time else {
                return Poll::Pending;
            };
            ready!(time.as_mut().poll(context));
            return Poll::Ready(Some(Err(too_slow().into())));
        };
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        };
        if let Some(bytes) = frame.data_ref()
            && let Err(status) = this.account(bytes)
        {
            return Poll::Ready(Some(Err(status.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Cut anywhere, the same messages end.
///
/// # Panics
/// If not.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn framing_is_the_same(bytes: &[u8], cut: usize) {
    let mut whole = Framing::default();
    whole.pass(bytes);
    let mut pieces = Framing::default();
    for piece in bytes.chunks(cut) {
        pieces.pass(piece);
    }
    assert_eq!((whole.here, whole.left), (pieces.here, pieces.left));
}

fn too_slow() -> Status {
    let seconds = limits::MESSAGE_TIMEOUT.as_secs();
    let rule = format!("must be there within {seconds} s of its first byte");
    Error::invalid("message", rule).into()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use futures_util::{StreamExt as _, stream};
    use tonic::Code;

    use super::*;

    fn message(len: usize) -> Vec<u8> {
        let length = u32::try_from(len).unwrap().to_be_bytes();
        [&[0][..], &length, &vec![7; len]].concat()
    }

    #[test]
    fn messages_end_wherever_they_are_cut() {
        let bytes = [message(0), message(3), message(70_000)].concat();
        for size in [1, 2, 5, 6, 1000, bytes.len()] {
            let mut framing = Framing::default();
            let mut ends = 0;
            for part in bytes.chunks(size) {
                ends += usize::from(framing.pass(part));
            }
            assert!((1..=3).contains(&ends), "{size}");
            assert_eq!((framing.here, framing.left), (0, 0), "{size}");
        }
        let mut framing = Framing::default();
        assert!(!framing.pass(&bytes[..2]));
        assert_eq!(framing.here, 2);
    }

    /// A body of these parts that does not end by itself.
    fn endless(parts: Vec<Vec<u8>>, room: &Room) -> Body {
        let parts = stream::iter(parts).map(|part| Ok::<_, Status>(Bytes::from(part)));
        let body = Body::from_stream(parts.chain(stream::pending()));
        room.bound(Request::new(body)).into_body()
    }

    async fn refusal(body: Body) -> Status {
        let error = to_bytes(body, usize::MAX).await.expect_err("refused");
        Status::from_error(Box::new(error))
    }

    #[tokio::test(start_paused = true)]
    async fn message_that_does_not_end_is_given_up() {
        let room = Room::of(1 << 20);
        let half = message(100_000)[..50_000].to_vec();
        let refused = refusal(endless(vec![half], &room)).await;
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(room.0.available_permits(), 1 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_shared_and_given_back() {
        let room = Room::of(100_000);
        let free = limits::FREE_MESSAGE_BYTES;
        let most = message(200_000)[..100_000 + free].to_vec();
        let mut first = endless(vec![most], &room).into_data_stream();
        assert!(first.next().await.unwrap().is_ok());
        assert_eq!(room.0.available_permits(), 0);
        // A small message does without.
        let mut small = endless(vec![message(free - PREFIX)], &room).into_data_stream();
        assert!(small.next().await.unwrap().is_ok());
        let second = endless(vec![message(200_000)[..free + 1].to_vec()], &room);
        let refused = refusal(second).await;
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop(first);
        assert_eq!(room.0.available_permits(), 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn ended_messages_hold_nothing_and_have_no_time() {
        let room = Room::of(100_000);
        let whole = message(50_000);
        let (one, two) = whole.split_at(30_000);
        let parts = vec![one.to_vec(), two.to_vec(), message(1)];
        let mut body = endless(parts, &room).into_data_stream();
        for _ in 0..3 {
            assert!(body.next().await.unwrap().is_ok());
        }
        assert_eq!(room.0.available_permits(), 100_000);
        let waited = tokio::time::timeout(limits::MESSAGE_TIMEOUT * 10, body.next()).await;
        assert!(waited.is_err(), "it waits without a bound");
    }
}
