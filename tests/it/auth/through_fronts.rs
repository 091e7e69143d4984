//! Rights that hold on every engine and through both fronts. `local` may add
//! and receive types that begin with A, as components that begin with C.

use super::stage::{guarded, user};
use crate::{
    archive::stage::{Kind, Peek},
    calls::add_many,
    fronts::front::{Front, Futoin, Grpc, Refusal},
    futoin::client::Socket,
    server::Server,
};

macro_rules! on_each_engine {
    ($($scenario:ident),* $(,)?) => { $(
        mod $scenario {
            use super::{Futoin, Grpc, Kind, restricted, $scenario};

            #[tokio::test]
            async fn sqlite_grpc() {
                $scenario(Grpc::of(restricted(Kind::Sqlite).await.0).await).await;
            }

            #[tokio::test]
            async fn sqlite_futoin() {
                $scenario(Futoin::of(restricted(Kind::Sqlite).await.0).await).await;
            }

            #[tokio::test]
            async fn postgres_grpc() {
                let (server, _peek) = restricted(Kind::Postgres).await;
                $scenario(Grpc::of(server).await).await;
            }

            #[tokio::test]
            async fn postgres_futoin() {
                let (server, _peek) = restricted(Kind::Postgres).await;
                $scenario(Futoin::of(server).await).await;
            }

            #[tokio::test]
            async fn mysql_grpc() {
                let (server, _peek) = restricted(Kind::Mysql).await;
                $scenario(Grpc::of(server).await).await;
            }

            #[tokio::test]
            async fn mysql_futoin() {
                let (server, _peek) = restricted(Kind::Mysql).await;
                $scenario(Futoin::of(server).await).await;
            }
        }
    )* };
}

on_each_engine!(
    what_may_not_be_received_is_passed,
    what_is_not_allowed_is_refused
);

/// A service with ten events, 1 to 10, of which the even ones are hidden.
async fn restricted(kind: Kind) -> (Server, Peek) {
    let users = user(
        "local",
        "generate = ['A*']\nconsume = ['C*', 'LIVE']\ntypes = ['A*']",
    ) + &user("all", "generate = ['*']");
    let peek = Peek::new(kind).await;
    let server = guarded(&users)
        .on(&peek.url)
        .env("EVENTSTREAM_FUTOIN_USERS", "local secret=pass")
        .arg("--futoin-secure-channel")
        .arg("--futoin-negative-reply-delay=0s")
        .token("local")
        .start()
        .await;
    let mut all = server.clients_of("all").await;
    for _ in 0..5 {
        add_many(&mut all, "A_SEEN", 1).await;
        add_many(&mut all, "HIDDEN", 1).await;
    }
    (server, peek)
}

async fn what_may_not_be_received_is_passed(mut front: impl Front) {
    front.register("CART").await.expect("registered");
    let seen = front.poll("CART", None, None).await.expect("polled");
    let ids: Vec<_> = seen.iter().map(|event| event.0).collect();
    assert_eq!(ids, [1, 3, 5, 7, 9]);
    assert!(seen.iter().all(|event| event.1 == "A_SEEN"));
    let live = front.poll("LIVE", Some(5), None).await.expect("polled");
    assert_eq!(live.iter().map(|event| event.0).collect::<Vec<_>>(), [7, 9]);
    // Only hidden ones are left: the position moves past them by itself.
    assert_eq!(front.poll("CART", Some(9), None).await, Ok(Vec::new()));
    front.until_taken("CART", 10).await;

    front.register("CLOCK").await.expect("registered");
    front.receive("CLOCK", None).await.expect("ready");
    let mut pushed = Vec::new();
    while pushed.len() < 5 {
        pushed.extend(front.pushed().await);
        front.take().await;
    }
    assert_eq!(pushed, [1, 3, 5, 7, 9]);
    front.until_taken("CLOCK", 9).await;
    front.add("A_NEW", "1").await.expect("added");
    assert_eq!(front.pushed().await, [11]);
    front.take().await;
    front.until_taken("CLOCK", 11).await;
    front.disconnect().await;
}

async fn what_is_not_allowed_is_refused(mut front: impl Front) {
    assert_eq!(front.add("HIDDEN", "1").await, Err(Refusal::NotAllowed));
    assert_eq!(front.register("SHOP").await, Err(Refusal::NotAllowed));
    assert_eq!(
        front.poll("SHOP", None, None).await,
        Err(Refusal::NotAllowed)
    );
    front.register("CART").await.expect("registered");
    for want in [["HIDDEN", "HIDDEN"], ["A_SEEN", "HIDDEN"]] {
        let polled = front.poll("CART", None, Some(&want)).await;
        assert_eq!(polled, Err(Refusal::NotAllowed));
        let polled = front.poll("LIVE", None, Some(&want)).await;
        assert_eq!(polled, Err(Refusal::NotAllowed));
    }
    assert_eq!(front.receive("SHOP", None).await, Err(Refusal::NotAllowed));
    let hidden = front.receive("CART", Some(&["HIDDEN"])).await;
    assert_eq!(hidden, Err(Refusal::NotAllowed));
    let all = front.poll("CART", None, Some(&["A_SEEN"])).await;
    assert_eq!(all.expect("polled").len(), 5);
}

#[tokio::test]
async fn refused_subscription_leaves_the_one_that_is_there() {
    let rights = "generate = ['A*']\nconsume = ['CART']\ntypes = ['A*']";
    let server = guarded(&user("user", rights))
        .env("EVENTSTREAM_FUTOIN_USERS", "user secret=pass")
        .arg("--futoin-secure-channel")
        .arg("--futoin-negative-reply-delay=0s")
        .token("user")
        .start()
        .await;
    let mut socket = Socket::open(&server).await;
    socket.receive("CART", "null").await;
    let hidden = r#"{"component":"CART","want":["HIDDEN"]}"#;
    let refused = socket
        .call("futoin.evt.push:1.1:readyToReceive", hidden)
        .await;
    assert!(refused.contains("SecurityError"), "{refused}");
    let mut clients = server.clients_of("user").await;
    add_many(&mut clients, "A", 1).await;
    assert_eq!(socket.group().await.2, ["1"]);
}
