//! Expiry: a consumer without life is removed, by whoever holds the lease.

use std::time::Duration;

use futoin_eventstream::{
    event::Label,
    store::{Claim, Claimed, Expired, Expiry, Fence, NewSession, Store, Task},
};
use uuid::Uuid;

use super::engines::{LONG, id, key};
use crate::server::eventually;

pub const LAPSE: Duration = LONG;

async fn take(store: &dyn Store, holder: u128, lapse: Duration) -> Fence {
    let claim = Claim {
        task: Task::Expire,
        holder: Uuid::from_u128(holder),
        lapse,
    };
    match store.claim(&claim).await.expect("answered") {
        Claimed::Held(fence) => fence,
        Claimed::Taken(other) => panic!("{other} has it"),
    }
}

async fn expire(store: &dyn Store, fence: Fence, silent: Duration) -> Expired {
    let expiry = Expiry {
        fence,
        key: &key("C"),
        silent,
    };
    store.expire(&expiry).await.expect("answered")
}

/// `last_time` may be of this very second.
async fn removed(store: &dyn Store, fence: Fence) {
    eventually(
        async || match expire(store, fence, Duration::from_millis(1)).await {
            Expired::Removed => Ok(()),
            other => Err(other),
        },
    )
    .await;
}

pub async fn silent_consumer_is_removed(store: &dyn Store) {
    let (before, _) = store.register(&key("C"), id(0)).await.expect("registered");
    let fence = take(store, 1, LAPSE).await;
    let kept = expire(store, fence, Duration::from_hours(1)).await;
    assert_eq!(kept, Expired::Kept);
    removed(store, fence).await;
    assert_eq!(store.consumer(&key("C")).await.expect("read"), None);
    let again = expire(store, fence, Duration::from_millis(1)).await;
    assert_eq!(again, Expired::Kept);
    // What the old one still sends is of an epoch of before.
    let (after, made) = store.register(&key("C"), id(0)).await.expect("registered");
    assert!(made && after.epoch > before.epoch);
}

pub async fn open_session_is_life(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    let fence = take(store, 1, LAPSE).await;
    let session = NewSession {
        key: key("C"),
        id: Uuid::from_u128(7),
        replica: Uuid::from_u128(8),
        label: Label::default(),
        yields: false,
    };
    store.open_session(&session).await.expect("opened");
    let listed = store.consumer(&key("C")).await.expect("read");
    let place = listed.and_then(|consumer| consumer.place);
    assert_eq!(place.as_deref(), Some("here"));
    for _ in 0..3 {
        let kept = expire(store, fence, Duration::from_millis(1)).await;
        assert_eq!(kept, Expired::Kept);
    }
    let closed = store.close_sessions(&[(key("C"), session.id)]).await;
    closed.expect("closed");
    removed(store, fence).await;
}

pub async fn who_was_replaced_removes_nobody(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    let first = take(store, 1, Duration::ZERO).await;
    let second = take(store, 2, LAPSE).await;
    let fenced = expire(store, first, Duration::from_millis(1)).await;
    assert_eq!(fenced, Expired::Fenced);
    removed(store, second).await;
}

pub async fn leases_are_listed(store: &dyn Store) {
    assert_eq!(store.leases().await.expect("read"), []);
    let fence = take(store, 1, LAPSE).await;
    let listed = store.leases().await.expect("read");
    let [lease] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert_eq!(
        (lease.task.as_str(), lease.place.as_str()),
        ("expire", "here")
    );
    assert_eq!(lease.fence, fence.number());
    assert_eq!(lease.holder, Uuid::from_u128(1).to_string());
    store.release(fence).await.expect("answered");
    assert_eq!(store.leases().await.expect("read"), []);
}
