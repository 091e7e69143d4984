//! The receivers of the five clients, each draining the same backlog with its
//! own `recorder.sh`, beside the one in Rust.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::{
    Plan,
    report::Sheet,
    server::{LONGEST, Server},
};

const RUST: &str = "rust";
const OTHERS: [&str; 4] = ["go", "java", "typescript", "python"];

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let count: i64 = plan.pick(200_000, 5_000);
    let mut sheet = Sheet::new("receivers: the five clients draining a backlog");
    sheet.note(format!(
        "{count} events of 200 bytes, one handler call each"
    ));
    for round in 0..plan.rounds {
        let server = Server::start(plan).await?;
        server.session().await?.fill(count).await?;
        for language in std::iter::once(RUST).chain(OTHERS) {
            let component = format!("{}_{round}", language.to_uppercase());
            let seconds = drain(&server, language, &component, count).await?;
            #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
            sheet.record(language, "events/s", count as f64 / seconds);
        }
    }
    for language in OTHERS {
        sheet.compare(language, RUST);
    }
    Ok(sheet)
}

/// Seconds from the first to the last event handled.
async fn drain(
    server: &Server,
    language: &str,
    component: &str,
    count: i64,
) -> anyhow::Result<f64> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new(root.join(format!("clients/{language}/recorder.sh")))
        .args([server.grpc_address(), component, "--quiet", "--count"])
        .arg(count.to_string())
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    // Closed, it would tell the recorder to stop.
    let _open = child.stdin.take();
    let output = timeout(LONGEST, child.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{language}: {said}");
    let line = said.lines().rfind(|line| line.starts_with('{'));
    let told: Value = serde_json::from_str(line.context("no figures")?)?;
    ensure!(told["events"] == count, "{language} handled {told}");
    told["seconds"].as_f64().context("no seconds")
}
