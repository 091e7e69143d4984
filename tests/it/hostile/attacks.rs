//! The attacks: `frames` are those that HTTP/2 itself allows, `slow` those that
//! keep sockets and give nothing, `content` those whose messages are bad. Each
//! sends a bounded amount, asserts what the server did, and gives an account.

mod content;
mod frames;
mod slow;

use std::{collections::BTreeMap, fmt};

pub use content::{compressed_bombs, hoarded_messages, huge_headers, invalid_text};
pub use frames::{continuation_flood, frame_floods, rapid_reset};
pub use slow::{half_open_tls, idle_sockets, slowloris};

use futoin_eventstream::limits;

/// Bytes that one connection may cost: what may be sent ahead, and the headers
/// of all its streams.
const CONNECTION: usize = limits::HTTP2_CONNECTION_WINDOW as usize
    + limits::MAX_CONNECTION_STREAMS as usize * limits::MAX_HEADER_BYTES;

/// How often each answer came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count(BTreeMap<String, usize>);

impl Count {
    fn note(&mut self, answer: impl Into<String>) {
        *self.0.entry(answer.into()).or_default() += 1;
    }

    /// Whether this came so often, and nothing else.
    #[track_caller]
    fn is_all(&self, answer: &str, count: usize) {
        assert!(count > 0);
        let all = BTreeMap::from([(answer.to_owned(), count)]);
        assert_eq!(self.0, all);
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self
            .0
            .iter()
            .map(|(name, count)| format!("{count} × {name}"))
            .collect();
        f.write_str(&all.join(", "))
    }
}

/// As HTTP/2 names its errors.
fn error_name(code: Option<u32>) -> String {
    match code {
        None => "closed".to_owned(),
        Some(0) => "NO_ERROR".to_owned(),
        Some(1) => "PROTOCOL_ERROR".to_owned(),
        Some(3) => "FLOW_CONTROL_ERROR".to_owned(),
        Some(6) => "FRAME_SIZE_ERROR".to_owned(),
        Some(9) => "COMPRESSION_ERROR".to_owned(),
        Some(11) => "ENHANCE_YOUR_CALM".to_owned(),
        Some(code) => format!("error {code}"),
    }
}
