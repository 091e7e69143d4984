//! JSON text is stored and returned to the letter.

use crate::{
    calls::{poll, poll_of},
    round_trip::{add, next_group, ready, register, subscribe},
    server::Server,
};

const TEXTS: &[&str] = &[
    "null",
    "true",
    "\"\"",
    "{}",
    "9007199254740993",
    "18446744073709551615",
    "-123456789012345678901234567890",
    "1.0",
    "-0",
    "1e400",
    "0.1000000000000000055511151231257827",
    r#"{"b":1,"a":2}"#,
    r#"{"a":1,"a":2}"#,
    r#""\u0000""#,
    r#""\ud800 and \udc00""#,
    r#""\ud83d\ude00 is \u00e9""#,
    "\"😀 é \u{10ffff}\"",
    "\"\u{7f}\u{2028}\"",
    " \t\r\n{ \"a\" : [ 1 , 2 ] } \n",
    r#""O'Reilly\\ \"%_?1\" ''""#,
];

#[tokio::test]
async fn text_comes_back_to_the_letter() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    let (_, mut live) = subscribe(&mut clients, ready("LIVE")).await;
    let mut pushed = Vec::new();
    for text in TEXTS {
        add(&mut clients, "TEXT", text).await;
        let group = next_group(&mut live).await;
        pushed.extend(group.events.into_iter().map(|event| event.data_json));
    }
    assert_eq!(pushed, TEXTS);
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    let polled: Vec<_> = polled.events.into_iter().map(|e| e.data_json).collect();
    assert_eq!(polled, TEXTS);
}
