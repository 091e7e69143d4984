//! Following the files of users: they are compared with what was read last,
//! by content, because orchestrators swap links and editors make new files. Users
//! that cannot be read change nothing: those before stay in force, which
//! the log and a metric tell.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Authority,
    file::Fault,
    rules::{self, Content, Loaded, Rules},
};
use crate::{lifecycle::Tasks, limits, telemetry};

/// Reads a file of users, and follows it.
///
/// # Errors
/// The first fault of it.
pub fn start(file: &Path, tasks: &Tasks) -> Result<Authority, Fault> {
    let Loaded {
        rules,
        files,
        content,
    } = rules::load(file)?;
    metrics::gauge!(telemetry::USERS_STALE).set(0.0);
    let (sender, receiver) = watch::channel(Arc::new(rules));
    let follower = Follower {
        file: file.to_owned(),
        seen: content,
        changed: None,
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
    seen: Content,
    /// What was found at the last look, if it is something else.
    changed: Option<Content>,
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

    /// Reads again what is not as it was, and has been the same for two looks:
    /// who writes it may not be done.
    fn look(&mut self) {
        let now = Content::of(&self.files);
        if now == self.seen {
            self.changed = None;
            return;
        }
        if self.changed.as_ref() != Some(&now) {
            self.changed = Some(now);
            return;
        }
        self.changed = None;
        self.seen = now;
        match rules::load(&self.file) {
            Ok(loaded) => {
                self.seen = loaded.content;
                self.files = loaded.files;
                self.sender.send_replace(Arc::new(loaded.rules));
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
