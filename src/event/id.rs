//! Event ids.

use super::Invalid;

/// A place in the stream: the id of an event, 1 ..= 999 999 999 999 999 999
/// (FTN18 `EventID`), or [`EventId::START`], which lies before every event.
///
/// Used for events and for boundaries alike: a position or frontier `n` means
/// "every id at or below `n`".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId(i64);

impl EventId {
    /// Before the first event.
    pub const START: Self = Self(0);
    /// The highest id.
    pub const MAX: Self = Self(999_999_999_999_999_999);

    /// An event's id.
    ///
    /// # Errors
    /// Names the range when `raw` is outside it.
    pub fn parse(raw: i64) -> Result<Self, Invalid> {
        if (1..=Self::MAX.0).contains(&raw) {
            Ok(Self(raw))
        } else {
            Err(out_of_range(raw, 1))
        }
    }

    /// An event's id, or 0 for "before the first".
    ///
    /// # Errors
    /// Names the range when `raw` is outside it.
    pub fn parse_boundary(raw: i64) -> Result<Self, Invalid> {
        if (0..=Self::MAX.0).contains(&raw) {
            Ok(Self(raw))
        } else {
            Err(out_of_range(raw, 0))
        }
    }

    /// From the database, which hands out nothing else unless somebody set
    /// ids by hand; those are clamped into the range.
    #[must_use]
    pub fn stored(raw: i64) -> Self {
        Self(raw.clamp(0, Self::MAX.0))
    }

    /// As the number that databases and protocols carry.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// The id before this one; [`EventId::START`] has none and stays.
    #[must_use]
    pub fn previous(self) -> Self {
        Self((self.0 - 1).max(0))
    }

    /// The id after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 1).min(Self::MAX.0))
    }

    /// How many ids lie above `other` up to this one; 0 if none.
    #[must_use]
    pub fn distance_from(self, other: Self) -> i64 {
        (self.0 - other.0).max(0)
    }
}

fn out_of_range(raw: i64, lowest: i64) -> Invalid {
    Invalid::new(format!("must be {lowest} to {}, is {raw}", EventId::MAX.0))
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_that_of_ftn18() {
        assert_eq!(EventId::parse(1).map(EventId::get), Ok(1));
        assert_eq!(EventId::parse(999_999_999_999_999_999), Ok(EventId::MAX));
        assert_eq!(
            EventId::parse(1_000_000_000_000_000_000).unwrap_err().rule,
            "must be 1 to 999999999999999999, is 1000000000000000000"
        );
        assert_eq!(
            EventId::parse(0).unwrap_err().rule,
            "must be 1 to 999999999999999999, is 0"
        );
        assert!(EventId::parse(-1).is_err());
        assert_eq!(EventId::parse_boundary(0), Ok(EventId::START));
    }
}
