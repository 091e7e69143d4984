//! Where a service may listen, and files that it does not start with.

use super::stage::{FILE, guarded, replace, several, user};
use crate::server::{Server, program};

#[tokio::test]
async fn tokens_in_clear_text_are_not_taken_from_other_machines() {
    let (code, log) = guarded(&several()).grpc("0.0.0.0:0").refused().await;
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("grpc.listen") && log.contains("TLS"), "{log}");
    let server = guarded(&several())
        .grpc("0.0.0.0:0")
        .arg("--insecure")
        .start()
        .await;
    assert!(server.terminate().await.success());
}

#[tokio::test]
async fn unix_socket_needs_a_token_too() {
    use tonic::Code;
    let builder = guarded(&several());
    let socket = format!("unix:{}", builder.dir().join("es.sock").display());
    let server = builder.grpc(socket).start().await;
    let mut nobody = crate::server::Clients::over(server.channel().await);
    let polled = nobody.poll.poll_events(crate::calls::poll_of("LIVE")).await;
    crate::calls::refused(polled, Code::Unauthenticated, "UNAUTHENTICATED");
    let mut all = server.clients_of("all").await;
    assert_eq!(crate::round_trip::add(&mut all, "A", "1").await, 1);
}

#[tokio::test]
async fn faulty_file_is_refused_with_file_and_key() {
    for (users, words) in [
        ("", vec!["users is missing"]),
        ("[users.shop]\nhunter2", vec!["line 2 is not TOML"]),
        (
            "[users.shop]\ngenerat = ['A']",
            vec!["users.shop.generat is not known"],
        ),
        (
            "[users.shop]\ngenerate = ['a']",
            vec!["users.shop.generate[0] must be a type"],
        ),
        ("[user.shop]", vec!["user is not known here"]),
        (
            "[users.shop]\ntokens = ['hunter2']",
            vec!["users.shop.tokens[0] must be sha256:"],
        ),
        (
            "[users.shop]\ntoken_files = ['nowhere']",
            vec!["users.shop.token_files[0]", "nowhere cannot be read"],
        ),
    ] {
        let (code, log) = guarded(users).refused().await;
        assert_eq!(code, Some(2), "{users}: {log}");
        for word in [FILE, "auth.file (flag --auth-file)"].iter().chain(&words) {
            assert!(log.contains(word), "{word} is missing in {log}");
        }
        assert!(!log.contains("hunter2"), "{log}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join(FILE);
    replace(&file, &user("shop", ""));
    let file = file.display().to_string();
    let checked = program(&["check-config", "--auth-file", &file]).await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

/// Users of the shim are those of the file, and none else.
#[tokio::test]
async fn user_of_futoin_must_be_in_the_file() {
    let server = guarded(&several())
        .env("EVENTSTREAM_FUTOIN_USERS", "user id=stranger secret=pass")
        .arg("--futoin-negative-reply-delay=0s")
        .start()
        .await;
    let answer = ping(&server).await;
    assert_eq!(
        answer,
        r#"{"e":"SecurityError","edesc":"user stranger is not among the users"}"#
    );
    let server = guarded(&several())
        .env("EVENTSTREAM_FUTOIN_USERS", "user id=nobody secret=pass")
        .start()
        .await;
    assert_eq!(ping(&server).await, r#"{"r":{"echo":1}}"#);
}

async fn ping(server: &Server) -> String {
    crate::futoin::client::call(server, "futoin.ping:1.0:ping", r#"{"echo":1}"#).await
}
