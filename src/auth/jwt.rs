//! Tokens that somebody else signed: JSON Web Tokens of issuers whose public
//! keys we have, such as the service accounts of a Kubernetes cluster. The
//! algorithm goes by the key, never by what the token says alone.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Header, Validation, dangerous, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Denied,
    file::{Fault, IssuerEntry},
    keys::{self, ALGORITHMS},
};
use crate::{
    event::{Moment, User},
    limits,
};

/// Who signs tokens, and whom they make of it.
pub(super) struct Issuer {
    /// Its claim `iss`.
    pub(super) issuer: String,
    at: Arc<str>,
    keys: Vec<Key>,
    audiences: Vec<String>,
    leeway: Duration,
    claim: Vec<String>,
    users: BTreeMap<String, User>,
    direct: bool,
}

struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// What a good token says.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) user: User,
    /// From then on it is none any more; leeway included.
    pub(super) expires: Option<Moment>,
}

/// Whose token it claims to be, which is believed of nobody.
#[derive(Deserialize)]
struct Claimed {
    iss: String,
}

/// Whether a token looks like one.
pub(super) fn is_meant(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Verifies a token and tells whose it is.
pub(super) fn identify(issuers: &[Issuer], token: &str) -> Result<Identity, Denied> {
    // An algorithm that is none at all cannot be read.
    let header = decode_header(token)
        .map_err(|_| refused("the token's header is none that is understood"))?;
    let claimed: Claimed = dangerous::insecure_decode_claims(token)
        .map_err(|_| refused("the token names no issuer"))?;
    let issuer = issuers.iter().find(|known| known.issuer == claimed.iss);
    issuer
        .ok_or_else(|| refused("the token's issuer is not known"))?
        .identify(token, &header)
}

fn refused(why: impl Into<std::borrow::Cow<'static, str>>) -> Denied {
    Denied::Unauthenticated(why.into())
}

impl Issuer {
    /// With the keys of a JWKS file that was read.
    pub(super) fn new(entry: IssuerEntry, jwks: &str, file: &Path) -> Result<Self, Fault> {
        keys::install();
        let fault = |rule: String| {
            let text = format!("{}.keys: {}: {rule}", entry.at, file.display());
            Fault::new(text)
        };
        // What serde says could show a part of a key that is no public one.
        let set: JwkSet = serde_json::from_str(jwks)
            .map_err(|error| fault(format!("line {} is not JSON of a key set", error.line())))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::of).collect();
        if keys.is_empty() {
            return Err(fault(
                "has no key for RS256, ES256 (P-256) or EdDSA (Ed25519)".to_owned(),
            ));
        }
        for (at, key) in keys.iter().enumerate() {
            let same = |other: &Key| other.kid == key.kid && other.algorithm == key.algorithm;
            if keys[..at].iter().any(same) {
                let kid = key.kid.as_deref().unwrap_or("none");
                return Err(fault(format!("has two keys with the kid {kid:?}")));
            }
        }
        let IssuerEntry {
            at,
            issuer,
            audiences,
            leeway,
            claim,
            users,
            direct,
            ..
        } = entry;
        Ok(Self {
            issuer,
            at: at.into(),
            keys,
            audiences,
            leeway,
            claim,
            users,
            direct,
        })
    }

    fn identify(&self, token: &str, header: &Header) -> Result<Identity, Denied> {
        let key = self.key_of(header)?;
        let mut validation = Validation::new(key.algorithm);
        validation.set_audience(&self.audiences);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = self.leeway.as_secs();
        let claims = decode::<Value>(token, &key.key, &validation)
            .map_err(|error| refused(explain(error.kind())))?
            .claims;
        let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0);
        // A float holds every second of the next hundred million years.
        #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
        let expires = (expires * 1000.0) as i64;
        let leeway = i64::try_from(self.leeway.as_millis()).unwrap_or(0);
        Ok(Identity {
            user: self.user_of(&claims)?,
            expires: Some(Moment::from_unix_millis(expires.saturating_add(leeway))),
        })
    }

    /// The key that a token names; of an issuer with one key it need not.
    fn key_of(&self, header: &Header) -> Result<&Key, Denied> {
        if header.crit.is_some() {
            return Err(refused("the token demands extensions that are not known"));
        }
        if ALGORITHMS.iter().all(|(known, _)| *known != header.alg) {
            return Err(refused("the token is not signed by RS256, ES256 or EdDSA"));
        }
        let mut fitting = self.keys.iter().filter(|key| match &header.kid {
            Some(kid) => key.kid.as_ref() == Some(kid),
            None => true,
        });
        let key = match (fitting.next(), fitting.next()) {
            (Some(key), None) => key,
            (None, _) => return Err(refused("the token's key is not known")),
            (Some(_), Some(_)) => return Err(refused("the token does not name its key")),
        };
        if key.algorithm != header.alg {
            return Err(refused("the token's key is not for its algorithm"));
        }
        Ok(key)
    }

    /// Whom the claim means.
    fn user_of(&self, claims: &Value) -> Result<User, Denied> {
        let claim = self.claim.join(".");
        let mut found = claims;
        for name in &self.claim {
            found = found
                .get(name)
                .ok_or_else(|| refused(format!("the token has no claim {claim}")))?;
        }
        let text = found
            .as_str()
            .ok_or_else(|| refused(format!("the token's claim {claim} is no text")))?;
        if let Some(user) = self.users.get(text) {
            return Ok(user.clone());
        }
        let at = &self.at;
        if !self.direct {
            return Err(refused(format!(
                "no user is mapped to the token's {claim} in {at}.users"
            )));
        }
        User::parse(text).map_err(|_| {
            refused(format!(
                "the token's {claim} is longer than {} characters or has a colon, and is not \
                 mapped to a user in {at}.users",
                limits::MAX_USER
            ))
        })
    }
}

impl Key {
    /// A key that we can verify with; others may stand in the same file.
    fn of(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            _ => return None,
        };
        let common = &jwk.common;
        let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
        let named = common.key_algorithm.map(|name| name.to_string());
        let fits = named.is_none_or(|name| name.parse() == Ok(algorithm));
        let key = DecodingKey::from_jwk(jwk).ok()?;
        debug_assert_ne!(key.family(), AlgorithmFamily::Hmac, "a shared secret");
        (signs && fits).then(|| Self {
            kid: common.key_id.clone(),
            algorithm,
            key,
        })
    }
}

/// What is wrong with a token, without its content.
fn explain(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
        ErrorKind::ImmatureSignature => "the token is not valid yet".to_owned(),
        ErrorKind::InvalidAudience => "the token is for another audience".to_owned(),
        ErrorKind::InvalidIssuer => "the token's issuer is not known".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no claim {claim}"),
        ErrorKind::InvalidClaimFormat(claim) => format!("the token's claim {claim} is malformed"),
        ErrorKind::InvalidSignature => "the token's signature is wrong".to_owned(),
        _ => "the token cannot be verified".to_owned(),
    }
}
