//! Sessions of a replica that does not beat any more.

use std::time::Duration;

use futoin_eventstream::store::Store;
use uuid::Uuid;

use super::{
    engines::{id, key},
    sessions::{open, session},
};

/// Every heartbeat is too old at once.
pub const LAPSE: Duration = Duration::ZERO;

pub async fn session_of_a_silent_replica_is_open_no_more(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    let first = open(store, &session("C", Uuid::from_u128(1), false)).await;
    let found = store.consumer(&key("C")).await.expect("read");
    assert_eq!(found.expect("registered").session, None);
    let second = open(store, &session("C", Uuid::from_u128(2), true)).await;
    assert!(second.epoch > first.epoch);
}
