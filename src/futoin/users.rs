//! Who may call over FutoIn, as it is written in the configuration.
//!
//! One entry per line or between semicolons:
//! `NAME [id=USER] [secret=TEXT | secret-sha256=HEX] [mac=BASE64] [mmac=BASE64]`.
//! `id` is the user of consumers, the same over gRPC; the original has numbers
//! there. A clear secret is kept as its hash only; a MAC needs its key itself.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::mac::Key;
use crate::event::User;

/// Everybody who may call, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users(HashMap<Box<str>, Account>);

/// What is known of one user.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: User,
    /// SHA-256 of the clear secret.
    pub(super) secret: Option<[u8; 32]>,
    /// For `-hmac` and `-smac`.
    pub(super) mac: Option<Key>,
    /// For `-mmac`.
    pub(super) master: Option<Key>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Users {
    /// Reads entries; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// The rule that an entry breaks, to follow the text; it shows no secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut users = Self::default();
        let lines = text.lines().filter(|line| !line.trim().starts_with('#'));
        let entries = lines.flat_map(|line| line.split(';')).map(str::trim);
        for entry in entries.filter(|entry| !entry.is_empty()) {
            let mut words = entry.split_whitespace();
            let name = words.next().unwrap_or_default();
            let account = account(name, words)
                .map_err(|rule| format!("has an entry {:?} that {rule}", shown(name)))?;
            if users.0.insert(name.into(), account).is_some() {
                return Err(format!("has the user {name:?} twice"));
            }
        }
        Ok(users)
    }

    /// Adds those of another place.
    ///
    /// # Errors
    /// A name that is in both.
    pub fn join(mut self, others: Self) -> Result<Self, String> {
        for (name, account) in others.0 {
            if self.0.contains_key(&name) {
                return Err(format!("has the user {name:?} twice"));
            }
            self.0.insert(name, account);
        }
        Ok(self)
    }

    /// Whether nobody may call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Account> {
        self.0.get(name)
    }
}

/// A name that may be a secret that lost its place is not repeated.
fn shown(name: &str) -> &str {
    if name.contains(['=', ':']) {
        "…"
    } else {
        name
    }
}

fn account<'a>(name: &str, words: impl Iterator<Item = &'a str>) -> Result<Account, String> {
    const RULE: &str = "is not like NAME id=USER secret=TEXT mac=BASE64";
    if name.contains([':', '=']) || name.starts_with('-') {
        return Err(RULE.to_owned());
    }
    let (mut id, mut secret, mut mac, mut master) = (None, None, None, None);
    for word in words {
        let (what, text) = word.split_once('=').ok_or(RULE)?;
        let again = match what {
            "id" => id.replace(text.to_owned()).is_some(),
            "secret" => secret.replace(clear(text)?).is_some(),
            "secret-sha256" => secret.replace(hashed(text)?).is_some(),
            "mac" => mac.replace(key(text)?).is_some(),
            "mmac" => master.replace(key(text)?).is_some(),
            _ => return Err(RULE.to_owned()),
        };
        if again {
            return Err(format!("has two of {what}"));
        }
    }
    if secret.is_none() && mac.is_none() && master.is_none() {
        return Err("has no secret, mac or mmac".to_owned());
    }
    let user = User::parse(id.as_deref().unwrap_or(name))
        .map_err(|invalid| format!("has an id that {invalid}"))?;
    Ok(Account {
        user,
        secret,
        mac,
        master,
    })
}

fn clear(text: &str) -> Result<[u8; 32], String> {
    if text.contains(':') || text.is_empty() {
        // Clients send NAME:SECRET, which is split at each colon.
        return Err("has a secret that is empty or contains a colon".to_owned());
    }
    Ok(Sha256::digest(text).into())
}

fn hashed(text: &str) -> Result<[u8; 32], String> {
    let rule = || "has a secret-sha256 that is not 64 hexadecimal digits".to_owned();
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(rule());
    }
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| rule())?;
    }
    Ok(hash)
}

fn key(text: &str) -> Result<Key, String> {
    Key::parse(text).ok_or_else(|| "has a key that is not Base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        let hash = "d74ff0ee8da3b9806b18c877dbf29bbde50b5bd8e4dad7a3a725000feb82e8f1";
        let text = format!("# people\nuser id=1 secret=pass; m mac=AAEC\n\nh secret-sha256={hash}");
        let users = Users::parse(&text).expect("fine");
        let user = users.find("user").expect("there");
        assert_eq!(user.user.as_str(), "1");
        assert!(user.mac.is_none() && users.find("m").expect("there").mac.is_some());
        let hashed = users.find("h").expect("there");
        assert_eq!((hashed.user.as_str(), hashed.secret), ("h", user.secret));
        assert!(users.find("pass").is_none());
        assert!(Users::parse("").expect("nobody").is_empty());
        assert!(!format!("{users:?}").contains("215"), "no secret is shown");
    }

    #[test]
    fn faults_are_told_without_secrets() {
        for (text, word) in [
            ("u", "has no secret"),
            ("u:hunter2", "like NAME"),
            ("u hunter2", "like NAME"),
            ("u password=hunter2", "like NAME"),
            ("u secret=hunter2:x", "colon"),
            ("u secret=", "empty"),
            ("u mac=hunter2!", "not Base64"),
            ("u secret-sha256=hunter2", "64 hexadecimal"),
            ("u secret=hunter2 secret=hunter2", "two of secret"),
            ("u secret=hunter2 id=a:b", "an id that must"),
            ("-internal secret=hunter2", "like NAME"),
            ("u secret=a; u secret=hunter2", "twice"),
        ] {
            let rule = Users::parse(text).expect_err(text);
            assert!(rule.contains(word), "{text}: {rule}");
            assert!(!rule.contains("hunter2"), "{rule}");
        }
        let one = Users::parse("u secret=a").expect("fine");
        assert!(one.clone().join(one).is_err());
    }
}
