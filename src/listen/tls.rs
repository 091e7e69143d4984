//! TLS of one listener: a certificate, its key, and whose clients are let in.
//!
//! The files are read again about every second and taken when their content
//! has changed and is whole; open connections keep what they began with. What
//! cannot be used is said, and the last that could be stays. TLS 1.2 and 1.3
//! only: rustls knows no other. Sessions are not resumed, so that a CA that was
//! taken away is believed by no new connection.

use std::{
    fmt,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
        server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
    server::TlsStream,
};
use tokio_util::sync::CancellationToken;

use super::certificate::{Certificate, NotACertificate, PeerCertificate};
use crate::{limits, telemetry};

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    Off,
    /// They may; a wrong one is refused.
    Optional,
    /// They must.
    Required,
}

/// Where a listener's TLS comes from; all files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those between it and its CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CAs of clients.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate of these.
    pub client_auth: ClientAuth,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// One cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// One does not hold what it should.
    #[error("{}: {what}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// TLS of a listener, as it is now.
pub struct Tls {
    listener: &'static str,
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    /// Of the files that were judged last.
    judged: Mark,
}

/// Tells one content of the files from another; none if they cannot be read.
type Mark = Option<[u8; 32]>;

impl Tls {
    /// Reads the files for a listener of this name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(listener: &'static str, files: TlsFiles) -> Result<Self, TlsFault> {
        let contents = Contents::read(&files)?;
        let (config, certificate) = contents.config(&files)?;
        tell(listener, &files, &certificate);
        begin_counting(listener);
        Ok(Self {
            listener,
            judged: Some(contents.mark()),
            files,
            current: RwLock::new(Arc::new(config)),
        })
    }

    /// Begins TLS on one more connection; with the client's certificate.
    pub(super) async fn shake_hands<S>(
        &self,
        io: S,
    ) -> io::Result<(TlsStream<S>, Option<PeerCertificate>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.acceptor().accept(io).await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate
            .map(|der| Certificate::parse(der))
            .transpose()
            .map_err(io::Error::other)?;
        let certificate = certificate.map(|read| PeerCertificate(Arc::new(read)));
        Ok((stream, certificate))
    }

    fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }

    /// The task that takes new files until `stopping`.
    ///
    /// # Errors
    /// None; the type is that of a task.
    pub async fn follow(self: Arc<Self>, stopping: CancellationToken) -> anyhow::Result<()> {
        let (mut judged, mut seen) = (self.judged, self.judged);
        while stopping
            .run_until_cancelled(tokio::time::sleep(limits::TLS_LOOK))
            .await
            .is_some()
        {
            let tls = Arc::clone(&self);
            let contents = tokio::task::spawn_blocking(move || Contents::read(&tls.files)).await?;
            let mark = contents.as_ref().ok().map(Contents::mark);
            // Certificate and key are two files: what is being written is let
            // settle from one look to the next.
            if mark != judged && mark == seen {
                judged = mark;
                self.take(contents);
            }
            seen = mark;
        }
        Ok(())
    }

    fn take(&self, contents: Result<Contents, TlsFault>) {
        let made = contents.and_then(|contents| contents.config(&self.files));
        let outcome = match made {
            Ok((config, certificate)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                tell(self.listener, &self.files, &certificate);
                "ok"
            }
            Err(error) => {
                let listener = self.listener;
                tracing::error!(listener, %error, "new TLS files cannot be used, the last ones stay");
                "failed"
            }
        };
        let failing = if outcome == "ok" { 0.0 } else { 1.0 };
        metrics::gauge!(telemetry::TLS_RELOAD_FAILING, "listener" => self.listener).set(failing);
        metrics::counter!(telemetry::TLS_RELOADS, "listener" => self.listener, "outcome" => outcome)
            .increment(1);
    }
}

/// The files at one moment.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsFault> {
        Ok(Self {
            cert: read(&files.cert)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn mark(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()] {
            let part = part.map_or(&[][..], Vec::as_slice);
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn config(&self, files: &TlsFiles) -> Result<(ServerConfig, Certificate), TlsFault> {
        let chain = certificates(&self.cert, &files.cert)?;
        let certificate = Certificate::parse(&chain[0])
            .map_err(|error: NotACertificate| unusable(&files.cert, error))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| unusable(&files.key, format!("no private key: {error}")))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&files.cert, error))?
            .with_client_cert_verifier(self.verifier(files, provider)?);
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&files.key, fault_of_pair(&error)))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((config, certificate))
    }

    fn verifier(
        &self,
        files: &TlsFiles,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsFault> {
        let (Some(path), Some(pem)) = (&files.client_ca, &self.client_ca) else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem, path)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(path, error))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match files.client_auth {
            ClientAuth::Off => return Ok(WebPkiClientVerifier::no_client_auth()),
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        builder.build().map_err(|error| unusable(path, error))
    }
}

/// A file, if it is of a size that such files have.
fn read(path: &Path) -> Result<Vec<u8>, TlsFault> {
    let unreadable = |error| TlsFault::Unreadable {
        path: path.to_owned(),
        error,
    };
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let most = limits::MAX_TLS_FILE_BYTES;
    let read = file.take(most + 1).read_to_end(&mut content);
    if read.map_err(unreadable)? as u64 > most {
        return Err(unusable(path, format!("is longer than {most} bytes")));
    }
    Ok(content)
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error))?;
    if read.is_empty() {
        return Err(unusable(path, "holds no certificate"));
    }
    Ok(read)
}

fn fault_of_pair(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "is not the key of the certificate".to_owned(),
        other => other.to_string(),
    }
}

fn unusable(path: &Path, what: impl fmt::Display) -> TlsFault {
    TlsFault::Unusable {
        path: path.to_owned(),
        what: what.to_string(),
    }
}

/// What an alert looks for is there before it happens for the first time.
fn begin_counting(listener: &'static str) {
    metrics::gauge!(telemetry::TLS_RELOAD_FAILING, "listener" => listener).set(0.0);
    for outcome in ["ok", "failed"] {
        metrics::counter!(telemetry::TLS_RELOADS, "listener" => listener, "outcome" => outcome)
            .increment(0);
    }
}

/// Says what is shown to clients from now on, and what is wrong with it.
fn tell(listener: &'static str, files: &TlsFiles, certificate: &Certificate) {
    let Certificate {
        subject, not_after, ..
    } = certificate;
    tracing::info!(listener, subject, not_after, "certificate in use");
    if *not_after < UnixTime::now().as_secs() {
        tracing::warn!(listener, subject, "the certificate has expired");
    }
    let mode = std::fs::metadata(&files.key).map(|key| key.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o007 != 0) {
        let path = files.key.display().to_string();
        tracing::warn!(
            listener,
            path,
            "every user of this machine may read the private key"
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds of the Unix time")]
    metrics::gauge!(telemetry::TLS_EXPIRES, "listener" => listener).set(*not_after as f64);
}
