//! Who consumes: users, components and the identity made of both.

use super::Invalid;
use crate::limits;

/// The authenticated caller. At most 47 characters and no `:`, so that
/// `{user}:{component}` fits the 64 characters of the `ident` column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(Box<str>);

impl User {
    /// # Errors
    /// Names the rule when `text` is not a user name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let fits = (1..=limits::MAX_USER).contains(&text.chars().count());
        if fits && !text.contains(':') && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(format!(
                "must be 1 to {} characters without ':' and control characters",
                limits::MAX_USER
            )))
        }
    }

    /// The one user of a service without credentials.
    #[must_use]
    pub fn local() -> Self {
        Self("local".into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A consumer's component: `^[A-Za-z0-9_]{1,16}$` (FTN18 `ConsumerComponent`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component(Box<str>);

impl Component {
    /// The reserved component of unreliable readers.
    pub const LIVE: &'static str = "LIVE";

    /// # Errors
    /// Names the rule when `text` is not a component.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fits = (1..=limits::MAX_COMPONENT).contains(&text.len());
        if fits && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new("must match ^[A-Za-z0-9_]{1,16}$"))
        }
    }

    /// Whether this is the reserved `LIVE`.
    #[must_use]
    pub fn is_live(&self) -> bool {
        &*self.0 == Self::LIVE
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names a consumer: `{user}:{component}`, the `ident` column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey {
    /// Owner.
    pub user: User,
    /// Component.
    pub component: Component,
}

impl ConsumerKey {
    /// The `ident` of the built-in archiver, as in the original.
    pub const ARCHIVER: &'static str = "-internal:ARCHIVER";

    /// The `ident` column's text.
    #[must_use]
    pub fn ident(&self) -> String {
        format!("{}:{}", self.user.0, self.component.0)
    }

    /// From an `ident` column; `None` for one that no service of this kind wrote.
    #[must_use]
    pub fn from_ident(ident: &str) -> Option<Self> {
        let (user, component) = ident.rsplit_once(':')?;
        Some(Self {
            user: User::parse(user).ok()?,
            component: Component::parse(component).ok()?,
        })
    }
}

impl std::fmt::Display for ConsumerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.user.0, self.component.0)
    }
}

/// What a subscriber says about itself, for operators: host, pod, version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label(Box<str>);

impl Label {
    /// # Errors
    /// Names the rule when `text` is too long or has control characters.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let fits = text.chars().count() <= limits::MAX_LABEL;
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(format!(
                "must be at most {} characters without control characters",
                limits::MAX_LABEL
            )))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_follows_the_last_colon() {
        // The original's built-in archiver has a user that starts with a dash.
        let key = ConsumerKey::from_ident("-internal:ARCHIVER").expect("valid");
        assert_eq!(
            (key.user.as_str(), key.component.as_str()),
            ("-internal", "ARCHIVER")
        );
        assert_eq!(key.ident(), "-internal:ARCHIVER");
        assert_eq!(ConsumerKey::from_ident("no-colon"), None);
        assert_eq!(ConsumerKey::from_ident("a:b:C"), None);
    }

    #[test]
    fn components_and_users_have_rules() {
        for bad in ["", "A-B", "seventeen_letters", "Ä"] {
            assert!(Component::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Component::parse("sixteen_letters_").is_ok());
        assert!(User::parse(&"u".repeat(47)).is_ok());
        for bad in [
            String::new(),
            "u".repeat(48),
            "a:b".to_owned(),
            "a\nb".to_owned(),
        ] {
            assert!(User::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
