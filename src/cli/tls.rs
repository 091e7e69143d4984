//! TLS towards a server: whom to believe, and what to show.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::failure::Failure;

/// How a server at `https://` is believed, and how it may believe us.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Tls {
    #[arg(
        long,
        help = "CAs (PEM) that the server's certificate may be of; left out: those of this machine",
        global = true,
        env = "EVENTSTREAM_TLS_CA",
        value_name = "FILE"
    )]
    tls_ca: Option<PathBuf>,
    #[arg(
        long,
        help = "Certificate (PEM) to show to the server",
        global = true,
        env = "EVENTSTREAM_TLS_CERT",
        requires = "tls_key",
        value_name = "FILE"
    )]
    tls_cert: Option<PathBuf>,
    #[arg(
        long,
        help = "Its private key (PEM)",
        global = true,
        env = "EVENTSTREAM_TLS_KEY",
        requires = "tls_cert",
        value_name = "FILE"
    )]
    tls_key: Option<PathBuf>,
    #[arg(
        long,
        help = "Name that the server's certificate must have; left out: that of the address",
        global = true,
        env = "EVENTSTREAM_TLS_NAME",
        value_name = "NAME"
    )]
    tls_name: Option<String>,
}

impl Tls {
    /// For a server at `https://`.
    pub(super) fn config(&self) -> Result<ClientTlsConfig, Failure> {
        let mut config = ClientTlsConfig::new();
        config = match &self.tls_ca {
            Some(path) => config.ca_certificate(Certificate::from_pem(pem("--tls-ca", path)?)),
            None => config.with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let (cert, key) = (pem("--tls-cert", cert)?, pem("--tls-key", key)?);
            config = config.identity(Identity::from_pem(cert, key));
        }
        Ok(match &self.tls_name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    }
}

fn pem(flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::Usage(format!("{flag}: {}: {error}", path.display())))
}

