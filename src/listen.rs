//! The one guarded accept loop, for gRPC and HTTP, over TCP, with or without TLS,
//! or a Unix socket.
//!
//! A peer can cost no more than one connection of a counted number and the
//! buffers of `limits`: it must finish its handshake and its first header in
//! time, an HTTP/2 peer must answer pings, and an HTTP/1.1 peer must not idle
//! for ever. A
//! connection reaches hyper only with its first header (or the HTTP/2 preface)
//! complete. Failures of `accept` never end the loop. What is served is no
//! business of this file.

mod address;
mod certificate;
mod opening;
mod peer;
mod places;
mod socket;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::{Layer as _, util::option_layer};
use tracing::Instrument as _;

pub use address::Address;
pub use certificate::{Certificate, NotACertificate, PeerCertificate};
use opening::Fault;
pub use peer::Transport;
pub use places::Place;
use places::{Full, Places};
pub use socket::SocketOwner;
use socket::{Accepted, Socket};
pub use tls::{ClientAuth, Tls, TlsFault, TlsFiles};

use crate::lifecycle::Crowd;
use crate::{
    limits,
    telemetry::{self, Sparingly},
};

/// The bounds of one listener.
#[derive(Debug, Clone)]
pub struct Guards {
    /// Connections at a time; one more is closed at once.
    pub connections: usize,
    /// The same from one address, if that is bounded.
    pub peer_connections: Option<usize>,
    /// A peer that says nothing for this long after connecting is dropped.
    pub first_byte: Duration,
    /// From the first byte to the end of the first header; before that, for
    /// the handshake of TLS.
    pub header: Duration,
    /// An HTTP/1.1 connection between two requests, the next header included.
    pub idle: Duration,
    /// Who may connect, if it is to a Unix socket.
    pub socket: SocketOwner,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            connections: limits::DEFAULT_CONNECTIONS,
            peer_connections: None,
            first_byte: limits::FIRST_BYTE_TIMEOUT,
            header: limits::HEADER_TIMEOUT,
            idle: limits::HTTP1_IDLE_TIMEOUT,
            socket: SocketOwner::default(),
        }
    }
}

/// An open listening socket that is not served yet.
pub struct Listener {
    name: &'static str,
    socket: Socket,
    guards: Guards,
    tls: Option<Arc<Tls>>,
}

impl Listener {
    /// Opens the socket. A Unix socket left behind by a dead process is
    /// replaced, one that somebody listens on is not. `name` stands in logs
    /// and metrics. Must be called inside the runtime.
    ///
    /// # Errors
    ///
    /// Whatever keeps the address from being used.
    pub fn bind(name: &'static str, address: &Address, guards: Guards) -> std::io::Result<Self> {
        Ok(Self {
            name,
            socket: Socket::bind(address, &guards.socket)?,
            guards,
            tls: None,
        })
    }

    /// The same, speaking TLS alone.
    #[must_use]
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        Self {
            tls: Some(tls),
            ..self
        }
    }

    /// Where it listens; the real port if 0 was asked for.
    ///
    /// # Errors
    ///
    /// If the operating system does not tell.
    pub fn local_address(&self) -> std::io::Result<Address> {
        self.socket.local_address()
    }

    /// Serves until `stopping`, then closes the socket, lets the open requests
    /// finish and returns; drops them where they are when `killed`.
    ///
    /// # Errors
    ///
    /// None at present; the type is that of a task.
    pub async fn serve(
        self,
        router: Router,
        stopping: CancellationToken,
        killed: CancellationToken,
    ) -> anyhow::Result<()> {
        let desk = Desk::new(self.name, self.guards, self.tls, router, stopping, killed);
        loop {
            let accepted = tokio::select! {
                biased;
                () = desk.ending() => break,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => desk.admit(accepted),
                Err(error) => desk.pause_after(&error).await,
            }
        }
        drop(self.socket);
        desk.crowd.ended().await;
        Ok(())
    }
}

/// Why the guards close a connection.
const REFUSALS: [&str; 3] = ["full", "silent", "slow"];

/// What all connections of one listener share.
struct Desk {
    name: &'static str,
    guards: Guards,
    tls: Option<Arc<Tls>>,
    router: Router,
    builder: Builder<Crowd>,
    places: Arc<Places>,
    crowd: Crowd,
    stopping: CancellationToken,
    killed: CancellationToken,
    warnings: Sparingly,
}

/// What requests are told of their connection.
struct Introduction {
    place: Place,
    transport: Transport,
    certificate: Option<PeerCertificate>,
}

impl Desk {
    fn new(
        name: &'static str,
        guards: Guards,
        tls: Option<Arc<Tls>>,
        router: Router,
        stopping: CancellationToken,
        killed: CancellationToken,
    ) -> Arc<Self> {
        let crowd = Crowd::new(killed.clone());
        for reason in REFUSALS {
            metrics::counter!(telemetry::CONNECTIONS_REFUSED, "listener" => name, "reason" => reason)
                .increment(0);
        }
        metrics::gauge!(telemetry::CONNECTIONS_OPEN, "listener" => name).increment(0.0);
        Arc::new(Self {
            name,
            builder: builder(&guards, &crowd),
            places: Places::new(name, guards.connections, guards.peer_connections),
            guards,
            tls,
            router,
            crowd,
            stopping,
            killed,
            warnings: Sparingly::default(),
        })
    }

    async fn ending(&self) {
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = self.killed.cancelled() => {}
        }
    }

    /// Starts the connection, or closes it at once when there are too many.
    /// Leaving it in the backlog would look like a dead server for as long as
    /// the client cares to wait; closed, it tries again or elsewhere.
    fn admit(self: &Arc<Self>, accepted: Accepted) {
        let place = match self.places.take(accepted.transport.address()) {
            Ok(place) => place,
            Err(full) => {
                let reason = match full {
                    Full::All => "full",
                    Full::Address => "peer_full",
                };
                return self.refuse(reason, &accepted.transport);
            }
        };
        let desk = Arc::clone(self);
        let span =
            tracing::debug_span!("connection", listener = self.name, peer = %accepted.transport);
        let connection = async move { desk.attend(accepted, place).await };
        self.crowd.spawn(connection.instrument(span));
    }

    async fn attend(&self, accepted: Accepted, place: Place) {
        let Accepted {
            read,
            write,
            transport,
        } = accepted;
        let introduction = Introduction {
            place,
            transport: transport.encrypted_if(self.tls.is_some()),
            certificate: None,
        };
        let Some(tls) = &self.tls else {
            return self.hear(read, write, introduction).await;
        };
        let shaken = tls.shake_hands(tokio::io::join(read, write));
        let shaken = tokio::select! {
            biased;
            () = self.stopping.cancelled() => return,
            shaken = timeout(self.guards.header, shaken) => shaken,
        };
        match shaken {
            Ok(Ok((stream, certificate))) => {
                let (read, write) = tokio::io::split(stream);
                let introduction = Introduction {
                    certificate,
                    ..introduction
                };
                self.hear(read, write, introduction).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "no TLS");
                self.refuse("tls", &transport);
            }
            Err(_) => self.refuse("tls_slow", &transport),
        }
    }

    /// Waits for the first words, then leaves the connection to hyper.
    async fn hear(
        &self,
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        introduction: Introduction,
    ) {
        let opened = tokio::select! {
            biased;
            () = self.stopping.cancelled() => return,
            opened = opening::complete(read, &self.guards) => opened,
        };
        match opened {
            Ok(read) => {
                self.converse(tokio::io::join(read, write), introduction)
                    .await;
            }
            Err(Fault::Silent) => self.refuse("silent", &introduction.transport),
            Err(Fault::Slow) => self.refuse("slow", &introduction.transport),
            // A port scan or a probe of a load balancer: not worth a word.
            Err(Fault::Gone) => {}
        }
    }

    async fn converse(
        &self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        introduction: Introduction,
    ) {
        let Introduction {
            place,
            transport,
            certificate,
        } = introduction;
        let service = Extension(place).layer(self.router.clone());
        let service = Extension(transport).layer(service);
        let service = option_layer(certificate.map(Extension)).layer(service);
        let service = TowerToHyperService::new(service);
        let connection = self
            .builder
            .serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            biased;
            outcome = connection.as_mut() => outcome,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error, "connection ended");
        }
    }

    fn refuse(&self, reason: &'static str, peer: &Transport) {
        metrics::counter!(telemetry::CONNECTIONS_REFUSED, "listener" => self.name, "reason" => reason)
            .increment(1);
        if let Some(unsaid) = self.warnings.due() {
            tracing::warn!(listener = self.name, reason, %peer, unsaid, "connection refused");
        }
    }

    async fn pause_after(&self, error: &std::io::Error) {
        if is_of_the_peer(error) {
            return;
        }
        if let Some(unsaid) = self.warnings.due() {
            tracing::warn!(listener = self.name, %error, unsaid, "accept failed");
        }
        tokio::select! {
            biased;
            () = self.ending() => {}
            () = tokio::time::sleep(limits::ACCEPT_PAUSE) => {}
        }
    }
}

/// A peer that left while it waited; the next one is fine.
fn is_of_the_peer(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

fn builder(guards: &Guards, crowd: &Crowd) -> Builder<Crowd> {
    let mut builder = Builder::new(crowd.clone());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper runs this from the end of a response too, so it bounds the
        // idle time; the first header has its own bound in `opening`.
        .header_read_timeout(guards.idle)
        .max_buf_size(limits::MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits::HTTP2_KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::HTTP2_KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(limits::MAX_CONNECTION_STREAMS)
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(limits::HTTP2_SEND_BUFFER)
        .max_header_list_size(limits::MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(limits::HTTP2_PENDING_RESETS);
    builder
}

#[cfg(test)]
mod tests;
