//! Where receiving starts.

use std::time::SystemTime;

use crate::proto::{StartAt, start_at::At};

/// A place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event kept, archived ones included.
    Oldest,
    /// After this event ID.
    After(i64),
    /// With the first event that was stored at or after this time.
    At(SystemTime),
    /// With what comes from now on.
    Now,
}

impl From<Start> for StartAt {
    fn from(start: Start) -> Self {
        let at = match start {
            Start::Oldest => At::AfterId(0),
            Start::After(id) => At::AfterId(id),
            Start::At(time) => At::Time(time.into()),
            Start::Now => At::Now(true),
        };
        Self { at: Some(at) }
    }
}
