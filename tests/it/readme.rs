//! The README is true: its table of options is the program's, and its
//! walk-through runs line by line.

use std::{fs, path::Path, process::Stdio};

use futoin_eventstream::config;
use tokio::{process::Command, time::timeout};

use crate::server::{PATIENCE, PROGRAM, Server};

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    fs::read_to_string(path).expect("README.md is there")
}

#[test]
fn table_of_options_is_that_of_the_program() {
    let table = config::markdown_table();
    assert!(
        readme().contains(table.trim_end()),
        "README.md must contain this table:\n{table}"
    );
}

/// Shell blocks between `<!-- walk-through -->` and `<!-- /walk-through -->`.
fn walk_through() -> String {
    let readme = readme();
    let (_, rest) = readme
        .split_once("<!-- walk-through -->")
        .expect("it begins");
    let (text, _) = rest.split_once("<!-- /walk-through -->").expect("it ends");
    let blocks = text.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap_or(""))
        .collect()
}

#[tokio::test]
async fn walk_through_runs_line_by_line() {
    let server = Server::start().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program_dir = Path::new(PROGRAM).parent().expect("a directory");
    let path = format!(
        "{}:{}:{}",
        program_dir.display(),
        root.join(".cache/tools/bin").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let script = walk_through()
        .replace("127.0.0.1:50051", server.grpc_address())
        .replace("127.0.0.1:8080", server.http_address());
    assert!(
        script.contains("grpcurl") && script.contains("sqlite3"),
        "{script}"
    );
    let run = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(server.dir())
        .env("PATH", path)
        .env("EVENTSTREAM_ADDR", server.grpc_address())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, run)
        .await
        .expect("it ends")
        .expect("bash is there");
    let said = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    for expected in [
        "ORDER_NEW",
        "\"lastId\"",
        "tea",
        "eventstream_frontier_id 4",
    ] {
        assert!(said.contains(expected), "{expected} is missing in:\n{said}");
    }
}

#[tokio::test]
async fn python_example_commits_an_order_with_its_event() {
    let server = Server::start().await;
    let readme = readme();
    let (_, rest) = readme
        .split_once("```python\n")
        .expect("there is an example");
    let (example, _) = rest.split_once("```").expect("it ends");
    let run = Command::new("python3")
        .args(["-c", example])
        .current_dir(server.dir())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, run)
        .await
        .expect("it ends")
        .expect("python3 is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let polled = server.cli(&["poll", "LIVE", "--json"]).await;
    let polled = String::from_utf8_lossy(&polled.stdout).into_owned();
    assert!(polled.contains(r#""data":{"order": 1}"#), "{polled}");
}
