//! Event types.

use super::Invalid;

/// The type of a new event or a wanted one: `^[A-Z_]{1,16}$` (FTN18 `EventType`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Box<str>);

impl EventType {
    /// # Errors
    /// Names the rule when `text` is not a type.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let allowed = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
        if (1..=16).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new("must match ^[A-Z_]{1,16}$"))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_is_that_of_ftn18() {
        for good in ["A", "USR_NEW", "________________"] {
            assert_eq!(EventType::parse(good).expect("valid").as_str(), good);
        }
        for bad in ["", "AAAAAAAAAAAAAAAAA", "usr", "A1", "A ", "Ä", "A\n"] {
            assert!(EventType::parse(bad).is_err(), "{bad:?}");
        }
    }
}
