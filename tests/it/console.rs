//! The console: what its page asks, who may ask it, and what it says.

use bytes::Bytes;
use futoin_eventstream::limits;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    auth::stage::{FILE, guarded, replace, several, user},
    calls::{ack, add_many, consumer},
    mysql, postgres,
    round_trip::{add, next_group, ready, register, subscribe},
    server::{Clients, PATIENCE, Server, eventually},
};

/// Whoever speaks to the HTTP listener.
struct Browser<'a> {
    server: &'a Server,
    headers: Vec<(&'static str, String)>,
}

/// Of an answer.
struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn reason(&self) -> (u16, String) {
        let reason = self.json()["error"]["reason"].as_str().map(str::to_owned);
        (self.status.as_u16(), reason.expect("a reason"))
    }
}

impl<'a> Browser<'a> {
    fn at(server: &'a Server) -> Self {
        Self {
            server,
            headers: Vec::new(),
        }
    }

    fn saying(server: &'a Server, name: &'static str, value: &str) -> Self {
        Self {
            server,
            headers: vec![(name, value.to_owned())],
        }
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.server.http_address()));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::<Bytes>::from(body)).expect("a request");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answered = timeout(PATIENCE, client.request(request)).await;
        answered.expect("in time").expect("it answers")
    }

    async fn answer(&self, method: Method, path: &str, body: String) -> Answer {
        let response = self.send(method, path, body).await;
        let (parts, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await;
        let body = body.expect("in time").expect("a body").to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).expect("text"),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.answer(Method::GET, path, String::new()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let as_json = Self {
            server: self.server,
            headers: self
                .headers
                .iter()
                .cloned()
                .chain([("content-type", "application/json".to_owned())])
                .collect(),
        };
        as_json.answer(Method::POST, path, body.to_string()).await
    }

    async fn state(&self) -> Value {
        let answer = self.get("/console/api/state").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()
    }

    async fn tail(&self, query: &str) -> Tail {
        let path = format!("/console/api/tail{query}");
        let response = self.send(Method::GET, &path, String::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        Tail {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }
}

/// An open tail.
struct Tail {
    body: Incoming,
    rest: Vec<u8>,
}

impl Tail {
    /// The next message, name and data; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            let end = self.rest.windows(2).position(|pair| pair == b"\n\n");
            if let Some(end) = end {
                let message = self.rest.drain(..end + 2).collect();
                let message = String::from_utf8(message).expect("text");
                let line = |prefix: &str| {
                    let found = message.lines().find_map(|line| line.strip_prefix(prefix));
                    found.expect("each message has both").to_owned()
                };
                let data = serde_json::from_str(&line("data: ")).expect("JSON");
                return Some((line("event: "), data));
            }
            let frame = timeout(PATIENCE, self.body.frame())
                .await
                .expect("in time")?;
            let data = frame.expect("no error").into_data().expect("data");
            self.rest.extend_from_slice(&data);
        }
    }

    /// Events until there are so many, and what was skipped before them.
    async fn events(&mut self, count: usize) -> (Vec<Value>, u64) {
        let (mut events, mut skipped) = (Vec::new(), 0);
        while events.len() + usize::try_from(skipped).expect("few") < count {
            let (name, data) = self.next().await.expect("not the end");
            if name == "events" {
                events.extend(data["events"].as_array().expect("events").iter().cloned());
                skipped += data["skipped"].as_u64().expect("a number");
            }
        }
        (events, skipped)
    }
}

#[tokio::test]
async fn page_is_served_with_a_strict_policy() {
    let server = Server::start().await;
    let browser = Browser::at(&server);
    let home = browser.get("/console").await;
    assert_eq!(home.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(home.headers[header::LOCATION], "console/");
    let page = browser.get("/console/").await;
    assert_eq!(page.status, StatusCode::OK);
    let mut paths = vec!["/console/".to_owned(), "/console/api/state".to_owned()];
    for attribute in ["src=\"", "href=\""] {
        let named = page.body.split(attribute).skip(1);
        let named = named.filter_map(|rest| rest.split('"').next());
        let files = named.filter(|file| !file.starts_with('#'));
        paths.extend(files.map(|file| format!("/console/{file}")));
    }
    assert!(paths.len() > 4, "{paths:?}");
    for path in paths {
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str();
        let policy = policy.expect("text");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; "),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(
            answer.headers[header::X_CONTENT_TYPE_OPTIONS],
            "nosniff",
            "{path}"
        );
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
    }
    assert_eq!(
        browser.get("/console/nothing").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn console_can_be_switched_off() {
    let server = Server::builder().arg("--http-console=off").start().await;
    let browser = Browser::at(&server);
    for path in ["/console", "/console/", "/console/api/state"] {
        assert_eq!(
            browser.get(path).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test]
async fn only_its_own_page_under_a_safe_name_may_call() {
    let server = Server::start().await;
    let own = format!("http://{}", server.http_address());
    let port = server.http_address().rsplit(':').next().expect("a port");
    let (localhost, evil) = (format!("localhost:{port}"), format!("evil.example:{port}"));
    for (name, value, status) in [
        ("host", localhost.as_str(), 200),
        ("host", &evil, 403),
        ("origin", &own, 200),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
    ] {
        let browser = Browser::saying(&server, name, value);
        for path in ["/console/api/state", "/console/api/history"] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status.as_u16(), status, "{name}: {value}");
        }
        let seek = json!({"consumer": {"user": "local", "component": "NONE"}, "to": {"now": true}});
        let moved = browser.post("/console/api/seek", &seek).await;
        // Let in, it finds no such consumer.
        let expected = if status == 200 { 404 } else { status };
        assert_eq!(moved.status.as_u16(), expected, "{name}: {value}");
    }
    // Not even the page: it would be somebody else's.
    let page = Browser::saying(&server, "host", &evil)
        .get("/console/")
        .await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    // What a form of another page can send without asking is no JSON.
    let form = Browser::saying(&server, "content-type", "text/plain");
    let seek = r#"{"consumer":{"user":"local","component":"NONE"},"to":{"now":true}}"#;
    let answer = form
        .answer(Method::POST, "/console/api/seek", seek.to_owned())
        .await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

/// On any engine.
async fn state_changes_and_tail(server: &Server) {
    let mut clients = server.clients().await;
    let browser = Browser::at(server);
    let ids = state_tells_the_stream_and_its_consumers(&browser, &mut clients).await;
    consumers_are_moved_and_unregistered(&browser, &mut clients, ids[1]).await;
    tail_begins_shortly_before_the_end_and_is_exact(&browser, &mut clients, &ids).await;
}

async fn state_tells_the_stream_and_its_consumers(
    browser: &Browser<'_>,
    clients: &mut Clients,
) -> Vec<i64> {
    register(clients, "SLOW").await;
    register(clients, "FAST").await;
    let ids = add_many(clients, "A", 5).await;
    let last = *ids.last().expect("five");
    ack(clients, "FAST", last, None).await.expect("acked");
    let state = browser.state().await;
    assert_eq!(state["frontier"], last.to_string());
    assert_eq!(state["head"], last.to_string());
    assert_eq!(state["waiting"], "0");
    assert_eq!(state["user"], "local");
    assert_eq!(state["held"], Value::Null);
    let consumers = &state["consumers"];
    assert_eq!(
        (&consumers["total"], &consumers["found"]),
        (&json!(2), &json!(2))
    );
    let [slow, fast] = &consumers["shown"].as_array().expect("two")[..] else {
        panic!("{consumers}");
    };
    assert_eq!(
        (&slow["component"], &slow["lag"]),
        (&json!("SLOW"), &json!("5"))
    );
    assert_eq!(
        (&slow["holds_oldest"], &fast["holds_oldest"]),
        (&json!(true), &json!(false))
    );
    assert!(
        slow["lag_age"].is_u64() && fast["lag_age"].is_null(),
        "{consumers}"
    );
    assert_eq!(fast["position"], last.to_string());
    assert_eq!(fast["governed"], true);
    let found = browser.get("/console/api/state?search=aST").await.json();
    assert_eq!(found["consumers"]["found"], 1);
    assert_eq!(found["consumers"]["shown"][0]["component"], "FAST");
    ids
}

async fn consumers_are_moved_and_unregistered(
    browser: &Browser<'_>,
    clients: &mut Clients,
    back: i64,
) {
    let to = json!({"after": back.to_string()});
    let which = json!({"user": "local", "component": "FAST"});
    let moved = browser
        .post("/console/api/seek", &json!({"consumer": which, "to": to}))
        .await;
    assert_eq!(moved.status, StatusCode::OK, "{}", moved.body);
    assert_eq!(moved.json()["consumer"]["position"], back.to_string());
    assert_eq!(consumer(clients, "FAST").await.position, back);
    let gone = browser.post("/console/api/unregister", &which).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.body);
    assert_eq!(browser.state().await["consumers"]["total"], 1);
    let again = browser.post("/console/api/unregister", &which).await;
    assert_eq!(again.reason(), (404, "NOT_REGISTERED".to_owned()));
}

async fn tail_begins_shortly_before_the_end_and_is_exact(
    browser: &Browser<'_>,
    clients: &mut Clients,
    ids: &[i64],
) {
    let mut tail = browser.tail("").await;
    let (events, skipped) = tail.events(5).await;
    let shown: Vec<_> = events
        .iter()
        .map(|event| event["id"].as_str().expect("text").to_owned())
        .collect();
    let expected: Vec<_> = ids.iter().map(i64::to_string).collect();
    assert_eq!((shown, skipped), (expected, 0));
    let exact = r#"{"n": 9007199254740993, "s": "𝄞 שלום", "z": 1.0}"#;
    let id = add(clients, "EXACT", exact).await;
    let (events, _) = tail.events(1).await;
    assert_eq!(events[0]["id"], id.to_string());
    assert_eq!(
        (&events[0]["type"], &events[0]["data"]),
        (&json!("EXACT"), &json!(exact))
    );
    assert_eq!(events[0]["bytes"], exact.len());
    assert!(events[0]["time"].is_i64(), "{}", events[0]);
}

#[tokio::test]
async fn sqlite_state_and_tail() {
    state_changes_and_tail(&Server::start().await).await;
}

#[tokio::test]
async fn postgres_state_and_tail() {
    let database = postgres::Cluster::shared().database().await;
    state_changes_and_tail(&database.server().start().await).await;
}

#[tokio::test]
async fn mysql_state_and_tail() {
    let database = mysql::Cluster::shared().database().await;
    state_changes_and_tail(&database.server().start().await).await;
}

#[tokio::test]
async fn who_holds_the_frontier_is_named() {
    let database = postgres::Cluster::shared().database().await;
    let server = database.server().start().await;
    let mut session = database.session().await;
    postgres::run(&mut session, "BEGIN").await;
    let held = postgres::insert(&mut session).await;
    let mut clients = server.clients().await;
    let behind = add(&mut clients, "A", "1").await;
    let browser = Browser::at(&server);
    let state = browser.state().await;
    assert_eq!(state["held"]["id"], held.to_string());
    assert_eq!(state["waiting"], (behind - held + 1).to_string());
    assert_eq!(
        state["blockers"].as_array().map(Vec::len),
        Some(1),
        "{state}"
    );
    assert_eq!(state["blockers"][0]["prepared"], false);
    postgres::run(&mut session, "ROLLBACK").await;
    eventually(async || {
        let state = browser.state().await;
        if state["held"].is_null() {
            Ok(())
        } else {
            Err(state)
        }
    })
    .await;
}

#[tokio::test]
async fn mistakes_are_named_by_field_and_rule() {
    let server = Server::start().await;
    let browser = Browser::at(&server);
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let shop = json!({"user": "local", "component": "SHOP"});
    for (to, reason, word) in [
        (json!({"after": "5"}), "BEYOND_HEAD", "id 5 is above"),
        (
            json!({"after": "-1"}),
            "INVALID_FIELD",
            "to.after must be 0 to",
        ),
        (
            json!({"after": "x"}),
            "INVALID_FIELD",
            "to.after must be 0 to",
        ),
        (
            json!({"after": "9999999999999999999"}),
            "INVALID_FIELD",
            "to.after must be",
        ),
        (json!({"after": 5}), "INVALID_FIELD", "to.after"),
        (
            json!({"time": 253_402_300_800_000_i64}),
            "INVALID_FIELD",
            "to.time must be a time",
        ),
        (
            json!({"now": false}),
            "INVALID_FIELD",
            "to.now must be true",
        ),
        (json!({"then": 1}), "INVALID_FIELD", "to: unknown variant"),
        (json!({}), "INVALID_FIELD", "to: "),
    ] {
        let answer = browser
            .post("/console/api/seek", &json!({"consumer": shop, "to": to}))
            .await;
        assert_eq!(answer.reason().1, reason, "{to}: {}", answer.body);
        assert!(answer.body.contains(word), "{to}: {}", answer.body);
    }
    for (path, word) in [
        ("/console/api/tail?types=a", "types must match"),
        ("/console/api/tail?types=", "types must match"),
        ("/console/api/tail?kinds=A", "unknown field"),
        ("/console/api/history?since=x", "since: "),
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.reason(), (400, "INVALID_FIELD".to_owned()), "{path}");
        assert!(answer.body.contains(word), "{path}: {}", answer.body);
    }
    let long = format!("/console/api/state?search={}", "x".repeat(65));
    assert_eq!(browser.get(&long).await.reason().0, 400);
    let which = json!({"user": "local", "component": "x".repeat(limits::CONSOLE_BODY)});
    let answer = browser.post("/console/api/unregister", &which).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let which = json!({"user": "a:b", "component": "SHOP"});
    let answer = browser.post("/console/api/unregister", &which).await;
    assert!(answer.body.contains("user must be"), "{}", answer.body);
}

#[tokio::test]
async fn tail_is_filtered_cut_paced_and_goes_past_what_cannot_be_shown() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let mut filtered = Browser::at(&server).tail("?types=B,C").await;
    let mut all = Browser::at(&server).tail("").await;
    for tail in [&mut filtered, &mut all] {
        assert_eq!(tail.next().await.expect("open").0, "started");
    }
    add(&mut clients, "A", "1").await;
    let long = format!("\"{}\"", "é".repeat(limits::CONSOLE_TAIL_DATA));
    add(&mut clients, "B", &long).await;
    let (events, _) = filtered.events(1).await;
    assert_eq!(
        (&events[0]["id"], &events[0]["bytes"]),
        (&json!("2"), &json!(long.len()))
    );
    let shown = events[0]["data"].as_str().expect("text");
    assert!(long.starts_with(shown) && shown.len() <= limits::CONSOLE_TAIL_DATA);
    all.events(2).await;

    server.sqlite("INSERT INTO evt_queue (type, data, ts) VALUES ('A', CAST(x'ff' AS TEXT), CURRENT_TIMESTAMP)");
    add(&mut clients, "A", "4").await;
    let said = all.next().await.expect("not the end");
    assert_eq!(said.0, "unreadable");
    assert_eq!(said.1, json!(["3", "its data is not UTF-8 text"]));
    assert_eq!(all.events(1).await.0[0]["id"], "4");

    let flood = limits::CONSOLE_TAIL_EVENTS * 20;
    add_many(&mut clients, "A", flood.min(1000)).await;
    add_many(&mut clients, "A", flood.min(1000)).await;
    let (events, skipped) = all.events(2000).await;
    assert_eq!(events.len() + usize::try_from(skipped).expect("few"), 2000);
    assert!(skipped > 0);
    assert_eq!(events.last().expect("some")["id"], "2004");
}

#[tokio::test]
async fn tails_are_bounded_and_do_not_outlive_their_page() {
    let server = Server::start().await;
    let browser = Browser::at(&server);
    let mut tails = Vec::new();
    for _ in 0..limits::CONSOLE_TAILS {
        let mut tail = browser.tail("").await;
        tail.next().await.expect("open");
        tails.push(tail);
    }
    assert_eq!(browser.state().await["open_streams"], limits::CONSOLE_TAILS);
    let refused = browser.get("/console/api/tail").await;
    assert_eq!(refused.reason(), (429, "OVERLOADED".to_owned()));
    drop(tails);
    eventually(
        async || match browser.state().await["open_streams"].as_u64() {
            Some(0) => Ok(()),
            open => Err(open),
        },
    )
    .await;
    browser
        .tail("")
        .await
        .next()
        .await
        .expect("there is room again");
}

#[tokio::test]
async fn drain_ends_the_tail_with_a_word() {
    let mut server = Server::start().await;
    let mut tail = Browser::at(&server).tail("").await;
    tail.next().await.expect("open");
    server.signal("TERM");
    while let Some((name, _)) = tail.next().await {
        if name == "ending" {
            assert_eq!(tail.next().await, None);
            assert!(server.ended().await.success());
            return;
        }
    }
    panic!("it said nothing");
}

/// Slots of the last hour, merged: type and events.
async fn counted(browser: &Browser<'_>) -> (Vec<(String, u64)>, Value) {
    let history = browser.get("/console/api/history").await.json();
    let mut counts = std::collections::BTreeMap::new();
    for slot in history["slots"].as_array().expect("slots") {
        for count in slot["counts"].as_array().expect("counts") {
            let kind = count[0].as_str().expect("a type").to_owned();
            *counts.entry(kind).or_default() += count[1].as_u64().expect("a number");
        }
    }
    (counts.into_iter().collect(), history)
}

#[tokio::test]
async fn history_counts_while_somebody_listens_and_has_what_others_made_known() {
    let server = Server::start().await;
    let browser = Browser::at(&server);
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add(&mut clients, "UNSEEN", "1").await;
    let mut tail = browser.tail("").await;
    assert_eq!(tail.next().await.expect("open").0, "started");
    add_many(&mut clients, "A", 5).await;
    add(&mut clients, "B", "1").await;
    let (counts, history) = eventually(async || {
        let seen = counted(&browser).await;
        if seen.0.len() == 2 {
            Ok(seen)
        } else {
            Err(seen)
        }
    })
    .await;
    assert_eq!(counts, [("A".to_owned(), 5), ("B".to_owned(), 1)]);
    assert_eq!(history["step"], 10_000);
    // Lag comes with anybody's look at the consumers.
    browser.state().await;
    eventually(async || {
        let (_, history) = counted(&browser).await;
        let slots = history["slots"].as_array().expect("slots");
        let (who, ids) = (json!("local:SHOP"), json!("7"));
        let lags = slots.iter().filter_map(|slot| slot["lags"].as_array());
        if lags.flatten().any(|lag| lag[0] == who && lag[1] == ids) {
            Ok(())
        } else {
            Err(history)
        }
    })
    .await;
}

#[tokio::test]
async fn a_receiver_is_shown_where_it_is_and_ends_when_it_is_moved() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let request = futoin_eventstream::proto::ReadyToReceiveRequest {
        client_label: "pod-1 <b>😀".to_owned(),
        ..ready("SHOP")
    };
    let (_, mut stream) = subscribe(&mut clients, request).await;
    add(&mut clients, "A", "1").await;
    next_group(&mut stream).await;
    let browser = Browser::at(&server);
    let shown = &browser.state().await["consumers"]["shown"][0];
    assert_eq!(
        (&shown["connected"], &shown["label"]),
        (&json!(true), &json!("pod-1 <b>😀"))
    );
    let seek = json!({"consumer": {"user": "local", "component": "SHOP"}, "to": {"time": 0}});
    assert_eq!(
        browser.post("/console/api/seek", &seek).await.status,
        StatusCode::OK
    );
    crate::calls::end_of(&mut stream).await;
}

fn bearing<'a>(server: &'a Server, token: &str) -> Browser<'a> {
    Browser::saying(server, "authorization", &format!("Bearer {token}"))
}

#[tokio::test]
async fn rights_are_those_of_every_front() {
    let server = guarded(&several()).token("all").start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    add(&mut clients, "ORDER_NEW", "1").await;
    add(&mut clients, "SECRET", "2").await;
    let refused = (403, "NOT_ALLOWED".to_owned());
    let seek = json!({"consumer": {"user": "all", "component": "SHOP"}, "to": {"now": true}});
    for (token, sees, tails, moves) in [
        ("nobody", false, false, false),
        ("eye", true, false, false),
        ("ops", true, false, true),
        ("shop", false, true, false),
        ("all", false, true, true),
    ] {
        let browser = bearing(&server, token);
        for path in ["/console/api/state", "/console/api/history"] {
            let answer = browser.get(path).await;
            if sees {
                assert_eq!(answer.status, StatusCode::OK, "{token}: {path}");
            } else {
                assert_eq!(answer.reason(), refused, "{token}: {path}");
            }
        }
        if tails {
            browser.tail("").await.next().await.expect("open");
        } else {
            assert_eq!(
                browser.get("/console/api/tail").await.reason(),
                refused,
                "{token}"
            );
        }
        let answer = browser.post("/console/api/seek", &seek).await;
        let expected = if moves { 200 } else { 403 };
        assert_eq!(answer.status.as_u16(), expected, "{token}: {}", answer.body);
    }
    for (token, governed) in [("eye", false), ("ops", true)] {
        let state = bearing(&server, token).state().await;
        assert_eq!(
            state["consumers"]["shown"][0]["governed"], governed,
            "{token}"
        );
    }
    let (events, _) = bearing(&server, "shop").tail("").await.events(1).await;
    assert_eq!(events[0]["type"], "ORDER_NEW");
    let hidden = bearing(&server, "shop")
        .get("/console/api/tail?types=SECRET")
        .await;
    assert_eq!(hidden.reason(), refused);
}

#[tokio::test]
async fn strangers_see_the_page_and_nothing_in_it() {
    let server = guarded(&several()).start().await;
    let strangers = [Browser::at(&server), bearing(&server, "nonsense")];
    for stranger in strangers {
        assert_eq!(stranger.get("/console/").await.status, StatusCode::OK);
        for path in ["state", "history", "tail"] {
            let answer = stranger.get(&format!("/console/api/{path}")).await;
            let unknown = (401, "UNAUTHENTICATED".to_owned());
            assert_eq!(answer.reason(), unknown, "{path}");
            assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
        }
    }
    // With users no page of another name can do anything.
    let named = Browser::saying(&server, "host", "eventstream.example");
    assert_eq!(named.get("/console/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn tail_ends_with_the_rights_that_it_was_opened_by() {
    let server = guarded(&several()).start().await;
    let mut tail = bearing(&server, "all").tail("").await;
    assert_eq!(tail.next().await.expect("open").0, "started");
    replace(&server.dir().join(FILE), &user("eye", "observe = true"));
    while let Some((name, data)) = tail.next().await {
        if name == "failed" {
            assert_eq!(data["reason"], "CREDENTIALS_ENDED");
            assert_eq!(tail.next().await, None);
            return;
        }
    }
    panic!("it said nothing");
}
