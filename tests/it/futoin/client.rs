//! A client that sends what it is told and judges nothing.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::server::{PATIENCE, Server};

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// One request on a connection of its own.
pub async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &[name, ": ", value, "\r\n"].concat();
    }
    if method == "POST" {
        head += &["content-length: ", &body.len().to_string(), "\r\n"].concat();
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let sent = [head.as_bytes(), body].concat();
    // A request that is too large is answered before it was read.
    let _ = stream.write_all(&sent).await;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("it answers");
    parse(&answer)
}

fn parse(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no header: {answer:?}"));
    let head = String::from_utf8(answer[..end].to_vec()).expect("text");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let content_type = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.eq_ignore_ascii_case("content-type")).then(|| value.trim().to_owned())
    });
    Answer {
        status: status.expect("a status"),
        head,
        content_type,
        body: answer[end + 4..].to_vec(),
    }
}

/// A message and its answer over HTTP, which is always 200.
pub async fn post(server: &Server, message: &str) -> String {
    let answer = request(
        server.http_address(),
        "POST",
        "/ftn",
        &[],
        message.as_bytes(),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(
        answer.content_type.as_deref(),
        Some("application/futoin+json")
    );
    answer.text().to_owned()
}

/// A call by `user`, over HTTP.
pub async fn call(server: &Server, f: &str, p: &str) -> String {
    post(server, &message(f, p, "")).await
}

/// A message of `user`; `more` comes before `sec`.
pub fn message(f: &str, p: &str, more: &str) -> String {
    format!(r#"{{"f":"{f}","p":{p}{more},"sec":"user:pass"}}"#)
}

/// A WebSocket.
pub struct Socket(pub WebSocketStream<TcpStream>);

impl Socket {
    pub async fn open(server: &Server) -> Self {
        Self::at(server, "/ftn").await
    }

    pub async fn at(server: &Server, path: &str) -> Self {
        let address = server.http_address();
        let stream = TcpStream::connect(address).await.expect("it listens");
        let url = format!("ws://{address}{path}");
        let (socket, _) = client_async(url, stream).await.expect("a WebSocket");
        Self(socket)
    }

    pub async fn send(&mut self, message: &str) {
        let message = Message::binary(message.as_bytes().to_vec());
        self.0.send(message).await.expect("sent");
    }

    /// The next message; the close code if it is the end.
    pub async fn next(&mut self) -> Result<String, Option<u16>> {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect("in time");
            match message {
                Some(Ok(Message::Binary(bytes))) => {
                    return Ok(String::from_utf8(bytes.to_vec()).expect("text"));
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("not binary: {other:?}"),
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next message.
    pub async fn text(&mut self) -> String {
        self.next().await.expect("a message")
    }

    /// The next message, read.
    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("JSON")
    }

    /// A call by `user`, and its answer; nothing else may come between.
    pub async fn call(&mut self, f: &str, p: &str) -> String {
        self.send(&message(f, p, r#","rid":"C1""#)).await;
        self.text().await
    }

    /// Registers a component and subscribes it, as `user`.
    pub async fn receive(&mut self, component: &str, want: &str) {
        let p = format!(r#"{{"component":"{component}"}}"#);
        if component != "LIVE" {
            let registered = self.call("futoin.evt.push:1.1:registerConsumer", &p).await;
            assert_eq!(registered, r#"{"r":true,"rid":"C1"}"#);
        }
        let p = format!(r#"{{"component":"{component}","want":{want}}}"#);
        let ready = self.call("futoin.evt.push:1.1:readyToReceive", &p).await;
        assert_eq!(ready, r#"{"r":true,"rid":"C1"}"#);
    }

    /// The next group: its `rid`, `seq` and ids.
    pub async fn group(&mut self) -> (String, i64, Vec<String>) {
        let call = self.json().await;
        assert_eq!(call["f"], "futoin.evt.receiver:1.1:onEvents", "{call}");
        let ids = call["p"]["events"].as_array().expect("events").iter();
        (
            call["rid"].as_str().expect("rid").to_owned(),
            call["p"]["seq"].as_i64().expect("seq"),
            ids.map(|event| event["id"].as_str().expect("id").to_owned())
                .collect(),
        )
    }

    /// Answers a call.
    pub async fn answer(&mut self, rid: &str, answer: &str) {
        self.send(&format!(r#"{{{answer},"rid":"{rid}"}}"#)).await;
    }
}

/// Adds events of a type with numbers as data.
pub async fn add(server: &Server, kind: &str, count: usize) {
    let mut clients = server.clients().await;
    crate::calls::add_many(&mut clients, kind, count).await;
}
