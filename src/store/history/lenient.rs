//! Whether a row of the warehouse is the event that has its id.
//!
//! The original's archiver reads the data and encodes it again, with the
//! numbers of JavaScript, and keeps times to the second. What it stored is the
//! same event; anything else under the same id is another one.

use serde_json::{Number, Value};

use crate::event::{Event, Moment};

/// Whether both are the same event.
pub(super) fn is_same(stored: &Event, event: &Event) -> bool {
    stored.kind == event.kind
        && second(stored.ts) == second(event.ts)
        && (stored.data == event.data || is_same_json(&stored.data, &event.data))
}

fn second(ts: Option<Moment>) -> Option<i64> {
    ts.map(|ts| ts.unix_millis().div_euclid(1000))
}

fn is_same_json(one: &str, other: &str) -> bool {
    let parse = |text| serde_json::from_str::<Value>(text);
    matches!((parse(one), parse(other)), (Ok(one), Ok(other)) if is_same_value(&one, &other))
}

fn is_same_value(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => is_same_number(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same_value(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| {
                    other
                        .get(key)
                        .is_some_and(|other| is_same_value(value, other))
                })
        }
        (one, other) => one == other,
    }
}

fn is_same_number(one: &Number, other: &Number) -> bool {
    one == other || one.as_f64() == other.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;

    fn event(data: &str, millis: i64) -> Event {
        Event {
            id: EventId::stored(1),
            kind: "T".into(),
            data: data.into(),
            ts: Some(Moment::from_unix_millis(millis)),
            fault: None,
        }
    }

    #[test]
    fn what_the_original_encoded_again_is_the_same() {
        for (stored, event_data) in [
            (
                r#"{"a":1,"b":[null,"x"]}"#,
                r#"{ "b": [null, "\u0078"], "a": 1.0 }"#,
            ),
            ("9007199254740992", "9007199254740993"),
            ("1", "1"),
        ] {
            assert!(
                is_same(&event(stored, 5000), &event(event_data, 5999)),
                "{stored}"
            );
        }
    }

    #[test]
    fn other_content_is_another_event() {
        let stored = event(r#"{"a":1}"#, 5000);
        for other in [
            r#"{"a":2}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"a":"1"}"#,
            "[1]",
            "no JSON",
        ] {
            assert!(!is_same(&stored, &event(other, 5000)), "{other}");
        }
        assert!(!is_same(&stored, &event(r#"{"a":1}"#, 6000)));
    }
}
