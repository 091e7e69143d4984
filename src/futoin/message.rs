//! The envelope of answers: what stands in them and in which order.

use super::{doc::quoted, json, mac::Signing};

/// An error as it goes to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// One of the names that clients know.
    pub(super) name: &'static str,
    /// For people.
    pub(super) detail: Option<String>,
}

impl Fault {
    pub(super) fn new(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            detail: Some(detail.into()),
        }
    }

    pub(super) fn bare(name: &'static str) -> Self {
        Self { name, detail: None }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new("InvalidRequest", detail)
    }

    pub(super) fn security(detail: &'static str) -> Self {
        Self::new("SecurityError", detail)
    }

    /// What the original says when it has no better word.
    pub(super) fn unexpected() -> Self {
        Self::new("InternalError", "Not expected error")
    }
}

/// A result as JSON, or an error.
pub(super) type Outcome = Result<String, Fault>;

/// The answer as JSON. `rid` is JSON already.
pub(super) fn answer(outcome: &Outcome, rid: Option<&str>, signing: Option<&Signing>) -> String {
    let rid = |text: &mut String| {
        if let Some(rid) = rid {
            text.push_str(r#","rid":"#);
            text.push_str(rid);
        }
    };
    let mut text = String::new();
    match outcome {
        Ok(result) => {
            text.push_str(r#","r":"#);
            text.push_str(result);
            rid(&mut text);
        }
        Err(Fault { name, detail }) => {
            rid(&mut text);
            text.push_str(r#","e":"#);
            text.push_str(&quoted(name));
            if let Some(detail) = detail {
                text.push_str(r#","edesc":"#);
                text.push_str(&quoted(detail));
            }
        }
    }
    // Each entry came with the comma before it.
    text.replace_range(..1, "{");
    text.push('}');
    if let Some(signing) = signing
        && let Some(doc) = json::read(text.as_bytes())
    {
        let signature = signing.sign(doc.root());
        text.truncate(text.len() - 1);
        text.push_str(r#","sec":"#);
        text.push_str(&quoted(&signature));
        text.push('}');
    }
    text
}

/// The most that an envelope adds to its result: `rid` apart, the signature of
/// the longest code and the keys.
pub(super) const ENVELOPE: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_the_order_of_the_original() {
        let fault = Fault::invalid("a\"b");
        assert_eq!(
            answer(&Err(fault), Some("\"C1\""), None),
            r#"{"rid":"C1","e":"InvalidRequest","edesc":"a\"b"}"#
        );
        assert_eq!(
            answer(&Err(Fault::bare("NotRegistered")), None, None),
            r#"{"e":"NotRegistered"}"#
        );
        assert_eq!(
            answer(&Ok("true".to_owned()), Some("null"), None),
            r#"{"r":true,"rid":null}"#
        );
    }
}
