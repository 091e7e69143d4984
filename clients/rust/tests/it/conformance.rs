//! Every case of `clients/conformance/cases.yaml`.

use futures_util::{StreamExt, stream};

use crate::{runner, services::variable};

const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn every_case() {
    let list = tokio::process::Command::new(variable("TEST_SCRIPTED"))
        .arg("--list")
        .output()
        .await
        .unwrap();
    let names = String::from_utf8(list.stdout).unwrap();
    let names: Vec<&str> = names.lines().collect();
    let verdicts = stream::iter(&names).map(|name| async move { (name, runner::play(name).await) });
    let verdicts: Vec<_> = verdicts.buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<String> = verdicts
        .into_iter()
        .filter_map(|(name, verdict)| Some(format!("{name}: {:?}", verdict.err()?)))
        .collect();
    assert!(!names.is_empty(), "no cases");
    assert!(
        failed.is_empty(),
        "{} of {}:\n{}",
        failed.len(),
        names.len(),
        failed.join("\n")
    );
}
