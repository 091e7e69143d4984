//! Requests as anybody may send them, thrown at what reads them: framing,
//! decoding, the checks of every field. Nothing may panic, and what is refused
//! is refused with a status that names the field.
//!
//! `fuzz/` runs the same function without end; the tests here are its bounded
//! run with every `cargo test`.

use std::time::Duration;

use prost::Message;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{bodies, fields};
use crate::{error::Error, event::User, limits, proto};

/// A request: its method by the first byte, then its message.
///
/// # Panics
/// When a refusal has no reason, or framing depends on where it is cut.
pub fn request(bytes: &[u8]) {
    let Some((method, message)) = bytes.split_first() else {
        return;
    };
    bodies::framing_is_the_same(message, usize::from(*method) + 1);
    let outcome = match method % 8 {
        0 => decoded(message, add_event),
        1 => decoded(message, |request: proto::AddEventsRequest| {
            fields::new_events(request.events)?;
            fields::request_id(&request.request_id).map(drop)
        }),
        2 => decoded(message, |request: proto::RegisterConsumerRequest| {
            fields::component(&request.component)?;
            fields::start("start", request.start).map(drop)
        }),
        3 => decoded(message, poll),
        4 => decoded(message, ready),
        5 => decoded(message, |request: proto::AckRequest| {
            fields::component(&request.component)?;
            fields::id("last_id", request.last_id).map(drop)
        }),
        6 => decoded(message, |request: proto::SeekConsumerRequest| {
            fields::component(&request.component)?;
            fields::user(&request.user, &User::local())?;
            fields::start("start", request.start).map(drop)
        }),
        _ => decoded(message, |request: proto::SkipFrontierRequest| {
            fields::id("to", request.to)?;
            fields::reason(request.reason).map(drop)
        }),
    };
    if let Err(error) = outcome {
        let status = Status::from(error);
        let info = status.get_details_error_info().expect("a reason");
        assert!(!info.reason.is_empty() && !status.message().is_empty());
    }
}

/// What is no message of the contract is tonic's to refuse.
fn decoded<M: Message + Default>(
    bytes: &[u8],
    check: impl FnOnce(M) -> Result<(), Error>,
) -> Result<(), Error> {
    M::decode(bytes).map_or(Ok(()), check)
}

fn add_event(request: proto::AddEventRequest) -> Result<(), Error> {
    let text = request.data_json.clone();
    let event = fields::new_event("", &request.r#type, request.data_json)?;
    assert_eq!(event.data.as_str(), text, "data is kept to the letter");
    fields::request_id(&request.request_id).map(drop)
}

fn poll(request: proto::PollEventsRequest) -> Result<(), Error> {
    request
        .last_id
        .map(|raw| fields::boundary("last_id", raw))
        .transpose()?;
    fields::component(&request.component)?;
    fields::start("start", request.start)?;
    fields::want(request.want)?;
    let most = limits::MAX_GROUP_EVENTS;
    fields::bound("max_events", request.max_events, most, most)?;
    let wait = fields::wait(
        "max_wait",
        request.max_wait,
        Duration::ZERO,
        limits::MAX_WAIT,
    )?;
    assert!(wait <= limits::MAX_WAIT);
    Ok(())
}

fn ready(request: proto::ReadyToReceiveRequest) -> Result<(), Error> {
    fields::component(&request.component)?;
    fields::label(&request.client_label)?;
    fields::start("start", request.start)?;
    fields::want(request.want)?;
    let most = limits::MAX_GROUP_EVENTS;
    let events = fields::bound("max_group_events", request.max_group_events, most, most)?;
    assert!((1..=most).contains(&events));
    let (usual, most) = (limits::MIN_HEARTBEAT, limits::MAX_HEARTBEAT);
    fields::wait(
        "heartbeat_interval",
        request.heartbeat_interval,
        usual,
        most,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    fn good(method: u8) -> Vec<u8> {
        let message = match method {
            0 => proto::AddEventRequest {
                r#type: "USR_NEW".into(),
                data_json: r#"{"id":1}"#.into(),
                request_id: "6f2d6e0c-5d1a-4b0e-9a43-0f6a7b1c2d3e".into(),
            }
            .encode_to_vec(),
            3 => proto::PollEventsRequest {
                component: "SHOP".into(),
                last_id: Some(7),
                ..Default::default()
            }
            .encode_to_vec(),
            _ => proto::ReadyToReceiveRequest {
                component: "SHOP".into(),
                client_label: "ü".into(),
                ..Default::default()
            }
            .encode_to_vec(),
        };
        [&[method], &message[..]].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn nearly_good_requests(
            method in prop_oneof![Just(0_u8), Just(3), Just(4)],
            changes in vec((any::<Index>(), any::<u8>()), 0..6)
        ) {
            let mut bytes = good(method);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            request(&bytes);
        }

        #[test]
        fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..200)) {
            request(&bytes);
        }
    }
}
