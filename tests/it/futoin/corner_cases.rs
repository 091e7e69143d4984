//! Requests with the answers that the original server gave, byte for byte.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    builder,
    client::{Socket, call, request},
    open_builder,
};
use crate::server::Server;

#[derive(Debug, Deserialize)]
struct Case {
    n: u32,
    server: String,
    transport: String,
    title: String,
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    headers: HashMap<String, String>,
    #[serde(default)]
    request: String,
    status: Option<u16>,
    content_type: Option<String>,
    response: Option<String>,
    close: Option<u16>,
    cls: String,
}

/// Where we differ from the original, on purpose.
fn ours(n: u32) -> &'static str {
    match n {
        16 => r#"{"r":{"echo":1}}"#,
        73 => r#"{"e":"NotRegistered"}"#,
        92 => r#"{"r":{"echo":5}}"#,
        95 => r#"{"r":"0"}"#,
        101 => r#"{"e":"InvalidRequest","edesc":"Missing req.rid"}"#,
        110 => {
            r#"{"rid":"C1","e":"InvalidRequest","edesc":"Unknown interface function: readyToReceive"}"#
        }
        n => panic!("case {n} is not told"),
    }
}

/// Without ids and times.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let marks = [r#""ts":""#, r#"{"r":""#, r#""id":""#];
    while let Some(at) = marks
        .iter()
        .filter_map(|mark| rest.find(mark).map(|at| at + mark.len()))
        .min()
    {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        rest = &after[after.find('"').unwrap_or(0)..];
    }
    out + rest
}

#[tokio::test]
async fn answers_are_those_of_the_original() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("corner_cases.json")).expect("cases");
    assert_eq!(cases.len(), 74);
    let servers = HashMap::from([
        ("push", builder().start().await),
        (
            "poll",
            builder().arg("--futoin-interfaces=gen,poll").start().await,
        ),
        ("insecure", open_builder().start().await),
        (
            "proxy",
            open_builder().arg("--futoin-trust-proxy").start().await,
        ),
    ]);
    for case in &cases {
        let server = &servers[case.server.as_str()];
        if case.n == 82 {
            // The cases are a selection; this one tells of an event before.
            call(
                server,
                "futoin.evt.gen:1.1:addEvent",
                r#"{"type":"B","data":"é"}"#,
            )
            .await;
        }
        match case.transport.as_str() {
            "http" => over_http(server, case).await,
            _ => over_websocket(server, case).await,
        }
    }
}

async fn over_http(server: &Server, case: &Case) {
    let headers: Vec<(&str, &str)> = case
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let (method, path) = (case.method.as_deref(), case.path.as_deref());
    let answer = request(
        server.http_address(),
        method.expect("a method"),
        path.expect("a path"),
        &headers,
        case.request.as_bytes(),
    )
    .await;
    let title = format!("{} {}", case.n, case.title);
    if case.cls == "X" {
        assert_eq!(plain(answer.text()), plain(ours(case.n)), "{title}");
        return;
    }
    let expected = case.response.as_deref().expect("an answer");
    assert_eq!(plain(answer.text()), plain(expected), "{title}");
    assert_eq!(Some(answer.status), case.status, "{title}");
    assert_eq!(answer.content_type, case.content_type, "{title}");
    if answer.status == 400 {
        assert!(
            answer.head.starts_with("HTTP/1.1 400 Invalid Request"),
            "{}",
            answer.head
        );
    }
}

async fn over_websocket(server: &Server, case: &Case) {
    let title = format!("{} {}", case.n, case.title);
    let mut socket = Socket::open(server).await;
    socket.send(&case.request).await;
    if let Some(code) = case.close {
        assert_eq!(socket.next().await, Err(Some(code)), "{title}");
        return;
    }
    let expected = match case.cls.as_str() {
        "X" => Some(ours(case.n)),
        _ => case.response.as_deref(),
    };
    if let Some(expected) = expected {
        assert_eq!(socket.text().await, expected, "{title}");
    }
    // The socket is alive, and nothing else was said.
    let ping = socket.call("futoin.ping:1.0:ping", r#"{"echo":7}"#).await;
    assert_eq!(ping, r#"{"r":{"echo":7},"rid":"C1"}"#, "{title}");
}
