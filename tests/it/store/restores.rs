//! The audit after a start, and the saved frontier.

use futoin_eventstream::{event::EventId, store::Store};

use super::engines::{add, id, key};

pub const LAPSE: std::time::Duration = super::engines::LONG;

pub async fn audit_of_a_sound_database_stops_nobody(store: &dyn Store) {
    let head = *add(store, "A", 3).await.last().expect("three");
    store
        .register(&key("C"), id(head))
        .await
        .expect("registered");
    let audit = store.audit(EventId::START).await.expect("audited");
    assert_eq!((audit.head, audit.lost_above_head), (id(head), None));
    assert!(audit.stopped.is_empty() && audit.frontier <= audit.head);
}

pub async fn known_id_above_the_head_is_named(store: &dyn Store) {
    let head = *add(store, "A", 3).await.last().expect("three");
    store
        .register(&key("FINE"), id(head))
        .await
        .expect("registered");
    store
        .register(&key("AHEAD"), id(head + 10))
        .await
        .expect("registered");
    let audit = store.audit(id(head + 5)).await.expect("audited");
    assert_eq!(audit.lost_above_head, Some(id(head + 10)));
    assert_eq!(audit.stopped, ["test:AHEAD"]);
    assert!(audit.frontier <= id(head));
    // Not even when the head has passed it.
    add(store, "A", 20).await;
    let audit = store.audit(EventId::START).await.expect("audited");
    assert_eq!(audit.lost_above_head, None);
    assert_eq!(audit.stopped, ["test:AHEAD"]);
    let moves = [super::consumers::to("AHEAD", None, head + 15)];
    let outcomes = store.advance(EventId::START, &moves).await;
    let stopped = futoin_eventstream::store::Advanced::Stopped;
    assert_eq!(outcomes.expect("answered"), [stopped]);
    let lifted = store.seek(&key("AHEAD"), id(head)).await.expect("answered");
    assert_eq!(lifted.expect("registered").stopped, None);
    let audit = store.audit(EventId::START).await.expect("audited");
    assert!(audit.stopped.is_empty());
}

pub async fn frontier_is_saved_and_never_goes_back(store: &dyn Store) {
    let ids = add(store, "A", 5).await;
    for (saved, kept) in [(ids[2], ids[2]), (ids[1], ids[2]), (ids[4], ids[4])] {
        store.advance(id(saved), &[]).await.expect("saved");
        let audit = store.audit(EventId::START).await.expect("audited");
        assert_eq!(audit.frontier, id(kept));
    }
}
