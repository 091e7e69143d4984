//! The subcommands against the real server, as people and scripts use them:
//! what they print, what they leave behind, and their exit codes.

use std::process::{ExitStatus, Output, Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout},
    time::timeout,
};

use crate::server::{PATIENCE, PROGRAM, Server, clean_command, eventually, program, signal};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Runs a subcommand that must succeed; what it printed.
async fn done(server: &Server, args: &[&str]) -> String {
    let output = server.cli(args).await;
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    text(&output.stdout)
}

/// The same with `--json`, line by line.
async fn json(server: &Server, args: &[&str]) -> Vec<Value> {
    let printed = done(server, &[args, &["--json"]].concat()).await;
    let line = |line| serde_json::from_str(line).expect("each line is JSON");
    printed.lines().map(line).collect()
}

/// Runs a subcommand that must fail; its complaint.
async fn fails(server: &Server, code: i32, args: &[&str]) -> String {
    let output = server.cli(args).await;
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    text(&output.stderr)
}

/// A subcommand that goes on.
struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn start(server: &Server, args: &[&str]) -> Self {
        let mut child = clean_command(PROGRAM)
            .args(args)
            .env("EVENTSTREAM_ADDR", server.grpc_address())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        Self {
            child,
            stdout: BufReader::new(stdout).lines(),
            stderr: BufReader::new(stderr).lines(),
        }
    }

    /// The next printed event.
    async fn event(&mut self) -> Value {
        let line = timeout(PATIENCE, self.stdout.next_line())
            .await
            .expect("in time");
        let line = line.expect("readable").expect("not the end");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Reads remarks up to one with these words.
    async fn says(&mut self, words: &str) {
        loop {
            let line = timeout(PATIENCE, self.stderr.next_line())
                .await
                .expect("in time");
            let line = line.expect("readable").expect("it goes on");
            if line.contains(words) {
                return;
            }
        }
    }

    async fn interrupt(mut self) -> ExitStatus {
        signal(self.child.id().expect("it runs"), "INT");
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends")
            .expect("it can be waited for")
    }
}

async fn piped(server: &Server, args: &[&str], input: &str) -> Output {
    let mut child = clean_command(PROGRAM)
        .args(args)
        .env("EVENTSTREAM_ADDR", server.grpc_address())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("taken");
    drop(stdin);
    timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("it ends")
        .expect("it can be waited for")
}

fn position(server: &Server, component: &str) -> String {
    server.sqlite(&format!(
        "SELECT last_evt_id FROM evt_consumers WHERE ident = 'local:{component}'"
    ))
}

#[tokio::test]
async fn events_are_added_and_polled() {
    let server = Server::start().await;
    assert_eq!(
        done(&server, &["add", "ORDER_NEW", r#"{"n":1}"#]).await,
        "1\n"
    );
    assert_eq!(
        json(&server, &["add", "ORDER_PAID", "2"]).await[0]["id"],
        "2"
    );
    let id = "7f2c1f0e-54c1-4a0b-9d5d-3a7b52f1c001";
    for _ in 0..2 {
        let again = done(&server, &["add", "ORDER_NEW", "3", "--request-id", id]).await;
        assert_eq!(again, "3\n");
    }
    let other = fails(&server, 1, &["add", "ORDER_NEW", "4", "--request-id", id]).await;
    assert!(other.contains("REQUEST_ID_REUSED"), "{other}");
    let wrong = fails(&server, 1, &["add", "order", "{}"]).await;
    assert!(
        wrong.contains("INVALID_FIELD") && wrong.contains("type:"),
        "{wrong}"
    );
    let wrong = fails(&server, 1, &["add", "ORDER", "{"]).await;
    assert!(wrong.contains("data_json:"), "{wrong}");
    fails(&server, 2, &["add", "ORDER"]).await;

    let piped = piped(&server, &["add", "ORDER_NEW", "-"], "\"piped\"\n").await;
    assert_eq!(text(&piped.stdout), "4\n");

    let unknown = fails(&server, 1, &["poll", "SHOP"]).await;
    assert!(
        unknown.contains("eventstream consumers register SHOP"),
        "{unknown}"
    );
    let page = done(&server, &["poll", "SHOP", "--register", "--max", "2"]).await;
    assert_eq!(page.lines().count(), 2, "{page}");
    assert!(
        page.contains(r#"{"n":1}"#) && page.contains("ORDER_PAID"),
        "{page}"
    );
    let page = json(
        &server,
        &["poll", "SHOP", "--last-id", "2", "--want", "ORDER_NEW"],
    )
    .await;
    assert_eq!(page.len(), 2);
    assert_eq!((&page[0]["id"], &page[0]["data"]), (&"3".into(), &3.into()));
    assert_eq!(position(&server, "SHOP"), "2");
    fails(&server, 2, &["poll"]).await;
}

#[tokio::test]
async fn lines_are_imported_once() {
    let server = Server::start().await;
    let line = |n| format!(r#"{{"type":"IMPORTED","data":{{"n":{n}}}}}"#);
    let lines = (0..1200).map(line).collect::<Vec<_>>().join("\n");
    let id = "7f2c1f0e-54c1-4a0b-9d5d-3a7b52f1c002";
    for _ in 0..2 {
        let args = ["add", "--lines", "--json", "--request-id", id];
        let output = piped(&server, &args, &lines).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let done: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (&done["event_count"], &done["last_id"]),
            (&"1200".into(), &"1200".into())
        );
    }
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "1200");
    let broken = piped(&server, &["add", "--lines"], "{\"type\":\"A\"\n").await;
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
    // What is printed can be imported.
    let exported = done(&server, &["poll", "LIVE", "--max", "10", "--json"]).await;
    let copied = piped(&server, &["add", "--lines"], &exported).await;
    assert!(
        text(&copied.stdout).contains("10 events stored, IDs 1201 to 1210"),
        "{copied:?}"
    );
}

#[tokio::test]
async fn consumers_are_managed() {
    let server = Server::start().await;
    for n in 1..=3 {
        done(&server, &["add", "KIND", &n.to_string()]).await;
    }
    let listed = server.cli(&["consumers", "list"]).await;
    assert!(text(&listed.stderr).contains("no consumer is registered"));
    let made = done(&server, &["consumers", "register", "SHOP"]).await;
    assert!(made.contains("local:SHOP"), "{made}");
    let made = json(
        &server,
        &["consumers", "register", "LATE", "--start", "now"],
    )
    .await;
    assert_eq!(made[0]["position"], "3");
    let again = server.cli(&["consumers", "register", "LATE"]).await;
    assert!(text(&again.stderr).contains("was registered before"));
    let live = fails(&server, 1, &["consumers", "register", "LIVE"]).await;
    assert!(live.contains("LIVE_NOT_ALLOWED"), "{live}");

    let listed = json(&server, &["consumers", "list"]).await;
    let names: Vec<_> = listed.iter().map(|one| &one["component"]).collect();
    assert_eq!(names, ["LATE", "SHOP"]);
    assert_eq!(listed[1]["lag_ids"], "3");
    let table = done(&server, &["consumers", "list"]).await;
    assert!(table.starts_with("CONSUMER"), "{table}");
    assert_eq!(table.lines().count(), 3);

    let sought = json(&server, &["consumers", "seek", "SHOP", "--to", "2"]).await;
    assert_eq!(sought[0]["position"], "2");
    let beyond = fails(&server, 1, &["consumers", "seek", "SHOP", "--to", "9"]).await;
    assert!(beyond.contains("BEYOND_HEAD"), "{beyond}");
    fails(&server, 2, &["consumers", "seek", "SHOP", "--to", "soon"]).await;

    let unsaid = fails(&server, 2, &["consumers", "unregister", "SHOP"]).await;
    assert!(unsaid.contains("--yes"), "{unsaid}");
    let gone = json(&server, &["consumers", "unregister", "SHOP", "--yes"]).await;
    assert_eq!(gone[0]["unregistered"], true);
    fails(&server, 1, &["consumers", "unregister", "SHOP", "--yes"]).await;
}

#[tokio::test]
async fn state_and_health_are_shown() {
    let server = Server::start().await;
    done(&server, &["add", "KIND", "1"]).await;
    done(&server, &["consumers", "register", "SHOP"]).await;
    let status = json(&server, &["status"]).await;
    assert_eq!(
        (&status[0]["head_id"], &status[0]["database"]),
        (&"1".into(), &"sqlite".into())
    );
    assert_eq!(status[0]["slowest_consumer"]["component"], "SHOP");
    let status = done(&server, &["status"]).await;
    assert!(
        status.contains("frontier") && status.contains("local:SHOP"),
        "{status}"
    );

    assert_eq!(done(&server, &["healthcheck"]).await, "SERVING\n");
    let healthy = json(
        &server,
        &["healthcheck", "--service", "futoin.evt.v1.GenService"],
    )
    .await;
    assert_eq!(healthy[0]["status"], "SERVING");
    fails(&server, 1, &["healthcheck", "--service", "nobody"]).await;
    let address = server.grpc_address().to_owned();
    assert!(server.terminate().await.success());
    for (args, code) in [(["status"], 3), (["healthcheck"], 2)] {
        let output = program(&[&args[..], &["--addr", &address]].concat()).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(text(&output.stderr).contains("eventstream serve"));
    }
}

#[tokio::test]
async fn frontier_is_skipped_only_where_it_waits_and_loss_is_accepted() {
    let server = Server::start().await;
    done(&server, &["add", "KIND", "1"]).await;
    let unsaid = fails(&server, 2, &["frontier", "skip", "--to", "1"]).await;
    assert!(unsaid.contains("--i-accept-loss"), "{unsaid}");
    let args = ["frontier", "skip", "--i-accept-loss"];
    fails(&server, 2, &args).await;
    fails(&server, 2, &[&args[..], &["--to", "x"]].concat()).await;
    // On SQLite nothing waits, whatever the ID is.
    for to in ["1", "2"] {
        let refused = fails(&server, 1, &[&args[..], &["--to", to]].concat()).await;
        assert!(
            refused.contains("to: ") && refused.contains("nothing holds the frontier back"),
            "{refused}"
        );
    }
    let far = fails(&server, 1, &[&args[..], &["--to", "0"]].concat()).await;
    assert!(far.contains("must be 1 to"), "{far}");
}

#[tokio::test]
async fn tail_observes_without_a_trace() {
    let server = Server::start().await;
    for n in 1..=3 {
        done(&server, &["add", "KIND", &n.to_string()]).await;
    }
    done(&server, &["consumers", "register", "SHOP"]).await;
    let refused = fails(&server, 2, &["tail", "SHOP"]).await;
    assert!(refused.contains("add --ack"), "{refused}");
    let from = |args: &'static [&str]| {
        let server = &server;
        async move {
            let events = json(server, &[&["tail"], args].concat()).await;
            let ids = events
                .iter()
                .map(|event| event["id"].as_str().expect("text").to_owned());
            ids.collect::<Vec<_>>().join(",")
        }
    };
    assert_eq!(from(&["--from-start", "--count", "3"]).await, "1,2,3");
    assert_eq!(from(&["--after", "1", "--count", "1"]).await, "2");
    assert_eq!(
        from(&["--since", "2020-01-01", "--count", "3"]).await,
        "1,2,3"
    );

    server.sqlite("UPDATE evt_queue SET ts = '2020-01-01 00:00:00' WHERE id < 3");
    let since = from(&["--since", "2021-01-01T00:00Z", "--count", "1"]);
    assert_eq!(since.await, "3");

    let mut tail = Running::start(&server, &["tail", "--json", "--after", "3"]);
    done(&server, &["add", "OTHER", "4"]).await;
    assert_eq!(tail.event().await["id"], "4");
    assert_eq!(tail.interrupt().await.code(), Some(0));
    assert_eq!(position(&server, "SHOP"), "0");
}

#[tokio::test]
async fn tail_into_a_pipe_that_closes_ends_well() {
    let server = Server::start().await;
    for n in 1..=3 {
        done(&server, &["add", "KIND", &n.to_string()]).await;
    }
    let script =
        r#"set -o pipefail; "$0" tail --from-start | head -n 1; echo "ended ${PIPESTATUS[0]}""#;
    let run = clean_command("bash")
        .args(["-c", script, PROGRAM])
        .env("EVENTSTREAM_ADDR", server.grpc_address())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash is there");
    let run = timeout(PATIENCE, run.wait_with_output());
    tokio::pin!(run);
    // The pipe is noticed at the next event.
    let output = loop {
        tokio::select! {
            output = &mut run => break output.expect("in time").expect("it ends"),
            added = server.cli(&["add", "KIND", "4"]) => assert!(added.status.success()),
        }
    };
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 2, "{printed}");
    assert!(printed.ends_with("ended 0\n"), "{printed}");
    assert_eq!(text(&output.stderr), "");
}

#[tokio::test]
async fn interrupted_consumer_has_acknowledged_what_it_printed() {
    let server = Server::start().await;
    done(&server, &["consumers", "register", "SHOP"]).await;
    let mut tail = Running::start(&server, &["tail", "SHOP", "--ack", "--json"]);
    for n in 1..=3 {
        done(&server, &["add", "KIND", &n.to_string()]).await;
        assert_eq!(tail.event().await["id"], n.to_string());
    }
    assert_eq!(tail.interrupt().await.code(), Some(0));
    assert_eq!(position(&server, "SHOP"), "3");
}

#[tokio::test]
async fn second_consumer_stands_by_for_the_first() {
    let server = Server::start().await;
    done(&server, &["consumers", "register", "SHOP"]).await;
    let args = ["tail", "SHOP", "--ack", "--json"];
    let mut first = Running::start(&server, &args);
    first.says("session of SHOP started").await;
    let mut second = Running::start(&server, &args);
    second.says("standing by").await;
    done(&server, &["add", "KIND", "1"]).await;
    assert_eq!(first.event().await["id"], "1");
    eventually(async || match position(&server, "SHOP") {
        position if position == "1" => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(first.interrupt().await.code(), Some(0));
    second.says("session of SHOP started after ID 1").await;
    done(&server, &["add", "KIND", "2"]).await;
    assert_eq!(second.event().await["id"], "2");
    assert_eq!(second.interrupt().await.code(), Some(0));
}

#[tokio::test]
async fn completions_know_the_subcommands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = program(&["completions", shell]).await;
        assert!(output.status.success(), "{shell}");
        let script = text(&output.stdout);
        for word in ["healthcheck", "consumers", "check-config"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(
        program(&["completions", "tcsh"]).await.status.code(),
        Some(2)
    );
    assert_eq!(program(&["nonsense"]).await.status.code(), Some(2));
    assert_eq!(program(&["--version"]).await.status.code(), Some(0));
}
