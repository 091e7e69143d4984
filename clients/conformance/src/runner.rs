//! The conversation with the client's runner: JSON lines.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
};

use crate::service::Observation;

/// A line of the runner: what a receiver did.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) receiver: String,
    #[serde(flatten)]
    pub(crate) did: Did,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub(crate) enum Did {
    Handle { id: i64 },
    Handled { id: i64 },
    DeadLetter { id: i64 },
    Reconnect { attempt: u32, delay_ms: f64 },
    Dropped { count: i64 },
    Ended { error: Option<Map<String, Value>> },
}

/// Writes one line.
pub(crate) fn say(line: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("the runner does not read any more")
}

/// Reads lines until the runner closes its end.
pub(crate) async fn listen(observations: mpsc::Sender<Observation>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let observation = match lines.next_line().await {
            Ok(Some(line)) => parse(&line),
            Ok(None) => Observation::RunnerLeft,
            Err(error) => Observation::Unreadable(error.to_string()),
        };
        let last = !matches!(observation, Observation::Report(_));
        if observations.send(observation).await.is_err() || last {
            return;
        }
    }
}

fn parse(line: &str) -> Observation {
    match serde_json::from_str(line) {
        Ok(report) => Observation::Report(report),
        Err(error) => Observation::Unreadable(format!("{error}: {line}")),
    }
}
