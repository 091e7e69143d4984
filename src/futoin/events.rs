//! Events as FutoIn writes them, and lists of them that fit.
//!
//! Clients judge every event of a list and refuse the whole list for one that
//! breaks FTN18, for ever. So none is sent that does: it blocks whoever wants
//! it, and is called by its id.

use std::fmt::Write as _;

use serde_json::value::RawValue;

use crate::event::{Event, EventId, EventType, Moment};

/// An event that cannot be sent to a caller, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsendable {
    pub(super) id: EventId,
    pub(super) reason: String,
}

/// Events as a JSON list.
#[derive(Debug, Default)]
pub(super) struct List {
    /// With its brackets.
    pub(super) json: String,
    /// Where each event ends in it.
    pub(super) ends: Vec<usize>,
    /// The first event in it.
    pub(super) first_id: Option<EventId>,
}

/// As many of `events` as can be sent in `limit` bytes.
///
/// # Errors
/// If that is not even the first one.
pub(super) fn list<'a>(
    events: impl Iterator<Item = &'a Event>,
    limit: usize,
) -> Result<List, Unsendable> {
    let mut list = List {
        json: "[".to_owned(),
        ..List::default()
    };
    for event in events {
        let before = list.json.len();
        if before > 1 {
            list.json.push(',');
        }
        let written = write(event, &mut list.json);
        // The bracket is still to come.
        let outcome = written.and_then(|()| {
            if list.json.len() < limit {
                return Ok(());
            }
            let size = list.json.len() - before;
            Err(format!("it has {size} bytes, and {limit} can be sent"))
        });
        match outcome {
            Ok(()) => {
                list.ends.push(list.json.len());
                list.first_id.get_or_insert(event.id);
            }
            Err(reason) if list.first_id.is_none() => {
                let id = event.id;
                return Err(Unsendable { id, reason });
            }
            Err(_) => {
                list.json.truncate(before);
                break;
            }
        }
    }
    list.json.push(']');
    Ok(list)
}

impl List {
    /// The first `count` events of it, as JSON.
    pub(super) fn first(&self, count: usize) -> String {
        let end = count.checked_sub(1).and_then(|last| self.ends.get(last));
        format!("{}]", &self.json[..end.copied().unwrap_or(1)])
    }
}

/// FTN18's `Event`.
fn write(event: &Event, out: &mut String) -> Result<(), String> {
    let Event { id, kind, data, .. } = event;
    if let Some(fault) = &event.fault {
        return Err(fault.to_string());
    }
    EventType::parse(kind).map_err(|invalid| format!("its type {invalid}"))?;
    serde_json::from_str::<&RawValue>(data).map_err(|_| "its data is not JSON".to_owned())?;
    let ts = event
        .ts
        .and_then(timestamp)
        .ok_or_else(|| "its time cannot be told".to_owned())?;
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        r#"{{"id":"{id}","type":"{kind}","data":{data},"ts":"{ts}"}}"#
    );
    Ok(())
}

/// `YYYY-MM-DDTHH:MM:SSZ`; `None` outside the years of four digits.
fn timestamp(moment: Moment) -> Option<String> {
    let seconds = moment.unix_millis().div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    (0..=9999).contains(&year).then(|| {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    })
}

/// Year, month and day, `days` after 1970-01-01. Counted from 0000-03-01, so
/// that a leap day is the last one of its year.
fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (
        days.div_euclid(DAYS_OF_400_YEARS),
        days.rem_euclid(DAYS_OF_400_YEARS),
    );
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let first = (153 * month + 2) / 5;
    let (month_of_year, wrapped) = ((month + 2) % 12 + 1, i64::from(month >= 10));
    (era * 400 + year + wrapped, month_of_year, day - first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: i64, data: &str) -> Event {
        Event {
            id: EventId::stored(id),
            kind: "A".into(),
            data: data.into(),
            ts: Some(Moment::from_unix_millis(951_782_399_999)),
            fault: None,
        }
    }

    #[test]
    fn event_is_written_with_its_own_text() {
        let list = list([event(7, r#"{"b":1.0, "a":1}"#)].iter(), 1000).expect("fits");
        assert_eq!(
            list.json,
            r#"[{"id":"7","type":"A","data":{"b":1.0, "a":1},"ts":"2000-02-28T23:59:59Z"}]"#
        );
    }

    #[test]
    fn list_is_cut_where_it_no_longer_fits() {
        let events: Vec<Event> = (1..=3).map(|id| event(id, "1")).collect();
        let whole = list(events.iter(), 1000).expect("fits").json;
        let list_of = |limit| list(events.iter(), limit);
        assert_eq!(list_of(whole.len()).expect("fits").json, whole);
        let cut = list_of(whole.len() - 1).expect("fits");
        assert_eq!(
            (cut.first_id, cut.ends.len()),
            (Some(EventId::stored(1)), 2)
        );
        assert_eq!(cut.json, list(events[..2].iter(), 1000).expect("fits").json);
        assert_eq!(
            cut.first(1),
            list(events[..1].iter(), 1000).expect("fits").json
        );
        assert_eq!(cut.first(0), "[]");
        let none = list_of(50).expect_err("too small");
        assert_eq!(none.id, EventId::stored(1));
    }

    #[test]
    fn what_clients_would_refuse_is_not_sent() {
        let broken = |change: fn(&mut Event)| {
            let mut events = [event(1, "1"), event(2, "1")];
            change(&mut events[1]);
            let cut = list(events.iter(), 1000).expect("the first fits");
            assert_eq!(cut.ends.len(), 1);
            list(events[1..].iter(), 1000).expect_err("broken").reason
        };
        assert!(broken(|event| event.kind = "a".into()).contains("type must match"));
        assert!(broken(|event| event.data = "".into()).contains("not JSON"));
        assert!(broken(|event| event.ts = None).contains("time"));
        let far = Moment::from_unix_millis(i64::MAX);
        assert_eq!(timestamp(far), None);
    }

    #[test]
    fn dates() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_778, (2026, 11, 21)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected);
        }
    }
}
