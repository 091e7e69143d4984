//! Signatures of messages (FTN8): the base string, and the codes made over it.

use std::cmp::Ordering;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

use super::doc::{Kind, Value, js_scalar};

/// A secret that signatures are made with. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(Box<[u8]>);

impl Key {
    /// From Base64, as clients are configured with; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = from_base64(text).filter(|bytes| !bytes.is_empty())?;
        Some(Self(bytes.into()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// A code over a message, by its names in both generations of FTN8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Md5,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "MD5" | "HMD5" => Self::Md5,
            "SHA224" => Self::Sha224,
            "SHA256" | "HS256" => Self::Sha256,
            "SHA384" | "HS384" => Self::Sha384,
            "SHA512" | "HS512" => Self::Sha512,
            _ => return None,
        })
    }
}

/// How the two sides of one call sign.
#[derive(Debug, Clone)]
pub(super) struct Signing {
    pub(super) algorithm: Algorithm,
    pub(super) key: Key,
}

impl Signing {
    /// The signature over a message, in Base64.
    pub(super) fn sign(&self, message: Value<'_>) -> String {
        general_purpose::STANDARD.encode(self.code(&base(message)))
    }

    /// Whether this is the signature over the message; takes as long for any
    /// other of its length.
    pub(super) fn verify(&self, message: Value<'_>, signature: &str) -> bool {
        let given = from_base64(signature).unwrap_or_default();
        self.code(&base(message)).ct_eq(&given).into()
    }

    fn code(&self, base: &[u8]) -> Vec<u8> {
        let key = &self.key.0;
        match self.algorithm {
            Algorithm::Md5 => code::<Hmac<Md5>>(key, base),
            Algorithm::Sha224 => code::<Hmac<Sha224>>(key, base),
            Algorithm::Sha256 => code::<Hmac<Sha256>>(key, base),
            Algorithm::Sha384 => code::<Hmac<Sha384>>(key, base),
            Algorithm::Sha512 => code::<Hmac<Sha512>>(key, base),
        }
    }
}

fn code<M: Mac + KeyInit>(key: &[u8], base: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(base);
    mac.finalize().into_bytes().to_vec()
}

/// The key of a master MAC: `secret` as HKDF makes it for the service `id` and
/// the parameter `info`. `None` for a strategy that nobody knows.
pub(super) fn derive(secret: &Key, strategy: &str, id: &str, info: &str) -> Option<Key> {
    let salt = format!("{id}:MAC");
    let (salt, info) = (salt.as_bytes(), info.as_bytes());
    let mut derived = vec![0; secret.0.len()];
    match strategy {
        "HKDF256" => Hkdf::<Sha256>::new(Some(salt), &secret.0).expand(info, &mut derived),
        "HKDF512" => Hkdf::<Sha512>::new(Some(salt), &secret.0).expand(info, &mut derived),
        _ => return None,
    }
    .ok()?;
    Some(Key(derived.into()))
}

/// Standard or URL alphabet, with or without padding: Node reads all of them.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let text = text.replace('-', "+").replace('_', "/");
    GeneralPurpose::new(&STANDARD, config).decode(text).ok()
}

/// What is left to write of an array or map.
type Level<'a> = std::vec::IntoIter<(Box<str>, Value<'a>)>;

/// What is signed of a message: `key:value;` by ascending keys, without nulls
/// and without the signature itself.
pub(super) fn base(message: Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut levels = vec![level(message, true)];
    while let Some(here) = levels.last_mut() {
        let Some((key, value)) = here.next() else {
            levels.pop();
            if !levels.is_empty() {
                out.push(b';');
            }
            continue;
        };
        out.extend_from_slice(key.as_bytes());
        out.push(b':');
        match value.kind() {
            Kind::Map | Kind::Array => {
                levels.push(level(value, false));
                continue;
            }
            Kind::Bytes(bytes) => out.extend_from_slice(bytes),
            scalar => out.extend_from_slice(js_scalar(scalar).as_bytes()),
        }
        out.push(b';');
    }
    out
}

/// The entries of a container as they are signed. An array is a map with its
/// indices as keys.
fn level(container: Value<'_>, top: bool) -> Level<'_> {
    let elements = container.elements().enumerate();
    let elements = elements.map(|(index, value)| (index.to_string().into(), value));
    let entries = container.entries().map(|(key, value)| (key.into(), value));
    let mut all: Vec<(Box<str>, Value)> = elements.chain(entries).collect();
    // Stable, and of equal keys the last one counts.
    all.reverse();
    all.sort_by(|(one, _), (other, _)| by_utf16(one, other));
    all.dedup_by(|(one, _), (other, _)| one == other);
    let signature = |key: &str| top && key == "sec";
    all.retain(|(key, value)| !(value.is_null() || signature(key)));
    all.into_iter()
}

/// As JavaScript sorts.
fn by_utf16(one: &str, other: &str) -> Ordering {
    one.encode_utf16().cmp(other.encode_utf16())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::futoin::json;

    fn base_of(text: &str) -> String {
        let doc = json::read(text.as_bytes()).expect("JSON");
        String::from_utf8(base(doc.root())).expect("text")
    }

    #[test]
    fn hard_base_strings() {
        for (message, expected) in [
            (
                r#"{"data":{"9":2,"10":1,"b":[1,2.5,null,true,"x",0,1e+21,"é€😀"],"a":null,"c":{},"d":[],"e":"","f":0,"Z":3,"z":4,"é":5,"k:;":"v;:"}}"#,
                "data:10:1;9:2;Z:3;b:0:1;1:2.5;3:true;4:x;5:0;6:1e+21;7:é€😀;;c:;d:;e:;f:0;k:;:v;:;z:4;é:5;;",
            ),
            (
                r#"{"v":[false,0,"",{},[],null,-1.5,1e-7,123456789012345680000,1e+21]}"#,
                "v:0:false;1:0;2:;3:;4:;6:-1.5;7:1e-7;8:123456789012345680000;9:1e+21;;",
            ),
            (
                r#"{"v":{"9":7,"10":6,"～":1,"😀":2,"a":3,"A":4,"_":5}}"#,
                "v:10:6;9:7;A:4;_:5;a:3;😀:2;～:1;;",
            ),
            (
                r#"{"obf":{"lid":"1","gid":"G","slvl":"Info"},"sec":"x","a":{"sec":1}}"#,
                "a:sec:1;;obf:gid:G;lid:1;slvl:Info;;",
            ),
            (
                r#"{"a":1,"a":12345678901234567890,"b":-0,"c":"\ud800"}"#,
                "a:12345678901234567000;b:0;c:\u{fffd};",
            ),
            ("[null,[1]]", "1:0:1;;"),
        ] {
            assert_eq!(base_of(message), expected);
        }
    }

    #[test]
    fn vectors_of_the_real_client() {
        #[derive(serde::Deserialize)]
        struct Vector {
            alg: String,
            key_b64: String,
            request: String,
            request_base: String,
            request_sig: String,
            response: String,
            response_base: String,
            response_sig: String,
        }
        let text = include_str!("../../tests/it/futoin/mac_vectors.json");
        let vectors: Vec<Vector> = serde_json::from_str(text).expect("vectors");
        assert_eq!(vectors.len(), 24);
        for vector in vectors {
            let signing = Signing {
                algorithm: Algorithm::parse(&vector.alg).expect("known"),
                key: Key::parse(&vector.key_b64).expect("a key"),
            };
            for (message, expected, signature) in [
                (&vector.request, &vector.request_base, &vector.request_sig),
                (
                    &vector.response,
                    &vector.response_base,
                    &vector.response_sig,
                ),
            ] {
                assert_eq!(&base_of(message), expected);
                let doc = json::read(message.as_bytes()).expect("JSON");
                assert_eq!(&signing.sign(doc.root()), signature);
                assert!(signing.verify(doc.root(), signature));
                assert!(signing.verify(doc.root(), signature.trim_end_matches('=')));
                assert!(!signing.verify(doc.root(), "AAAA"));
                assert!(!signing.verify(doc.root(), ""));
            }
        }
    }

    #[test]
    fn master_secret_becomes_a_key() {
        let secret = Key::parse("LYJ8an4GcxKSB4mHz7qz1wrYyrdc2tIMFYsXOFc3ELM=").expect("a key");
        let derived = derive(&secret, "HKDF256", "example.com", "20261121").expect("known");
        let expected = Key::parse("Ac7t1TLyh2eBi4NCVZZ9e3iqSx3wvzMK6I6sD0IgWF4=");
        assert!(Some(derived) == expected);
        assert!(derive(&secret, "HKDF1", "example.com", "20261121").is_none());
    }
}
