//! Filters by type.

use std::{collections::BTreeSet, sync::Arc};

use super::{EventType, Pattern};

/// The types a consumer wants. FTN18 tells absent (all) from empty (none).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Want {
    /// Every type.
    #[default]
    All,
    /// These types only; none at all if empty.
    Only(BTreeSet<EventType>),
    /// What one of the patterns describes: a caller who may not read everything
    /// and did not say what it wants.
    Matching(Arc<[Pattern]>),
}

impl Want {
    /// Whether events of this type are wanted.
    #[must_use]
    pub fn takes(&self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(types) => types.contains(kind),
            Self::Matching(patterns) => patterns.iter().any(|pattern| pattern.matches(kind)),
        }
    }

    /// Whether everything is wanted.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// The filter that a store applies: it knows no patterns, so that what
    /// comes from it is looked at again.
    #[must_use]
    pub fn of_store(&self) -> &Self {
        match self {
            Self::All | Self::Only(_) => self,
            Self::Matching(_) => &Self::All,
        }
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

    #[test]
    fn patterns_are_looked_at_after_the_store() {
        let want = Want::Matching([Pattern::new("A_*"), Pattern::new("B")].into());
        assert!(want.takes("A_X") && want.takes("B") && !want.takes("C") && !want.is_all());
        assert!(want.of_store().is_all());
    }
}
