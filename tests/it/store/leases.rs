//! Leases: one holder at a time, by the database's clock.

use std::time::Duration;

use futoin_eventstream::store::{Claim, Claimed, Fence, Store, Task};
use uuid::Uuid;

use crate::server::eventually;

pub const LAPSE: Duration = super::engines::LONG;

pub fn claim(holder: u128, lapse: Duration) -> Claim {
    Claim {
        task: Task::Discard,
        holder: Uuid::from_u128(holder),
        lapse,
    }
}

/// The lease as its holder.
pub async fn take(store: &dyn Store, holder: u128) -> Fence {
    match store.claim(&claim(holder, LAPSE)).await.expect("answered") {
        Claimed::Held(fence) => fence,
        Claimed::Taken(other) => panic!("{other} has it"),
    }
}

/// The lease of a holder whose lease is over at once.
pub async fn take_briefly(store: &dyn Store, holder: u128) -> Fence {
    let brief = claim(holder, Duration::ZERO);
    match store.claim(&brief).await.expect("answered") {
        Claimed::Held(fence) => fence,
        Claimed::Taken(other) => panic!("{other} has it"),
    }
}

pub async fn lease_has_one_holder(store: &dyn Store) {
    let fence = take(store, 1).await;
    let other = store.claim(&claim(2, LAPSE)).await.expect("answered");
    assert_eq!(other, Claimed::Taken(Uuid::from_u128(1).to_string()));
    assert_eq!(take(store, 1).await, fence, "renewed, the same tenure");
    let archive = Claim {
        task: Task::Archive,
        ..claim(2, LAPSE)
    };
    let archive = store.claim(&archive).await.expect("answered");
    assert!(matches!(archive, Claimed::Held(_)), "another task");
}

pub async fn lapsed_lease_is_taken_over_under_a_higher_fence(store: &dyn Store) {
    let first = take_briefly(store, 1).await;
    let second = take(store, 2).await;
    assert!(second.number() > first.number());
    let back = store.claim(&claim(1, LAPSE)).await.expect("answered");
    assert_eq!(back, Claimed::Taken(Uuid::from_u128(2).to_string()));
    // Its own holder does not go on under the fence of a lapsed lease either.
    let third = take_briefly(store, 2).await;
    assert_eq!(third, second);
    assert!(take(store, 2).await.number() > second.number());
}

pub async fn lease_lapses_by_itself(store: &dyn Store) {
    let brief = claim(1, Duration::from_millis(200));
    store.claim(&brief).await.expect("answered");
    eventually(async || match store.claim(&claim(2, LAPSE)).await {
        Ok(Claimed::Held(_)) => Ok(()),
        other => Err(other),
    })
    .await;
}

pub async fn released_lease_is_free_at_once(store: &dyn Store) {
    let first = take(store, 1).await;
    store.release(first).await.expect("answered");
    let second = take(store, 2).await;
    assert!(second.number() > first.number());
    // An earlier holder's release changes nothing.
    store.release(first).await.expect("answered");
    let back = store.claim(&claim(1, LAPSE)).await.expect("answered");
    assert!(matches!(back, Claimed::Taken(_)));
}

pub async fn of_many_claimants_one_holds(store: &dyn Store) {
    let claims = (1..=8).map(|holder| claim(holder, LAPSE));
    let claims: Vec<_> = claims.collect();
    let claimed = futures_util::future::join_all(claims.iter().map(|claim| store.claim(claim)));
    let claimed = claimed.await;
    let held = claimed
        .iter()
        .filter(|claimed| matches!(claimed, Ok(Claimed::Held(_))));
    assert_eq!(held.count(), 1, "{claimed:?}");
}
