//! What is wrong with a configuration, said so that it can be found and put
//! right: the field, where its text came from, the text, and the rule.

use std::fmt;
use std::path::PathBuf;

use super::options::Opt;

/// Where the text of an option came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag(&'static str),
    /// This variable.
    Environment(String),
    /// This file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One fault, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    /// The text of an option breaks a rule; the rule follows the text.
    pub(super) fn of(opt: &Opt, text: &str, origin: &Origin, rule: &str) -> Self {
        let shown = if opt.secret {
            "the value (not shown)".to_owned()
        } else {
            format!("{text:?}")
        };
        Self(format!("{} ({origin}): {shown} {rule}", opt.key))
    }

    /// Something that belongs to no option.
    pub(super) fn about(name: &str, origin: &Origin, rule: &str) -> Self {
        Self(format!("{name} ({origin}): {rule}"))
    }

    /// A whole source that cannot be used.
    pub(super) fn source(origin: &Origin, rule: &str) -> Self {
        Self(format!("{origin}: {rule}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All faults of a configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
