//! A client behind a WebSocket: what is sent to it, and calls to it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::doc::{Doc, Kind, Value};
use crate::event::ConsumerKey;

/// Why a call to a client has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The socket is closed.
    Closed,
    /// None came in time.
    Late,
}

/// What a client said to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// It answered with a boolean.
    Accepted,
    /// Anything else.
    Refused(String),
}

/// Why a socket is closed, as RFC 6455 numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Farewell {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

/// The client's end of a socket.
#[derive(Debug)]
pub(super) struct Peer {
    out: mpsc::Sender<Vec<u8>>,
    calls: Mutex<Calls>,
    farewell: Mutex<Option<Farewell>>,
    /// The socket shall be closed.
    unwanted: CancellationToken,
}

#[derive(Debug, Default)]
struct Calls {
    last: u64,
    /// Pushes so far.
    pushed: u64,
    open: HashMap<u64, oneshot::Sender<Reply>>,
    /// Ends the push to a consumer on this socket, by its number.
    pushes: HashMap<ConsumerKey, (u64, CancellationToken)>,
}

impl Peer {
    pub(super) fn new(out: mpsc::Sender<Vec<u8>>) -> Self {
        Self {
            out,
            calls: Mutex::default(),
            farewell: Mutex::default(),
            unwanted: CancellationToken::new(),
        }
    }

    /// Sends a message, when those before it are on their way.
    pub(super) async fn send(&self, message: Vec<u8>) -> Result<(), NoAnswer> {
        self.out.send(message).await.map_err(|_| NoAnswer::Closed)
    }

    /// Calls `f` with these parameters, given as JSON.
    pub(super) async fn call(
        &self,
        f: &str,
        p: &str,
        patience: Duration,
    ) -> Result<Reply, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut calls = self.calls();
            calls.last += 1;
            let number = calls.last;
            calls.open.insert(number, answer);
            number
        };
        let _open = Open { peer: self, number };
        let message = format!(r#"{{"f":"{f}","p":{p},"rid":"S{number}"}}"#);
        let exchange = async {
            self.send(message.into_bytes()).await?;
            answered.await.map_err(|_| NoAnswer::Closed)
        };
        timeout(patience, exchange)
            .await
            .unwrap_or(Err(NoAnswer::Late))
    }

    /// Takes an answer; false if nobody waits for it.
    pub(super) fn resolve(&self, rid: &str, message: &Doc) -> bool {
        let number = rid.strip_prefix('S').and_then(|text| text.parse().ok());
        let call = number.and_then(|number| self.calls().open.remove(&number));
        call.is_some_and(|call| call.send(reply(message.root())).is_ok())
    }

    /// Ends the push to the same consumer on this socket, for a new one.
    pub(super) fn replace_push(self: &Arc<Self>, key: &ConsumerKey) -> PushPlace {
        let ended = CancellationToken::new();
        let mut calls = self.calls();
        calls.pushed += 1;
        let number = calls.pushed;
        let before = calls.pushes.insert(key.clone(), (number, ended.clone()));
        drop(calls);
        if let Some((_, before)) = before {
            before.cancel();
        }
        PushPlace {
            peer: Arc::clone(self),
            key: key.clone(),
            number,
            ended,
        }
    }

    /// Has the socket closed; the first reason counts.
    pub(super) fn close(&self, code: u16, reason: &'static str) {
        let mut farewell = self.farewell.lock().unwrap_or_else(PoisonError::into_inner);
        farewell.get_or_insert(Farewell { code, reason });
        self.unwanted.cancel();
    }

    /// Completes when the socket shall be closed.
    pub(super) async fn unwanted(&self) -> Farewell {
        self.unwanted.cancelled().await;
        let farewell = self.farewell.lock().unwrap_or_else(PoisonError::into_inner);
        farewell.unwrap_or(Farewell {
            code: 1001,
            reason: "",
        })
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits; forgotten with whoever waits for it.
struct Open<'a> {
    peer: &'a Peer,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.peer.calls().open.remove(&self.number);
    }
}

/// A push's place on its socket; forgotten with the push.
pub(super) struct PushPlace {
    peer: Arc<Peer>,
    key: ConsumerKey,
    number: u64,
    ended: CancellationToken,
}

impl PushPlace {
    /// Cancelled when another push takes the place.
    pub(super) fn replaced(&self) -> &CancellationToken {
        &self.ended
    }
}

impl Drop for PushPlace {
    fn drop(&mut self) {
        let mut calls = self.peer.calls();
        let own = calls.pushes.get(&self.key);
        if own.is_some_and(|(number, _)| *number == self.number) {
            calls.pushes.remove(&self.key);
        }
    }
}

fn reply(message: Value<'_>) -> Reply {
    if let Some(name) = message.get("e") {
        let detail = message.get("edesc").map(Value::js_text);
        return Reply::Refused(format!("{} {}", name.js_text(), detail.unwrap_or_default()));
    }
    match message.get("r").map(Value::kind) {
        Some(Kind::Bool(_)) => Reply::Accepted,
        _ => Reply::Refused("no boolean".to_owned()),
    }
}
