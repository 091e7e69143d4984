//! The guards against real sockets. Waits are short bounds of the test's own,
//! never sleeps in the hope that something has happened.

use super::*;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);
const HELLO: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";

struct Server {
    address: Address,
    stopping: CancellationToken,
    killed: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

fn guards() -> Guards {
    Guards {
        connections: 100,
        peer_connections: None,
        first_byte: LONG,
        header: LONG,
        idle: LONG,
        socket: SocketOwner::default(),
    }
}

fn router() -> Router {
    let endless = || async {
        let first = tokio_stream::once(Ok::<_, Infallible>(Bytes::from_static(b"first")));
        Body::from_stream(first.chain(tokio_stream::pending()))
    };
    let flood = || async {
        let piece = Ok::<_, Infallible>(Bytes::from(vec![b'x'; 64 * 1024]));
        Body::from_stream(tokio_stream::iter(std::iter::repeat(piece)))
    };
    Router::new()
        .route("/flood", get(flood))
        .route("/", get(|| async { "hello" }))
        .route("/endless", get(endless))
}

fn start(address: &str, guards: Guards) -> Server {
    serve(Listener::bind("test", &address.parse().unwrap(), guards).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the test waits for it itself")]
fn serve(listener: Listener) -> Server {
    let address = listener.local_address().unwrap();
    let (stopping, killed) = (CancellationToken::new(), CancellationToken::new());
    let running = tokio::spawn(listener.serve(router(), stopping.clone(), killed.clone()));
    Server {
        address,
        stopping,
        killed,
        running,
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        let Address::Tcp(address) = &self.address else {
            panic!("not a TCP server");
        };
        TcpStream::connect(address).await.unwrap()
    }

    async fn ended(self) {
        let end = tokio::time::timeout(LONG, self.running).await;
        end.unwrap().unwrap().unwrap();
    }
}

fn tcp(guards: Guards) -> Server {
    start("127.0.0.1:0", guards)
}

/// Reads until the text was seen or the peer closed; whether it was seen.
async fn see(stream: &mut (impl AsyncRead + Unpin), text: &str) -> bool {
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            // A peer that was closed with unread bytes is reset.
            if !matches!(stream.read_buf(&mut seen).await, Ok(1..)) {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(LONG / 2, reading).await.unwrap()
}

async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    !see(stream, "HTTP/1.1 200").await
}

#[tokio::test]
async fn silent_peer_is_dropped() {
    let server = tcp(Guards {
        first_byte: SHORT,
        ..guards()
    });
    assert!(closed(&mut server.connect().await).await);
}

/// A server with a certificate of its own making.
fn tls(guards: Guards) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("crt"), folder.path().join("key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let files = TlsFiles {
        cert,
        key,
        client_ca: None,
        client_auth: ClientAuth::Off,
    };
    let tls = Tls::load("test", files).unwrap();
    let listener = Listener::bind("test", &"127.0.0.1:0".parse().unwrap(), guards).unwrap();
    serve(listener.with_tls(Arc::new(tls)))
}

#[tokio::test]
async fn handshake_that_does_not_end_is_dropped() {
    let server = tls(Guards {
        header: SHORT,
        ..guards()
    });
    // Nothing, the head of a record, and of a hello that promises more.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for said in [&b""[..], b"\x16\x03\x01", hello] {
        let mut stream = server.connect().await;
        stream.write_all(said).await.unwrap();
        assert!(closed(&mut stream).await);
    }
}

#[tokio::test]
async fn who_speaks_no_tls_is_closed_at_once() {
    let server = tls(guards());
    for said in [HELLO, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0xff; 100]] {
        let mut stream = server.connect().await;
        stream.write_all(said).await.unwrap();
        assert!(closed(&mut stream).await);
    }
}

#[tokio::test]
async fn stop_ends_who_is_shaking_hands() {
    let server = tls(guards());
    let mut half = server.connect().await;
    half.write_all(b"\x16\x03\x01").await.unwrap();
    server.stopping.cancel();
    assert!(closed(&mut half).await);
    server.ended().await;
}

#[tokio::test]
async fn one_address_has_no_more_than_its_share() {
    let server = tcp(Guards {
        peer_connections: Some(1),
        ..guards()
    });
    let mut first = server.connect().await;
    first.write_all(HELLO).await.unwrap();
    assert!(see(&mut first, "hello").await);
    assert!(closed(&mut server.connect().await).await);
}

#[tokio::test]
async fn half_a_header_or_preface_is_dropped() {
    let server = tcp(Guards {
        header: SHORT,
        ..guards()
    });
    for half in [&HELLO[..HELLO.len() - 2], b"P", b"PRI * HTTP/2.0\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(half).await.unwrap();
        assert!(closed(&mut stream).await);
    }
}

#[tokio::test]
async fn header_in_pieces_is_served_and_the_connection_kept() {
    let server = tcp(guards());
    let mut stream = server.connect().await;
    for _ in 0..2 {
        for piece in HELLO.chunks(7) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(see(&mut stream, "hello").await);
    }
}

#[tokio::test]
async fn idle_connection_is_closed_after_its_time() {
    let server = tcp(Guards {
        idle: SHORT,
        ..guards()
    });
    let mut stream = server.connect().await;
    stream.write_all(HELLO).await.unwrap();
    assert!(see(&mut stream, "hello").await);
    assert!(closed(&mut stream).await);
}

#[tokio::test]
async fn too_long_header_is_refused() {
    let server = tcp(guards());
    let mut stream = server.connect().await;
    let mut request = b"GET / HTTP/1.1\r\nx: ".to_vec();
    request.resize(limits::MAX_HEADER_BYTES * 2, b'x');
    stream.write_all(&request).await.unwrap();
    assert!(see(&mut stream, "HTTP/1.1 431").await);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_a_free_place_is_given_again() {
    let server = tcp(Guards {
        connections: 1,
        ..guards()
    });
    let mut first = server.connect().await;
    first.write_all(HELLO).await.unwrap();
    assert!(see(&mut first, "hello").await);
    assert!(closed(&mut server.connect().await).await);
    drop(first);
    // The place is free when the server has noticed; a client tries again.
    let again = async {
        loop {
            let mut stream = server.connect().await;
            let sent = stream.write_all(HELLO).await;
            if sent.is_ok() && see(&mut stream, "hello").await {
                break;
            }
        }
    };
    tokio::time::timeout(LONG, again).await.unwrap();
}

#[tokio::test]
async fn stop_closes_idle_connections_and_waits_for_open_ones() {
    let server = tcp(guards());
    let mut idle = server.connect().await;
    idle.write_all(HELLO).await.unwrap();
    assert!(see(&mut idle, "hello").await);
    let mut open = server.connect().await;
    open.write_all(b"GET /endless HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .unwrap();
    assert!(see(&mut open, "first").await);
    server.stopping.cancel();
    assert!(closed(&mut idle).await);
    assert!(!server.running.is_finished());
    server.killed.cancel();
    assert!(!see(&mut open, "more").await);
    server.ended().await;
}

#[tokio::test]
async fn stop_ends_who_has_not_asked_yet() {
    let server = tcp(guards());
    let mut silent = server.connect().await;
    silent.write_all(b"GET").await.unwrap();
    server.stopping.cancel();
    assert!(closed(&mut silent).await);
    server.ended().await;
}

type Http2 = Client<HttpConnector, Body>;

fn http2() -> Http2 {
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}

async fn get_http2(
    client: &Http2,
    server: &Server,
    path: &str,
) -> Result<http::Response<Incoming>, hyper_util::client::legacy::Error> {
    let uri = format!("http://{}{path}", server.address);
    client.get(uri.parse().unwrap()).await
}

#[tokio::test]
async fn http2_stream_that_is_not_read_leaves_the_others_alone() {
    let server = tcp(guards());
    let client = http2();
    let flood = get_http2(&client, &server, "/flood").await.unwrap();
    for _ in 0..3 {
        let answer = get_http2(&client, &server, "/").await.unwrap();
        assert_eq!(
            answer.into_body().collect().await.unwrap().to_bytes(),
            "hello"
        );
    }
    drop(flood);
}

#[tokio::test]
async fn http2_requests_are_waited_for_and_dropped_when_killed() {
    let server = tcp(guards());
    let client = http2();
    let mut open = get_http2(&client, &server, "/endless").await.unwrap();
    let first = open.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first");
    server.stopping.cancel();
    // New ones are refused: the socket is closed, the connection going away.
    let refused = async {
        while get_http2(&client, &server, "/").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, refused).await.unwrap();
    assert!(!server.running.is_finished());
    server.killed.cancel();
    let end = tokio::time::timeout(LONG, open.frame()).await.unwrap();
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    server.ended().await;
}

#[tokio::test]
async fn unix_socket_is_served_replaced_if_stale_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("es.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let text = format!("unix:{}", path.display());
    let server = start(&text, guards());

    let error = Listener::bind("test", &server.address, guards()).err();
    assert_eq!(error.unwrap().kind(), std::io::ErrorKind::AddrInUse);

    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    assert!(see(&mut stream, "hello").await);
    drop(stream);
    server.stopping.cancel();
    server.ended().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn unix_socket_has_its_mode_and_group() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("es.sock");
    let own = std::fs::metadata(folder.path()).unwrap().gid();
    let guards = |mode, group: &str| Guards {
        socket: SocketOwner {
            mode,
            group: Some(group.to_owned()),
        },
        ..guards()
    };
    for mode in [0o600, 0o660, 0o666] {
        let address = Address::Unix(path.clone());
        let listener = Listener::bind("test", &address, guards(mode, &own.to_string())).unwrap();
        let file = std::fs::metadata(&path).unwrap();
        assert_eq!((file.mode() & 0o7777, file.gid()), (mode, own));
        drop(listener);
    }
    let unknown = guards(0o660, "nobody-is-in-this-group");
    let error = Listener::bind("test", &Address::Unix(path.clone()), unknown)
        .err()
        .unwrap();
    assert!(error.to_string().contains("there is no group"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    assert!(Listener::bind("test", &Address::Unix(path.clone()), guards()).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}
