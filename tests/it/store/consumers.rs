//! Registrations and positions.

use futoin_eventstream::{
    event::EventId,
    store::{Advance, Advanced, ConsumerPage, Store},
};

use super::engines::{add, id, key, user};

pub const LAPSE: std::time::Duration = super::engines::LONG;

pub fn to(component: &str, epoch: Option<i64>, position: i64) -> Advance {
    Advance {
        key: key(component),
        epoch,
        to: id(position),
    }
}

async fn advance(store: &dyn Store, one: Advance) -> Advanced {
    let outcomes = store.advance(EventId::START, &[one]).await;
    outcomes.expect("answered")[0]
}

async fn position(store: &dyn Store, component: &str) -> i64 {
    let found = store.consumer(&key(component)).await.expect("read");
    found.expect("registered").position.get()
}

pub async fn registration_is_idempotent(store: &dyn Store) {
    assert_eq!(store.consumer(&key("C")).await.expect("read"), None);
    let (first, made) = store.register(&key("C"), id(5)).await.expect("registered");
    assert!(made);
    assert_eq!((first.position, &first.key), (id(5), &key("C")));
    assert!(first.epoch > 0 && first.reg_time.is_some() && first.last_time.is_some());
    assert_eq!((first.session, first.stopped), (None, None));
    let (again, made) = store.register(&key("C"), id(9)).await.expect("answered");
    assert!(!made);
    assert_eq!((again.position, again.epoch), (id(5), first.epoch));
}

pub async fn positions_move_forward_only(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    for (asked, stored) in [(3, 3), (2, 3), (3, 3), (4, 4)] {
        let moved = advance(store, to("C", None, asked)).await;
        assert_eq!(moved, Advanced::At(id(stored)));
        assert_eq!(position(store, "C").await, stored);
    }
    assert_eq!(
        advance(store, to("NOBODY", None, 1)).await,
        Advanced::Unknown
    );
}

pub async fn advance_is_fenced_by_the_epoch(store: &dyn Store) {
    let (made, _) = store.register(&key("C"), id(0)).await.expect("registered");
    let epoch = made.epoch;
    let moved = advance(store, to("C", Some(epoch), 1)).await;
    assert_eq!(moved, Advanced::At(id(1)));
    for wrong in [epoch - 1, epoch + 1] {
        let moved = advance(store, to("C", Some(wrong), 2)).await;
        assert_eq!(moved, Advanced::Stale(epoch));
        // A move that would change nothing is refused all the same.
        let moved = advance(store, to("C", Some(wrong), 1)).await;
        assert_eq!(moved, Advanced::Stale(epoch));
    }
    assert_eq!(position(store, "C").await, 1);
}

pub async fn advance_of_many_is_answered_in_order(store: &dyn Store) {
    let (made, _) = store.register(&key("C"), id(0)).await.expect("registered");
    store.register(&key("D"), id(7)).await.expect("registered");
    let moves = [
        to("D", None, 3),
        to("NOBODY", None, 3),
        to("C", Some(made.epoch + 1), 3),
        to("C", Some(made.epoch), 2),
        to("C", None, 5),
        to("C", None, 4),
    ];
    let outcomes = store.advance(EventId::START, &moves).await;
    let expected = [
        Advanced::At(id(7)),
        Advanced::Unknown,
        Advanced::Stale(made.epoch),
        Advanced::At(id(2)),
        Advanced::At(id(5)),
        Advanced::At(id(5)),
    ];
    assert_eq!(outcomes.expect("answered"), expected);
}

pub async fn seek_moves_anywhere_under_a_new_epoch(store: &dyn Store) {
    let (made, _) = store.register(&key("C"), id(5)).await.expect("registered");
    let mut epoch = made.epoch;
    for place in [2, 8, 0] {
        let sought = store.seek(&key("C"), id(place)).await.expect("answered");
        let sought = sought.expect("registered");
        assert_eq!(sought.position, id(place));
        assert!(sought.epoch > epoch);
        let moved = advance(store, to("C", Some(epoch), 9)).await;
        assert_eq!(moved, Advanced::Stale(sought.epoch));
        epoch = sought.epoch;
    }
    assert_eq!(
        store.seek(&key("NOBODY"), id(1)).await.expect("answered"),
        None
    );
}

pub async fn unregistered_consumer_is_gone(store: &dyn Store) {
    store.register(&key("C"), id(5)).await.expect("registered");
    assert!(store.unregister(&key("C")).await.expect("answered"));
    assert_eq!(store.consumer(&key("C")).await.expect("read"), None);
    assert!(!store.unregister(&key("C")).await.expect("answered"));
    assert_eq!(advance(store, to("C", None, 6)).await, Advanced::Unknown);
}

pub async fn epochs_are_never_reused(store: &dyn Store) {
    let mut last = 0;
    for _ in 0..3 {
        let (made, _) = store.register(&key("C"), id(0)).await.expect("registered");
        assert!(made.epoch > last);
        let sought = store.seek(&key("C"), id(0)).await.expect("answered");
        let sought = sought.expect("registered").epoch;
        assert!(sought > made.epoch);
        let (other, _) = store.register(&key("D"), id(0)).await.expect("registered");
        assert!(other.epoch > sought);
        last = other.epoch;
        for component in ["C", "D"] {
            store.unregister(&key(component)).await.expect("answered");
        }
    }
}

pub async fn consumers_are_listed_by_ident(store: &dyn Store) {
    for component in ["C", "A", "B"] {
        store
            .register(&key(component), id(0))
            .await
            .expect("registered");
    }
    let mut other = key("Z");
    other.user = user("tes");
    store.register(&other, id(0)).await.expect("registered");
    let list = async |user, after: &str, limit| {
        let page = ConsumerPage { user, after, limit };
        let listed = store.consumers(&page).await.expect("read");
        let idents = listed.iter().map(|consumer| consumer.key.ident());
        idents.collect::<Vec<_>>().join(" ")
    };
    let test = user("test");
    assert_eq!(list(None, "", 10).await, "tes:Z test:A test:B test:C");
    assert_eq!(list(None, "", 2).await, "tes:Z test:A");
    assert_eq!(list(None, "test:A", 2).await, "test:B test:C");
    assert_eq!(list(Some(&test), "", 10).await, "test:A test:B test:C");
    assert_eq!(list(Some(&user("tes")), "", 10).await, "tes:Z");
    // What it holds back shows in the list too.
    add(store, "A", 1).await;
    let page = ConsumerPage {
        user: Some(&test),
        after: "",
        limit: 1,
    };
    let listed = store.consumers(&page).await.expect("read");
    assert!(listed[0].oldest_missing.is_some());
}

pub async fn idents_are_compared_by_letter_case(store: &dyn Store) {
    let (_, made) = store
        .register(&key("shop"), id(1))
        .await
        .expect("registered");
    assert!(made);
    let (_, made) = store
        .register(&key("SHOP"), id(2))
        .await
        .expect("registered");
    assert!(made, "another consumer");
    advance(store, to("SHOP", None, 9)).await;
    assert_eq!(position(store, "shop").await, 1);
}
