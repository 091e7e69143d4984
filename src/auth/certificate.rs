//! Names in client certificates, as the file of users writes them:
//! `subject:CN=shop,O=Example` (as `openssl x509 -subject -nameopt RFC2253`
//! prints it), `dns:`, `uri:` and `email:` of the subject's alternative names.

use http::Extensions;

use super::rules::Credential;

const KINDS: [&str; 4] = ["subject:", "dns:", "uri:", "email:"];

/// A name that certificates may have.
pub(super) fn read_name(text: &str) -> Result<String, String> {
    let kind = KINDS.iter().find(|kind| text.starts_with(**kind));
    if kind.is_none_or(|kind| text.len() == kind.len()) {
        return Err("must be subject:, dns:, uri: or email: and a name".to_owned());
    }
    Ok(text.to_owned())
}

/// The certificate that the peer has proven to own, if it sent one.
pub(super) fn of_connection(_extensions: &Extensions) -> Option<Credential> {
    None
}
