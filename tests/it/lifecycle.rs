//! How the service begins and ends: what it refuses to begin with, and that
//! its end is announced, complete and never waits for a peer.

use std::process::Stdio;

use futoin_eventstream::proto::{
    AckRequest, ConflictPolicy, PollEventsRequest, ReadyToReceiveRequest,
    ready_to_receive_response::Payload,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixDatagram},
    process::Child,
    time::timeout,
};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::{
    load::{endure, seed},
    round_trip::{add, next, next_group, ready, register, subscribe},
    server::{PATIENCE, PROGRAM, Server, clean_command, eventually, http_get, program, signal},
};

fn assert_draining(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let info = status.get_details_error_info().expect("ErrorInfo");
    assert_eq!(info.reason, "DRAINING");
    assert_eq!(info.metadata["effect"], "none");
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
}

async fn health(server: &Server) -> ServingStatus {
    let mut client = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest {
        service: "futoin.evt.v1.PushService".into(),
    };
    let answer = client.check(request).await.expect("answered");
    answer.into_inner().status()
}

#[tokio::test]
async fn streams_are_told_of_the_end_and_may_still_acknowledge() {
    // Long enough for everything below on a slow machine.
    let mut server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (started, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let (_, mut live) = subscribe(&mut clients, ready("LIVE")).await;
    let id = add(&mut clients, "KIND", "1").await;
    assert_eq!(next_group(&mut stream).await.last_id, id);
    assert_eq!(next_group(&mut live).await.last_id, id);
    assert_eq!(health(&server).await, ServingStatus::Serving);

    server.signal("TERM");
    let Payload::Ending(ending) = next(&mut stream).await else {
        panic!("the end is announced");
    };
    assert!(ending.grace.is_some_and(|grace| grace.seconds > 0));
    assert!(matches!(next(&mut live).await, Payload::Ending(_)));
    assert_draining(&live.message().await.expect_err("nothing to wait for"));
    // Everybody who asks is told, on old and on new connections.
    assert_eq!(health(&server).await, ServingStatus::NotServing);
    let (code, text) = http_get(server.http_address(), "/readyz")
        .await
        .expect("served");
    assert_eq!(code, 503);
    assert!(text.contains("draining"), "{text}");
    let refused = clients.push.ready_to_receive(ready("LIVE")).await;
    assert_draining(&refused.expect_err("no new stream"));

    let ack = AckRequest {
        component: "SHOP".into(),
        last_id: id,
        epoch: Some(started.epoch),
    };
    clients.push.ack(ack).await.expect("acknowledged");
    assert_draining(&stream.message().await.expect_err("it ends"));
    assert_eq!(server.ended().await.code(), Some(0));
    let position = server.sqlite("SELECT last_evt_id FROM evt_consumers");
    assert_eq!(position, id.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminations_under_load_lose_nothing() {
    let (figures, _) = endure(&["TERM"], 3, seed()).await;
    assert!(figures.acknowledged > 0 && figures.delivered > 0);
}

/// A client that has stopped in the middle of a large answer, as one does whose
/// machine is gone: the connection is open, nobody reads.
async fn vanished_client(server: &Server) -> Child {
    let mut clients = server.clients().await;
    let data = format!(r#""{}""#, "x".repeat(1 << 20));
    for _ in 0..20 {
        add(&mut clients, "LARGE", &data).await;
    }
    let mut child = clean_command(PROGRAM)
        .args(["tail", "--from-start", "--addr", server.grpc_address()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = [0; 1];
    let stdout = child.stdout.as_mut().expect("piped");
    timeout(PATIENCE, stdout.read_exact(&mut first))
        .await
        .expect("in time")
        .expect("it prints");
    signal(child.id().expect("it runs"), "STOP");
    child
}

#[tokio::test]
async fn no_peer_holds_up_the_end() {
    let mut server = Server::builder()
        .arg("--shutdown-deadline=2s")
        .start()
        .await;
    let mut peers = Vec::new();
    for words in ["", "GET /readyz HTT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        for address in [server.grpc_address(), server.http_address()] {
            let mut peer = TcpStream::connect(address).await.expect("accepted");
            peer.write_all(words.as_bytes()).await.expect("sent");
            peers.push(peer);
        }
    }
    let vanished = vanished_client(&server).await;
    server.signal("TERM");
    let status = server.ended().await;
    assert_eq!(status.code(), Some(1), "somebody was cut off");
    let log = server.log().join("\n");
    assert!(log.contains("the shutdown deadline of 2s passed"), "{log}");
    drop(vanished);
}

#[tokio::test]
async fn peers_that_have_said_nothing_hold_up_nothing() {
    let mut server = Server::builder()
        .arg("--shutdown-deadline=1h")
        .start()
        .await;
    let mut peers = Vec::new();
    for words in ["", "GET /readyz HTT", "PRI * HT"] {
        let mut peer = TcpStream::connect(server.grpc_address())
            .await
            .expect("accepted");
        peer.write_all(words.as_bytes()).await.expect("sent");
        peers.push(peer);
    }
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn second_signal_ends_at_once() {
    let mut server = Server::builder()
        .arg("--shutdown-deadline=1h")
        .start()
        .await;
    let vanished = vanished_client(&server).await;
    server.signal("TERM");
    eventually(async || match server.log() {
        log if log.iter().any(|line| line.contains("stopping")) => Ok(()),
        log => Err(log),
    })
    .await;
    server.signal("INT");
    assert_eq!(server.ended().await.code(), Some(1));
    assert!(server.log().join("\n").contains("second signal (SIGINT)"));
    drop(vanished);
}

#[tokio::test]
async fn long_poll_is_answered_at_the_end() {
    let mut server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let request = PollEventsRequest {
        component: "SHOP".into(),
        max_wait: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..Default::default()
    };
    let mut poller = clients.clone();
    let poll = tokio::spawn(async move { poller.poll.poll_events(request).await });
    // A later call on the same connection was answered: the poll has begun.
    add(&mut clients, "KIND", "1").await;
    let page = poll
        .await
        .expect("no panic")
        .expect("answered")
        .into_inner();
    assert_eq!(page.events.len(), 1);

    let request = PollEventsRequest {
        last_id: Some(page.last_id),
        component: "SHOP".into(),
        max_wait: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..Default::default()
    };
    let mut poller = clients.clone();
    let poll = tokio::spawn(async move { poller.poll.poll_events(request).await });
    // It has begun when it has moved the position.
    let position = async || match server.sqlite("SELECT last_evt_id FROM evt_consumers") {
        position if position == page.last_id.to_string() => Ok(()),
        other => Err(other),
    };
    eventually(position).await;
    server.signal("TERM");
    let answer = poll
        .await
        .expect("no panic")
        .expect("answered")
        .into_inner();
    assert_eq!((answer.events.len(), answer.last_id), (0, page.last_id));
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn stand_by_in_another_replica_starts_when_the_first_ends() {
    // Were it for the lapse, the test would not end in time.
    let first = Server::builder()
        .arg("--stream-session-lapse=10m")
        .start()
        .await;
    let second = first.again().beside(&first).start().await;
    let (mut one, mut two) = (first.clients().await, second.clients().await);
    register(&mut one, "SHOP").await;
    let (before, stream) = subscribe(&mut one, ready("SHOP")).await;
    let stand_by = ReadyToReceiveRequest {
        conflict_policy: ConflictPolicy::StandBy.into(),
        heartbeat_interval: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        ..ready("SHOP")
    };
    let mut waiting = two
        .push
        .ready_to_receive(stand_by)
        .await
        .expect("open")
        .into_inner();
    assert!(matches!(next(&mut waiting).await, Payload::Heartbeat(_)));
    assert!(first.terminate().await.success());
    drop(stream);
    let started = loop {
        match next(&mut waiting).await {
            Payload::Started(started) => break started,
            Payload::Heartbeat(_) => {}
            other => panic!("{other:?} before `started`"),
        }
    };
    assert!(started.epoch > before.epoch);
    let id = add(&mut two, "KIND", "1").await;
    assert_eq!(next_group(&mut waiting).await.last_id, id);
}

#[tokio::test]
async fn unix_socket_serves_all_clients_and_leaves_nothing_behind() {
    let builder = Server::builder();
    let path = builder.dir().join("es.sock");
    let address = format!("unix:{}", path.display());
    let server = builder.grpc(&address).start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (_, mut stream) = subscribe(&mut clients, ready("SHOP")).await;
    let added = program(&["add", "KIND", "{}", "--addr", &address]).await;
    assert!(added.status.success(), "{added:?}");
    assert_eq!(next_group(&mut stream).await.last_id, 1);
    assert!(server.cli(&["healthcheck"]).await.status.success());

    // In use it is refused; left behind by a crash it is replaced.
    let (code, log) = server.again().refused().await;
    assert_eq!(code, Some(1));
    assert!(
        log.contains("grpc.listen") && log.contains("another process listens"),
        "{log}"
    );
    let server = server.crash_and_restart().await;
    assert!(server.cli(&["status"]).await.status.success());
    assert!(server.terminate().await.success());
    assert!(!path.exists(), "the socket's file is removed");
}

#[tokio::test]
async fn systemd_is_told_of_the_beginning_and_of_the_end() {
    let builder = Server::builder();
    let path = builder.dir().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("bound");
    let news = async || {
        let mut text = [0; 64];
        let received = timeout(PATIENCE, socket.recv(&mut text)).await;
        let length = received.expect("in time").expect("received");
        String::from_utf8_lossy(&text[..length])
            .trim_end()
            .to_owned()
    };
    let path = path.display().to_string();
    let mut server = builder.env("NOTIFY_SOCKET", &path).start().await;
    assert_eq!(news().await, "READY=1");
    server.signal("TERM");
    assert_eq!(news().await, "STOPPING=1");
    assert!(server.ended().await.success(), "it ends well");
}

#[tokio::test]
async fn port_in_use_is_named() {
    let server = Server::start().await;
    let (code, log) = Server::builder()
        .grpc(server.grpc_address())
        .refused()
        .await;
    assert_eq!(code, Some(1));
    assert!(
        log.contains("grpc.listen: cannot listen on 127.0.0.1:"),
        "{log}"
    );
    assert!(log.contains("in use"), "{log}");
}

#[tokio::test]
async fn every_fault_of_a_configuration_is_reported_at_once() {
    let output = program(&[
        "check-config",
        "--db=oracle:x",
        "--grpc=nowhere",
        "--log-format=xml",
        "--stream-heartbeat=never",
    ])
    .await;
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).expect("text");
    for key in ["db.url", "grpc.listen", "log.format", "stream.heartbeat"] {
        assert!(text.contains(key), "{key} is missing in {text}");
    }
    let fine = program(&["check-config"]).await;
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
}

#[tokio::test]
async fn addresses_that_others_reach_need_a_word() {
    let (code, log) = Server::builder().grpc("0.0.0.0:0").refused().await;
    assert_eq!(code, Some(2), "{log}");
    assert!(
        log.contains("grpc.listen") && log.contains("insecure"),
        "{log}"
    );
    let server = Server::builder()
        .grpc("0.0.0.0:0")
        .env("EVENTSTREAM_INSECURE", "true")
        .start()
        .await;
    assert!(server.terminate().await.success());
}

#[tokio::test]
async fn migrating_twice_does_nothing_more() {
    let builder = Server::builder();
    let url = format!(
        "--db=sqlite:{}",
        builder.dir().join("eventstream.db").display()
    );
    let said = async || {
        let output = program(&["migrate", &url]).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(
        said().await,
        "applied: ftn18_tables, service_tables, skips_and_late_ids, upkeep\n"
    );
    assert_eq!(said().await, "nothing to do\n");
    let server = builder.clone().start().await;
    add(&mut server.clients().await, "KIND", "1").await;
    assert!(server.terminate().await.success());
    assert_eq!(said().await, "nothing to do\n");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once() {
    let server = Server::builder()
        .arg("--grpc-max-connections=1")
        .start()
        .await;
    let mut clients = server.clients().await;
    add(&mut clients, "KIND", "1").await;
    let mut refused = TcpStream::connect(server.grpc_address())
        .await
        .expect("accepted");
    let read = timeout(PATIENCE, refused.read(&mut [0; 1]))
        .await
        .expect("at once");
    assert!(matches!(read, Ok(0) | Err(_)), "closed: {read:?}");
    add(&mut clients, "KIND", "2").await;
    drop(clients);
    eventually(async || {
        let output = server.cli(&["add", "KIND", "3"]).await;
        if output.status.success() {
            Ok(())
        } else {
            Err(output)
        }
    })
    .await;
}

/// Waits for a time-out of the service, hence only in the long run.
#[cfg(feature = "soak")]
#[tokio::test]
async fn silent_peer_is_dropped() {
    let server = Server::start().await;
    let mut peer = TcpStream::connect(server.grpc_address())
        .await
        .expect("accepted");
    let read = timeout(PATIENCE, peer.read(&mut [0; 1]))
        .await
        .expect("dropped");
    assert!(matches!(read, Ok(0) | Err(_)), "closed: {read:?}");
    add(&mut server.clients().await, "KIND", "1").await;
}
