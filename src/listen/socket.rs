//! Listening sockets of both kinds, and what they accept. The file of a Unix
//! socket belongs to the listener: it has its mode and group before anybody can
//! connect, and is removed at the end.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use super::{Address, Transport};
use crate::limits;

/// Who may connect to a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOwner {
    /// Permissions of its file: to connect is to write.
    pub mode: u32,
    /// Its group, a number or a name; none: that of the process.
    pub group: Option<String>,
}

impl Default for SocketOwner {
    /// The owner and its group: the application runs as another user of the same.
    fn default() -> Self {
        Self {
            mode: 0o660,
            group: None,
        }
    }
}

impl SocketOwner {
    fn own(&self, path: &Path) -> io::Result<()> {
        if let Some(group) = &self.group {
            std::os::unix::fs::chown(path, None, Some(group_id(group)?))?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(self.mode))
    }
}

/// The number of a group. Names are looked up in the file alone: what else the
/// system may know, a static program in an empty image cannot ask.
fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let named = fields.next() == Some(group);
        let number = fields.nth(1)?.parse().ok()?;
        named.then_some(number)
    });
    let unknown = || format!("socket.group: there is no group {group} in /etc/group");
    number.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, unknown()))
}

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
    pub(super) fn bind(address: &Address, owner: &SocketOwner) -> io::Result<Self> {
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
                let socket = UnixSocket::new_stream()?;
                socket.bind(path)?;
                let file = SocketFile(path.clone());
                owner.own(path)?;
                // Only from here on can anybody connect.
                Ok(Self::Unix(socket.listen(limits::BACKLOG)?, file))
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
