//! Callers that go away in the middle of a call.

use futoin_eventstream::{
    event::{EventId, Want},
    store::{Advanced, Store},
};
use tokio::task::yield_now;

use super::{
    consumers::to,
    engines::{above, add, event, id, key, page, read, request},
};

pub const LAPSE: std::time::Duration = super::engines::LONG;

/// More than there are connections, and than a call takes steps.
const CALLS: usize = 200;

/// Lets `work` go so many steps, at most.
async fn abandon<F: Future>(work: F, steps: usize) {
    let patience = async {
        for _ in 0..steps {
            yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = work => {}
        () = patience => {}
    }
}

pub async fn abandoned_reads_leave_the_connections_sound(store: &dyn Store) {
    let large = format!("\"{}\"", "x".repeat(5_000));
    let events = vec![event("A", &large); 200];
    let outcomes = store.append(&[request(None, &events)]).await;
    let ids = super::engines::ids(&outcomes.expect("appended")[0]);
    for steps in 0..CALLS {
        abandon(store.page(&above(0, &Want::All)), steps).await;
        abandon(store.consumer(&key("A")), steps / 10).await;
        if steps % 10 == 0 {
            let found = page(store, &above(0, &Want::All)).await;
            assert_eq!(read(&found).0, ids, "after {steps} steps");
        }
    }
    let found = page(store, &above(ids[100], &Want::All)).await;
    assert_eq!(read(&found).0, ids[101..]);
}

pub async fn abandoned_writes_leave_the_connections_sound(store: &dyn Store) {
    let ids = add(store, "A", CALLS).await;
    let (made, _) = store.register(&key("A"), id(0)).await.expect("registered");
    let moves = |position| [to("A", Some(made.epoch), position)];
    for (steps, &position) in ids.iter().enumerate() {
        let moves = moves(position);
        abandon(store.advance(EventId::START, &moves), steps / 4).await;
    }
    let last = *ids.last().expect("some");
    let advanced = store.advance(EventId::START, &moves(last)).await;
    assert_eq!(advanced.expect("answered")[0], Advanced::At(id(last)));
    let consumer = store.consumer(&key("A")).await.expect("read");
    assert_eq!(consumer.expect("registered").position, id(last));
}
