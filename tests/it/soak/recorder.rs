//! A client's `recorder.sh`: a receiver of its language that prints the ids it
//! has handled.

use std::{process::Stdio, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

use crate::{deploy::journal::Journal, server::PATIENCE};

pub const LANGUAGES: [&str; 5] = ["rust", "python", "typescript", "go", "java"];

pub struct Recorder {
    pub language: &'static str,
    pub journal: Arc<Journal>,
    child: Child,
    reading: JoinSet<()>,
}

impl Recorder {
    pub fn start(language: &'static str, address: &str) -> Self {
        Self::continuing(language, address, Arc::new(Journal::new()))
    }

    /// One whose journal an earlier one has begun.
    pub fn continuing(language: &'static str, address: &str, journal: Arc<Journal>) -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let component = format!("CHAOS_{}", language.to_uppercase());
        let mut child = Command::new(format!("{root}/clients/{language}/recorder.sh"))
            .args([address, &component])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the recorder starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let notes = Arc::clone(&journal);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                notes.note(line.parse().expect("an id"));
            }
        });
        Self {
            language,
            journal,
            child,
            reading,
        }
    }

    /// Ends it when it has handled the last of these; how many came again.
    pub async fn finish(self, stored: &[i64]) -> usize {
        let (language, journal) = (self.language, Arc::clone(&self.journal));
        let last = *stored.last().expect("some events");
        journal.reaches(last, language).await;
        self.end().await;
        journal.check(stored, language)
    }

    /// Ends it in good order: it finishes, acknowledges and closes.
    pub async fn end(mut self) {
        let language = self.language;
        drop(self.child.stdin.take());
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("it ends").expect("it can be waited for");
        assert!(status.success(), "{language} ended with {status}");
        self.reading.join_all().await;
    }
}
