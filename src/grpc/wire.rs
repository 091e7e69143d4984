//! The two messages that carry events to consumers, encoded by hand.
//!
//! On the wire they are `ReadyToReceiveResponse` and `PollEventsResponse` of
//! the contract; both have their events in field 2. The bytes of a segment's
//! events are made once, kept beside the segment and shared by every message
//! that carries any of them. A test decodes them with the generated types.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

use super::fields;
use crate::{
    event::Event,
    proto,
    stream::{Encoded, Group, Polled, Selection},
};

/// Number of the events' field in both messages.
const EVENTS: u32 = 2;

/// `futoin.evt.v1.ReadyToReceiveResponse`.
#[derive(Debug, Clone)]
pub enum ReadyToReceiveResponse {
    /// `group`.
    Group(EventGroup),
    /// Any other payload.
    Other(proto::ReadyToReceiveResponse),
}

/// `futoin.evt.v1.EventGroup`.
#[derive(Debug, Clone)]
pub struct EventGroup {
    seq: i64,
    events: Vec<Bytes>,
    last_id: i64,
    skipped_events: i64,
}

/// `futoin.evt.v1.PollEventsResponse`.
#[derive(Debug, Clone)]
pub struct PollEventsResponse {
    last_id: i64,
    events: Vec<Bytes>,
    more: bool,
    epoch: i64,
}

impl From<&Group> for EventGroup {
    fn from(group: &Group) -> Self {
        Self {
            seq: group.seq,
            events: runs(&group.selection),
            last_id: group.selection.reached().get(),
            skipped_events: i64::try_from(group.skipped).unwrap_or(i64::MAX),
        }
    }
}

impl From<&Polled> for PollEventsResponse {
    fn from(polled: &Polled) -> Self {
        Self {
            last_id: polled.last_id.get(),
            events: runs(&polled.selection),
            more: polled.more,
            epoch: polled.epoch,
        }
    }
}

/// The selected events as `repeated Event events = 2`.
fn runs(selection: &Selection) -> Vec<Bytes> {
    selection
        .slices()
        .iter()
        .flat_map(|slice| slice.encoded_runs(encode_events))
        .collect()
}

fn encode_events(events: &[Event]) -> Encoded {
    let mut bytes = Vec::with_capacity(events.iter().map(Event::size).sum());
    let ends = events.iter().map(|event| {
        encode_key(EVENTS, WireType::LengthDelimited, &mut bytes);
        encode_event(event, &mut bytes);
        bytes.len()
    });
    let ends = ends.collect();
    Encoded {
        bytes: bytes.into(),
        ends,
    }
}

/// A length-delimited `futoin.evt.v1.Event`.
fn encode_event(event: &Event, bytes: &mut Vec<u8>) {
    let ts = event.ts.map(fields::timestamp);
    let ts_len = ts
        .as_ref()
        .map_or(0, |ts| length_delimited(4, ts.encoded_len()));
    let len = number_len(1, event.id.get())
        + text_len(2, &event.kind)
        + text_len(3, &event.data)
        + ts_len;
    encode_varint(len as u64, bytes);
    encode_number(1, event.id.get(), bytes);
    encode_text(2, &event.kind, bytes);
    encode_text(3, &event.data, bytes);
    if let Some(ts) = ts {
        encode_key(4, WireType::LengthDelimited, bytes);
        encode_varint(ts.encoded_len() as u64, bytes);
        ts.encode_raw(bytes);
    }
}

fn encode_number(tag: u32, value: i64, buf: &mut impl BufMut) {
    if value != 0 {
        encode_key(tag, WireType::Varint, buf);
        encode_varint(value.cast_unsigned(), buf);
    }
}

fn number_len(tag: u32, value: i64) -> usize {
    if value == 0 {
        0
    } else {
        key_len(tag) + encoded_len_varint(value.cast_unsigned())
    }
}

fn encode_text(tag: u32, text: &str, buf: &mut impl BufMut) {
    if !text.is_empty() {
        encode_key(tag, WireType::LengthDelimited, buf);
        encode_varint(text.len() as u64, buf);
        buf.put_slice(text.as_bytes());
    }
}

fn text_len(tag: u32, text: &str) -> usize {
    if text.is_empty() {
        0
    } else {
        length_delimited(tag, text.len())
    }
}

fn length_delimited(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

fn total(runs: &[Bytes]) -> usize {
    runs.iter().map(Bytes::len).sum()
}

impl EventGroup {
    fn len(&self) -> usize {
        number_len(1, self.seq)
            + total(&self.events)
            + number_len(3, self.last_id)
            + number_len(4, self.skipped_events)
    }

    fn encode_body(&self, buf: &mut impl BufMut) {
        encode_number(1, self.seq, buf);
        self.events.iter().for_each(|run| buf.put_slice(run));
        encode_number(3, self.last_id, buf);
        encode_number(4, self.skipped_events, buf);
    }
}

/// Number of `group` in `ReadyToReceiveResponse`.
const GROUP: u32 = 2;

impl Message for ReadyToReceiveResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        match self {
            Self::Group(group) => {
                encode_key(GROUP, WireType::LengthDelimited, buf);
                encode_varint(group.len() as u64, buf);
                group.encode_body(buf);
            }
            Self::Other(message) => message.encode_raw(buf),
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Group(group) => length_delimited(GROUP, group.len()),
            Self::Other(message) => message.encoded_len(),
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        // Servers only send it.
        prost::encoding::skip_field(wire_type, tag, buf, context)
    }

    fn clear(&mut self) {
        *self = Self::Other(proto::ReadyToReceiveResponse::default());
    }
}

impl Message for PollEventsResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encode_number(1, self.last_id, buf);
        self.events.iter().for_each(|run| buf.put_slice(run));
        encode_number(3, i64::from(self.more), buf);
        encode_number(4, self.epoch, buf);
    }

    fn encoded_len(&self) -> usize {
        number_len(1, self.last_id)
            + total(&self.events)
            + number_len(3, i64::from(self.more))
            + number_len(4, self.epoch)
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        // Servers only send it.
        prost::encoding::skip_field(wire_type, tag, buf, context)
    }

    fn clear(&mut self) {
        *self = Self {
            last_id: 0,
            events: Vec::new(),
            more: false,
            epoch: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        event::{EventId, EventType, Moment, Want},
        stream::{Room, Segment},
    };

    fn select(events: Vec<Event>, want: &Want) -> Selection {
        let last = events.last().map_or(EventId::MAX, |event| event.id);
        let segment = Arc::new(Segment::new(EventId::START, last, events));
        let mut selection = Selection::at(EventId::START);
        selection.pick(
            &segment,
            want,
            Room {
                events: 1000,
                bytes: 1 << 20,
            },
        );
        selection
    }

    fn plain(event: &Event) -> proto::Event {
        proto::Event {
            id: event.id.get(),
            r#type: event.kind.to_string(),
            data_json: event.data.to_string(),
            ts: event.ts.map(|ts| prost_types::Timestamp {
                seconds: ts.unix_millis().div_euclid(1000),
                nanos: i32::try_from(ts.unix_millis().rem_euclid(1000)).unwrap() * 1_000_000,
            }),
        }
    }

    prop_compose! {
        fn any_event()(
            kind in "[AB]", data in ".{0,40}", millis in proptest::option::of(-5_000i64..5_000_000_000)
        ) -> Event {
            Event {
                id: EventId::START,
                kind: kind.into(),
                data: data.into(),
                ts: millis.map(Moment::from_unix_millis),
                fault: None,
            }
        }
    }

    proptest! {
        #[test]
        fn generated_types_read_what_we_write(
            mut events in proptest::collection::vec(any_event(), 0..20), seq in any::<i64>(), more: bool
        ) {
            for (event, id) in events.iter_mut().zip((1..).step_by(7)) {
                event.id = EventId::stored(id);
            }
            let want = Want::Only([EventType::parse("A").unwrap()].into());
            let expected: Vec<_> = events.iter().filter(|e| want.takes(&e.kind)).map(plain).collect();
            let selection = select(events, &want);
            let last_id = selection.reached().get();

            let group = Group { seq, selection: select_again(&selection), skipped: 3 };
            let message = ReadyToReceiveResponse::Group((&group).into());
            let bytes = message.encode_to_vec();
            prop_assert_eq!(bytes.len(), message.encoded_len());
            let read = proto::ReadyToReceiveResponse::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(read.payload, Some(
                proto::ready_to_receive_response::Payload::Group(proto::EventGroup {
                    seq, events: expected.clone(), last_id, skipped_events: 3,
                })
            ));

            let polled = Polled { last_id: selection.reached(), selection, more, epoch: 9 };
            let message = PollEventsResponse::from(&polled);
            let bytes = message.encode_to_vec();
            prop_assert_eq!(bytes.len(), message.encoded_len());
            let read = proto::PollEventsResponse::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(
                read, proto::PollEventsResponse { last_id, events: expected, more, epoch: 9 }
            );
        }
    }

    fn select_again(selection: &Selection) -> Selection {
        let events: Vec<Event> = selection.events().cloned().collect();
        let segment = Arc::new(Segment::new(EventId::START, selection.reached(), events));
        let mut again = Selection::at(EventId::START);
        again.pick(
            &segment,
            &Want::All,
            Room {
                events: 1000,
                bytes: 1 << 20,
            },
        );
        again
    }
}
