//! MessagePack, to and from a [`Doc`], without recursion. Extension types are
//! undecodable; a key that is a number becomes its text, as in JavaScript.

use rmp::{Marker, decode, encode};

use super::doc::{Builder, Doc, Kind, Step, float_kind};

/// A message; `None` if it is not one whole value.
pub(super) fn read(bytes: &[u8]) -> Option<Doc> {
    let mut reader = Reader {
        rest: bytes,
        builder: Builder::default(),
        open: Vec::new(),
    };
    reader.value()?;
    while !reader.open.is_empty() {
        reader.value()?;
    }
    reader
        .builder
        .finish(None)
        .filter(|_| reader.rest.is_empty())
}

struct Reader<'a> {
    rest: &'a [u8],
    builder: Builder,
    open: Vec<Level>,
}

/// A container with values still to come; of a map, keys and values count.
struct Level {
    left: usize,
    map: bool,
}

impl Reader<'_> {
    /// Reads a scalar, or the head of a container.
    fn value(&mut self) -> Option<()> {
        let marker = decode::read_marker(&mut self.rest).ok()?;
        match marker {
            Marker::FixArray(len) => self.open(usize::from(len), false),
            Marker::Array16 => self.number::<2>().and_then(|len| self.open(len, false)),
            Marker::Array32 => self.number::<4>().and_then(|len| self.open(len, false)),
            Marker::FixMap(len) => self.open(usize::from(len), true),
            Marker::Map16 => self.number::<2>().and_then(|len| self.open(len, true)),
            Marker::Map32 => self.number::<4>().and_then(|len| self.open(len, true)),
            marker => {
                let scalar = self.scalar(marker)?;
                self.add(scalar)
            }
        }
    }

    fn scalar(&mut self, marker: Marker) -> Option<Kind> {
        let integer = |number: i128| Some(Kind::Number(number.to_string().into()));
        match marker {
            Marker::Null => Some(Kind::Null),
            Marker::True => Some(Kind::Bool(true)),
            Marker::False => Some(Kind::Bool(false)),
            Marker::FixPos(number) => integer(number.into()),
            Marker::FixNeg(number) => integer(number.into()),
            Marker::U8 => integer(u8::from_be_bytes(self.array()?).into()),
            Marker::U16 => integer(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => integer(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => integer(u64::from_be_bytes(self.array()?).into()),
            Marker::I8 => integer(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => integer(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => integer(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => integer(i64::from_be_bytes(self.array()?).into()),
            Marker::F32 => Some(float_kind(f32::from_be_bytes(self.array()?).into())),
            Marker::F64 => Some(float_kind(f64::from_be_bytes(self.array()?))),
            Marker::FixStr(len) => self.text(usize::from(len)),
            Marker::Str8 => self.number::<1>().and_then(|len| self.text(len)),
            Marker::Str16 => self.number::<2>().and_then(|len| self.text(len)),
            Marker::Str32 => self.number::<4>().and_then(|len| self.text(len)),
            Marker::Bin8 => self.number::<1>().and_then(|len| self.bytes(len)),
            Marker::Bin16 => self.number::<2>().and_then(|len| self.bytes(len)),
            Marker::Bin32 => self.number::<4>().and_then(|len| self.bytes(len)),
            _ => None,
        }
    }

    fn open(&mut self, len: usize, map: bool) -> Option<()> {
        if self.at_key() {
            return None;
        }
        let kind = if map { Kind::Map } else { Kind::Array };
        self.builder.add(kind, 0..0);
        let left = if map { len.checked_mul(2)? } else { len };
        self.open.push(Level { left, map });
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
        Some(())
    }

    fn at_key(&self) -> bool {
        let level = self.open.last();
        level.is_some_and(|level| level.map && level.left.is_multiple_of(2))
    }

    fn count(&mut self) {
        if let Some(level) = self.open.last_mut() {
            level.left -= 1;
        }
        self.close_full();
    }

    fn close_full(&mut self) {
        while self.open.pop_if(|level| level.left == 0).is_some() {
            self.builder.close(0);
            if let Some(parent) = self.open.last_mut() {
                parent.left -= 1;
            }
        }
    }

    fn text(&mut self, len: usize) -> Option<Kind> {
        let text = String::from_utf8_lossy(self.take(len)?);
        Some(Kind::Text(text.into()))
    }

    fn bytes(&mut self, len: usize) -> Option<Kind> {
        Some(Kind::Bytes(self.take(len)?.into()))
    }

    /// A length of `N` bytes.
    fn number<const N: usize>(&mut self) -> Option<usize> {
        let bytes = self.array::<N>()?;
        let number = bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        usize::try_from(number).ok()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }
}

/// A message as bytes.
pub(super) fn write(doc: &Doc) -> Vec<u8> {
    const TAKES_ALL: &str = "a vector takes everything";
    let mut out = Vec::new();
    let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    doc.root().walk(|step| match step {
        Step::Open(value) if value.is_map() => {
            encode::write_map_len(&mut out, length(value.len())).expect(TAKES_ALL);
        }
        Step::Open(value) => {
            encode::write_array_len(&mut out, length(value.len())).expect(TAKES_ALL);
        }
        Step::Scalar(Kind::Text(text)) => encode::write_str(&mut out, text).expect(TAKES_ALL),
        Step::Scalar(Kind::Bytes(bytes)) => encode::write_bin(&mut out, bytes).expect(TAKES_ALL),
        Step::Scalar(Kind::Bool(truth)) => encode::write_bool(&mut out, *truth).expect(TAKES_ALL),
        Step::Scalar(Kind::Number(text)) => {
            if let Ok(number) = text.parse::<i64>() {
                encode::write_sint(&mut out, number).expect(TAKES_ALL);
            } else if let Ok(number) = text.parse::<u64>() {
                encode::write_uint(&mut out, number).expect(TAKES_ALL);
            } else {
                let number = text.parse().unwrap_or(f64::NAN);
                encode::write_f64(&mut out, number).expect(TAKES_ALL);
            }
        }
        Step::Scalar(_) => encode::write_nil(&mut out).expect(TAKES_ALL),
        Step::Close(_) | Step::Comma | Step::Colon => {}
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::futoin::json;

    #[test]
    fn samples_of_the_original() {
        let doc = json::read(br#"{"r":{"echo":5}}"#).expect("JSON");
        assert_eq!(write(&doc), b"\x81\xa1r\x81\xa4echo\x05");
        let doc = read(b"\x81\xa1r\x81\xa4echo\x05").expect("MessagePack");
        assert_eq!(doc.root().json(), r#"{"r":{"echo":5}}"#);
    }

    #[test]
    fn all_kinds_travel() {
        let text = r#"{"a":[1,-1,300,70000,-70000,5000000000,-5000000000,18446744073709551615,1.5,1e+300],"b":{"c":[],"d":{},"e":null,"f":true,"g":"é"}}"#;
        let doc = json::read(text.as_bytes()).expect("JSON");
        let again = read(&write(&doc)).expect("MessagePack");
        assert_eq!(again.root().json(), text);
    }

    #[test]
    fn broken_input_is_nothing() {
        for bad in [
            b"".as_slice(),
            b"\x81",
            b"\x81\xa1",
            b"\x81\xc0\x01",
            b"\x81\x90\x01",
            b"\xdf\xff\xff\xff\xff",
            b"\xc4\xff",
            b"\xc1",
            b"\xd4\x00\x00",
            b"\x01\x01",
        ] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
        assert!(read(&vec![0x91; 60_000]).is_none());
        let numbered = read(b"\x81\x01\xc4\x01\x07").expect("a number as key");
        assert_eq!(
            numbered.root().json(),
            r#"{"1":{"type":"Buffer","data":[7]}}"#
        );
    }
}
