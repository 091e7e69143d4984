//! Discarding: what everybody has goes, nothing else, under the lease.

use std::time::Duration;

use futoin_eventstream::{
    event::{ConsumerKey, EventId},
    store::{Discard, Discardable, Discarded, Error, Fence, Hold, Store},
};

use super::{
    consumers::to,
    engines::{add, id, key, page},
    leases::{take, take_briefly},
};

pub const LAPSE: Duration = super::engines::LONG;

fn batch(fence: Fence) -> Discard {
    Discard {
        fence,
        rows: 1000,
        min_age: Duration::ZERO,
        archiving: false,
    }
}

fn gone(events: u64, discarded_to: i64, more: bool) -> Discarded {
    Discarded::Gone {
        events,
        discarded_to: id(discarded_to),
        more,
    }
}

async fn discard(store: &dyn Store, batch: &Discard) -> Discarded {
    store.discard(batch).await.expect("answered")
}

async fn advance(store: &dyn Store, frontier: i64, component: &str, position: i64) {
    let moves = [to(component, None, position)];
    store.advance(id(frontier), &moves).await.expect("moved");
}

async fn kept(store: &dyn Store) -> Vec<i64> {
    let bounds = store.bounds().await.expect("read");
    let all = futoin_eventstream::event::Want::All;
    let span = super::engines::above(bounds.discarded_to.get(), &all);
    super::engines::read(&page(store, &span).await).0
}

/// Ten events, and a consumer that has them up to `position`.
async fn ten(store: &dyn Store, position: i64) -> Fence {
    store.register(&key("C"), id(0)).await.expect("registered");
    assert_eq!(add(store, "A", 10).await, (1..=10).collect::<Vec<_>>());
    advance(store, 10, "C", position).await;
    take(store, 1).await
}

pub async fn what_everybody_has_goes(store: &dyn Store) {
    let fence = ten(store, 8).await;
    store.register(&key("D"), id(0)).await.expect("registered");
    advance(store, 10, "D", 6).await;
    let found = store.discardable(false).await.expect("read");
    assert_eq!(found, Discardable { ids: 6, hold: None });
    assert_eq!(discard(store, &batch(fence)).await, gone(6, 6, false));
    assert_eq!(kept(store).await, [7, 8, 9, 10]);
    let bounds = store.bounds().await.expect("read");
    assert_eq!((bounds.discarded_to, bounds.oldest), (id(6), Some(id(7))));
    assert_eq!(discard(store, &batch(fence)).await, gone(0, 6, false));
}

pub async fn last_row_is_kept(store: &dyn Store) {
    let fence = ten(store, 10).await;
    assert_eq!(discard(store, &batch(fence)).await, gone(9, 9, false));
    assert_eq!(kept(store).await, [10]);
    assert_eq!(add(store, "A", 1).await, [11]);
}

pub async fn batches_go_on_where_the_last_one_ended(store: &dyn Store) {
    let fence = ten(store, 8).await;
    let batch = Discard {
        rows: 3,
        ..batch(fence)
    };
    assert_eq!(discard(store, &batch).await, gone(3, 3, true));
    assert_eq!(discard(store, &batch).await, gone(3, 6, true));
    assert_eq!(discard(store, &batch).await, gone(2, 8, false));
}

pub async fn nothing_goes_without_a_consumer(store: &dyn Store) {
    let fence = ten(store, 8).await;
    store.unregister(&key("C")).await.expect("answered");
    let found = store.discardable(false).await.expect("read");
    assert_eq!(found.hold, Some(Hold::NobodyRegistered));
    assert_eq!(discard(store, &batch(fence)).await, gone(0, 0, false));
}

pub async fn consumer_at_zero_holds_everything(store: &dyn Store) {
    let fence = ten(store, 8).await;
    store.register(&key("D"), id(0)).await.expect("registered");
    assert_eq!(discard(store, &batch(fence)).await, gone(0, 0, false));
    assert_eq!(kept(store).await.len(), 10);
}

pub async fn stopped_consumer_holds_everything(store: &dyn Store) {
    let fence = ten(store, 8).await;
    store.register(&key("D"), id(99)).await.expect("registered");
    store.audit(EventId::START).await.expect("audited");
    let found = store.discardable(false).await.expect("read");
    assert_eq!(found.hold, Some(Hold::ConsumerStopped));
    assert_eq!(discard(store, &batch(fence)).await, gone(0, 0, false));
    store.seek(&key("D"), id(7)).await.expect("answered");
    assert_eq!(discard(store, &batch(fence)).await, gone(7, 7, false));
}

pub async fn nothing_above_the_saved_frontier_goes(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    add(store, "A", 10).await;
    // As the original's consumers may stand.
    advance(store, 4, "C", 8).await;
    let fence = take(store, 1).await;
    assert_eq!(discard(store, &batch(fence)).await, gone(4, 4, false));
}

pub async fn young_events_stay(store: &dyn Store) {
    let fence = ten(store, 8).await;
    let batch = Discard {
        min_age: Duration::from_hours(1),
        ..batch(fence)
    };
    assert_eq!(discard(store, &batch).await, gone(0, 0, false));
}

pub async fn archiver_must_have_begun_when_archiving(store: &dyn Store) {
    let fence = ten(store, 8).await;
    let batch = Discard {
        archiving: true,
        ..batch(fence)
    };
    let found = store.discardable(true).await.expect("read");
    assert_eq!(found.hold, Some(Hold::ArchiverMissing));
    assert_eq!(discard(store, &batch).await, gone(0, 0, false));
    let archiver = ConsumerKey::from_ident(ConsumerKey::ARCHIVER).expect("a name");
    store.register(&archiver, id(5)).await.expect("registered");
    assert_eq!(discard(store, &batch).await, gone(5, 5, false));
}

pub async fn who_was_replaced_deletes_nothing(store: &dyn Store) {
    ten(store, 8).await;
    let own = take(store, 1).await;
    store.release(own).await.expect("answered");
    let first = take_briefly(store, 1).await;
    let second = take(store, 2).await;
    assert_eq!(discard(store, &batch(first)).await, Discarded::Fenced);
    assert_eq!(kept(store).await.len(), 10);
    assert_eq!(discard(store, &batch(second)).await, gone(8, 8, false));
}

pub async fn place_that_is_gone_is_refused(store: &dyn Store) {
    let fence = ten(store, 6).await;
    let before = store.consumer(&key("C")).await.expect("read");
    assert_eq!(discard(store, &batch(fence)).await, gone(6, 6, false));
    let refused = store.register(&key("D"), id(3)).await;
    assert!(matches!(refused, Err(Error::Discarded(to)) if to == id(6)));
    assert_eq!(store.consumer(&key("D")).await.expect("read"), None);
    let refused = store.seek(&key("C"), id(5)).await;
    assert!(matches!(refused, Err(Error::Discarded(to)) if to == id(6)));
    let after = store.consumer(&key("C")).await.expect("read");
    let standing = |consumer: Option<futoin_eventstream::store::Consumer>| {
        consumer.map(|consumer| (consumer.position, consumer.epoch))
    };
    assert_eq!(standing(after), standing(before));
    store.register(&key("D"), id(6)).await.expect("registered");
    store.seek(&key("C"), id(6)).await.expect("answered");
}

/// Registrations and seeks at the oldest place while batches run: no consumer
/// ever stands below what is gone.
pub async fn registration_and_discard_do_not_miss_each_other(store: &dyn Store) {
    let fence = ten(store, 0).await;
    add(store, "A", 190).await;
    let one = Discard {
        rows: 1,
        ..batch(fence)
    };
    let discarding = async {
        for position in 1..=200 {
            advance(store, 200, "C", position).await;
            discard(store, &one).await;
        }
    };
    let registering = async {
        let mut held = 0;
        for _ in 0..100 {
            let oldest = store.bounds().await.expect("read").discarded_to;
            let placed = store.register(&key("D"), oldest).await;
            if placed.is_err() {
                continue;
            }
            held += 1;
            let bounds = store.bounds().await.expect("read");
            assert!(bounds.discarded_to <= oldest, "{bounds:?}, {oldest}");
            let sought = store.seek(&key("D"), oldest).await;
            sought.expect("held").expect("registered");
            store.unregister(&key("D")).await.expect("answered");
        }
        held
    };
    let ((), held) = tokio::join!(discarding, registering);
    assert!(held > 0, "some registrations came in time");
}
