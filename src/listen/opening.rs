//! The first words of a connection: read until the HTTP/2 preface or the
//! first HTTP/1 header is complete, in bounded time and space, and handed on
//! unread. It decides nothing about what was said; hyper does.

use std::io::Cursor;

use tokio::io::{AsyncRead, AsyncReadExt as _, Chain};
use tokio::time::timeout;

use super::Guards;
use crate::limits;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why a connection did not come to its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not a byte.
    Silent,
    /// The header did not end in time.
    Slow,
    /// Closed by the peer, or broken.
    Gone,
}

/// Waits for the opening and gives back the stream with it.
pub(super) async fn complete<R: AsyncRead + Unpin>(
    mut read: R,
    guards: &Guards,
) -> Result<Chain<Cursor<Vec<u8>>, R>, Fault> {
    let mut buffer = Vec::with_capacity(1024);
    match timeout(guards.first_byte, read.read_buf(&mut buffer)).await {
        Err(_) => return Err(Fault::Silent),
        Ok(Err(_) | Ok(0)) => return Err(Fault::Gone),
        Ok(Ok(_)) => {}
    }
    let rest = async {
        let mut seen = 0;
        while !is_complete(&buffer, seen) {
            seen = buffer.len();
            match read.read_buf(&mut buffer).await {
                Err(_) | Ok(0) => return Err(Fault::Gone),
                Ok(_) => {}
            }
        }
        Ok(())
    };
    timeout(guards.header, rest)
        .await
        .unwrap_or(Err(Fault::Slow))?;
    Ok(Cursor::new(buffer).chain(read))
}

/// Whether hyper will not wait for more before it acts: the preface, the end
/// of a header (bare line feeds are tolerated), or more than a header may have.
/// No end is within the first `seen` bytes: who sends single bytes shall not
/// have the whole looked through for each.
fn is_complete(buffer: &[u8], seen: usize) -> bool {
    if buffer.len() > limits::MAX_HEADER_BYTES {
        return true;
    }
    if buffer.len() < PREFACE.len() && PREFACE.starts_with(buffer) {
        return false;
    }
    let fresh = &buffer[seen.saturating_sub(3)..];
    buffer.starts_with(PREFACE)
        || fresh.windows(4).any(|end| end == b"\r\n\r\n")
        || fresh.windows(2).any(|end| end == b"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preface_counts_only_whole() {
        for cut in 0..PREFACE.len() {
            assert!(!is_complete(&PREFACE[..cut], 0), "{cut}");
        }
        assert!(is_complete(PREFACE, 23));
    }

    #[test]
    fn header_counts_at_its_end() {
        assert!(!is_complete(b"GET / HTTP/1.1\r\nhost: x\r\n", 0));
        assert!(is_complete(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 26));
        assert!(is_complete(b"GET / HTTP/1.1\nhost: x\n\nbody", 0));
        assert!(is_complete(&vec![b'x'; limits::MAX_HEADER_BYTES + 1], 0));
    }
}
