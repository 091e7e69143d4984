//! Request fields as vocabulary, with errors that name the field and the rule.

use std::time::Duration;

use prost_types::Timestamp;
use uuid::Uuid;

use crate::{
    error::Error,
    event::{
        Component, ConsumerKey, EventData, EventId, EventType, Label, Moment, NewEvent, StartAt,
        User, Want,
    },
    limits, proto,
};

pub(super) fn component(text: &str) -> Result<Component, Error> {
    Component::parse(text).map_err(Error::field("component"))
}

/// The last consumer of the page before; empty for the first one.
pub(super) fn page_token(text: &str) -> Result<&str, Error> {
    if text.is_empty() || ConsumerKey::from_ident(text).is_some() {
        return Ok(text);
    }
    let rule = "must be empty or the next_page_token of an answer";
    Err(Error::invalid("page_token", rule))
}

pub(super) fn user(text: &str, caller: &User) -> Result<User, Error> {
    if text.is_empty() {
        return Ok(caller.clone());
    }
    User::parse(text).map_err(Error::field("user"))
}

pub(super) fn label(text: &str) -> Result<Label, Error> {
    Label::parse(text).map_err(Error::field("client_label"))
}

/// Absent is all, empty is none.
pub(super) fn want(want: Option<proto::Want>) -> Result<Want, Error> {
    let Some(want) = want else {
        return Ok(Want::All);
    };
    if want.types.len() > limits::MAX_WANT_TYPES {
        let rule = format!("must have at most {} types", limits::MAX_WANT_TYPES);
        return Err(Error::invalid("want.types", rule));
    }
    let parse = |(index, text): (usize, &String)| {
        EventType::parse(text).map_err(Error::field(&format!("want.types[{index}]")))
    };
    want.types
        .iter()
        .enumerate()
        .map(parse)
        .collect::<Result<_, _>>()
        .map(Want::Only)
}

pub(super) fn new_event(prefix: &str, kind: &str, data_json: String) -> Result<NewEvent, Error> {
    let kind = EventType::parse(kind).map_err(Error::field(&format!("{prefix}type")))?;
    let data = EventData::parse(data_json).map_err(Error::field(&format!("{prefix}data_json")))?;
    Ok(NewEvent { kind, data })
}

pub(super) fn new_events(events: Vec<proto::NewEvent>) -> Result<Vec<NewEvent>, Error> {
    if !(1..=limits::MAX_BATCH_EVENTS).contains(&events.len()) {
        let rule = format!(
            "must have 1 to {} events, has {}",
            limits::MAX_BATCH_EVENTS,
            events.len()
        );
        return Err(Error::invalid("events", rule));
    }
    let parse = |(index, event): (usize, proto::NewEvent)| {
        new_event(&format!("events[{index}]."), &event.r#type, event.data_json)
    };
    events.into_iter().enumerate().map(parse).collect()
}

pub(super) fn request_id(text: &str) -> Result<Option<Uuid>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = Uuid::try_parse(text);
    parsed
        .map(Some)
        .map_err(|_| Error::invalid("request_id", "must be a UUID or empty"))
}

/// Free text that is kept.
pub(super) fn reason(text: String) -> Result<String, Error> {
    let fits = text.chars().count() <= limits::MAX_REASON;
    if fits && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    let rule = format!(
        "must be at most {} characters without control characters",
        limits::MAX_REASON
    );
    Err(Error::invalid("reason", rule))
}

/// An id of an event.
pub(super) fn id(field: &str, raw: i64) -> Result<EventId, Error> {
    EventId::parse(raw).map_err(Error::field(field))
}

/// A boundary that may lie before the first event.
pub(super) fn boundary(field: &str, raw: i64) -> Result<EventId, Error> {
    EventId::parse_boundary(raw).map_err(Error::field(field))
}

pub(super) fn start(field: &str, start: Option<proto::StartAt>) -> Result<Option<StartAt>, Error> {
    use proto::start_at::At;
    let Some(start) = start else { return Ok(None) };
    let at = match start.at {
        Some(At::AfterId(raw)) => StartAt::After(boundary(&format!("{field}.after_id"), raw)?),
        Some(At::Time(time)) => StartAt::Time(moment(&format!("{field}.time"), &time)?),
        Some(At::Now(true)) => StartAt::Now,
        Some(At::Now(false)) => return Err(Error::invalid(format!("{field}.now"), "must be true")),
        None => {
            return Err(Error::invalid(
                field,
                "must have one of after_id, time and now",
            ));
        }
    };
    Ok(Some(at))
}

fn moment(field: &str, time: &Timestamp) -> Result<Moment, Error> {
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(Error::invalid(field, "must have 0 to 999999999 nanos"));
    }
    let second = Moment::parse(time.seconds.saturating_mul(1000)).map_err(Error::field(field))?;
    // Rounded up: the first event at or after it.
    let millis = (i64::from(time.nanos) + 999_999) / 1_000_000;
    Ok(Moment::from_unix_millis(second.unix_millis() + millis))
}

/// A wait of the caller's choice; absent means `default`.
pub(super) fn wait(
    field: &str,
    wait: Option<prost_types::Duration>,
    default: Duration,
    longest: Duration,
) -> Result<Duration, Error> {
    let Some(wait) = wait else { return Ok(default) };
    let given = Duration::try_from(wait)
        .map_err(|_| Error::invalid(field, "must be a duration that is not negative"))?;
    // A longer wait is shortened: callers see an empty answer and ask again.
    Ok(given.min(longest))
}

/// A count or size of the caller's choice; 0 means `default`, more than `most` means `most`.
pub(super) fn bound(
    field: &str,
    given: impl Into<i64>,
    default: usize,
    most: usize,
) -> Result<usize, Error> {
    match usize::try_from(given.into()) {
        Ok(0) => Ok(default),
        Ok(given) => Ok(given.min(most)),
        Err(_) => Err(Error::invalid(field, "must not be negative")),
    }
}

pub(super) fn timestamp(moment: Moment) -> Timestamp {
    let millis = moment.unix_millis();
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp {
        seconds: millis.div_euclid(1000),
        nanos,
    }
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or_default()
}
