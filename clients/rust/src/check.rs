//! The rules of the contract that are checked before anything is sent.

use serde::de::IgnoredAny;

use crate::error::Invalid;

const MAX_DATA: usize = 8 << 20;
const MAX_TYPE: usize = 16;

/// `^[A-Z_]{1,16}$`.
pub(crate) fn event_type(event_type: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    if (1..=MAX_TYPE).contains(&event_type.len()) && event_type.bytes().all(allowed) {
        return Ok(());
    }
    Err(Invalid {
        field: "type",
        rule: "must match ^[A-Z_]{1,16}$".to_owned(),
    })
}

/// Well-formed JSON of at most 8 MiB.
pub(crate) fn data(text: &str) -> Result<(), Invalid> {
    data_size(text)?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| data_error(&error))?;
    Ok(())
}

pub(crate) fn data_size(text: &str) -> Result<(), Invalid> {
    if text.len() <= MAX_DATA {
        return Ok(());
    }
    Err(Invalid {
        field: "data_json",
        rule: format!("must be at most {MAX_DATA} bytes, but has {}", text.len()),
    })
}

pub(crate) fn data_error(error: &serde_json::Error) -> Invalid {
    Invalid {
        field: "data_json",
        rule: format!("must be well-formed JSON: {error}"),
    }
}

/// Letters, digits, `_`, and one `.` between schema and table.
#[cfg(any(
    feature = "sqlx-sqlite",
    feature = "sqlx-postgres",
    feature = "sqlx-mysql",
    feature = "tokio-postgres"
))]
pub(crate) fn table(name: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let part = |part: &str| !part.is_empty() && part.bytes().all(allowed);
    let (schema, table) = name.split_once('.').unwrap_or(("schema", name));
    if part(schema) && part(table) {
        return Ok(());
    }
    Err(Invalid {
        field: "table",
        rule: "must be letters, digits and _, with one . after a schema".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for right in ["A", "_", "ORDER_PAID", "ABCDEFGHIJKLMNOP"] {
            assert_eq!(event_type(right), Ok(()), "{right}");
        }
        for wrong in ["", "a", "A1", "A B", "Ä", "ABCDEFGHIJKLMNOPQ", "A\n"] {
            assert_eq!(event_type(wrong).unwrap_err().field, "type", "{wrong:?}");
        }
    }

    #[test]
    fn texts() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for right in ["1", "null", " {\"a\" : [1e400, 9007199254740993]} ", &deep] {
            assert_eq!(data(right), Ok(()));
        }
        for wrong in ["", "{", "nul", "1 2", "{'a':1}", "\"\u{1}\"", "NaN"] {
            assert_eq!(data(wrong).unwrap_err().field, "data_json", "{wrong:?}");
        }
        let most = format!("\"{}\"", "x".repeat(MAX_DATA - 2));
        assert_eq!(data(&most), Ok(()));
        let more = format!("\"{}\"", "x".repeat(MAX_DATA - 1));
        assert!(data(&more).unwrap_err().rule.contains("at most"));
    }

    #[cfg(any(
        feature = "sqlx-sqlite",
        feature = "sqlx-postgres",
        feature = "sqlx-mysql",
        feature = "tokio-postgres"
    ))]
    #[test]
    fn tables() {
        for right in ["evt_queue", "shop.evt_queue", "Q2"] {
            assert_eq!(table(right), Ok(()), "{right}");
        }
        for wrong in ["", ".", "a.", ".a", "a.b.c", "a b", "a;", "\"a\"", "ä"] {
            assert_eq!(table(wrong).unwrap_err().field, "table", "{wrong:?}");
        }
    }
}
