//! Calls by ordinary means with extraordinary content: HTTP/2 by a library that
//! understands the answers, HTTP/1.1 by hand.

use std::error::Error;

use axum::body::Body;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::http2::CREDENTIALS;
use crate::server::PATIENCE;

/// How gRPC answered.
#[derive(Debug, Default)]
pub struct Reply {
    /// Of HTTP.
    pub http: u16,
    /// Of gRPC, as its number.
    pub status: Option<String>,
    /// All that was said.
    pub said: Vec<u8>,
}

impl Reply {
    fn note(&mut self, headers: &HeaderMap) {
        let status = headers.get("grpc-status");
        let status = status.map(|status| status.to_str().expect("a number").to_owned());
        self.status = status.or(self.status.take());
        for (name, value) in headers {
            self.said.extend_from_slice(name.as_str().as_bytes());
            self.said.extend_from_slice(value.as_bytes());
        }
    }
}

/// A call of `futoin.evt.v1` over a connection of its own, by who may add
/// events unless the headers say otherwise.
pub async fn call(
    address: &str,
    method: &str,
    headers: &[(&str, &[u8])],
    body: Body,
) -> Result<Reply, Box<dyn Error + Send + Sync>> {
    let mut request = http::Request::post(format!("http://{address}/futoin.evt.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("authorization", CREDENTIALS)
        .body(body)?;
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes())?;
        let value = http::HeaderValue::from_bytes(value)?;
        request.headers_mut().insert(name, value);
    }
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let answer = client.request(request).await?;
    let mut reply = Reply {
        http: answer.status().as_u16(),
        ..Reply::default()
    };
    reply.note(answer.headers());
    let mut body = answer.into_body();
    // A server that has answered may stop to listen.
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            reply.said.extend_from_slice(data);
        }
        if let Some(trailers) = frame.trailers_ref() {
            reply.note(trailers);
        }
    }
    Ok(reply)
}

/// Sends what is to be said, and hears what is answered until the other side
/// closes.
pub async fn say(address: &str, what: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // Who sends too much is not heard to the end.
    let _ = stream.write_all(what).await;
    answer(&mut stream).await
}

/// What is said until the other side closes.
pub async fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // A connection that is reset is closed, too.
    let _ = end.expect("the server closes");
    said
}

/// The status of an answer of HTTP/1.1; 0 if there is none.
pub fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_default()
}
