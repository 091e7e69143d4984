//! The three codings, and the REST form, end to end.

use super::{
    builder,
    client::{call, message, request},
};
use crate::server::Server;

async fn post(server: &Server, body: &[u8]) -> (Option<String>, Vec<u8>) {
    let answer = request(server.http_address(), "POST", "/ftn", &[], body).await;
    (answer.content_type, answer.body)
}

#[tokio::test]
async fn binary_codings_are_answered_in_kind() {
    let server = builder().start().await;
    let ping = b"MPCK\x83\xa1f\xb4futoin.ping:1.0:ping\xa1p\x81\xa4echo\x05\xa3sec\xa9user:pass";
    assert_eq!(
        post(&server, ping).await,
        (
            Some("application/futoin+msgpack".to_owned()),
            b"MPCK\x81\xa1r\x81\xa4echo\x05".to_vec()
        )
    );
    let ping = b"CBOR\xa3\x61f\x74futoin.ping:1.0:ping\x61p\xa1\x64echo\x05\x63sec\x69user:pass";
    assert_eq!(
        post(&server, ping).await,
        (
            Some("application/futoin+cbor".to_owned()),
            b"CBOR\xa1\x61r\xa1\x64echo\x05".to_vec()
        )
    );
    let (kind, body) = post(&server, b"MPCK\xc1").await;
    assert_eq!(kind.as_deref(), Some("application/futoin+msgpack"));
    assert!(
        body.starts_with(b"MPCK\x82\xa1e\xaeInvalidRequest"),
        "{body:?}"
    );
}

#[tokio::test]
async fn event_added_in_one_coding_is_read_in_another() {
    let server = builder().start().await;
    let mut add =
        b"MPCK\x83\xa1f\xbbfutoin.evt.gen:1.1:addEvent\xa1p\x82\xa4type\xa1A\xa4data".to_vec();
    add.extend_from_slice(
        b"\x82\xa1a\x93\x01\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xc0\xa1b\xa2\xc3\xa9",
    );
    add.extend_from_slice(b"\xa3sec\xa9user:pass");
    assert_eq!(post(&server, &add).await.1, b"MPCK\x81\xa1r\xa11");
    let polled = call(
        &server,
        "futoin.evt.poll:1.1:pollEvents",
        r#"{"component":"LIVE"}"#,
    )
    .await;
    assert!(
        polled.contains(r#""data":{"a":[1,1.5,null],"b":"é"}"#),
        "{polled}"
    );
}

#[tokio::test]
async fn lists_are_cut_in_the_coding_of_the_answer() {
    let server = builder().start().await;
    // Nine bytes each in MessagePack, four in JSON.
    let numbers = vec!["0.5"; 1500].join(",");
    let p = format!(r#"{{"type":"A","data":[{numbers}]}}"#);
    for _ in 0..10 {
        call(&server, "futoin.evt.gen:1.1:addEvent", &p).await;
    }
    let poll = b"MPCK\x83\xa1f\xbefutoin.evt.poll:1.0:pollEvents\xa1p\x81\xa9component\xa4LIVE\xa3sec\xa9user:pass";
    let (_, answer) = post(&server, poll).await;
    assert!(
        answer.len() <= 64 * 1024 && answer.starts_with(b"MPCK\x81\xa1r"),
        "{}",
        answer.len()
    );
}

#[tokio::test]
async fn rest_form_works_for_every_function() {
    let server = builder().start().await;
    let basic = [("authorization", "Basic dXNlcjpwYXNz")];
    let get = async |path: &str| {
        let answer = request(server.http_address(), "GET", path, &basic, b"").await;
        assert_eq!(
            answer.content_type.as_deref(),
            Some("application/futoin+json")
        );
        answer.text().to_owned()
    };
    assert_eq!(
        get("/ftn/futoin.evt.gen/1.1/addEvent?type=A&data=text").await,
        r#"{"r":"1"}"#
    );
    assert_eq!(
        get("/ftn/futoin.evt.poll/1.1/registerConsumer?component=SHOP").await,
        r#"{"r":true}"#
    );
    let polled =
        get("/ftn/futoin.evt.poll/1.1/pollEvents?component=SHOP&want=%5B%22A%22%5D&last_id=null")
            .await;
    assert!(polled.contains(r#""data":"text""#), "{polled}");
    let repeated = get("/ftn/futoin.evt.poll/1.1/pollEvents?component=SHOP&want=A&want=B").await;
    assert!(repeated.contains(r#""id":"1""#), "{repeated}");
    let push = get("/ftn/futoin.evt.push/1.1/readyToReceive?component=SHOP").await;
    assert_eq!(
        push,
        r#"{"e":"InvalidRequest","edesc":"Bi-Direct Channel is required"}"#
    );
    // Signed: the parameter counts as the number that it is.
    let signed = "/ftn/futoin.evt.gen/1.1/ping/-hmac%3Ahmacuser%3AMD5%3A3UaI5l%2BG2s50MUmbex%2B%2FnA%3D%3D?echo=123";
    assert_eq!(
        get(signed).await,
        r#"{"r":{"echo":123},"sec":"8nG7GrogEva/yCGDdzzmxw=="}"#
    );
    let other = request(
        server.http_address(),
        "DELETE",
        "/ftn/futoin.ping/1.0/ping",
        &basic,
        b"",
    )
    .await;
    assert_eq!(other.status, 400);
}

#[tokio::test]
async fn path_and_listener_can_be_its_own() {
    let server = builder().arg("--futoin-path=/a/b").start().await;
    let ping = message("futoin.ping:1.0:ping", r#"{"echo":1}"#, "");
    let at =
        async |path: &str| request(server.http_address(), "POST", path, &[], ping.as_bytes()).await;
    assert_eq!(at("/a/b").await.text(), r#"{"r":{"echo":1}}"#);
    assert_eq!(at("/ftn").await.status, 404);

    let server = builder().arg("--futoin-listen=127.0.0.1:0").start().await;
    let at = async |address: &str| request(address, "POST", "/ftn", &[], ping.as_bytes()).await;
    assert_eq!(at(server.http_address()).await.status, 404);
    let own = server.log().iter().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let own = entry["message"] == "listening for FutoIn";
        own.then(|| entry["address"].as_str().expect("an address").to_owned())
    });
    assert_eq!(
        at(&own.expect("it listens")).await.text(),
        r#"{"r":{"echo":1}}"#
    );
}
