//! A line between a service and its database that can be cut: then nothing
//! comes through any more, and nobody is told.

use std::path::Path;

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use crate::postgres::Database;

const SOCKET: &str = ".s.PGSQL.5432";

pub struct Line {
    dir: TempDir,
    open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    to: String,
}

impl Line {
    /// To the server of a database.
    pub fn to(database: &Database) -> Self {
        let (_, to) = database.url.split_once("?host=").expect("a socket");
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let listener = UnixListener::bind(dir.path().join(SOCKET)).expect("bound");
        let (open, seen) = watch::channel(true);
        let target = Path::new(to).join(SOCKET);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = UnixStream::connect(&target).await else {
                    continue;
                };
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, seen.clone()));
                tokio::spawn(carry(far_in, near_out, seen.clone()));
            }
        });
        Self {
            dir,
            open,
            accepting,
            to: to.to_owned(),
        }
    }

    /// The URL that leads through it.
    pub fn url(&self, database: &Database) -> String {
        let here = self.dir.path().display().to_string();
        database.url.replace(&self.to, &here)
    }

    /// Lets nothing through.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets through what has waited, and everything later.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Until either end is gone.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut buffer = vec![0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|open| *open).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
