//! Following the files of users: they are compared with what was read last,
//! by content, because orchestrators swap links and editors make new files. Users
//! that cannot be read change nothing: those before stay in force, which
//! the log and a metric tell.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Authority,
    file::Fault,
    rules::{self, Loaded, Rules},
};
use crate::{lifecycle::Tasks, limits, telemetry};

/// Reads a file of users, and follows it.
///
/// # Errors
/// The first fault of it.
pub fn start(file: &Path, tasks: &Tasks) -> Result<Authority, Fault> {
    let Loaded { rules, files } = rules::load(file)?;
    metrics::gauge!(telemetry::USERS_STALE).set(0.0);
    let (sender, receiver) = watch::channel(Arc::new(rules));
    let follower = Follower {
        file: file.to_owned(),
        seen: digest(&files),
        files,
        sender,
    };
    tasks.spawn(
        "users",
        follower.follow(limits::USERS_LOOK, tasks.stopping()),
    );
    Ok(Authority::following(receiver))
}

struct Follower {
    file: PathBuf,
    /// What the last attempt read, the file itself first.
    files: Vec<PathBuf>,
    seen: [u8; 32],
    sender: watch::Sender<Arc<Rules>>,
}

impl Follower {
    async fn follow(mut self, pause: Duration, stopping: CancellationToken) -> anyhow::Result<()> {
        while stopping.run_until_cancelled(sleep(pause)).await.is_some() {
            self = tokio::task::spawn_blocking(move || {
                self.look();
                self
            })
            .await?;
        }
        Ok(())
    }

    /// Reads again what is not as it was.
    fn look(&mut self) {
        let now = digest(&self.files);
        if now == self.seen {
            return;
        }
        self.seen = now;
        match rules::load(&self.file) {
            Ok(Loaded { rules, files }) => {
                self.seen = digest(&files);
                self.files = files;
                self.sender.send_replace(Arc::new(rules));
                metrics::gauge!(telemetry::USERS_STALE).set(0.0);
                tracing::info!(target: "audit", action = "reload", "the users were read again");
            }
            Err(fault) => {
                metrics::gauge!(telemetry::USERS_STALE).set(1.0);
                tracing::error!(%fault, "the users cannot be read, those before stay in force");
            }
        }
    }
}

/// Of the content of all of these.
fn digest(files: &[PathBuf]) -> [u8; 32] {
    let mut all = Sha256::new();
    for file in files {
        match rules::read(file) {
            Ok(text) => {
                all.update([1]);
                all.update(Sha256::digest(text));
            }
            Err(error) => {
                all.update([0]);
                all.update(Sha256::digest(error.to_string()));
            }
        }
    }
    all.finalize().into()
}
