//! The program's own client commands, and the command that makes tokens.

use std::process::{Output, Stdio};

use futoin_eventstream::auth::hash_line;
use futoin_eventstream_client::EventStream;
use tokio::io::AsyncWriteExt as _;

use super::stage::{guarded, several};
use crate::server::{PROGRAM, clean_command, program};

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[tokio::test]
async fn commands_send_a_token_from_flag_file_or_environment() {
    let server = guarded(&several()).start().await;
    let refused = server.cli(&["add", "ORDER_NEW", "1"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).expect("text");
    assert!(
        said.contains("UNAUTHENTICATED") && said.contains("--token-file"),
        "{said}"
    );

    let file = server.dir().join("token");
    std::fs::write(&file, "shop\n").expect("written");
    let file = file.display().to_string();
    let by_flag = ["add", "ORDER_NEW", "1", "--token", "shop"];
    let by_file = ["add", "ORDER_NEW", "1", "--token-file", &file];
    for (args, id) in [(by_flag, "1"), (by_file, "2")] {
        assert_eq!(text(&server.cli(&args).await).trim(), id);
    }
    let by_environment = clean_command(PROGRAM)
        .args(["add", "ORDER_NEW", "1"])
        .env("EVENTSTREAM_ADDR", server.grpc_address())
        .env("EVENTSTREAM_TOKEN", "shop")
        .output()
        .await
        .expect("it runs");
    assert_eq!(text(&by_environment).trim(), "3");

    let forbidden = server.cli(&["status", "--token", "shop"]).await;
    assert_eq!(forbidden.status.code(), Some(1));
    let said = String::from_utf8(forbidden.stderr).expect("text");
    assert!(said.contains("NOT_ALLOWED"), "{said}");
    assert!(text(&server.cli(&["status", "--token", "eye"]).await).contains("head"));
    let registered = ["consumers", "register", "SHOP_WEB", "--token", "shop"];
    assert!(server.cli(&registered).await.status.success());
    let tail = [
        "tail", "SHOP_WEB", "--ack", "--count", "3", "--token", "shop",
    ];
    assert_eq!(text(&server.cli(&tail).await).lines().count(), 3);
    // A probe needs none.
    assert!(server.cli(&["healthcheck"]).await.status.success());
}

/// The client for programs in Rust; those of other languages have the option too.
#[tokio::test]
async fn rust_client_sends_a_token() {
    let server = guarded(&several()).start().await;
    let address = format!("http://{}", server.grpc_address());
    let by = |token: &str| {
        let client = EventStream::builder(&address).token(token);
        client.connect().expect("an address")
    };
    let added = by("shop").add_event("ORDER_NEW", &1).await;
    assert_eq!(added.expect("added"), 1);
    for (token, reason) in [("wrong", "UNAUTHENTICATED"), ("nobody", "NOT_ALLOWED")] {
        let refused = by(token).add_event("ORDER_NEW", &1).await;
        let refused = refused.expect_err("refused");
        assert!(format!("{refused:?}").contains(reason), "{refused:?}");
    }
}

#[tokio::test]
async fn made_token_opens_what_its_hash_is_written_for() {
    let made = text(&program(&["token"]).await);
    let mut lines = made.lines().map(|line| line.split_whitespace().nth(1));
    let (token, hash) = (lines.next().flatten(), lines.next().flatten());
    let (token, hash) = (token.expect("a token"), hash.expect("a hash"));
    assert_eq!(hash, hash_line(token));
    let users = format!("[users.shop]\ntokens = ['{hash}']\nobserve = true");
    let server = guarded(&users).start().await;
    text(&server.cli(&["status", "--token", token]).await);

    let mut hashing = clean_command(PROGRAM)
        .args(["token", "--of-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = hashing.stdin.take().expect("piped");
    let given = format!("{token}\n");
    stdin.write_all(given.as_bytes()).await.expect("written");
    drop(stdin);
    let hashed = hashing.wait_with_output().await.expect("it ends");
    assert_eq!(text(&hashed).trim(), hash);
    let json = text(&program(&["token", "--json"]).await);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let token = json["token"].as_str().expect("a token");
    assert_eq!(json["hash"], hash_line(token));
}

#[tokio::test]
async fn archive_commands_send_the_token_as_well() {
    let server = guarded(&several()).start().await;
    let mut all = server.clients_of("all").await;
    crate::round_trip::register(&mut all, "ARCHIVER").await;
    let history = format!("sqlite:{}", server.dir().join("history.db").display());
    let (from, to) = (server.grpc_address(), history.as_str());
    let verify = ["archive", "verify", "--to", to, "--from", from];
    // The warehouse is made by whoever archives first.
    let refused = server.cli(&verify).await;
    assert!(!refused.status.success());
    let allowed = [&verify[..], &["--token", "eye"]].concat();
    text(&server.cli(&allowed).await);
}
