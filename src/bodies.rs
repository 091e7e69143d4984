//! Messages on their way: what has come of a message is held until its end is
//! there, so all of them together have a bound, and each has a time.
//!
//! A body is one message for most calls, and then it is held until the body
//! ends: who reads it waits for that, too. Of a call that takes many messages
//! each is held alone, and the lengths in gRPC's framing tell where it ends.
//! The first bytes of each cost nothing here, so that a full room refuses large
//! messages only. The room is that of the process: all fronts share it.

use std::{
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
};

use axum::{BoxError, body::Body};
use bytes::{Buf as _, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

use crate::{error::Error, limits};

/// Flag and length before each message.
const PREFIX: usize = 5;

/// What a body consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One message, which is there when the body has ended.
    Message,
    /// Any number of messages in gRPC's framing.
    Messages,
}

/// Room for all messages that are on their way to this process.
static ROOM: LazyLock<Room> = LazyLock::new(|| Room::of(limits::MESSAGES_UNDER_WAY_BYTES));

/// The body, inside the bounds. A fault of it becomes an error of its reader by
/// `told`.
pub(crate) fn bound(body: Body, shape: Shape, told: fn(Error) -> BoxError) -> Body {
    ROOM.bound(body, shape, told)
}

#[derive(Debug, Clone)]
struct Room(Arc<Semaphore>);

impl Room {
    fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    fn bound(&self, body: Body, shape: Shape, told: fn(Error) -> BoxError) -> Body {
        Body::new(Bounded {
            body,
            room: self.clone(),
            shape,
            told,
            framing: Framing::default(),
            here: 0,
            held: None,
            time: None,
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
    shape: Shape,
    told: fn(Error) -> BoxError,
    framing: Framing,
    /// Bytes that are there of what must end.
    here: usize,
    held: Option<OwnedSemaphorePermit>,
    /// Until when the message must be there.
    time: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    /// Goes on by these bytes.
    fn account(&mut self, bytes: &Bytes) -> Result<(), Error> {
        match self.shape {
            Shape::Message => self.here += bytes.len(),
            Shape::Messages => {
                if self.framing.pass(bytes) {
                    (self.held, self.time) = (None, None);
                }
                self.here = self.framing.here;
            }
        }
        let held = self
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let free = limits::FREE_MESSAGE_BYTES;
        let wanted = self.here.saturating_sub(free + held);
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

    /// Whether something is there, or must come, that has no end yet.
    fn is_awaited(&self) -> bool {
        self.shape == Shape::Message || self.here > 0
    }

    /// Completes when what is awaited should have been there.
    fn poll_time(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if !self.is_awaited() {
            return Poll::Pending;
        }
        let time = self
            .time
            .get_or_insert_with(|| Box::pin(sleep(limits::MESSAGE_TIMEOUT)));
        ready!(time.as_mut().poll(context));
        Poll::Ready(too_slow())
    }
}

impl hyper::body::Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let late = ready!(this.poll_time(context));
            return Poll::Ready(Some(Err((this.told)(late))));
        };
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        };
        if let Some(bytes) = frame.data_ref()
            && let Err(full) = this.account(bytes)
        {
            return Poll::Ready(Some(Err((this.told)(full))));
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

fn too_slow() -> Error {
    let seconds = limits::MESSAGE_TIMEOUT.as_secs();
    Error::invalid("message", format!("must be there within {seconds} s"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::to_bytes;
    use futures_util::{StreamExt as _, stream};
    use proptest::{collection::vec, prelude::*};

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

    proptest! {
        #[test]
        fn cut_anywhere_the_same_is_there(
            bytes in vec(prop_oneof![Just(0), any::<u8>()], 0..60), cut in 1..20_usize
        ) {
            let (mut whole, mut pieces) = (Framing::default(), Framing::default());
            whole.pass(&bytes);
            for piece in bytes.chunks(cut) {
                pieces.pass(piece);
            }
            prop_assert_eq!((whole.here, whole.left), (pieces.here, pieces.left));
        }
    }

    /// A body of these parts that does not end by itself.
    fn endless(parts: Vec<Vec<u8>>, shape: Shape, room: &Room) -> Body {
        let parts = stream::iter(parts).map(|part| Ok::<_, Infallible>(Bytes::from(part)));
        let body = Body::from_stream(parts.chain(stream::pending()));
        room.bound(body, shape, Into::into)
    }

    async fn refusal(body: Body) -> String {
        let error = to_bytes(body, usize::MAX).await.expect_err("refused");
        error.to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_given_up() {
        let room = Room::of(1 << 20);
        let half = message(100_000)[..50_000].to_vec();
        for (parts, shape) in [
            (vec![half], Shape::Messages),
            // Who reads one message waits for the end of the body.
            (vec![message(100_000)], Shape::Message),
            (vec![], Shape::Message),
        ] {
            let refused = refusal(endless(parts, shape, &room)).await;
            assert!(refused.contains("must be there within 30 s"), "{refused}");
            assert_eq!(room.0.available_permits(), 1 << 20);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_shared_and_given_back() {
        for shape in [Shape::Message, Shape::Messages] {
            let room = Room::of(100_000);
            let free = limits::FREE_MESSAGE_BYTES;
            let most = message(200_000)[..100_000 + free].to_vec();
            let mut first = endless(vec![most], shape, &room).into_data_stream();
            assert!(first.next().await.unwrap().is_ok());
            assert_eq!(room.0.available_permits(), 0);
            // A small message does without.
            let small = vec![message(free - PREFIX)];
            let mut small = endless(small, shape, &room).into_data_stream();
            assert!(small.next().await.unwrap().is_ok());
            let second = endless(vec![message(200_000)[..=free].to_vec()], shape, &room);
            let refused = refusal(second).await;
            assert!(refused.contains("room for messages"), "{refused}");
            drop(first);
            assert_eq!(room.0.available_permits(), 100_000);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_message_is_held_until_its_body_ends() {
        let room = Room::of(100_000);
        let whole = vec![message(50_000)];
        let mut body = endless(whole, Shape::Message, &room).into_data_stream();
        assert!(body.next().await.unwrap().is_ok());
        let held = 50_000 + PREFIX - limits::FREE_MESSAGE_BYTES;
        assert_eq!(room.0.available_permits(), 100_000 - held);
        drop(body);
        assert_eq!(room.0.available_permits(), 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_messages_those_that_ended_hold_nothing_and_have_no_time() {
        let room = Room::of(100_000);
        let whole = message(50_000);
        let (one, two) = whole.split_at(30_000);
        let parts = vec![one.to_vec(), two.to_vec(), message(1)];
        let mut body = endless(parts, Shape::Messages, &room).into_data_stream();
        for _ in 0..3 {
            assert!(body.next().await.unwrap().is_ok());
        }
        assert_eq!(room.0.available_permits(), 100_000);
        let waited = tokio::time::timeout(limits::MESSAGE_TIMEOUT * 10, body.next()).await;
        assert!(waited.is_err(), "it waits without a bound");
    }
}
