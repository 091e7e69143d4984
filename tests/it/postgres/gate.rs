//! A gate between a client and the server: says which statement is about to be
//! executed and lets it go on when it is told to, so that a test can do
//! something exactly there.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// A statement that waits; dropping `go` lets it go on.
pub struct Waiting {
    pub sql: String,
    pub go: oneshot::Sender<()>,
}

pub struct Gate {
    dir: TempDir,
    waiting: mpsc::Receiver<Waiting>,
    shut: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

impl Gate {
    /// In front of the server whose socket is in `server`.
    pub fn before(server: PathBuf) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).expect("bound");
        let (told, waiting) = mpsc::channel(1);
        let shut = Arc::new(AtomicBool::new(false));
        let is_shut = Arc::clone(&shut);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(server.join(".s.PGSQL.5432"));
                let (from_server, to_server) = server.await.expect("connected").into_split();
                let (from_client, to_client) = client.into_split();
                tokio::spawn(answers(from_server, to_client));
                let (told, is_shut) = (told.clone(), Arc::clone(&is_shut));
                tokio::spawn(requests(from_client, to_server, told, is_shut));
            }
        });
        Self {
            dir,
            waiting,
            shut,
            accepting,
        }
    }

    /// Whether statements wait from now on.
    pub fn shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::Release);
    }

    /// The next statement that waits.
    pub async fn next(&mut self) -> Waiting {
        self.waiting.recv().await.expect("the gate stands")
    }

    /// The URL of a database behind it.
    pub fn url(&self, database: &str) -> String {
        let dir = self.dir.path().display();
        format!("postgres://postgres@localhost/{database}?host={dir}&sslmode=disable")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    // Either end may go when the test is over.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

/// Forwards messages; while the gate is shut it tells before each Bind, and
/// waits.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    told: mpsc::Sender<Waiting>,
    is_shut: Arc<AtomicBool>,
) -> Option<()> {
    // The first message has no kind.
    let startup = body(&mut from).await?;
    send(&mut to, None, &startup).await?;
    let mut statements = HashMap::new();
    loop {
        let kind = from.read_u8().await.ok()?;
        let body = body(&mut from).await?;
        match kind {
            b'P' => {
                let mut texts = texts(&body);
                statements.insert(texts.next()?, texts.next()?);
            }
            b'B' if is_shut.load(Ordering::Acquire) => {
                let name = texts(&body).nth(1)?;
                let sql = statements.get(&name)?.clone();
                let (go, gone) = oneshot::channel();
                told.send(Waiting { sql, go }).await.ok()?;
                // Let go by a word or by being dropped.
                let _ = gone.await;
            }
            _ => {}
        }
        send(&mut to, Some(kind), &body).await?;
    }
}

async fn body(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = usize::try_from(from.read_u32().await.ok()?).ok()?;
    let mut body = vec![0; length.checked_sub(4)?];
    from.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn send(to: &mut OwnedWriteHalf, kind: Option<u8>, body: &[u8]) -> Option<()> {
    let length = u32::try_from(body.len() + 4).ok()?;
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend(length.to_be_bytes());
    message.extend(body);
    to.write_all(&message).await.ok()
}

/// The zero-terminated texts that a message begins with.
fn texts(body: &[u8]) -> impl Iterator<Item = String> {
    body.split(|byte| *byte == 0)
        .map(|text| String::from_utf8_lossy(text).into_owned())
}
