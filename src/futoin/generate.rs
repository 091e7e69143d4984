//! `futoin.evt.gen`: adding events.

use super::{
    Shim,
    call::{Call, Done},
    doc::{Value, quoted},
    message::Fault,
};
use crate::{
    error::Error,
    event::{EventData, EventType, NewEvent},
};

impl Shim {
    /// `addEvent`: the id, after the commit.
    pub(super) async fn add_event(&self, call: Call<'_>) -> Result<Done, Fault> {
        let kind = call.params.get("type").and_then(Value::text);
        let kind = EventType::parse(kind.unwrap_or_default()).map_err(Error::field("type"))?;
        let data = call.params.any("data").map(Value::json).unwrap_or_default();
        let data = EventData::parse(data.into_owned()).map_err(Error::field("data"))?;
        let events = vec![NewEvent { kind, data }];
        let ids = self.gate.add(&call.caller, None, events).await?;
        Ok(Done::with(quoted(&ids.first().to_string())))
    }
}
