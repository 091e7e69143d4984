//! HTTP/2 frames as no library would send them, and a connection that sends
//! whatever it is given. It looks at answers no more than an attack needs: how
//! often control frames were answered, why the server left, and all else as
//! bytes.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::server::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Of who may add events, and nothing else.
pub const CREDENTIALS: &str = "Bearer attacker";

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short");
    let head = [&len.to_be_bytes()[1..], &[kind, flags]].concat();
    [&head, &stream.to_be_bytes()[..], payload].concat()
}

/// A header that no table knows.
pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

/// A text as HPACK has it, without Huffman's code.
fn text(bytes: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let mut left = bytes.len();
    if left < 127 {
        coded.push(u8::try_from(left).expect("short"));
    } else {
        coded.push(127);
        left -= 127;
        while left >= 128 {
            coded.push(u8::try_from(left % 128).expect("seven bits") | 128);
            left /= 128;
        }
        coded.push(u8::try_from(left).expect("seven bits"));
    }
    [&coded, bytes].concat()
}

/// The headers of a gRPC call of `futoin.evt.v1`, by who may add events.
pub fn call(method: &str) -> Vec<u8> {
    let path = format!("/futoin.evt.v1.{method}");
    // POST, http, and names of the static table.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(4, path.as_str()), (1, "it")] {
        block.push(name);
        block.extend(text(value.as_bytes()));
    }
    block.extend(literal(b"content-type", b"application/grpc"));
    block.extend(literal(b"te", b"trailers"));
    block.extend(literal(b"authorization", CREDENTIALS.as_bytes()));
    block
}

/// A connection that was begun, with somebody who reads what comes.
pub struct Connection {
    write: OwnedWriteHalf,
    reader: JoinHandle<Seen>,
    answered: watch::Receiver<Answered>,
}

/// Control frames that the server has answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    pub settings: usize,
    pub pings: usize,
}

/// What the server said.
#[derive(Debug, Default)]
pub struct Seen {
    /// The error code of its GOAWAY.
    pub goaway: Option<u32>,
    /// Error codes of streams that it reset.
    pub resets: Vec<u32>,
    /// All payloads of other frames but control frames.
    pub said: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> io::Result<Self> {
        let (read, mut write) = TcpStream::connect(address).await?.into_split();
        let (tell, answered) = watch::channel(Answered::default());
        let reader = tokio::spawn(listen(read, tell));
        write.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        write.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        Ok(Self {
            write,
            reader,
            answered,
        })
    }

    /// Sends; false when the server has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.write.write_all(bytes).await.is_ok()
    }

    /// Waits until so much was answered; false when the server has closed.
    pub async fn until(&mut self, enough: impl Fn(&Answered) -> bool) -> bool {
        let answered = self.answered.wait_for(|answered| enough(answered));
        timeout(PATIENCE, answered).await.expect("in time").is_ok()
    }

    /// How often it has answered.
    pub fn answered(&self) -> Answered {
        *self.answered.borrow()
    }

    /// What was heard until the server closed, or said `GOAWAY`.
    pub async fn seen(self) -> Seen {
        let Self { write, reader, .. } = self;
        let seen = timeout(PATIENCE, reader).await;
        drop(write);
        seen.expect("the server ends it").expect("no panic inside")
    }

    /// What was heard, when nothing more is wanted.
    pub async fn close(mut self) -> Seen {
        let _ = self.write.shutdown().await;
        self.seen().await
    }

    /// Whether the server has ended it.
    pub fn is_over(&self) -> bool {
        self.reader.is_finished()
    }
}

async fn listen(mut read: OwnedReadHalf, tell: watch::Sender<Answered>) -> Seen {
    let mut seen = Seen::default();
    let mut head = [0; 9];
    let mut payload = Vec::new();
    while read.read_exact(&mut head).await.is_ok() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        payload.resize(len as usize, 0);
        if read.read_exact(&mut payload).await.is_err() {
            break;
        }
        match head[3] {
            RST_STREAM => seen.resets.extend(code(&payload)),
            GOAWAY => {
                seen.goaway = payload.get(4..).and_then(code);
                seen.said.extend_from_slice(&payload);
                // What follows is the end.
                break;
            }
            SETTINGS if head[4] & ACK != 0 => tell.send_modify(|all| all.settings += 1),
            PING if head[4] & ACK != 0 => tell.send_modify(|all| all.pings += 1),
            SETTINGS | PING | WINDOW_UPDATE => {}
            _ => seen.said.extend_from_slice(&payload),
        }
    }
    seen
}

fn code(payload: &[u8]) -> Option<u32> {
    let code = payload.get(..4)?.try_into().ok()?;
    Some(u32::from_be_bytes(code))
}
