//! Who is at the other end of a connection, as far as the connection tells.
//!
//! The accept loop puts a [`Transport`] among the extensions of each request: what
//! an address may open is counted by it, and the audit log names it. It says where
//! a request comes from, never who sent it: that is `auth`'s to find out.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// How a connection came: an extension of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over TCP.
    Tcp {
        /// Whether it is encrypted.
        tls: bool,
        /// Its other end.
        peer: SocketAddr,
    },
    /// Over a Unix socket, from a process that ran as this user and group when
    /// it connected; none where the system does not tell.
    Unix {
        /// User id.
        uid: Option<u32>,
        /// Group id.
        gid: Option<u32>,
        /// Process id, where it could be seen from here.
        pid: Option<i32>,
    },
}

impl Transport {
    /// Whether nobody on the way can listen.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match self {
            Self::Tcp { tls, .. } => *tls,
            Self::Unix { .. } => true,
        }
    }

    /// The same, once TLS is spoken or not.
    pub(super) fn encrypted_if(self, tls: bool) -> Self {
        match self {
            Self::Tcp { peer, .. } => Self::Tcp { tls, peer },
            unix @ Self::Unix { .. } => unix,
        }
    }

    /// The address that its connections are counted by.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp { peer, .. } => Some(peer.ip()),
            Self::Unix { .. } => None,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { peer, .. } => peer.fmt(f),
            Self::Unix { pid: Some(pid), .. } => write!(f, "unix, process {pid}"),
            Self::Unix { .. } => f.write_str("unix"),
        }
    }
}
