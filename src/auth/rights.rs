//! What a user may do, as `rules` read it and [`super::Principal`] asks for it.
//!
//! Nothing is allowed that was not granted. A right to receive types is a filter
//! and no yes or no: who wants everything gets what it may have, and who names
//! a type that it may not have is refused, so that it does not wait for ever.
//! Quotas stand beside the grants and are none: a change of them ends no stream.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use crate::{
    event::{EventType, Pattern, Want},
    quota::Quota,
};

/// Everything that a user may do; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    /// Types of events that it may add.
    pub generate: Patterns,
    /// Components as which it may consume.
    pub consume: Patterns,
    /// Types of events that it may receive.
    pub types: Readable,
    /// May see the state of everything.
    pub observe: bool,
    /// May change the state of everything.
    pub administer: bool,
    /// How much it may do.
    pub quota: Quota,
}

impl Rights {
    /// Those of `local`, where there are no users.
    #[must_use]
    pub fn all() -> Arc<Self> {
        static ALL: LazyLock<Arc<Rights>> = LazyLock::new(|| {
            Arc::new(Rights {
                generate: Patterns::any(),
                consume: Patterns::any(),
                types: Readable(Patterns::any()),
                observe: true,
                administer: true,
                quota: Quota::default(),
            })
        });
        Arc::clone(&ALL)
    }

    /// Whether the same is allowed, be it faster or slower.
    pub(super) fn same_grants(&self, other: &Self) -> bool {
        let quota = self.quota;
        *self
            == Self {
                quota,
                ..other.clone()
            }
    }
}

/// Names that are allowed; none by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(Arc<[Pattern]>);

impl Default for Patterns {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl Patterns {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        if patterns.iter().any(Pattern::is_any) {
            return Self::any();
        }
        Self(patterns.into())
    }

    fn any() -> Self {
        Self([Pattern::new("*")].into())
    }

    /// Whether this name is among them.
    #[must_use]
    pub fn allow(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_any(&self) -> bool {
        self.0.iter().any(Pattern::is_any)
    }
}

/// Types of events that may be received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readable(pub(super) Patterns);

impl Readable {
    /// Whether events of this type may be received.
    #[must_use]
    pub fn allow(&self, kind: &str) -> bool {
        self.0.allow(kind)
    }

    /// The filter of somebody who wants this and may receive those.
    ///
    /// # Errors
    /// A type that is wanted by name and may not be received.
    pub fn narrow(&self, want: Want) -> Result<Want, EventType> {
        match want {
            want if self.0.is_any() => Ok(want),
            Want::Only(types) => match types.iter().find(|kind| !self.allow(kind.as_str())) {
                Some(hidden) => Err(hidden.clone()),
                None => Ok(Want::Only(types)),
            },
            Want::All | Want::Matching(_) => Ok(self.filter()),
        }
    }

    /// Everything that may be received. Names alone are a filter that a
    /// database knows.
    fn filter(&self) -> Want {
        let named = self.0.0.iter().map(|pattern| {
            let name = pattern.literal()?;
            EventType::parse(name).ok()
        });
        match named.collect::<Option<BTreeSet<_>>>() {
            Some(types) => Want::Only(types),
            None => Want::Matching(Arc::clone(&self.0.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(patterns: &[&str]) -> Readable {
        let patterns = patterns.iter().map(|text| Pattern::new(text));
        Readable(Patterns::new(patterns.collect()))
    }

    fn only(types: &[&str]) -> Want {
        let types = types
            .iter()
            .map(|text| EventType::parse(text).expect("valid"));
        Want::Only(types.collect())
    }

    #[test]
    fn filters_are_narrowed_to_what_may_be_received() {
        let some = readable(&["A_*", "B"]);
        assert_eq!(some.narrow(only(&["A_X", "B"])), Ok(only(&["A_X", "B"])));
        assert_eq!(
            some.narrow(only(&["B", "C"])),
            Err(EventType::parse("C").expect("valid"))
        );
        assert_eq!(some.narrow(only(&[])), Ok(only(&[])));
        let all = some.narrow(Want::All).expect("narrowed");
        assert!(all.takes("A_X") && all.takes("B") && !all.takes("C") && !all.takes("BA_"));
        assert_eq!(
            readable(&["A", "B"]).narrow(Want::All),
            Ok(only(&["A", "B"]))
        );
        assert_eq!(readable(&[]).narrow(Want::All), Ok(only(&[])));
        assert_eq!(readable(&["A", "*"]).narrow(Want::All), Ok(Want::All));
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let rights = Rights::default();
        assert!(!rights.generate.allow("A") && !rights.consume.allow("A"));
        assert!(!rights.types.allow("A") && !rights.observe && !rights.administer);
    }

    #[test]
    fn limits_are_no_grants() {
        let rights = Rights::all();
        let mut slower = (*rights).clone();
        slower.quota.calls = Some(1);
        assert!(rights.same_grants(&slower));
        slower.administer = false;
        assert!(!rights.same_grants(&slower));
    }
}
