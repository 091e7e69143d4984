//! One of many: whatever happens to the replica that discards, another one
//! goes on, and never two.

use futoin_eventstream::proto::Lease;

use super::{discarded_to, discarding, holder_but, line::Line};
use crate::{
    calls::{ack, add_many, status},
    postgres::{Cluster, Database},
    round_trip::register,
    server::{Clients, Server, eventually, http_get},
};

/// Two replicas on one database, the one that discards first.
struct Pair {
    database: Database,
    holder: Server,
    other: Server,
    /// Through the other one.
    clients: Clients,
    lease: Lease,
}

impl Pair {
    async fn open() -> Self {
        let database = Cluster::shared().database().await;
        let holder = discarding(database.server()).start().await;
        let lease = holder_but(&holder.clients().await, "").await;
        let other = discarding(database.server()).start().await;
        let mut clients = other.clients().await;
        register(&mut clients, "SHOP").await;
        Self {
            database,
            holder,
            other,
            clients,
            lease,
        }
    }

    /// More events that everybody has; all but the last one are discarded.
    async fn go_on(&mut self) {
        let ids = add_many(&mut self.clients, "T", 10).await;
        let last = ids[9];
        ack(&mut self.clients, "SHOP", last, None)
            .await
            .expect("acknowledged");
        discarded_to(&self.clients, last - 1).await;
    }
}

/// What a replica says of its own lease; `None` if it does not answer.
async fn claims(server: &Server) -> Option<bool> {
    let (_, text) = http_get(server.http_address(), "/metrics").await.ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("eventstream_upkeep_lease{task=\"discard\"}"))?;
    Some(line.ends_with(" 1"))
}

async fn until_claims(server: &Server, expected: bool) {
    eventually(async || match claims(server).await {
        Some(claims) if claims == expected => Ok(()),
        other => Err(other),
    })
    .await;
}

fn logged(server: &Server, text: &str) -> usize {
    server
        .log()
        .iter()
        .filter(|line| line.contains(text))
        .count()
}

#[tokio::test]
async fn two_replicas_have_one_holder() {
    let mut pair = Pair::open().await;
    pair.go_on().await;
    let leases = status(&mut pair.clients).await.leases;
    assert_eq!(leases, [pair.lease.clone()], "renewed, not changed");
    assert!(!pair.lease.replica.is_empty());
    until_claims(&pair.holder, true).await;
    until_claims(&pair.other, false).await;
}

#[tokio::test]
async fn stopped_holder_is_replaced_and_does_not_go_on_when_it_wakes_up() {
    let mut pair = Pair::open().await;
    pair.go_on().await;
    pair.holder.signal("STOP");
    let next = holder_but(&pair.clients, &pair.lease.replica_id).await;
    assert!(next.fence > pair.lease.fence);
    pair.go_on().await;
    pair.holder.signal("CONT");
    until_claims(&pair.holder, false).await;
    pair.go_on().await;
    let leases = status(&mut pair.clients).await.leases;
    assert_eq!(leases, [next], "nobody took it back");
}

#[tokio::test]
async fn killed_holder_is_replaced() {
    let mut pair = Pair::open().await;
    pair.holder.signal("KILL");
    pair.holder.ended().await;
    let next = holder_but(&pair.clients, &pair.lease.replica_id).await;
    assert!(next.fence > pair.lease.fence);
    pair.go_on().await;
}

#[tokio::test]
async fn holder_that_ends_gives_the_lease_back() {
    let database = Cluster::shared().database().await;
    let long = || {
        let builder = database.server().arg("--discard-enabled");
        builder.arg("--upkeep-lease=10m")
    };
    let first = long().start().await;
    let lease = holder_but(&first.clients().await, "").await;
    assert!(first.terminate().await.success());
    let second = long().start().await;
    let next = holder_but(&second.clients().await, &lease.replica_id).await;
    assert!(next.fence > lease.fence);
}

#[tokio::test]
async fn holder_that_is_cut_off_is_replaced() {
    let database = Cluster::shared().database().await;
    let line = Line::to(&database);
    let builder = discarding(database.server().on(&line.url(&database)));
    let holder = builder.arg("--db-statement-timeout=1s").start().await;
    let lease = holder_but(&holder.clients().await, "").await;
    let other = discarding(database.server()).start().await;
    let mut clients = other.clients().await;
    register(&mut clients, "SHOP").await;
    line.cut();
    let next = holder_but(&clients, &lease.replica_id).await;
    let ids = add_many(&mut clients, "T", 10).await;
    ack(&mut clients, "SHOP", ids[9], None)
        .await
        .expect("acknowledged");
    discarded_to(&clients, ids[8]).await;
    // It finds out by itself, too.
    eventually(async || match logged(&holder, "lease ended") {
        0 => Err(holder.log()),
        _ => Ok(()),
    })
    .await;
    line.mend();
    until_claims(&holder, false).await;
    assert_eq!(status(&mut clients).await.leases, [next]);
}

/// Then it seems long over: either may have it next, but never both.
#[tokio::test]
async fn clock_that_was_set_forward_leaves_one_holder() {
    let mut pair = Pair::open().await;
    pair.database
        .run("UPDATE evt_leases SET renewed = renewed - 86400000")
        .await;
    let lease = holder_but(&pair.clients, "").await;
    assert!(lease.fence > pair.lease.fence, "another tenure");
    let moved = lease.replica_id != pair.lease.replica_id;
    until_claims(&pair.holder, !moved).await;
    until_claims(&pair.other, moved).await;
    pair.go_on().await;
}

#[tokio::test]
async fn lease_of_a_clock_that_was_set_back_is_void() {
    let mut pair = Pair::open().await;
    // Somebody renewed it in what is the future now.
    pair.database
        .run(
            "UPDATE evt_leases SET holder = 'gone', fence = fence + 1,
                renewed = renewed + 86400000, lapse = 1000",
        )
        .await;
    let next = holder_but(&pair.clients, "gone").await;
    assert!(next.fence > pair.lease.fence + 1);
    pair.go_on().await;
}
