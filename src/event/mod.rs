//! The vocabulary of the stream: ids, types, data, consumers, filters.
//!
//! Values of these types are valid by construction: text and numbers from
//! outside become one of them through a `parse` that names the rule it broke
//! (FTN18 §2), and nothing behind that edge checks again. What an
//! application wrote into the queue table itself is taken as it stands, see
//! [`Event`]. No I/O, no protocol, no SQL.

mod consumer;
mod data;
mod id;
mod kind;
mod moment;
mod pattern;
mod want;

pub use consumer::{Component, ConsumerKey, Label, User};
pub use data::EventData;
pub use id::EventId;
pub use kind::EventType;
pub use moment::Moment;
pub use pattern::Pattern;
pub use want::Want;

/// A value from outside broke a rule of the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}")]
pub struct Invalid {
    /// The rule, as a sentence that can be shown to the caller.
    pub rule: String,
}

impl Invalid {
    /// A broken rule.
    pub fn new(rule: impl Into<String>) -> Self {
        Self { rule: rule.into() }
    }
}

/// An event that is not stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its type.
    pub kind: EventType,
    /// Its data.
    pub data: EventData,
}

impl NewEvent {
    /// Bytes of type and data.
    #[must_use]
    pub fn size(&self) -> usize {
        self.kind.as_str().len() + self.data.as_str().len()
    }
}

/// A stored event. Events are immutable.
///
/// `kind` and `data` are what the table holds: an application's own `INSERT`
/// may have put anything there. What cannot be carried as text is `fault`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Place in the stream.
    pub id: EventId,
    /// The type column; matches `^[A-Z_]{1,16}$` if the producer kept the contract.
    pub kind: Box<str>,
    /// The data column: JSON text, if the producer kept the contract.
    pub data: Box<str>,
    /// When it was stored, by the database's clock; `None` if the column holds no time.
    pub ts: Option<Moment>,
    /// Set when the row cannot be delivered as it stands; it then blocks
    /// whoever wants it, because skipping would be a silent loss.
    pub fault: Option<Fault>,
}

/// Why a stored row cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The type column is not UTF-8 text.
    #[error("its type is not UTF-8 text")]
    TypeNotText,
    /// The data column is not UTF-8 text.
    #[error("its data is not UTF-8 text")]
    DataNotText,
}

impl Event {
    /// Memory and wire size in bytes, about: the measure of every byte limit.
    #[must_use]
    pub fn size(&self) -> usize {
        self.kind.len() + self.data.len() + Self::OVERHEAD
    }

    /// What an event costs beside its type and data.
    pub const OVERHEAD: usize = 40;
}

/// A place to start reading from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// After this id; [`EventId::START`] means before the oldest event kept.
    After(EventId),
    /// Before the lowest id whose `ts` is at or after this time.
    Time(Moment),
    /// At the frontier: only events settled from now on.
    Now,
}
