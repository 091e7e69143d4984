//! One WebSocket: requests of the client, answers in the order in which they
//! are ready, and calls to the client.
//!
//! One task owns the socket; each request runs in another, of a bounded
//! number: a client that asks for more is not read until some are answered. All
//! tasks end with the socket.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use rand::Rng as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Interval, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as SocketError, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    Shim,
    call::Channel,
    coder::Coder,
    doc::{Doc, Value},
    http::SPAN,
    message::{Fault, answer},
    peer::{Farewell, Peer},
};
use crate::{
    lifecycle::Crowd,
    limits,
    telemetry::{self, traces},
};

/// Serves a socket to its end.
pub(super) async fn serve<S>(shim: Arc<Shim>, io: S, channel: Channel)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(limits::SOCKET_READ_BUFFER)
        .max_message_size(Some(shim.options.request_limit))
        .max_frame_size(Some(shim.options.request_limit));
    let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    metrics::gauge!(telemetry::FUTOIN_SOCKETS).increment(1);
    let (out, outgoing) = mpsc::channel(limits::SOCKET_QUEUE);
    let ended = shim.killed.child_token();
    let mut ticks = interval(shim.options.ping_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let mut socket = Socket {
        stream,
        outgoing,
        ticks,
        heard: false,
        unanswered: 0,
        asked: 0,
        desk: Desk {
            peer: Arc::new(Peer::new(out)),
            channel,
            places: Arc::new(Semaphore::new(limits::SOCKET_REQUESTS)),
            crowd: Crowd::new(ended.clone()),
            shim,
        },
    };
    let end = socket.converse().await;
    ended.cancel();
    socket.desk.crowd.ended().await;
    socket.leave(end).await;
    metrics::gauge!(telemetry::FUTOIN_SOCKETS).decrement(1);
}

struct Socket<S> {
    stream: WebSocketStream<S>,
    outgoing: mpsc::Receiver<Vec<u8>>,
    ticks: Interval,
    /// Whether the client has said anything since the last tick.
    heard: bool,
    /// Pings since then.
    unanswered: u32,
    /// Pings of the client since the last tick.
    asked: u32,
    desk: Desk,
}

/// An answer to each ping is kept until it can be sent.
const FLOOD: Farewell = Farewell {
    code: 1008,
    reason: "too many pings",
};

/// Why a socket is over.
enum End {
    /// The client is gone, or as good as.
    Gone,
    /// It gets a last word.
    Farewell(Farewell),
    /// The same, and more is on its way from it.
    TooLarge,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    async fn converse(&mut self) -> End {
        loop {
            let places = Arc::clone(&self.desk.places);
            let incoming = async {
                // Nothing is read without a place for it.
                let place = places.acquire_owned().await.ok()?;
                Some((self.stream.next().await?, place))
            };
            tokio::select! {
                biased;
                () = self.desk.shim.closing.cancelled() => return self.finish().await,
                farewell = self.desk.peer.unwanted() => return End::Farewell(farewell),
                Some(message) = self.outgoing.recv() => {
                    if !self.send(Message::binary(message)).await {
                        return End::Gone;
                    }
                }
                incoming = incoming => {
                    self.heard = true;
                    match incoming {
                        Some((Ok(Message::Ping(_)), _)) => {
                            self.asked += 1;
                            if self.asked > limits::SOCKET_PINGS_HEARD {
                                return End::Farewell(FLOOD);
                            }
                        }
                        Some((Ok(message), place)) => self.desk.hear(message, place),
                        Some((Err(SocketError::Capacity(_)), _)) => return End::TooLarge,
                        Some((Err(_), _)) | None => return End::Gone,
                    }
                }
                _ = self.ticks.tick() => {
                    self.asked = 0;
                    if !self.ask().await {
                        return End::Gone;
                    }
                }
            }
        }
    }

    /// Asks a silent client whether it lives; false if it does not.
    async fn ask(&mut self) -> bool {
        if std::mem::take(&mut self.heard) {
            self.unanswered = 0;
            return true;
        }
        self.unanswered += 1;
        self.unanswered <= limits::SOCKET_PINGS && self.send(Message::Ping(Vec::new().into())).await
    }

    /// Sends in time, or not at all.
    async fn send(&mut self, message: Message) -> bool {
        let sent = timeout(limits::SOCKET_WRITE_TIMEOUT, self.stream.send(message)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Answers what is being worked on; no more is read.
    async fn finish(&mut self) -> End {
        let all = u32::try_from(limits::SOCKET_REQUESTS).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.desk.places);
        let all_done = places.acquire_many(all);
        tokio::pin!(all_done);
        loop {
            tokio::select! {
                biased;
                Some(message) = self.outgoing.recv() => {
                    if !self.send(Message::binary(message)).await {
                        return End::Gone;
                    }
                }
                _ = &mut all_done => break,
            }
        }
        End::Farewell(Farewell {
            code: 1001,
            reason: "shutting down",
        })
    }

    async fn leave(mut self, end: End) {
        let (farewell, more) = match end {
            End::Gone => return,
            End::Farewell(farewell) => (farewell, false),
            End::TooLarge => {
                let (code, reason) = (1009, "the message is too large");
                (Farewell { code, reason }, true)
            }
        };
        let frame = CloseFrame {
            code: CloseCode::from(farewell.code),
            reason: farewell.reason.into(),
        };
        if self.send(Message::Close(Some(frame))).await && more {
            // To close before everything was read would take the word back.
            let io = self.stream.get_mut();
            let _ = timeout(limits::SOCKET_LINGER, drain(io)).await;
        }
    }
}

/// Reads to the end, or what a decent client has under way.
async fn drain(io: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 8192];
    let mut left = limits::SOCKET_LINGER_BYTES;
    while let Ok(count @ 1..) = io.read(&mut buffer).await {
        left = left.saturating_sub(count);
        if left == 0 {
            return;
        }
    }
}

/// What happens to a message.
struct Desk {
    shim: Arc<Shim>,
    peer: Arc<Peer>,
    channel: Channel,
    places: Arc<Semaphore>,
    crowd: Crowd,
}

impl Desk {
    fn hear(&self, message: Message, place: OwnedSemaphorePermit) {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            // Pings are answered by the library.
            _ => return,
        };
        let (coder, doc) = Coder::read(&bytes);
        // There is no word for what cannot be decoded.
        let Some(doc) = doc else { return };
        let rid = doc.root().get("rid").and_then(Value::text);
        match rid {
            Some(rid) if rid.starts_with('S') => {
                self.peer.resolve(rid, &doc);
            }
            Some(_) => self.start(coder, doc, place),
            None => self.complain(coder, place),
        }
    }

    /// Runs a request; its push begins after the answer.
    fn start(&self, coder: Coder, doc: Doc, place: OwnedSemaphorePermit) {
        let (shim, peer, crowd) = (
            Arc::clone(&self.shim),
            Arc::clone(&self.peer),
            self.crowd.clone(),
        );
        let channel = Channel {
            peer: Some(Arc::clone(&peer)),
            ..self.channel.clone()
        };
        self.crowd.spawn(async move {
            let work = shim.answer(coder, Some(&doc), &channel);
            let answer = traces::serve(SPAN, None, work).await;
            // Much larger than its message, and not to be kept while its sender waits.
            drop(doc);
            if answer.refusal {
                sleep(somewhat_more(shim.options.refusal_delay)).await;
            }
            // A socket that is gone needs no answer.
            let sent = peer.send(answer.body).await;
            drop(place);
            if let (Ok(()), Some(push)) = (sent, answer.push) {
                crowd.spawn(push.run(shim));
            }
        });
    }

    /// A request that cannot be answered is at least told so.
    fn complain(&self, coder: Coder, place: OwnedSemaphorePermit) {
        let fault = Fault::invalid("Missing req.rid");
        let body = coder.write(answer(&Err(fault), None, None));
        let peer = Arc::clone(&self.peer);
        self.crowd.spawn(async move {
            let _ = peer.send(body).await;
            drop(place);
        });
    }
}

/// Up to twice as long, so that refused clients do not come back together.
fn somewhat_more(delay: Duration) -> Duration {
    delay + delay.mul_f64(rand::rng().random_range(0.0..1.0))
}
