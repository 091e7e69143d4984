//! CBOR, to and from a [`Doc`], without recursion. Tags are passed over; a key
//! that is a number becomes its text, as in JavaScript.

use ciborium_ll::{Decoder, Encoder, Header, simple};

use super::doc::{Builder, Doc, Kind, Step, float_kind};

/// A message; `None` if it is not one whole value.
pub(super) fn read(bytes: &[u8]) -> Option<Doc> {
    let mut reader = Reader {
        decoder: Decoder::from(bytes),
        builder: Builder::default(),
        open: Vec::new(),
    };
    while reader.item()? || !reader.open.is_empty() {}
    let whole = reader.decoder.offset() == bytes.len();
    reader.builder.finish(None).filter(|_| whole)
}

struct Reader<'a> {
    decoder: Decoder<&'a [u8]>,
    builder: Builder,
    open: Vec<Level>,
}

/// A container with values still to come; of a map, keys and values count.
struct Level {
    /// `None`: until a break.
    left: Option<usize>,
    count: usize,
    map: bool,
}

impl Reader<'_> {
    /// Reads one header and what belongs to it; true if that was only a tag.
    fn item(&mut self) -> Option<bool> {
        let integer = |number: i128| Kind::Number(number.to_string().into());
        match self.decoder.pull().ok()? {
            Header::Positive(number) => self.add(integer(number.into()))?,
            Header::Negative(number) => self.add(integer(-1 - i128::from(number)))?,
            Header::Float(number) => self.add(float_kind(number))?,
            Header::Simple(simple::TRUE) => self.add(Kind::Bool(true))?,
            Header::Simple(simple::FALSE) => self.add(Kind::Bool(false))?,
            Header::Simple(_) => self.add(Kind::Null)?,
            Header::Bytes(len) => {
                let bytes = self.bytes(len)?;
                self.add(Kind::Bytes(bytes.into()))?;
            }
            Header::Text(len) => {
                let text = self.text(len)?;
                self.add(Kind::Text(text.into()))?;
            }
            Header::Array(len) => self.open(len, false)?,
            Header::Map(Some(len)) => self.open(Some(len.checked_mul(2)?), true)?,
            Header::Map(None) => self.open(None, true)?,
            Header::Break => self.close_open_ended()?,
            Header::Tag(_) => return Some(true),
        }
        Some(false)
    }

    fn open(&mut self, left: Option<usize>, map: bool) -> Option<()> {
        if self.at_key() {
            return None;
        }
        let kind = if map { Kind::Map } else { Kind::Array };
        self.builder.add(kind, 0..0);
        let count = 0;
        self.open.push(Level { left, count, map });
        self.close_full();
        Some(())
    }

    fn add(&mut self, kind: Kind) -> Option<()> {
        let kind = match (kind, self.at_key()) {
            (Kind::Number(text), true) => Kind::Text(text),
            (kind @ Kind::Text(_), true) | (kind, false) => kind,
            (_, true) => return None,
        };
        self.builder.add(kind, 0..0);
        self.count();
        self.close_full();
        Some(())
    }

    fn at_key(&self) -> bool {
        let level = self.open.last();
        level.is_some_and(|level| level.map && level.count.is_multiple_of(2))
    }

    fn count(&mut self) {
        if let Some(level) = self.open.last_mut() {
            level.count += 1;
        }
    }

    fn close_full(&mut self) {
        while let Some(_full) = self.open.pop_if(|level| level.left == Some(level.count)) {
            self.builder.close(0);
            self.count();
        }
    }

    fn close_open_ended(&mut self) -> Option<()> {
        let level = self.open.pop_if(|level| level.left.is_none())?;
        if level.map && !level.count.is_multiple_of(2) {
            return None;
        }
        self.builder.close(0);
        self.count();
        self.close_full();
        Some(())
    }

    fn text(&mut self, len: Option<usize>) -> Option<String> {
        let mut text = String::new();
        let mut buffer = [0; 1024];
        let mut segments = self.decoder.text(len);
        while let Some(mut segment) = segments.pull().ok()? {
            while let Some(part) = segment.pull(&mut buffer).ok()? {
                text.push_str(part);
            }
        }
        Some(text)
    }

    fn bytes(&mut self, len: Option<usize>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 1024];
        let mut segments = self.decoder.bytes(len);
        while let Some(mut segment) = segments.pull().ok()? {
            while let Some(part) = segment.pull(&mut buffer).ok()? {
                bytes.extend_from_slice(part);
            }
        }
        Some(bytes)
    }
}

/// A message as bytes.
pub(super) fn write(doc: &Doc) -> Vec<u8> {
    const TAKES_ALL: &str = "a vector takes everything";
    let mut out = Vec::new();
    let mut encoder = Encoder::from(&mut out);
    doc.root().walk(|step| {
        let header = match step {
            Step::Open(value) if value.is_map() => Header::Map(Some(value.len())),
            Step::Open(value) => Header::Array(Some(value.len())),
            Step::Scalar(Kind::Text(text)) => {
                return encoder.text(text, None).expect(TAKES_ALL);
            }
            Step::Scalar(Kind::Bytes(bytes)) => {
                return encoder.bytes(bytes, None).expect(TAKES_ALL);
            }
            Step::Scalar(Kind::Number(text)) => number(text),
            Step::Scalar(Kind::Bool(true)) => Header::Simple(simple::TRUE),
            Step::Scalar(Kind::Bool(false)) => Header::Simple(simple::FALSE),
            Step::Scalar(_) => Header::Simple(simple::NULL),
            Step::Close(_) | Step::Comma | Step::Colon => return,
        };
        encoder.push(header).expect(TAKES_ALL);
    });
    out
}

fn number(text: &str) -> Header {
    let float = || Header::Float(text.parse().unwrap_or(f64::NAN));
    match text.parse::<i64>() {
        Ok(number @ ..0) => Header::Negative(!number.cast_unsigned()),
        // `-0` is among them.
        Ok(number) => Header::Positive(number.unsigned_abs()),
        Err(_) => text.parse().map_or_else(|_| float(), Header::Positive),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::futoin::json;

    #[test]
    fn samples_of_the_original() {
        let doc = json::read(br#"{"r":{"echo":5}}"#).expect("JSON");
        assert_eq!(write(&doc), b"\xa1\x61r\xa1\x64echo\x05");
        let doc = read(b"\xa1\x61r\xa1\x64echo\x05").expect("CBOR");
        assert_eq!(doc.root().json(), r#"{"r":{"echo":5}}"#);
    }

    #[test]
    fn all_kinds_travel() {
        let text = r#"{"a":[1,-1,300,70000,-70000,0,5000000000,-5000000000,18446744073709551615,1.5,1e+300],"b":{"c":[],"d":{},"e":null,"f":true,"g":"é"}}"#;
        let doc = json::read(text.as_bytes()).expect("JSON");
        let again = read(&write(&doc)).expect("CBOR");
        assert_eq!(again.root().json(), text);
    }

    #[test]
    fn open_ended_containers_segments_and_tags_are_read() {
        let doc = read(b"\xbf\x61a\x9f\x01\xff\x62bc\x7f\x61x\x61y\xff\xff").expect("CBOR");
        assert_eq!(doc.root().json(), r#"{"a":[1],"bc":"xy"}"#);
        let tagged = read(b"\xa1\x01\xc1\x41\x07").expect("CBOR");
        assert_eq!(
            tagged.root().json(),
            r#"{"1":{"type":"Buffer","data":[7]}}"#
        );
    }

    #[test]
    fn broken_input_is_nothing() {
        for bad in [
            b"".as_slice(),
            b"\xa1",
            b"\xa1\x61",
            b"\xa1\xf6\x01",
            b"\xff",
            b"\xbf\x61a\xff",
            b"\x9f",
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xc1",
            b"\x01\x01",
            b"\x61\xff",
        ] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
        assert!(read(&vec![0x81; 60_000]).is_none());
    }
}
