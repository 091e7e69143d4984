//! Wall-clock time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Invalid;

/// A point in time, UTC, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// From milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The same, from outside.
    ///
    /// # Errors
    /// Names the range when `millis` is outside it.
    pub fn parse(millis: i64) -> Result<Self, Invalid> {
        // 0001-01-01 to 9999-12-31, as Protobuf's own documentation has it.
        if (-62_135_596_800_000..=253_402_300_799_999).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(Invalid::new("must be a time in the years 1 to 9999"))
        }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.0
    }

    /// This process's clock. The only place that reads it.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    pub fn now() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    /// How long before `later` this was; zero if it was not.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}
