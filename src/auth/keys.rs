//! The signatures of tokens, checked by `ring`, which TLS uses too: what the
//! library for tokens asks for, and nothing that makes signatures.
//!
//! An algorithm is taken only with a key of its own family, so that a token cannot
//! choose how it is judged. What is not in [`ALGORITHMS`] does not exist here,
//! `none` and shared secrets among it.

use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has the library use this; again is no matter.
pub(super) fn install() {
    let _ = PROVIDER.install_default();
}

/// The algorithms that are taken, and the keys that they are for.
pub(super) const ALGORITHMS: [(Algorithm, AlgorithmFamily); 3] = [
    (Algorithm::RS256, AlgorithmFamily::Rsa),
    (Algorithm::ES256, AlgorithmFamily::Ec),
    (Algorithm::EdDSA, AlgorithmFamily::Ed),
];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the library's type")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if !ALGORITHMS.contains(&(*algorithm, key.family())) {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Ring {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = match (self.key.kind(), self.algorithm) {
            (DecodingKeyKind::RsaModulusExponent { n, e }, Algorithm::RS256) => {
                RsaPublicKeyComponents { n, e }.verify(
                    &RSA_PKCS1_2048_8192_SHA256,
                    message,
                    signature,
                )
            }
            (DecodingKeyKind::SecretOrDer(key), Algorithm::ES256) => {
                by(&ECDSA_P256_SHA256_FIXED, key, message, signature)
            }
            (DecodingKeyKind::SecretOrDer(key), Algorithm::EdDSA) => {
                by(&ED25519, key, message, signature)
            }
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| Error::new())
    }
}

fn by(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> std::result::Result<(), ring::error::Unspecified> {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature)
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
