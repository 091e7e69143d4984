//! Events as they come, and as they are added.

use std::{sync::Arc, time::SystemTime};

use serde::{Serialize, de::DeserializeOwned};

use crate::{check, error::Invalid, proto};

/// An event of the stream; a clone is cheap.
#[derive(Clone, Debug, PartialEq)]
pub struct Event(Arc<proto::Event>);

impl Event {
    /// Its position in the stream: growing, with gaps.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.0.id
    }

    /// Its type, `^[A-Z_]{1,16}$`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.0.r#type
    }

    /// The exact text that was stored: any JSON value.
    #[must_use]
    pub fn data_json(&self) -> &str {
        &self.0.data_json
    }

    /// The data, parsed. Integers of 64 bits stay exact.
    ///
    /// # Errors
    ///
    /// Those of `serde_json` when the data has another form than `T`.
    pub fn data<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.data_json())
    }

    /// When it was stored, by the database's clock. For reference, never an
    /// order; `None` when an application stored something that is no time.
    #[must_use]
    pub fn ts(&self) -> Option<SystemTime> {
        SystemTime::try_from(self.0.ts?).ok()
    }
}

impl From<proto::Event> for Event {
    fn from(event: proto::Event) -> Self {
        Self(Arc::new(event))
    }
}

/// Events that were pushed together.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Group {
    /// In the order of their IDs. Empty when a long run was filtered out.
    pub events: Vec<Event>,
    /// Acknowledge this: it covers filtered events too.
    pub last_id: i64,
    /// Live only: how many were dropped before this group.
    pub skipped_events: i64,
}

impl From<proto::EventGroup> for Group {
    fn from(group: proto::EventGroup) -> Self {
        Self {
            events: group.events.into_iter().map(Event::from).collect(),
            last_id: group.last_id,
            skipped_events: group.skipped_events,
        }
    }
}

/// Data of an event to add: a reference to any value that serializes, or
/// [`JsonText`].
pub trait Data {
    /// The compact JSON text.
    ///
    /// # Errors
    ///
    /// [`Invalid`] when it does not serialize, is no JSON, or is too big.
    fn to_json(self) -> Result<String, Invalid>;
}

impl<T: Serialize + ?Sized> Data for &T {
    fn to_json(self) -> Result<String, Invalid> {
        let text = serde_json::to_string(self).map_err(|error| check::data_error(&error))?;
        check::data_size(&text)?;
        Ok(text)
    }
}

/// Data that is JSON text already: stored as it is, once it was checked.
#[derive(Clone, Debug)]
pub struct JsonText<T>(pub T);

impl<T: Into<String> + AsRef<str>> Data for JsonText<T> {
    fn to_json(self) -> Result<String, Invalid> {
        check::data(self.0.as_ref())?;
        Ok(self.0.into())
    }
}

/// An event to add; it was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent(pub(crate) proto::NewEvent);

impl NewEvent {
    /// # Errors
    ///
    /// [`Invalid`] names the field and the rule that it breaks.
    pub fn new(event_type: &str, data: impl Data) -> Result<Self, Invalid> {
        check::event_type(event_type)?;
        Ok(Self(proto::NewEvent {
            r#type: event_type.to_owned(),
            data_json: data.to_json()?,
        }))
    }

    /// Its type.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.0.r#type
    }

    /// Its data as it will be stored.
    #[must_use]
    pub fn data_json(&self) -> &str {
        &self.0.data_json
    }
}
