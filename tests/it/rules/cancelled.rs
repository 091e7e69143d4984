//! Rule 4: a subscription that was given up while it opened locks nobody out.

use crate::{
    calls::{add_many, ids, poll, poll_of, until_unsubscribed},
    round_trip::{ready, register, subscribe},
    server::Server,
};

#[tokio::test]
async fn rule_04_subscriptions_given_up_while_they_open_lock_nobody_out() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    // This session keeps the replica beating all the time.
    register(&mut clients, "OTHER").await;
    let (_, _other) = subscribe(&mut clients, ready("OTHER")).await;
    register(&mut clients, "SHOP").await;
    for round in 0..200 {
        let mut opening = clients.clone();
        let opening = tokio::spawn(async move {
            let opened = opening.push.ready_to_receive(ready("SHOP")).await;
            opened.expect("opened")
        });
        // Given up sooner or later: before it is sent, on the way, open.
        for _ in 0..round % 20 {
            register(&mut clients, "OTHER").await;
        }
        opening.abort();
        let _ = opening.await;
        until_unsubscribed(&mut clients, "SHOP").await;
    }
    add_many(&mut clients, "A", 1).await;
    let polled = poll(&mut clients, poll_of("SHOP")).await;
    assert_eq!(ids(&polled.events), [1]);
}
