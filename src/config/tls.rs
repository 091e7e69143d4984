//! TLS of the listeners: the same four options for each, as rows of the table of
//! options and as the [`TlsFiles`] that they make.
//!
//! What does not fit together is a fault: a certificate without its key, a key or
//! CAs without a certificate, TLS on a Unix socket. The files themselves are
//! opened by `listen`, at the start and whenever they change.

use std::path::PathBuf;

use super::{
    options::{Opt, opt},
    resolve::Reader,
    value::Read,
};
use crate::listen::{Address, ClientAuth, TlsFiles};

/// The options of one listener.
struct Keys {
    cert: &'static str,
    key: &'static str,
    client_ca: &'static str,
    client_auth: &'static str,
}

/// A listener that can speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Front {
    Grpc,
    Http,
    Futoin,
}

macro_rules! keys {
    ($front:literal) => {
        Keys {
            cert: concat!($front, ".tls_cert"),
            key: concat!($front, ".tls_key"),
            client_ca: concat!($front, ".tls_client_ca"),
            client_auth: concat!($front, ".tls_client_auth"),
        }
    };
}

macro_rules! options {
    ($front:literal, $listener:literal) => {
        [
            opt(
                concat!($front, ".tls_cert"),
                concat!($front, "-tls-cert"),
                "",
                "FILE",
                concat!(
                    "Certificate chain (PEM) of ",
                    $listener,
                    ", read again when it changes; empty: no TLS"
                ),
            ),
            opt(
                concat!($front, ".tls_key"),
                concat!($front, "-tls-key"),
                "",
                "FILE",
                "Its private key (PEM)",
            ),
            opt(
                concat!($front, ".tls_client_ca"),
                concat!($front, "-tls-client-ca"),
                "",
                "FILE",
                "CAs (PEM) whose certificates clients may show; empty: none is asked for",
            ),
            opt(
                concat!($front, ".tls_client_auth"),
                concat!($front, "-tls-client-auth"),
                "required",
                "required|optional|off",
                "Whether clients must show one of these",
            ),
        ]
    };
}

pub(super) const GRPC: [Opt; 4] = options!("grpc", "gRPC");
pub(super) const HTTP: [Opt; 4] = options!("http", "HTTP");
pub(super) const FUTOIN: [Opt; 4] = options!("futoin", "futoin.listen");

impl Front {
    fn keys(self) -> Keys {
        match self {
            Self::Grpc => keys!("grpc"),
            Self::Http => keys!("http"),
            Self::Futoin => keys!("futoin"),
        }
    }
}

/// The TLS of a front that listens there, if it is to have any.
pub(super) fn tls(
    reader: &mut Reader,
    front: Front,
    address: Option<&Address>,
) -> Option<TlsFiles> {
    let keys = front.keys();
    let cert = reader.get(keys.cert, file);
    let key = reader.get(keys.key, file);
    let client_ca = reader.get(keys.client_ca, file);
    let client_auth = reader.get(keys.client_auth, client_auth);
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => {
            reader.blame(keys.key, &format!("is needed beside {}", keys.cert));
            return None;
        }
        (None, other) => {
            let lonely = [
                (keys.key, other.is_some()),
                (keys.client_ca, client_ca.is_some()),
            ];
            for (key, _) in lonely.into_iter().filter(|(_, given)| *given) {
                reader.blame(key, &format!("is of no use without {}", keys.cert));
            }
            return None;
        }
    };
    match address {
        Some(Address::Tcp(_)) => {}
        Some(Address::Unix(_)) => reader.blame(
            keys.cert,
            "is for a listener on TCP; who may connect to a Unix socket is decided by socket.mode",
        ),
        None => reader.blame(keys.cert, "is for a listener that there is not"),
    }
    Some(TlsFiles {
        cert,
        key,
        client_ca,
        client_auth,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the type is that of all readers")]
fn file(text: &str) -> Read<Option<PathBuf>> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

fn client_auth(text: &str) -> Read<ClientAuth> {
    match text {
        "off" => Ok(ClientAuth::Off),
        "optional" => Ok(ClientAuth::Optional),
        "required" => Ok(ClientAuth::Required),
        _ => Err("is not one of required, optional, off".to_owned()),
    }
}
