//! How a client reaches the service: address, TLS, token, deadlines.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "tls")]
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Endpoint,
};

use crate::{
    client::EventStream,
    error::{BoxError, Error},
    retry::Retries,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that does not answer for so long is given up: the next session
/// would be lost on it too.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Enough for a window of groups on the way.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// What a client is made of; see [`EventStream::builder`].
#[derive(Debug)]
pub struct Builder {
    address: String,
    bearer: Bearer,
    retries: Retries,
    #[cfg(feature = "tls")]
    tls: Tls,
}

/// Certificates in PEM.
#[cfg(feature = "tls")]
#[derive(Debug, Default)]
struct Tls {
    ca: Option<Certificate>,
    identity: Option<Identity>,
    domain: Option<String>,
}

impl Builder {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            bearer: Bearer(None),
            retries: Retries::default(),
            #[cfg(feature = "tls")]
            tls: Tls::default(),
        }
    }

    /// Sends this bearer token with every call.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.token_by(move || token.clone())
    }

    /// Asks for the bearer token at every call: one that is renewed.
    #[must_use]
    pub fn token_by(mut self, token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.bearer = Bearer(Some(Arc::new(token)));
        self
    }

    /// Until when calls are repeated that failed for a while, from their
    /// beginning. 30 s by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.retries.deadline = deadline;
        self
    }

    /// Trusts this authority (PEM) instead of the system's.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls.ca = Some(Certificate::from_pem(pem));
        self
    }

    /// Presents this certificate and its key (PEM).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Self {
        self.tls.identity = Some(Identity::from_pem(certificate, key));
        self
    }

    /// The name that the service's certificate must have, where it is not the
    /// address's.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.domain = Some(name.into());
        self
    }

    /// Makes the client. Needs a tokio runtime; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] when address or certificates cannot be used.
    pub fn connect(self) -> Result<EventStream, Error> {
        let endpoint = self.endpoint().map_err(Error::Connect)?;
        Ok(EventStream {
            transport: InterceptedService::new(endpoint.connect_lazy(), self.bearer),
            retries: self.retries,
        })
    }

    fn endpoint(&self) -> Result<Endpoint, BoxError> {
        let endpoint = Endpoint::from_shared(self.address.clone())?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        if self.address.starts_with("https:") {
            return self.secure(endpoint);
        }
        if self.address.starts_with("http:") || self.address.starts_with("unix:") {
            return Ok(endpoint);
        }
        Err("the address must begin with http://, https:// or unix:".into())
    }

    #[cfg(feature = "tls")]
    fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, BoxError> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.tls.ca {
            Some(ca) => tls.ca_certificate(ca.clone()),
            None => tls.with_native_roots(),
        };
        if let Some(identity) = &self.tls.identity {
            tls = tls.identity(identity.clone());
        }
        if let Some(domain) = &self.tls.domain {
            tls = tls.domain_name(domain);
        }
        Ok(endpoint.tls_config(tls)?)
    }

    #[cfg(not(feature = "tls"))]
    fn secure(&self, _: Endpoint) -> Result<Endpoint, BoxError> {
        Err(format!("{} needs the feature tls", self.address).into())
    }
}

/// Adds the bearer token to every call.
#[derive(Clone)]
pub struct Bearer(Option<Arc<dyn Fn() -> String + Send + Sync>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let mut value: MetadataValue<Ascii> = format!("Bearer {}", token())
                .parse()
                .map_err(|_| Status::unauthenticated("the token is no header value"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

impl fmt::Debug for Bearer {
    /// Never the token.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_some() {
            "Bearer(…)"
        } else {
            "Bearer(none)"
        })
    }
}
