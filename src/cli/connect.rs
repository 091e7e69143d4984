//! The way to the server: address, channel, and the bounds of every call.
//!
//! A channel reconnects by itself at the next call, so commands that go on
//! after a loss keep theirs.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use http::Uri;
use tonic::{
    Request,
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    credentials::Credentials,
    failure::{Failure, root_cause},
};
use crate::proto::{
    admin_service_client::AdminServiceClient, gen_service_client::GenServiceClient,
    poll_service_client::PollServiceClient, push_service_client::PushServiceClient,
};

/// One event always travels, whatever its size; this is the contract's bound.
pub(super) const MAX_MESSAGE_BYTES: usize = 16 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the answer of a call that does not wait on purpose.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

// A peer that vanished without a word is noticed after their sum, also where
// a call has no deadline.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Which server to talk to.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    #[arg(
        long,
        help = "Server: HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:/PATH",
        global = true,
        env = "EVENTSTREAM_ADDR",
        default_value = "127.0.0.1:50051",
        value_name = "ADDRESS"
    )]
    addr: Address,
    #[command(flatten)]
    tls: Tls,
    #[command(flatten)]
    credentials: Credentials,
}

/// How a server at `https://` is believed, and how it may believe us.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Tls {
    #[arg(
        id = "tls_ca",
        long = "tls-ca",
        help = "CAs (PEM) that the server's certificate may be of; left out: those of this machine",
        global = true,
        env = "EVENTSTREAM_TLS_CA",
        value_name = "FILE"
    )]
    ca: Option<PathBuf>,
    #[arg(
        id = "tls_cert",
        long = "tls-cert",
        help = "Certificate (PEM) to show to the server",
        global = true,
        env = "EVENTSTREAM_TLS_CERT",
        requires = "tls_key",
        value_name = "FILE"
    )]
    cert: Option<PathBuf>,
    #[arg(
        id = "tls_key",
        long = "tls-key",
        help = "Its private key (PEM)",
        global = true,
        env = "EVENTSTREAM_TLS_KEY",
        requires = "tls_cert",
        value_name = "FILE"
    )]
    key: Option<PathBuf>,
    #[arg(
        id = "tls_name",
        long = "tls-name",
        help = "Name that the server's certificate must have; left out: that of the address",
        global = true,
        env = "EVENTSTREAM_TLS_NAME",
        value_name = "NAME"
    )]
    name: Option<String>,
}

/// As an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(String),
    Tls(String),
    Unix(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err("the path of the socket is missing: unix:/PATH".to_owned()),
                path => Ok(Self::Unix(path.to_owned())),
            };
        }
        if let Some(rest) = text.strip_prefix("https://") {
            return match rest.parse()? {
                Self::Tcp(authority) if !rest.contains("://") => Ok(Self::Tls(authority)),
                _ => Err("expected https://HOST:PORT".to_owned()),
            };
        }
        let authority = text.strip_prefix("grpc://").unwrap_or(text);
        let authority = authority.strip_prefix("http://").unwrap_or(authority);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let parsed = Uri::from_str(&format!("http://{authority}")).ok();
        let port = parsed
            .filter(|uri| uri.path() == "/" && uri.host().is_some_and(|host| !host.is_empty()))
            .and_then(|uri| uri.port_u16());
        match port {
            Some(_) => Ok(Self::Tcp(authority.to_owned())),
            None => Err("expected HOST:PORT, http(s)://HOST:PORT or unix:/PATH".to_owned()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => formatter.write_str(authority),
            Self::Tls(authority) => write!(formatter, "https://{authority}"),
            Self::Unix(path) => write!(formatter, "unix:{path}"),
        }
    }
}

impl Target {
    pub(super) fn at(addr: Address, tls: Tls, credentials: Credentials) -> Self {
        Self {
            addr,
            tls,
            credentials,
        }
    }

    /// Connects now rather than at the first call, so that "nobody listens"
    /// is told apart from a server that refuses.
    pub(super) async fn connect(&self) -> Result<Server, Failure> {
        let unreachable = |error: &tonic::transport::Error| Failure::Unreachable {
            address: self.addr.to_string(),
            cause: root_cause(error).unwrap_or_else(|| error.to_string()),
        };
        // What cannot be sent is told before anybody is asked.
        self.credentials.header()?;
        let uri = match &self.addr {
            Address::Tcp(authority) => format!("http://{authority}"),
            Address::Tls(authority) => format!("https://{authority}"),
            Address::Unix(path) => format!("unix:{path}"),
        };
        let mut endpoint = Endpoint::from_shared(uri).map_err(|error| unreachable(&error))?;
        if matches!(self.addr, Address::Tls(_)) {
            let tls = self.tls.config()?;
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|error| unreachable(&error))?;
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| unreachable(&error))?;
        Ok(Server {
            link: InterceptedService::new(channel, self.credentials.clone()),
        })
    }
}

impl Tls {
    fn config(&self) -> Result<ClientTlsConfig, Failure> {
        let mut config = ClientTlsConfig::new();
        config = match &self.ca {
            Some(path) => config.ca_certificate(Certificate::from_pem(pem("--tls-ca", path)?)),
            None => config.with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let (cert, key) = (pem("--tls-cert", cert)?, pem("--tls-key", key)?);
            config = config.identity(Identity::from_pem(cert, key));
        }
        Ok(match &self.name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    }
}

fn pem(flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::Usage(format!("{flag}: {}: {error}", path.display())))
}

/// A connected server.
#[derive(Clone)]
pub(super) struct Server {
    link: Link,
}

/// A connection that says who calls.
pub(super) type Link = InterceptedService<Channel, Credentials>;

impl Server {
    #[cfg(test)]
    pub(super) fn over(channel: Channel) -> Self {
        Self {
            link: InterceptedService::new(channel, Credentials::default()),
        }
    }

    pub(super) fn link(&self) -> Link {
        self.link.clone()
    }

    pub(super) fn generator(&self) -> GenServiceClient<Link> {
        GenServiceClient::new(self.link()).max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(super) fn poll(&self) -> PollServiceClient<Link> {
        PollServiceClient::new(self.link()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(super) fn push(&self) -> PushServiceClient<Link> {
        PushServiceClient::new(self.link()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(super) fn admin(&self) -> AdminServiceClient<Link> {
        AdminServiceClient::new(self.link()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// A call that ends within [`CALL_TIMEOUT`].
pub(super) fn call<T>(message: T) -> Request<T> {
    call_within(message, CALL_TIMEOUT)
}

pub(super) fn call_within<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        text.parse::<Address>().map(|address| address.to_string())
    }

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("localhost:50051", "localhost:50051"),
            ("http://10.0.0.1:1", "10.0.0.1:1"),
            ("grpc://10.0.0.1:1", "10.0.0.1:1"),
            ("http://[::1]:50051/", "[::1]:50051"),
            ("unix:/run/evt.sock", "unix:/run/evt.sock"),
            ("unix:///run/evt.sock", "unix:/run/evt.sock"),
            ("https://evt.example:443/", "https://evt.example:443"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn wrong_addresses() {
        for text in [
            "",
            "localhost",
            ":50051",
            "https://a",
            "https://http://a:1",
            "https://unix:/a",
            "http://a:1/path",
            "ftp://a:1",
            "unix:",
            "a:99999",
            "a b:1",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn nobody_there_names_the_address() {
        let target = Target {
            addr: Address::Unix("/nowhere/evt.sock".to_owned()),
            credentials: Credentials::default(),
            tls: Tls::default(),
        };
        let failure = target.connect().await.err().expect("nobody listens");
        assert!(
            failure
                .to_string()
                .contains("at unix:/nowhere/evt.sock: No such file"),
            "{failure}"
        );
    }
}
