//! What a client command says about who calls: a bearer token from an option, the
//! environment or a file, which is put on every call.
//!
//! A file is read for each call, because tokens that are renewed, such as those
//! of Kubernetes, change while `tail` goes on for days. The token is never shown,
//! be it by `--help`, in an error or for debugging.

use std::{convert::Infallible, fmt, fs, path::PathBuf, str::FromStr};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use super::failure::Failure;

/// Who calls.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Credentials {
    #[arg(
        long,
        help = "Bearer token; on the command line others of this machine see it",
        global = true,
        env = "EVENTSTREAM_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<Secret>,
    #[arg(
        long,
        help = "File with the token, read again for each call; wins over --token",
        global = true,
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,
}

/// A text that is never shown.
#[derive(Clone)]
struct Secret(String);

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Credentials {
    /// The header to send, if any. Tokens that are renewed come in a file.
    pub(super) fn header(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let token = match (&self.token_file, &self.token) {
            (Some(file), _) => fs::read_to_string(file).map_err(|error| {
                Failure::Usage(format!("cannot read {}: {error}", file.display()))
            })?,
            (None, Some(Secret(token))) => token.clone(),
            (None, None) => return Ok(None),
        };
        let token = token.trim();
        if token.is_empty() {
            return Ok(None);
        }
        let header: Result<MetadataValue<Ascii>, _> = format!("Bearer {token}").parse();
        let mut header = header
            .map_err(|_| Failure::Usage("the token has letters that no token has".to_owned()))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = self
            .header()
            .map_err(|failure| Status::unauthenticated(failure.to_string()))?;
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(credentials: &Credentials) -> Option<String> {
        let header = credentials.header().expect("sound")?;
        Some(header.to_str().expect("text").to_owned())
    }

    #[test]
    fn file_wins_and_is_read_again() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let credentials = Credentials {
            token: Some(Secret("other".to_owned())),
            token_file: Some(file.path().to_owned()),
        };
        assert_eq!(header(&credentials), None);
        for token in ["one", "two"] {
            fs::write(file.path(), format!("{token}\n")).expect("written");
            assert_eq!(header(&credentials), Some(format!("Bearer {token}")));
        }
        assert!(!format!("{credentials:?}").contains("other"));
        file.close().expect("removed");
        assert!(matches!(credentials.header(), Err(Failure::Usage(_))));
        assert_eq!(header(&Credentials::default()), None);
    }
}
