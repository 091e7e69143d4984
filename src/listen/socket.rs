//! Listening sockets of both kinds, and what they accept. The file of a Unix
//! socket belongs to the listener: made with mode 0660, removed at the end.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::{Address, Transport};
use crate::limits;

/// The owner and its group may connect: the application runs as another user
/// of the same group.
const MODE: u32 = 0o660;

/// A connection of either kind, in halves.
pub(super) struct Accepted {
    pub(super) read: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) write: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) transport: Transport,
}

pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Socket {
    pub(super) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let socket = match address {
                    SocketAddr::V4(_) => TcpSocket::new_v4()?,
                    SocketAddr::V6(_) => TcpSocket::new_v6()?,
                };
                // A restart does not wait for the last process' connections.
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                socket.listen(limits::BACKLOG).map(Self::Tcp)
            }
            Address::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                let file = SocketFile(path.clone());
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    pub(super) fn local_address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, file) => Ok(Address::Unix(file.0.clone())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small and somebody waits for each of them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "the peer left at once");
                }
                let (read, write) = stream.into_split();
                Ok(Accepted {
                    read: Box::new(read),
                    write: Box::new(write),
                    transport: Transport::Tcp { tls: false, peer },
                })
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred().ok();
                let (read, write) = stream.into_split();
                Ok(Accepted {
                    read: Box::new(read),
                    write: Box::new(write),
                    transport: Transport::Unix {
                        uid: peer.map(|peer| peer.uid()),
                        gid: peer.map(|peer| peer.gid()),
                        pid: peer.and_then(|peer| peer.pid()),
                    },
                })
            }
        }
    }
}

/// Removed with the listener.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "removing the socket file");
        }
    }
}

/// Removes a socket file that nobody listens on; anything else at that path
/// is somebody's and stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !metadata.file_type().is_socket() {
        return Err(in_use(path, "a file that is not a socket is there"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(in_use(path, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

fn in_use(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("{}: {what}", path.display()),
    )
}
