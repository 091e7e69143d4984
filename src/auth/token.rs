//! Bearer tokens: how one is made, kept and read from a header.
//!
//! Those that we make are 256 random bits, so that a plain digest of one is as
//! good as a slow one: nobody tries them all. Only digests are kept and compared;
//! no fault shows what it could not read.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use sha2::{Digest as _, Sha256};

use super::Denied;
use crate::limits;

/// What a digest begins with in the file of users.
const SCHEME: &str = "sha256:";

/// A new token.
pub struct Token(String);

impl Token {
    /// A random one.
    #[must_use]
    pub fn generate() -> Self {
        let secret: [u8; 32] = rand::random();
        // Scanners of leaked secrets look for something that they can tell.
        Self(format!("evt_{}", URL_SAFE_NO_PAD.encode(secret)))
    }

    /// The text that a client sends.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

/// A token as the file of users holds it: `sha256:` and 64 digits.
#[must_use]
pub fn hash_line(token: &str) -> String {
    let mut line = SCHEME.to_owned();
    for byte in digest(token) {
        // Writing to a string cannot fail.
        let _ = write!(line, "{byte:02x}");
    }
    line
}

pub(super) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// What [`hash_line`] wrote.
pub(super) fn read_hash(line: &str) -> Result<[u8; 32], String> {
    let rule =
        || format!("must be {SCHEME} and 64 hexadecimal digits: eventstream token makes one");
    let digits = line.strip_prefix(SCHEME).ok_or_else(rule)?;
    let mut hash = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(rule());
    }
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| rule())?;
    }
    Ok(hash)
}

/// The token of an `authorization` header.
pub(super) fn bearer(header: &HeaderValue) -> Result<&str, Denied> {
    let malformed = || Denied::Unauthenticated("authorization must be Bearer and a token".into());
    let text = header.to_str().map_err(|_| malformed())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(malformed)?;
    let token = token.trim();
    let fits = (1..=limits::MAX_TOKEN_BYTES).contains(&token.len());
    if !fits || !scheme.eq_ignore_ascii_case("bearer") || token.contains(' ') {
        return Err(malformed());
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_known_by_their_digest() {
        let (one, other) = (Token::generate(), Token::generate());
        assert_ne!(one.secret(), other.secret());
        assert!(one.secret().len() == 47 && one.secret().starts_with("evt_"));
        let line = hash_line(one.secret());
        assert_eq!(read_hash(&line), Ok(digest(one.secret())));
        assert_eq!(
            hash_line("pass"),
            "sha256:d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1"
        );
        for bad in [
            "",
            "hunter2",
            "sha256:",
            "sha256:xyz",
            &line[..70],
            &line[7..],
        ] {
            let rule = read_hash(bad).expect_err(bad);
            assert!(!rule.contains("hunter2"), "{rule}");
        }
    }

    #[test]
    fn header_is_bearer_and_one_token() {
        let read = |text: &str| {
            let header = HeaderValue::from_str(text).expect("a header");
            bearer(&header).map(str::to_owned).ok()
        };
        for text in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(read(text).as_deref(), Some("abc"), "{text}");
        }
        for text in ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearer a b"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&format!("Bearer {}", "x".repeat(9000))), None);
    }
}
