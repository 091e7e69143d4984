//! Upkeep in the real program: several replicas, holders that are stopped,
//! killed and cut off, and a soak with everything at once.

mod discarding;
mod expiring;
mod holders;
mod line;
mod soak;

use futoin_eventstream::proto::Lease;

use crate::{
    calls::status,
    server::{Builder, Clients, eventually},
};

/// Discards soon and all the time, under a short lease.
pub fn discarding(builder: Builder) -> Builder {
    [
        "--discard-enabled",
        "--discard-poll-period=1s",
        "--upkeep-lease=1s",
    ]
    .into_iter()
    .fold(builder, Builder::arg)
}

/// Who discards, as soon as somebody else than `not` does.
async fn holder_but(clients: &Clients, not: &str) -> Lease {
    doer_but(clients, "discard", not).await
}

/// The same of any task.
pub async fn doer_but(clients: &Clients, task: &str, not: &str) -> Lease {
    eventually(async || {
        let mut clients = clients.clone();
        let leases = status(&mut clients).await.leases;
        let lease = leases.into_iter().find(|lease| lease.task == task);
        lease
            .filter(|lease| lease.replica_id != not)
            .ok_or("nobody")
    })
    .await
}

/// Waits until events are gone up to `id`.
pub async fn discarded_to(clients: &Clients, id: i64) {
    eventually(async || {
        let mut clients = clients.clone();
        let found = status(&mut clients).await.discarded_to_id;
        if found == id { Ok(()) } else { Err(found) }
    })
    .await;
}
