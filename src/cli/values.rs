//! Argument values, parsed at the edge into messages of the contract.

use std::{str::FromStr, time::Duration};

use prost_types::Timestamp;

use crate::proto::{StartAt, Want, start_at::At};

/// Highest event ID of the contract.
const MAX_ID: i64 = 999_999_999_999_999_999;

/// An event ID, or 0 for "before the first".
pub(super) fn id(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(id @ 0..=MAX_ID) => Ok(id),
        _ => Err(format!("an event ID is a number from 0 to {MAX_ID}")),
    }
}

/// `oldest`, `now`, an event ID or a time.
pub(super) fn place(text: &str) -> Result<StartAt, String> {
    match text {
        "oldest" => Ok(after(0)),
        "now" => Ok(StartAt {
            at: Some(At::Now(true)),
        }),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => id(digits).map(after),
        _ => match time(text) {
            Ok(time) => Ok(at_time(time)),
            Err(_) => Err("expected oldest, now, an event ID, or a time such as \
                           2026-11-01T00:00Z"
                .to_owned()),
        },
    }
}

pub(super) fn after(id: i64) -> StartAt {
    StartAt {
        at: Some(At::AfterId(id)),
    }
}

pub(super) fn at_time(time: Timestamp) -> StartAt {
    StartAt {
        at: Some(At::Time(time)),
    }
}

/// RFC 3339; seconds may be left out, a date alone is its midnight, and
/// without an offset it is UTC.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    let wrong =
        || "expected a time such as 2026-11-01T00:00Z or 2026-11-01T12:30:00+02:00".to_owned();
    // "YYYY-MM-DDThh:mm" is 16 bytes; anything longer than nanoseconds with an
    // offset is no time.
    if text.len() > 40 || !text.is_ascii() {
        return Err(wrong());
    }
    let full = match (text.as_bytes().get(13), text.as_bytes().get(16)) {
        (Some(b':'), None | Some(b'Z' | b'z' | b'+' | b'-')) => {
            let (minutes, offset) = text.split_at_checked(16).ok_or_else(wrong)?;
            format!("{minutes}:00{offset}")
        }
        _ => text.to_owned(),
    };
    Timestamp::from_str(&full).map_err(|_| wrong())
}

/// A number with one of the units ms, s, m, h: `500ms`, `5s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 500ms, 5s, 2m or 1h".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let total = number.checked_mul(milliseconds).ok_or_else(wrong)?;
    // The longest that a protobuf duration carries is far above a year.
    if total > 365 * 24 * 3_600_000 {
        return Err("a duration is at most a year".to_owned());
    }
    Ok(Duration::from_millis(total))
}

/// One event type of a `--want` list. Which names are types is the server's
/// to say; an empty one is most likely an unset variable of a script.
pub(super) fn event_type(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("an event type is missing; leave --want out to get every type".to_owned()),
        name => Ok(name.to_owned()),
    }
}

/// No `--want` means every type.
pub(super) fn want(types: &[String]) -> Option<Want> {
    let types = types.to_vec();
    (!types.is_empty()).then_some(Want { types })
}

/// Longer than any wait that an argument can ask for is no duration at all.
pub(super) fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).expect("it is at most a year")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i64> {
        time(text).ok().map(|time| time.seconds)
    }

    #[test]
    fn times() {
        let midnight = Some(1_793_491_200);
        assert_eq!(seconds("2026-11-01T00:00:00Z"), midnight);
        assert_eq!(seconds("2026-11-01T00:00Z"), midnight);
        assert_eq!(seconds("2026-11-01T00:00"), midnight);
        assert_eq!(seconds("2026-11-01 00:00"), midnight);
        assert_eq!(seconds("2026-11-01"), midnight);
        assert_eq!(seconds("2026-11-01T02:00+02:00"), midnight);
        assert_eq!(seconds("2026-10-31T19:00:00-05:00"), midnight);
        assert_eq!(
            time("2026-11-01T00:00:00.25Z").map(|time| time.nanos),
            Ok(250_000_000)
        );
    }

    #[test]
    fn wrong_times() {
        for text in [
            "",
            "now",
            "12:30",
            "2026-13-01",
            "2026-11-31T00:00Z",
            "2026-11-01T25:00Z",
            "2026-11-01T00:00X",
            "2026-11-01T00:00ä",
            "yesterday",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn places() {
        assert_eq!(place("oldest"), Ok(after(0)));
        assert_eq!(place("now").map(|start| start.at), Ok(Some(At::Now(true))));
        assert_eq!(place("17"), Ok(after(17)));
        assert!(matches!(
            place("2026-11-01T00:00Z").map(|start| start.at),
            Ok(Some(At::Time(_)))
        ));
        assert!(place("1000000000000000000").is_err());
        assert!(place("").is_err());
        assert!(place("-1").is_err());
        assert!(place("newest").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(duration("1h"), Ok(Duration::from_hours(1)));
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "5 s",
            "99999999999999999999s",
            "10000h",
            "5d",
            "ä",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_wanted_by_name_is_everything() {
        assert_eq!(want(&[]), None);
        assert!(event_type(" ").is_err());
        assert_eq!(event_type(" ORDER"), Ok("ORDER".to_owned()));
    }
}
