//! What a certificate says about its owner, and until when.
//!
//! Of clients it is the [`PeerCertificate`] of their requests, whose names `auth`
//! looks for among its users; of a listener, what it shows and when that expires.
//! Whether it is to be believed is no business of this file: rustls has judged it
//! before.

use std::sync::Arc;

use x509_cert::{
    attr::AttributeTypeAndValue,
    der::{self, Decode as _, oid::db::rfc4519::COMMON_NAME},
    ext::pkix::{SubjectAltName, name::GeneralName},
    name::Name,
};

/// The client's certificate: an extension of the requests of its connection,
/// if it showed one that a CA of the configuration has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate(pub Arc<Certificate>);

/// A certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// As it came.
    pub der: Vec<u8>,
    /// The whole subject as RFC 4514 writes it, such as `CN=shop,O=Example`.
    pub subject: String,
    /// The common name of the subject; none too where it has several.
    pub common_name: Option<String>,
    /// Alternative names that are host names.
    pub dns_names: Vec<String>,
    /// Alternative names that are URIs, such as `spiffe://example.org/shop`.
    pub uris: Vec<String>,
    /// Alternative names that are addresses of mail.
    pub emails: Vec<String>,
    /// When it ends, in seconds of the Unix time.
    pub not_after: u64,
}

/// The bytes are no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate: {0}")]
pub struct NotACertificate(#[from] der::Error);

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(der: &[u8]) -> Result<Self, NotACertificate> {
        let certificate = x509_cert::Certificate::from_der(der)?;
        let certificate = certificate.tbs_certificate();
        let mut read = Self {
            der: der.to_owned(),
            subject: certificate.subject().to_string(),
            common_name: common_name(certificate.subject())?,
            dns_names: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            not_after: certificate
                .validity()
                .not_after
                .to_unix_duration()
                .as_secs(),
        };
        if let Some((_, names)) = certificate.get_extension::<SubjectAltName>()? {
            names.0.into_iter().for_each(|name| read.also(name));
        }
        Ok(read)
    }

    fn also(&mut self, name: GeneralName) {
        match name {
            GeneralName::DnsName(name) => self.dns_names.push(name.to_string()),
            GeneralName::UniformResourceIdentifier(name) => self.uris.push(name.to_string()),
            GeneralName::Rfc822Name(name) => self.emails.push(name.to_string()),
            // Nothing that a user is known by.
            _ => {}
        }
    }
}

fn common_name(subject: &Name) -> der::Result<Option<String>> {
    let named = |attribute: &&AttributeTypeAndValue| attribute.oid == COMMON_NAME;
    if subject.iter().filter(named).count() != 1 {
        return Ok(None);
    }
    let name = subject.common_name()?;
    Ok(name.map(|name| name.value().into_owned()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, string::Ia5String};

    use super::*;

    #[test]
    fn names_and_end_are_read() {
        let mut params = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
        let ia5 = |text: &str| Ia5String::try_from(text).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI(ia5("spiffe://example.org/shop")));
        params
            .subject_alt_names
            .push(SanType::Rfc822Name(ia5("shop@example.org")));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example, Inc");
        params
            .distinguished_name
            .push(DnType::CommonName, "der Laden ü");
        params.not_after = rcgen::date_time_ymd(2031, 1, 1);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();

        let read = Certificate::parse(made.der()).unwrap();
        assert_eq!(read.subject, "CN=der Laden ü,O=Example\\, Inc");
        assert_eq!(read.common_name.as_deref(), Some("der Laden ü"));
        assert_eq!(read.dns_names, ["shop.example"]);
        assert_eq!(read.uris, ["spiffe://example.org/shop"]);
        assert_eq!(read.emails, ["shop@example.org"]);
        assert_eq!(read.not_after, 1_924_992_000);
        assert_eq!(read.der, made.der().as_ref());
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b""[..], b"\x30\x80", &[0xff; 64]] {
            assert!(Certificate::parse(bytes).is_err());
        }
    }
}
