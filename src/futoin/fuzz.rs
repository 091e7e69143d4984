//! What may come from anybody, thrown at the parts that read it: decoding, the
//! base string of signatures, the judging of messages, the REST form. Nothing
//! may panic, hang or disagree with itself.
//!
//! `fuzz/` runs the same functions without end; the tests here are its bounded
//! run with every `cargo test`.

use super::{
    Served, Users, check,
    coder::Coder,
    doc::{Doc, Value},
    interface, json, mac, rest, security,
};

/// All that is done with a message before a function is run.
///
/// # Panics
/// When the parts disagree about it.
pub fn message(bytes: &[u8]) {
    let (coder, doc) = Coder::read(bytes);
    let Some(doc) = doc else { return };
    let root = doc.root();
    let base = mac::base(root);
    // Every coding carries it to the same meaning.
    let text = root.written();
    let again = json::read(text.as_bytes()).expect("what is written is JSON");
    if coder == Coder::Json {
        assert_eq!(base, mac::base(again.root()));
    }
    for coder in [Coder::Cbor, Coder::Mpck] {
        let bytes = coder.write(text.clone());
        let (same, read) = Coder::read(&bytes);
        assert_eq!(same, coder);
        let read = read.expect("what is written can be read");
        assert_eq!(mac::base(read.root()), mac::base(again.root()), "{coder:?}");
    }
    judge(&doc);
}

fn judge(doc: &Doc) {
    let root = doc.root();
    let _ = root.js_text();
    let users = Users::parse("u secret=s mac=AAEC mmac=AAEC").expect("a user");
    if let Some(sec) = root.get("sec").and_then(Value::text) {
        let _ = security::authenticate(&users, "localhost", sec, root);
    }
    let served = Served {
        generate: true,
        poll: true,
        push: true,
    };
    let Some(f) = root.get("f").and_then(Value::text) else {
        return;
    };
    if let Ok(target) = interface::find(f, served, true) {
        let _ = check::params(root, f, target.function).is_ok();
    }
}

/// A request in the REST form: path, query and `Authorization`, one per line.
///
/// # Panics
/// When it becomes no message.
pub fn rest_form(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let path = lines.next().unwrap_or_default();
    let query = lines.next().unwrap_or_default();
    let message = rest::message(path, query, lines.next());
    let doc = json::read(message.as_bytes()).expect("a message");
    judge(&doc);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    /// Messages to damage.
    const GOOD: [&str; 5] = [
        r#"{"f":"futoin.evt.gen:1.1:addEvent","p":{"type":"USR_NEW","data":{"id":1,"tags":["a","b"],"x":null,"f":2.5,"é":"ü"}},"rid":"C2","sec":"-hmac:u:MD5:Z0d7"}"#,
        r#"{"f":"futoin.evt.poll:1.0:pollEvents","p":{"component":"C","last_id":"17","want":["A"]},"sec":"-mmac:u:HS256:HKDF256:20261121:AAAA"}"#,
        r#"{"r":[{"id":"1","type":"A","data":[-0,1e400,1e-7,12345678901234567890,"\ud800\ud83d\ude00"],"ts":"2026-11-21T17:10:20Z"}],"rid":"S1"}"#,
        r#"{"f":"futoin.ping:1.0:ping","p":[],"forcersp":true,"obf":{},"a":{"a":{"a":{}}},"a":1,"sec":"u:s"}"#,
        r#"{"e":"InternalError","edesc":null,"rid":"S1"}"#,
    ];

    fn damaged(which: usize, coder: Coder, changes: &[(Index, u8)]) -> Vec<u8> {
        let mut bytes = coder.write(GOOD[which].to_owned());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes
    }

    fn coders() -> impl Strategy<Value = Coder> {
        prop_oneof![Just(Coder::Json), Just(Coder::Cbor), Just(Coder::Mpck)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn nearly_good_messages(
            which in 0..GOOD.len(), coder in coders(),
            changes in vec((any::<Index>(), any::<u8>()), 0..8), cut in any::<Index>(), whole: bool
        ) {
            let mut bytes = damaged(which, coder, &changes);
            if !whole {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            message(&bytes);
        }

        #[test]
        fn arbitrary_bytes(prefix in "(CBOR|MPCK)?", bytes in vec(any::<u8>(), 0..200)) {
            message(&[prefix.as_bytes(), &bytes].concat());
        }

        #[test]
        fn json_like_text(text in r#"[\[\]{}:,"\\u0-9dDeE+.\-a-f \x00-\x1f]{0,60}"#) {
            message(text.as_bytes());
        }

        #[test]
        fn rest_requests(text in "(/[a-z.]{0,8}){0,5}.{0,30}\n([a-z_]{0,6}=[^&\n]{0,8}&?){0,4}\n(Basic )?.{0,20}") {
            rest_form(text.as_bytes());
        }

        #[test]
        fn rest_bytes(bytes in vec(any::<u8>(), 0..100)) {
            rest_form(&bytes);
        }
    }
}
