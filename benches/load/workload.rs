//! The events that all scenarios use: 200 bytes of JSON.

use futoin_eventstream::proto::{AddEventRequest, NewEvent};

/// Their type.
pub(crate) const KIND: &str = "BENCH";

/// Bytes of an event's data.
const BYTES: usize = 200;

/// `{"n":"0000000000","pad":""}` without the padding.
const FRAME: usize = 27;

pub(crate) fn padding() -> String {
    "x".repeat(BYTES - FRAME)
}

pub(crate) fn data(number: u64) -> String {
    format!("{{\"n\":\"{number:010}\",\"pad\":\"{}\"}}", padding())
}

/// One event to add.
pub(crate) fn add_event(number: u64) -> AddEventRequest {
    AddEventRequest {
        r#type: KIND.to_owned(),
        data_json: data(number),
        request_id: String::new(),
    }
}

/// `count` events to add together.
pub(crate) fn new_events(count: u64) -> Vec<NewEvent> {
    let event = |number| NewEvent {
        r#type: KIND.to_owned(),
        data_json: data(number),
    };
    (0..count).map(event).collect()
}
