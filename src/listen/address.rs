//! Where to listen, as it is written in the configuration: `host:port` with a
//! numeric host, or `unix:` and a path. Names are not resolved: what a name
//! means may change, and then the guard of [`Address::is_local`] would lie.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

/// The text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address like 127.0.0.1:50051 or unix:/run/es.sock")]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///path` is how gRPC's own names are written.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(NotAnAddress);
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let text = match text.strip_prefix("localhost:") {
            Some(port) => &format!("127.0.0.1:{port}"),
            None => text,
        };
        text.parse().map(Self::Tcp).map_err(|_| NotAnAddress)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read_and_written() {
        for text in [
            "127.0.0.1:50051",
            "[::1]:80",
            "unix:/run/es.sock",
            "unix:es.sock",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("unix:///a".parse(), Ok(Address::Unix("/a".into())));
        assert_eq!(
            "localhost:1".parse::<Address>().unwrap().to_string(),
            "127.0.0.1:1"
        );
        for text in [
            "",
            "foo",
            "unix:",
            "127.0.0.1",
            "example.org:80",
            ":80",
            "1.2.3.4:99999",
        ] {
            assert_eq!(text.parse::<Address>(), Err(NotAnAddress), "{text}");
        }
    }

    #[test]
    fn local_is_what_others_cannot_reach() {
        let local = |text: &str| text.parse::<Address>().unwrap().is_local();
        for text in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "unix:/a",
        ] {
            assert!(local(text), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert!(!local(text), "{text}");
        }
    }
}
