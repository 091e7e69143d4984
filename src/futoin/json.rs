//! Reading JSON into a [`Doc`].
//!
//! `serde_json` judges the text without recursion; what is left to do here may
//! then rely on it being JSON. Numbers are not touched and strings with a lone
//! surrogate are taken, as JavaScript does.

use serde_json::value::RawValue;

use super::doc::{Builder, Doc, Kind};

/// A message; `None` if it is not one JSON value.
pub(super) fn read(bytes: &[u8]) -> Option<Doc> {
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str::<&RawValue>(text).ok()?;
    let mut builder = Builder::default();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b'{' => open(&mut builder, Kind::Map, at),
            b'[' => open(&mut builder, Kind::Array, at),
            b'}' | b']' => {
                builder.close(at + 1);
                at + 1
            }
            b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' => at + 1,
            b'"' => {
                let end = string_end(bytes, at + 1);
                builder.add(Kind::Text(unescaped(&text[at + 1..end])), at..end + 1);
                end + 1
            }
            _ => {
                let end = word_end(bytes, at);
                builder.add(word(&text[at..end]), at..end);
                end
            }
        };
    }
    builder.finish(Some(text.into()))
}

fn open(builder: &mut Builder, kind: Kind, at: usize) -> usize {
    builder.add(kind, at..at);
    at + 1
}

/// Where the closing quote is.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

fn word_end(bytes: &[u8], at: usize) -> usize {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    // At least one byte, whatever it is: the loop above must come to an end.
    let length = bytes[at..].iter().take_while(|byte| part(byte)).count();
    at + length.max(1)
}

fn word(text: &str) -> Kind {
    match text {
        "null" => Kind::Null,
        "true" => Kind::Bool(true),
        "false" => Kind::Bool(false),
        number => Kind::Number(number.into()),
    }
}

fn unescaped(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut letters = escape.chars();
        let letter = letters.next().unwrap_or('\\');
        rest = letters.as_str();
        out.push(match letter {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => unicode(&mut rest),
            itself => itself,
        });
    }
    out.push_str(rest);
    out.into()
}

/// Reads the digits after `\u`, and the second half of a surrogate pair.
fn unicode(rest: &mut &str) -> char {
    let first = hex(rest);
    *rest = rest.get(4..).unwrap_or("");
    let second = rest.strip_prefix("\\u").map(hex);
    match (first, second) {
        (0xD800..0xDC00, Some(second @ 0xDC00..0xE000)) => {
            *rest = rest.get(6..).unwrap_or("");
            let pair = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        // A lone surrogate is none.
        (first, _) => char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

fn hex(text: &str) -> u32 {
    let digits = text.get(..4).unwrap_or("");
    u32::from_str_radix(digits, 16).unwrap_or(0xFFFD)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_kept_and_numbers_are_javascript_s() {
        let text = r#" {"a":[1.0,{"b":null}],"k\u00e9\n":"\ud83d\ude00\ud800x","n":12345678901234567890,"a":-0} "#;
        let doc = read(text.as_bytes()).expect("JSON");
        let root = doc.root();
        assert_eq!(root.json(), text.trim());
        let keys: Vec<_> = root.entries().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "ké\n", "n", "a"]);
        assert_eq!(root.get("a").expect("the last").js_text(), "0");
        assert_eq!(root.get("ké\n").expect("there").text(), Some("😀\u{fffd}x"));
        assert_eq!(
            root.get("n").expect("there").js_text(),
            "12345678901234567000"
        );
        let first = root.entries().next().expect("there").1;
        assert_eq!(first.json(), r#"[1.0,{"b":null}]"#);
        assert_eq!(first.js_text(), "1,[object Object]");
        assert_eq!((first.len(), root.len()), (2, 4));
    }

    #[test]
    fn what_is_no_json_is_nothing() {
        for bad in [
            "",
            " ",
            "{",
            "{}x",
            "\u{feff}{}",
            "[1,]",
            "'a'",
            "01",
            "nul",
        ] {
            assert!(read(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(read(b"\"\xff\"").is_none());
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(32_000), "]".repeat(32_000));
        let doc = read(deep.as_bytes()).expect("JSON");
        assert_eq!(doc.root().json(), deep);
        assert_eq!(doc.root().js_text(), "");
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"(\[|\]|\{|\}|"a"|"\\u12ab"|"\\n"|:|,| |1|-2\.5e3|true|null){0,12}"#) {
            let judged = serde_json::from_str::<serde_json::Value>(&text);
            let doc = read(text.as_bytes());
            prop_assert_eq!(judged.is_ok(), doc.is_some());
            if let (Ok(judged), Some(doc)) = (judged, doc) {
                let written: serde_json::Value = serde_json::from_str(&doc.root().written()).unwrap();
                prop_assert_eq!(judged, written);
            }
        }

        #[test]
        fn strings_are_those_of_serde_json(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let doc = read(json.as_bytes()).unwrap();
            prop_assert_eq!(doc.root().text(), Some(text.as_str()));
        }
    }
}
