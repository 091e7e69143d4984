//! Users that change while the service runs.

use std::{fs, os::unix::fs::symlink, path::Path};

use futoin_eventstream::{auth::hash_line, proto::PollEventsRequest};
use serde_json::Value;
use tonic::{Code, Status};

use super::{
    audit::line,
    stage::{FILE, guarded, replace, user},
};
use crate::{
    calls::{end_of, ids, metadata, metric, poll_of, refused},
    futoin::client::{self, Socket},
    round_trip::{add, next_group, ready, register, subscribe},
    server::{Server, eventually},
};

const ALL: &str = "generate = ['*']\nconsume = ['*']\ntypes = ['*']";

fn rewrite(server: &Server, users: &str) {
    replace(&server.dir().join(FILE), users);
}

/// Until a token is known, or is none any more.
async fn until_known(server: &Server, token: &str, known: bool) {
    eventually(async || {
        let mut clients = server.clients_of(token).await;
        match clients.poll.poll_events(poll_of("LIVE")).await {
            Ok(_) if known => Ok(()),
            Err(status) if !known && status.code() == Code::Unauthenticated => Ok(()),
            other => Err(other.map(drop)),
        }
    })
    .await;
}

/// The stream is over because its caller is not who it was; it may come back.
fn ended(status: Status, why: &str) {
    let status = refused(Err::<(), _>(status), Code::Unavailable, "CREDENTIALS_ENDED");
    assert!(status.message().contains(why), "{status:?}");
    assert_eq!(metadata(&status, "effect").as_deref(), Some("none"));
}

#[tokio::test]
async fn removed_user_loses_its_streams_and_others_do_not() {
    let both = user("shop", ALL) + &user("all", ALL);
    let server = guarded(&both).start().await;
    let (mut shop, mut all) = (
        server.clients_of("shop").await,
        server.clients_of("all").await,
    );
    register(&mut shop, "WEB").await;
    register(&mut all, "WEB").await;
    let (_, mut theirs) = subscribe(&mut shop, ready("WEB")).await;
    let (_, mut live) = subscribe(&mut shop, ready("LIVE")).await;
    let (_, mut ours) = subscribe(&mut all, ready("WEB")).await;
    rewrite(&server, &user("all", ALL));
    ended(end_of(&mut theirs).await, "no longer valid");
    ended(end_of(&mut live).await, "no longer valid");
    let again = shop.push.ready_to_receive(ready("WEB")).await;
    refused(again, Code::Unauthenticated, "UNAUTHENTICATED");
    let id = add(&mut all, "A", "1").await;
    assert_eq!(ids(&next_group(&mut ours).await.events), [id]);
}

#[tokio::test]
async fn wait_of_a_poll_ends_with_its_rights_and_is_noted_as_a_stream_is() {
    let server = guarded(&(user("shop", ALL) + &user("web", ALL)))
        .arg("--http-metrics-open=true")
        .start()
        .await;
    let (mut shop, mut web) = (
        server.clients_of("shop").await,
        server.clients_of("web").await,
    );
    let waiting = PollEventsRequest {
        max_wait: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..poll_of("LIVE")
    };
    // The tail is read for nobody else.
    let reads = async || metric(&server, "eventstream_tail_reads_total").await;
    let before = reads().await;
    let polling = tokio::spawn(async move { shop.poll.poll_events(waiting).await });
    eventually(async || {
        let waits = reads().await > before;
        waits.then_some(()).ok_or("it is not there yet")
    })
    .await;
    let (_, mut stream) = subscribe(&mut web, ready("LIVE")).await;
    rewrite(&server, &user("other", ALL));
    let polled = polling.await.expect("no panic");
    ended(polled.expect_err("it ends"), "no longer valid");
    ended(end_of(&mut stream).await, "no longer valid");
    for (action, user) in [("poll", "shop"), ("receive", "web")] {
        let entry = line(&server, action, user).await;
        assert_eq!(entry["outcome"], "refused", "{entry}");
        let why = "the credentials are no longer valid; identify yourself again";
        assert_eq!(entry["reason"], why);
    }
    let counted = metric(&server, "eventstream_refusals_total{reason=\"ended\"}").await;
    assert!((counted - 2.0).abs() < 0.5, "{counted}");
}

#[tokio::test]
async fn rights_that_change_hold_from_the_next_stream_on() {
    let server = guarded(&(user("shop", ALL) + &user("all", ALL)))
        .start()
        .await;
    let (mut shop, mut all) = (
        server.clients_of("shop").await,
        server.clients_of("all").await,
    );
    register(&mut shop, "WEB").await;
    let (_, mut stream) = subscribe(&mut shop, ready("WEB")).await;
    add(&mut all, "SECRET", "1").await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [1]);
    let narrowed = "consume = ['*']\ntypes = ['ORDER']";
    rewrite(&server, &(user("shop", narrowed) + &user("all", ALL)));
    ended(end_of(&mut stream).await, "rights have changed");
    add(&mut all, "SECRET", "2").await;
    add(&mut all, "ORDER", "3").await;
    let (_, mut stream) = subscribe(&mut shop, ready("WEB")).await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [3]);
}

#[tokio::test]
async fn tokens_are_rotated_without_a_break() {
    let with = |tokens: &[&str]| {
        let hashes: Vec<_> = tokens.iter().map(|token| hash_line(token)).collect();
        format!("[users.shop]\ntokens = {hashes:?}\n{ALL}")
    };
    let server = guarded(&with(&["old"])).start().await;
    let mut old = server.clients_of("old").await;
    let (_, mut by_old) = subscribe(&mut old, ready("LIVE")).await;
    rewrite(&server, &with(&["old", "new"]));
    until_known(&server, "new", true).await;
    let mut new = server.clients_of("new").await;
    let (_, mut by_new) = subscribe(&mut new, ready("LIVE")).await;
    add(&mut new, "A", "1").await;
    assert_eq!(ids(&next_group(&mut by_old).await.events), [1]);
    rewrite(&server, &with(&["new"]));
    ended(end_of(&mut by_old).await, "no longer valid");
    until_known(&server, "old", false).await;
    add(&mut new, "A", "2").await;
    let (mut seen, mut wanted) = (Vec::new(), vec![1, 2]);
    while seen.len() < wanted.len() {
        seen.extend(ids(&next_group(&mut by_new).await.events));
    }
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn broken_file_changes_nothing_and_is_told() {
    let users = user("shop", ALL) + &user("eye", "observe = true");
    let server = guarded(&users).start().await;
    let stale = async |expected: &str| {
        eventually(async || {
            let headers = [("authorization", "Bearer eye")];
            let address = server.http_address();
            let seen = client::request(address, "GET", "/metrics", &headers, b"").await;
            let line = format!("eventstream_users_stale {expected}");
            let found = seen.text().lines().any(|is| is == line);
            found.then_some(()).ok_or(seen.text().to_owned())
        })
        .await;
    };
    stale("0").await;
    let mut shop = server.clients_of("shop").await;
    let (_, mut stream) = subscribe(&mut shop, ready("LIVE")).await;
    rewrite(&server, "[users.shop]\ntokens = ['hunter2']");
    stale("1").await;
    add(&mut shop, "A", "1").await;
    assert_eq!(ids(&next_group(&mut stream).await.events), [1]);
    let entries: Vec<Value> = server
        .log()
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let told = |entry: &&Value| entry["level"] == "ERROR";
    let faults: Vec<_> = entries.iter().filter(told).collect();
    assert_eq!(faults.len(), 1, "once, not each second: {faults:?}");
    let fault = faults[0]["fault"].as_str().expect("a fault");
    assert!(
        fault.contains(FILE) && fault.contains("users.shop.tokens[0]"),
        "{fault}"
    );
    fs::remove_file(server.dir().join(FILE)).expect("removed");
    rewrite(&server, &(users + &user("new", ALL)));
    stale("0").await;
    until_known(&server, "new", true).await;
}

/// Kubernetes keeps the files of a volume behind a link to a directory, which
/// it exchanges.
#[tokio::test]
async fn links_that_are_exchanged_are_followed() {
    let builder = Server::builder();
    let volume = builder.dir().join("volume");
    let generation = |name: &str, token: &str| {
        let dir = volume.join(name);
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join("token"), token).expect("written");
        let users = format!("[users.shop]\ntoken_files = ['token']\n{ALL}");
        fs::write(dir.join("users"), users).expect("written");
        point(&volume, name);
    };
    generation("..1", "one");
    for name in ["users", "token"] {
        symlink(Path::new("..data").join(name), volume.join(name)).expect("linked");
    }
    let file = volume.join("users").display().to_string();
    let server = builder.arg(format!("--auth-file={file}")).start().await;
    until_known(&server, "one", true).await;
    generation("..2", "two");
    fs::remove_dir_all(volume.join("..1")).expect("removed");
    until_known(&server, "two", true).await;
    until_known(&server, "one", false).await;
}

fn point(volume: &Path, to: &str) {
    let new = volume.join("..data_tmp");
    symlink(to, &new).expect("linked");
    fs::rename(new, volume.join("..data")).expect("exchanged");
}

#[tokio::test]
async fn socket_of_a_removed_user_is_closed() {
    let server = guarded(&user("1", ALL))
        .env("EVENTSTREAM_FUTOIN_USERS", "user id=1 secret=pass")
        .arg("--futoin-negative-reply-delay=0s")
        .start()
        .await;
    let mut socket = Socket::open(&server).await;
    socket.receive("SHOP", "null").await;
    rewrite(&server, &user("other", ALL));
    assert_eq!(socket.next().await, Err(Some(1008)));
    let answer = client::call(&server, "futoin.ping:1.0:ping", r#"{"echo":1}"#).await;
    assert!(answer.contains("SecurityError"), "{answer}");
}
