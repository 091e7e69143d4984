//! What the text of an option means. Each reader is a pure function from a
//! text to a value or to the rule it breaks, worded to follow the text:
//! `"foo" is not …`, `"70s" must be …`. No rule ever repeats the text.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{DbUrl, Galera, LatePolicy, MysqlUrl, Place, PostgresUrl, Synchronous};
use crate::event::Pattern;
use crate::limits;
use crate::listen::Address;
use crate::telemetry::{self, LogFormat};
use crate::upkeep::ExpiryRule;

pub(super) type Read<T> = Result<T, String>;

const UNITS_OF_TIME: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const UNITS_OF_SIZE: [(&str, u64); 4] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

pub(super) fn boolean(text: &str) -> Read<bool> {
    text.parse().map_err(|_| "is not true or false".to_owned())
}

/// `None`: as it fits the rest.
pub(super) fn on_off_or_auto(text: &str) -> Read<Option<bool>> {
    match text {
        "auto" => Ok(None),
        "on" | "true" => Ok(Some(true)),
        "off" | "false" => Ok(Some(false)),
        _ => Err("is not one of auto, on, off".to_owned()),
    }
}

pub(super) fn address(text: &str) -> Read<Address> {
    is(text)
}

pub(super) fn address_or_off(text: &str) -> Read<Option<Address>> {
    match text {
        "off" => Ok(None),
        _ => address(text)
            .map(Some)
            .map_err(|rule| format!("{rule}, or off")),
    }
}

pub(super) fn log_format(text: &str) -> Read<LogFormat> {
    is(text)
}

pub(super) fn log_filter(text: &str) -> Read<String> {
    telemetry::check_filter(text)
        .map(|()| text.to_owned())
        .map_err(|error| format!("is not a log filter: {error}"))
}

/// Where a collector is, or nothing.
pub(super) fn endpoint_or_none(text: &str) -> Read<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    let uri = text.parse::<http::Uri>().ok();
    let known = uri.filter(|uri| {
        // A password there would be in the log.
        let host = uri.authority().filter(|host| !host.as_str().contains('@'));
        matches!(uri.scheme_str(), Some("http" | "https")) && host.is_some()
    });
    known
        .map(|_| Some(text.to_owned()))
        .ok_or_else(|| "is not a URL like http://127.0.0.1:4317 without a user".to_owned())
}

pub(super) fn service_name(text: &str) -> Read<String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("is not a name".to_owned());
    }
    Ok(text.to_owned())
}

/// A share from 0 to 1, in millionths.
pub(super) fn per_million(text: &str) -> Read<u32> {
    let share = text
        .parse::<f64>()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    let share = share.ok_or("is not a number from 0 to 1")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is from 0 to a million"
    )]
    Ok((share * 1e6).round() as u32)
}

pub(super) fn synchronous(text: &str) -> Read<Synchronous> {
    match text {
        "normal" => Ok(Synchronous::Normal),
        "full" => Ok(Synchronous::Full),
        "extra" => Ok(Synchronous::Extra),
        _ => Err("is not one of full, normal, extra".to_owned()),
    }
}

pub(super) fn late_policy(text: &str) -> Read<LatePolicy> {
    match text {
        "alarm" => Ok(LatePolicy::Alarm),
        "rewind" => Ok(LatePolicy::Rewind),
        _ => Err("is not one of alarm, rewind".to_owned()),
    }
}

pub(super) fn galera(text: &str) -> Read<Galera> {
    match text {
        "refuse" => Ok(Galera::Refuse),
        "single-writer" => Ok(Galera::SingleWriter),
        _ => Err("is not one of refuse, single-writer".to_owned()),
    }
}

/// A table's name, as it can stand in SQL of every engine without quotes.
///
/// # Errors
/// The rule it breaks.
pub fn identifier(text: &str) -> Read<String> {
    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let all = text
        .bytes()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    if first && all && text.len() <= 48 {
        return Ok(text.to_owned());
    }
    Err("is not a name of a-z, 0-9 and _, up to 48, that begins with no digit".to_owned())
}

/// The name of a schema, or nothing.
pub(super) fn schema(text: &str) -> Read<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    identifier(text).map(Some)
}

pub(super) fn db_url(text: &str) -> Read<DbUrl> {
    let (scheme, rest) = text
        .split_once(':')
        .ok_or("is not a database URL like sqlite:eventstream.db")?;
    match scheme {
        "sqlite" => sqlite_path(rest).map(DbUrl::Sqlite),
        // What is wrong inside is not told: it may hold the password.
        "postgres" | "postgresql" => PostgresUrl::parse(text).map(DbUrl::Postgres),
        "mysql" | "mariadb" => MysqlUrl::parse(text)
            .map(DbUrl::Mysql)
            .map_err(str::to_owned),
        // The scheme may be the user of a URL that lost its scheme.
        _ => Err("is not a database URL like sqlite:eventstream.db".to_owned()),
    }
}

/// A database for the history, from its URL.
///
/// # Errors
/// The rule it breaks, without the text.
pub fn place(text: &str) -> Read<Place> {
    db_url(text).map(|url| match url {
        DbUrl::Sqlite(path) => Place::Sqlite(path),
        DbUrl::Postgres(url) => Place::Postgres(url),
        DbUrl::Mysql(url) => Place::Mysql(url),
    })
}

/// The same, or nothing.
pub(super) fn place_or_none(text: &str) -> Read<Option<Place>> {
    if text.is_empty() {
        return Ok(None);
    }
    place(text).map(Some)
}

fn sqlite_path(rest: &str) -> Read<PathBuf> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.starts_with(":memory:") {
        return Err(
            "names no file; events in memory would be lost with the process, and its \
             connections could not share them"
                .to_owned(),
        );
    }
    if path.contains('?') {
        return Err("has parameters after ?, which are options of their own here".to_owned());
    }
    Ok(PathBuf::from(path))
}

/// Rules such as `web:TMP_* warn=1d unregister=7d`, separated by `;`.
pub(super) fn expiry_rules(text: &str) -> Read<Vec<ExpiryRule>> {
    let texts = text
        .split(';')
        .map(str::trim)
        .filter(|rule| !rule.is_empty());
    let rules: Vec<_> = texts.map(expiry_rule).collect::<Read<_>>()?;
    if rules.len() > limits::MAX_EXPIRY_RULES {
        return Err(format!(
            "must be at most {} rules",
            limits::MAX_EXPIRY_RULES
        ));
    }
    Ok(rules)
}

fn expiry_rule(text: &str) -> Read<ExpiryRule> {
    const RULE: &str = "is not of rules like USER:COMPONENT warn=7d unregister=30d";
    let read = duration(Duration::from_secs(1), Duration::from_hours(24 * 3660));
    let mut words = text.split_whitespace();
    let pattern = words
        .next()
        .filter(|word| !word.contains('='))
        .ok_or(RULE)?;
    let mut rule = ExpiryRule {
        pattern: Pattern::new(pattern),
        warn: None,
        unregister: None,
    };
    for word in words {
        let (what, after) = word.split_once('=').ok_or(RULE)?;
        let time = match what {
            "warn" => &mut rule.warn,
            "unregister" => &mut rule.unregister,
            _ => return Err(RULE.to_owned()),
        };
        let after = read(after).map_err(|error| format!("has a {what} that {error}"))?;
        if time.replace(after).is_some() {
            return Err(format!("has a rule with two {what}"));
        }
    }
    match (rule.warn, rule.unregister) {
        (None, None) => Err(RULE.to_owned()),
        (Some(warn), Some(unregister)) if warn >= unregister => {
            Err("has a rule whose warn is not before its unregister".to_owned())
        }
        _ => Ok(rule),
    }
}

/// A whole number within these bounds.
pub(super) fn count<T>(min: T, max: T) -> impl Fn(&str) -> Read<T>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| {
        let number = text
            .parse::<T>()
            .map_err(|_| format!("is not a whole number from {min} to {max}"))?;
        if number < min || number > max {
            return Err(format!("must be from {min} to {max}"));
        }
        Ok(number)
    }
}

/// A duration within these bounds.
pub(super) fn duration(min: Duration, max: Duration) -> impl Fn(&str) -> Read<Duration> {
    move |text| {
        let read = scaled(text, &UNITS_OF_TIME).map(Duration::from_millis);
        let duration = read.ok_or("is not a duration like 250ms, 5s, 10m or 1h")?;
        if duration < min || duration > max {
            return Err(format!("must be from {min:?} to {max:?}"));
        }
        Ok(duration)
    }
}

/// A number of bytes within these bounds.
pub(super) fn size(min: usize, max: usize) -> impl Fn(&str) -> Read<usize> {
    move |text| {
        let read = scaled(text, &UNITS_OF_SIZE).or_else(|| text.parse().ok());
        let bytes = read.ok_or("is not a size like 512KiB or 64MiB")?;
        match usize::try_from(bytes) {
            Ok(bytes) if (min..=max).contains(&bytes) => Ok(bytes),
            _ => Err(format!("must be from {min} to {max} bytes")),
        }
    }
}

/// A whole number followed by a unit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A type whose error already says what it is not.
fn is<T: FromStr<Err: Display>>(text: &str) -> Read<T> {
    text.parse().map_err(|error| format!("is {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let read = duration(Duration::from_millis(1), Duration::from_hours(24));
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(read(text), Ok(Duration::from_millis(millis)));
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 s",
            "5S",
            "99999999999999999999s",
        ] {
            assert!(read(text).unwrap_err().starts_with("is not"), "{text}");
        }
        for text in ["0s", "25h", "18446744073709551615ms"] {
            assert!(read(text).unwrap_err().starts_with("must be"), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let read = size(1, 1 << 30);
        for (text, bytes) in [("1", 1), ("7B", 7), ("2KiB", 2048), ("64MiB", 64 << 20)] {
            assert_eq!(read(text), Ok(bytes));
        }
        for text in ["", "64MB", "MiB", "-1", "1e3"] {
            assert!(read(text).unwrap_err().starts_with("is not"), "{text}");
        }
        for text in ["0", "2GiB"] {
            assert!(read(text).unwrap_err().starts_with("must be"), "{text}");
        }
    }

    #[test]
    fn counts() {
        let read = count(1_u32, 64);
        assert_eq!(read("64"), Ok(64));
        for text in ["0", "65", "-1", "1.0", "many", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn database_urls() {
        for (text, path) in [
            ("sqlite:es.db", "es.db"),
            ("sqlite://es.db", "es.db"),
            ("sqlite:///var/es.db", "/var/es.db"),
            ("sqlite:/var/es.db", "/var/es.db"),
        ] {
            assert_eq!(db_url(text), Ok(DbUrl::Sqlite(path.into())));
        }
        for (text, word) in [
            ("es.db", "like sqlite:"),
            ("sqlite:", "names no file"),
            ("sqlite::memory:", "in memory"),
            ("sqlite:a.db?mode=ro", "parameters"),
            ("postgres://u:secret@h:port/d", "like postgres://USER"),
            ("mysql://u:secret@h", "names no database"),
            ("mysql://u:secret@h:port/d", "like mysql://USER"),
            ("secret:x@h", "like sqlite:"),
        ] {
            let rule = db_url(text).unwrap_err();
            assert!(rule.contains(word) && !rule.contains("secret"), "{rule}");
        }
    }

    #[test]
    fn rules_of_expiry() {
        assert_eq!(expiry_rules(""), Ok(Vec::new()));
        let rules = expiry_rules("web:TMP_* warn=1d unregister=7d; * warn=2h;").unwrap();
        let hours = |hours| Some(Duration::from_hours(hours));
        let read: Vec<_> = rules
            .iter()
            .map(|rule| (rule.pattern.as_str(), rule.warn, rule.unregister))
            .collect();
        assert_eq!(
            read,
            [("web:TMP_*", hours(24), hours(168)), ("*", hours(2), None)]
        );
        for (text, word) in [
            ("*", "like USER"),
            ("warn=1d", "like USER"),
            ("* warn", "like USER"),
            ("* delete=1d", "like USER"),
            ("* warn=1d warn=2d", "two warn"),
            ("* warn=soon", "that is not a duration"),
            ("* unregister=0s", "that must be"),
            ("* warn=2d unregister=1d", "not before"),
        ] {
            let rule = expiry_rules(text).unwrap_err();
            assert!(rule.contains(word), "{text}: {rule}");
        }
    }

    #[test]
    fn postgres_urls() {
        for text in [
            "postgres://u:secret@h/d",
            "postgresql://h:5433/d?sslmode=require",
            "postgres:///d?host=/run/postgresql",
        ] {
            assert!(matches!(db_url(text), Ok(DbUrl::Postgres(_))), "{text}");
        }
    }

    #[test]
    fn mysql_urls() {
        for text in [
            "mysql://u:secret@h/d",
            "mariadb://u@h:3307/d?ssl-mode=VERIFY_IDENTITY",
            "mysql://u@localhost/d?socket=/run/mysqld/mysqld.sock",
        ] {
            assert!(matches!(db_url(text), Ok(DbUrl::Mysql(_))), "{text}");
        }
    }

    #[test]
    fn table_names() {
        for text in ["evt_queue", "_a1", "a"] {
            assert!(identifier(text).is_ok(), "{text}");
        }
        for text in ["", "1a", "Evt", "a-b", "a;b", "é", &"a".repeat(49)] {
            assert!(identifier(text).is_err(), "{text}");
        }
    }
}
