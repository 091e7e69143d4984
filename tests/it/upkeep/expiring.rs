//! Consumers without life are named, then unregistered; those with life stay.

use crate::{
    calls::status,
    round_trip::{ready, register, subscribe},
    server::{Server, eventually},
};

const LONG_AGO: &str = "UPDATE evt_consumers SET last_time = datetime('now', '-1 day')";

/// Idents that are registered.
fn registered(server: &Server) -> String {
    server.sqlite(
        "SELECT group_concat(ident, ' ') FROM (SELECT ident FROM evt_consumers ORDER BY ident)",
    )
}

async fn until_registered(server: &Server, expected: &str) {
    eventually(async || match registered(server) {
        idents if idents == expected => Ok(()),
        idents => Err(idents),
    })
    .await;
}

#[tokio::test]
async fn silent_consumers_are_named_then_unregistered() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    for component in ["KEPT", "TMP_A", "TMP_B", "WARNED"] {
        register(&mut clients, component).await;
    }
    let again = server.again();
    assert!(server.terminate().await.success());
    let database = again.database();
    crate::server::sqlite(&database, LONG_AGO);
    // The original's, which has its own ideas of life; and one that never goes.
    crate::server::sqlite(
        &database,
        "INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time)
            VALUES ('-internal:ARCHIVER', 0, '2001-01-01', '2001-01-01'),
                ('their:TMP_C', 0, '2001-01-01', CURRENT_TIMESTAMP)",
    );
    let rules =
        "*:TMP_* unregister=1h; local:WARNED warn=1h unregister=30d; -internal:* unregister=1h";
    let server = again
        .arg(format!("--consumers-expire={rules}"))
        .start()
        .await;
    until_registered(
        &server,
        "-internal:ARCHIVER local:KEPT local:WARNED their:TMP_C",
    )
    .await;
    let logged = |text: &str| {
        server
            .log()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    };
    eventually(async || match logged("consumer shows no life") {
        1 => Ok(()),
        count => Err(count),
    })
    .await;
    assert_eq!(logged("consumer unregistered, it showed no life"), 2);
    let (_, metrics) = crate::server::http_get(server.http_address(), "/metrics")
        .await
        .expect("answered");
    for line in [
        "eventstream_consumers_expired_total 2",
        "eventstream_consumers_silent 1",
    ] {
        assert!(metrics.lines().any(|is| is == line), "{line}: {metrics}");
    }
    let leases = status(&mut server.clients().await).await.leases;
    assert_eq!(leases[0].task, "expire");
}

#[tokio::test]
async fn open_session_is_life() {
    let rules = "--consumers-expire=* unregister=5s";
    let server = Server::builder().arg(rules).start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "OPEN").await;
    let (_, stream) = subscribe(&mut clients, ready("OPEN")).await;
    register(&mut clients, "SILENT").await;
    server.sqlite(LONG_AGO);
    until_registered(&server, "local:OPEN").await;
    // Its heartbeat is written down, so that its end is not its removal.
    eventually(async || {
        let fresh = server.sqlite(
            "SELECT count(*) FROM evt_consumers WHERE last_time > datetime('now', '-1 hour')",
        );
        if fresh == "1" { Ok(()) } else { Err(fresh) }
    })
    .await;
    let open = crate::calls::consumer(&mut clients, "OPEN").await;
    assert!(open.subscribed && !open.replica.is_empty());
    drop(stream);
    until_registered(&server, "").await;
}

#[tokio::test]
async fn faulty_rules_are_refused() {
    let builder = Server::builder().arg("--consumers-expire=* unregister");
    let (code, log) = builder.refused().await;
    assert_eq!(code, Some(2));
    assert!(
        log.contains("consumers.expire") && log.contains("warn=7d"),
        "{log}"
    );
}
