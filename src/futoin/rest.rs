//! The REST form: a message from a path and a query.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use super::{
    check,
    doc::quoted,
    interface::{Function, Type},
    json,
};

/// The message that `/{interface}/{version}/{function}[/{sec}]` means, as JSON.
/// What is missing is missing in it.
pub(super) fn message(path: &str, query: &str, authorization: Option<&str>) -> String {
    let mut segments = path.trim_start_matches('/').splitn(5, '/');
    let f: Vec<&str> = segments.by_ref().take(3).collect();
    let function = f.get(2).copied().unwrap_or_default();
    let sec = segments
        .next()
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .or_else(|| authorization.and_then(basic));
    let mut message = format!(
        r#"{{"f":{},"p":{}"#,
        quoted(&f.join(":")),
        params(function, query)
    );
    if let Some(sec) = sec {
        message.push_str(r#","sec":"#);
        message.push_str(&quoted(&sec));
    }
    message.push('}');
    message
}

fn basic(authorization: &str) -> Option<String> {
    let (scheme, credentials) = authorization.split_once(' ')?;
    let credentials = STANDARD.decode(credentials.trim()).ok()?;
    let basic = scheme.eq_ignore_ascii_case("basic");
    String::from_utf8(credentials).ok().filter(|_| basic)
}

/// The query as a JSON map.
fn params(function: &str, query: &str) -> String {
    let mut params: Vec<(String, Vec<String>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, text) = (decoded(name), decoded(text));
        match params.iter_mut().find(|(known, _)| *known == name) {
            Some((_, texts)) => texts.push(text),
            None => params.push((name, vec![text])),
        }
    }
    let entries: Vec<String> = params
        .iter()
        .map(|(name, texts)| {
            format!(
                "{}:{}",
                quoted(name),
                value(declared(function, name), texts)
            )
        })
        .collect();
    format!("{{{}}}", entries.join(","))
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

fn declared(function: &str, name: &str) -> Option<Type> {
    let function = Function::ALL
        .into_iter()
        .find(|known| known.name() == function)?;
    let param = function.params().iter().find(|param| param.name == name)?;
    Some(param.kind)
}

/// A text that is what was declared stays one; else it may be JSON of it. What
/// is neither stays a text too, for the check to name it.
fn value(kind: Option<Type>, texts: &[String]) -> String {
    let strings: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    let [text] = texts else {
        return format!("[{}]", strings.join(","));
    };
    let string = &strings[0];
    let is_one = kind.is_none_or(|kind| {
        json::read(string.as_bytes()).is_some_and(|doc| check::is(kind, doc.root()))
    });
    if !is_one && serde_json::from_str::<&RawValue>(text).is_ok() {
        return text.clone();
    }
    string.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_become_a_message() {
        for (path, query, expected) in [
            (
                "/futoin.ping/1.0/ping",
                "echo=5",
                r#"{"f":"futoin.ping:1.0:ping","p":{"echo":5}}"#,
            ),
            (
                "/futoin.ping/1.0/ping/user%3Apass/more",
                "echo=abc",
                r#"{"f":"futoin.ping:1.0:ping","p":{"echo":"abc"},"sec":"user:pass"}"#,
            ),
            (
                "/futoin.evt.gen/1.1/addEvent",
                "type=A&data=1",
                r#"{"f":"futoin.evt.gen:1.1:addEvent","p":{"type":"A","data":"1"}}"#,
            ),
            (
                "/futoin.evt.poll/1.1/pollEvents/",
                "component=C+D&last_id=17&want=%5B%22A%22%5D",
                r#"{"f":"futoin.evt.poll:1.1:pollEvents","p":{"component":"C D","last_id":"17","want":["A"]}}"#,
            ),
            (
                "/i/v/pollEvents",
                "want=A&want=B&&x",
                r#"{"f":"i:v:pollEvents","p":{"want":["A","B"],"x":""}}"#,
            ),
            ("/a", "", r#"{"f":"a","p":{}}"#),
            ("//", "=", r#"{"f":"","p":{"":""}}"#),
        ] {
            assert_eq!(message(path, query, None), expected);
        }
        let basic = message("/a/b/c/", "", Some("Basic dXNlcjpwYXNz"));
        assert_eq!(basic, r#"{"f":"a:b:c","p":{},"sec":"user:pass"}"#);
        for other in ["Basic !", "Bearer dXNlcjpwYXNz", "x", ""] {
            assert_eq!(
                message("/a/b/c", "", Some(other)),
                r#"{"f":"a:b:c","p":{}}"#
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_a_message(path in ".{0,40}", query in ".{0,40}", authorization in ".{0,20}") {
            let message = message(&path, &query, Some(&authorization));
            proptest::prop_assert!(json::read(message.as_bytes()).is_some(), "{}", message);
        }
    }
}
