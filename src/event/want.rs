//! Filters by type.

use std::collections::BTreeSet;

use super::EventType;

/// The types a consumer wants. FTN18 tells absent (all) from empty (none).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Want {
    /// Every type.
    #[default]
    All,
    /// These types only; none at all if empty.
    Only(BTreeSet<EventType>),
}

impl Want {
    /// Whether events of this type are wanted.
    #[must_use]
    pub fn takes(&self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(types) => types.contains(kind),
        }
    }

    /// Whether everything is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_all_and_empty_is_none() {
        assert!(Want::All.takes("A"));
        assert!(!Want::Only(BTreeSet::new()).takes("A"));
        let only = Want::Only(BTreeSet::from([EventType::parse("A").expect("valid")]));
        assert!(only.takes("A") && !only.takes("B"));
    }
}
