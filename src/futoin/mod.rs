//! The FutoIn front: the wire protocol of the original (FTN3 messages over
//! HTTP and WebSocket) over the stream.
//!
//! A shim: `coder` and `doc` read messages, `security` tells who sent them,
//! `interface` and `check` judge them as the original does, `call` runs them,
//! `push` turns a subscription into calls to the client. No decision about
//! events is made here but one: what FutoIn cannot carry is not sent.

mod call;
mod cbor;
mod check;
mod coder;
mod doc;
mod events;
mod fault;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod generate;
mod handshake;
mod http;
mod interface;
mod json;
mod mac;
mod message;
mod mpck;
mod peer;
mod poll;
mod push;
mod rest;
mod run;
mod security;
mod source;
mod turns;
mod users;
mod websocket;

use std::{sync::Arc, time::Duration};

use axum::Router;
use tokio_util::sync::CancellationToken;

use self::{http::routes, turns::Turns};
pub use self::{interface::Served, users::Users};
use crate::{
    auth::{Authority, Gate},
    lifecycle::Crowd,
    origins::Origins,
};

/// What an operator decides about the front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where it is served: begins with a slash, ends with none.
    pub path: String,
    /// Who may call.
    pub users: Users,
    /// The interfaces that are there.
    pub served: Served,
    /// Every connection is safe from listeners.
    pub secure_channel: bool,
    /// A proxy before us tells whether the connection to it was.
    pub trust_proxy: bool,
    /// Web pages that may call; if there are any, no others may open sockets.
    pub web_origins: Origins,
    /// What clients know this service as, for keys derived from master secrets.
    pub service_id: String,
    /// Bytes of a request.
    pub request_limit: usize,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long a receiver may take for a group.
    pub callback_timeout: Duration,
    /// Events of a group.
    pub group_events: usize,
    /// Groups on their way to a reliable receiver.
    pub reliable_window: usize,
    /// Groups on their way to a live receiver.
    pub live_window: usize,
    /// How often a silent socket is asked whether it lives.
    pub ping_interval: Duration,
    /// How long a refusal is held back on a socket, at least.
    pub refusal_delay: Duration,
    /// What consumers may use.
    pub delivery: Delivery,
}

/// What consumers may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Everything.
    All,
    /// No polling.
    Push,
    /// `LIVE` alone, which has no registered consumers.
    Live,
}

/// What all connections share.
struct Shim {
    gate: Gate,
    authority: Authority,
    options: Options,
    turns: Turns,
    /// The sockets.
    crowd: Crowd,
    /// Requests that run are finished, no more are read.
    closing: CancellationToken,
    killed: CancellationToken,
}

/// The front.
#[derive(Clone)]
pub struct Front(Arc<Shim>);

impl Front {
    /// A front over what is behind `gate`. Its sockets are closed when `closing` is
    /// cancelled, and dropped where they are when `killed` is.
    #[must_use]
    pub fn new(
        gate: Gate,
        authority: Authority,
        options: Options,
        closing: CancellationToken,
        killed: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shim {
            gate,
            authority,
            options,
            turns: Turns::default(),
            crowd: Crowd::new(killed.clone()),
            closing,
            killed,
        }))
    }

    /// Its paths, to be served by `listen`.
    pub fn router(&self) -> Router {
        routes(Arc::clone(&self.0))
    }

    /// Completes when the last socket was closed, after `closing`.
    ///
    /// # Errors
    /// None; the type is that of a task.
    pub async fn ended(self) -> anyhow::Result<()> {
        self.0.closing.cancelled().await;
        self.0.crowd.ended().await;
        Ok(())
    }
}
