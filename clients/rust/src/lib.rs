//! A client of [FutoIn EventStream](https://github.com/futoin/eventstream-rs):
//! events that are written in the transaction of the data they tell of, and
//! received in order, at least once.
//!
//! * [`outbox`]: `add_event` in a transaction of yours; no service involved.
//! * [`EventStream::receive`]: a [`ReliableReceiver`], every event of a component.
//! * [`EventStream::live`]: a [`LiveReceiver`], what happens from now on.
//! * [`EventStream::add_event`], [`EventStream::poll`], [`EventStream::admin`].
//!
//! Spans and events go to `tracing`; a handler's call is a span with the
//! attributes that OpenTelemetry gives a consumer.

mod add;
mod backoff;
mod check;
mod client;
mod connect;
mod error;
mod event;
#[cfg(any(
    feature = "sqlx-sqlite",
    feature = "sqlx-postgres",
    feature = "sqlx-mysql",
    feature = "tokio-postgres"
))]
pub mod outbox;
mod poll;
#[rustfmt::skip]
pub mod proto;
mod receiver;
mod retry;
mod session;
mod start;

pub use backoff::Backoff;
pub use client::EventStream;
pub use connect::{Bearer, Builder};
pub use error::{BoxError, Error, Invalid, Lost, ServiceError};
pub use event::{Data, Event, Group, JsonText, NewEvent};
pub use poll::Poll;
pub use receiver::{
    Conflict, DeadLetter, Live, LiveReceiver, OnFailure, Receiver, Reconnect, Reliable,
    ReliableReceiver,
};
pub use session::{Message, Session, Started};
pub use start::Start;
pub use tonic::Code;
