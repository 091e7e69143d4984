//! The three codings of messages. Which one a message has, its first bytes
//! tell; it is answered in the same.

use super::{cbor, doc::Doc, json, mpck};

/// A coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coder {
    Json,
    Cbor,
    Mpck,
}

/// What stands before CBOR.
const CBOR: &[u8] = b"CBOR";

/// What stands before MessagePack.
const MPCK: &[u8] = b"MPCK";

impl Coder {
    /// Recognises the coding and decodes; no message if it is undecodable.
    pub(super) fn read(bytes: &[u8]) -> (Self, Option<Doc>) {
        if let Some(bytes) = bytes.strip_prefix(CBOR) {
            (Self::Cbor, cbor::read(bytes))
        } else if let Some(bytes) = bytes.strip_prefix(MPCK) {
            (Self::Mpck, mpck::read(bytes))
        } else {
            (Self::Json, json::read(bytes))
        }
    }

    /// A message of JSON in this coding.
    pub(super) fn write(self, json: String) -> Vec<u8> {
        let (prefix, write): (_, fn(&Doc) -> Vec<u8>) = match self {
            Self::Json => return json.into_bytes(),
            Self::Cbor => (CBOR, cbor::write),
            Self::Mpck => (MPCK, mpck::write),
        };
        let doc = json::read(json.as_bytes()).expect("what is answered is JSON");
        [prefix, &write(&doc)].concat()
    }

    /// The size of JSON in this coding, without the prefix.
    pub(super) fn size(self, json: &str) -> usize {
        match self {
            Self::Json => json.len(),
            coder => coder.write(json.to_owned()).len(),
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/futoin+json",
            Self::Cbor => "application/futoin+cbor",
            Self::Mpck => "application/futoin+msgpack",
        }
    }
}
