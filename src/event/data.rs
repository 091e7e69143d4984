//! Event data: the exact JSON text.

use serde_json::value::RawValue;

use super::Invalid;
use crate::limits;

/// Any JSON value, as the text that was given.
///
/// The text is checked and never re-encoded: numbers of any size, key order,
/// duplicate keys and escapes such as `\u0000` come back as they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventData(Box<str>);

impl EventData {
    /// # Errors
    /// When `text` is longer than [`limits::MAX_EVENT_BYTES`] or no single JSON value.
    pub fn parse(text: String) -> Result<Self, Invalid> {
        if text.len() > limits::MAX_EVENT_BYTES {
            return Err(Invalid::new(format!(
                "must be at most {} bytes of JSON, is {}",
                limits::MAX_EVENT_BYTES,
                text.len()
            )));
        }
        // RawValue skips over the value without recursion, so depth has no limit.
        serde_json::from_str::<&RawValue>(&text)
            .map_err(|error| Invalid::new(format!("must be JSON: {error}")))?;
        Ok(Self(text.into_boxed_str()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_to_the_letter() {
        let texts = [
            "null",
            " 1.0\n",
            "12345678901234567890",
            r#"{"b":1,"a":2,"b":3}"#,
            r#""\u0000\ud800""#,
            "1e400",
        ];
        for text in texts {
            assert_eq!(
                EventData::parse(text.to_owned()).expect("valid").as_str(),
                text
            );
        }
    }

    #[test]
    fn depth_has_no_limit() {
        let deep = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
        assert!(EventData::parse(deep).is_ok());
        let open = "[".repeat(4000);
        assert!(EventData::parse(open).is_err());
    }

    #[test]
    fn broken_json_is_told_where() {
        for bad in ["", "{", "{}x", "nul", "'a'", "\u{feff}1", "[1,]", "01"] {
            let rule = EventData::parse(bad.to_owned()).expect_err(bad).rule;
            assert!(rule.starts_with("must be JSON: "), "{bad}: {rule}");
        }
    }

    #[test]
    fn size_has_a_limit() {
        let text = format!("\"{}\"", "x".repeat(limits::MAX_EVENT_BYTES - 2));
        assert!(EventData::parse(text.clone()).is_ok());
        assert!(EventData::parse(format!("{text} ")).is_err());
    }
}
