//! Names in client certificates, as the file of users writes them:
//! `subject:CN=shop,O=Example` (the whole, as `openssl x509 -subject -nameopt
//! RFC2253` prints it), `cn:` alone, `dns:`, `uri:` and `email:` of the
//! subject's alternative names. The listener has judged the certificate.

use http::Extensions;

use super::rules::Credential;
use crate::{
    event::Moment,
    listen::{Certificate, PeerCertificate},
};

const KINDS: [&str; 5] = ["subject:", "cn:", "dns:", "uri:", "email:"];

/// A name that certificates may have.
pub(super) fn read_name(text: &str) -> Result<String, String> {
    let kind = KINDS.iter().find(|kind| text.starts_with(**kind));
    if kind.is_none_or(|kind| text.len() == kind.len()) {
        return Err("must be subject:, cn:, dns:, uri: or email: and a name".to_owned());
    }
    Ok(text.to_owned())
}

/// The certificate that the peer has proven to own, if it sent one.
pub(super) fn of_connection(extensions: &Extensions) -> Option<Credential> {
    let PeerCertificate(certificate) = extensions.get()?;
    let end = i64::try_from(certificate.not_after.saturating_mul(1000)).unwrap_or(i64::MAX);
    let expires = Moment::from_unix_millis(end);
    Some(Credential::Certificate(names(certificate).into(), expires))
}

/// As the file of users writes them.
fn names(certificate: &Certificate) -> Vec<String> {
    let mut names = vec![format!("subject:{}", certificate.subject)];
    let common = certificate.common_name.as_ref();
    names.extend(common.map(|name| format!("cn:{name}")));
    for (kind, list) in [
        ("dns", &certificate.dns_names),
        ("uri", &certificate.uris),
        ("email", &certificate.emails),
    ] {
        names.extend(list.iter().map(|name| format!("{kind}:{name}")));
    }
    names
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn names_are_those_of_the_file() {
        let certificate = Certificate {
            der: Vec::new(),
            subject: "CN=shop,O=Example".to_owned(),
            common_name: Some("shop".to_owned()),
            dns_names: vec!["shop.example".to_owned()],
            uris: vec!["spiffe://example.org/shop".to_owned()],
            emails: vec!["shop@example.org".to_owned()],
            not_after: 1,
        };
        let names = names(&certificate);
        assert_eq!(
            names,
            [
                "subject:CN=shop,O=Example",
                "cn:shop",
                "dns:shop.example",
                "uri:spiffe://example.org/shop",
                "email:shop@example.org"
            ]
        );
        for name in &names {
            assert_eq!(read_name(name).as_ref(), Ok(name));
        }
        assert!(read_name("shop").is_err() && read_name("dns:").is_err());
        let mut extensions = Extensions::new();
        assert!(of_connection(&extensions).is_none());
        extensions.insert(PeerCertificate(Arc::new(certificate)));
        let credential = of_connection(&extensions).expect("a credential");
        assert!(credential.has_expired(Moment::from_unix_millis(1000)));
        assert!(!credential.has_expired(Moment::from_unix_millis(999)));
    }
}
