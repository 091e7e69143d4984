//! The port of the service: it can be shut and opened again, and connections
//! can be cut as a crash cuts them.
//!
//! The port number stays taken while it is shut, so that "the same port again"
//! is nobody else's meanwhile.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// What the server reads connections from.
pub(crate) type Incoming = ReceiverStream<io::Result<Connection>>;

/// The port, seen by the script.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    connections: CancellationToken,
    open: watch::Sender<Option<CancellationToken>>,
    _reserved: TcpSocket,
}

impl Port {
    /// Listens on a free port of loopback.
    pub(crate) fn open() -> io::Result<(Self, Incoming)> {
        let reserved = socket(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = reserved.local_addr()?;
        let connections = CancellationToken::new();
        let (open, is_open) = watch::channel(Some(connections.clone()));
        let (accepted, incoming) = mpsc::channel(16);
        let listener = socket(address)?.listen(64)?;
        tokio::spawn(accept(listener, is_open, accepted));
        let port = Self {
            address,
            connections,
            open,
            _reserved: reserved,
        };
        Ok((port, ReceiverStream::new(incoming)))
    }

    /// Cuts every connection; new ones are accepted.
    pub(crate) fn cut(&mut self) {
        let before = std::mem::take(&mut self.connections);
        self.open.send_replace(Some(self.connections.clone()));
        before.cancel();
    }

    /// Cuts every connection and refuses new ones.
    pub(crate) fn shut(&mut self) {
        self.open.send_replace(None);
        std::mem::take(&mut self.connections).cancel();
    }

    /// Listens again.
    pub(crate) fn reopen(&mut self) {
        self.open.send_replace(Some(self.connections.clone()));
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(
    mut listener: TcpListener,
    mut is_open: watch::Receiver<Option<CancellationToken>>,
    accepted: mpsc::Sender<io::Result<Connection>>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    loop {
        accept_while_open(listener, &mut is_open, &accepted).await?;
        if is_open.wait_for(Option::is_some).await.is_err() {
            return Ok(());
        }
        listener = socket(address)?.listen(64)?;
    }
}

/// Returns when the port is shut, or nobody is left to serve.
async fn accept_while_open(
    listener: TcpListener,
    is_open: &mut watch::Receiver<Option<CancellationToken>>,
    accepted: &mpsc::Sender<io::Result<Connection>>,
) -> io::Result<()> {
    loop {
        let stream = tokio::select! {
            _shut = is_open.wait_for(Option::is_none) => return Ok(()),
            connection = listener.accept() => connection?.0,
        };
        stream.set_nodelay(true)?;
        let Some(cut) = is_open.borrow().clone() else {
            return Ok(());
        };
        let connection = Connection {
            stream,
            cut: Box::pin(cut.cancelled_owned()),
        };
        if accepted.send(Ok(connection)).await.is_err() {
            return Ok(());
        }
    }
}

/// A connection that ends with a reset once it is cut.
pub(crate) struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.cut.as_mut().poll(context));
        // Nothing that was written before is sent, as after a kill.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(io::ErrorKind::ConnectionReset.into())
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.poll_cut(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(error) = self.poll_cut(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
