//! Ids that appear below the frontier, and skips.

use futoin_eventstream::{
    event::EventId,
    store::{Advanced, IdRange, Skip, Store},
};

use super::engines::{add, id, key};

pub const LAPSE: std::time::Duration = super::engines::LONG;

fn range(first: i64, last: i64) -> IdRange {
    IdRange {
        first: id(first),
        last: id(last),
    }
}

async fn appeared(store: &dyn Store, ranges: &[IdRange], limit: usize) -> Vec<i64> {
    let ids = store.appeared(ranges, limit).await.expect("read");
    ids.into_iter().map(EventId::get).collect()
}

pub async fn visible_ids_inside_ranges_are_told(store: &dyn Store) {
    let ids = add(store, "A", 10).await;
    let (first, last) = (ids[0], ids[9]);
    let ranges = [
        range(last - 1, last + 1000),
        range(first, first),
        range(first + 3, first + 4),
        range(last + 2000, EventId::MAX.get()),
    ];
    let expected = [first, first + 3, first + 4, last - 1, last];
    assert_eq!(appeared(store, &ranges, 100).await, expected);
    assert_eq!(appeared(store, &ranges, 3).await, expected[..3]);
    assert!(appeared(store, &[], 100).await.is_empty());
    assert!(!store.late_causes().is_empty());
}

pub async fn many_ranges_are_one_question(store: &dyn Store) {
    let last = *add(store, "A", 1000).await.last().expect("many");
    let every_third: Vec<IdRange> = (1..=1000).rev().map(|n| range(n * 3, n * 3)).collect();
    let expected: Vec<i64> = (1..=1000).map(|n| n * 3).filter(|id| *id <= last).collect();
    assert_eq!(appeared(store, &every_third, 1000).await, expected);
}

async fn position(store: &dyn Store, component: &str) -> (i64, i64) {
    let consumer = store.consumer(&key(component)).await.expect("read");
    let consumer = consumer.expect("registered");
    (consumer.position.get(), consumer.epoch)
}

pub async fn consumers_are_moved_back_once_for_each_late_id(store: &dyn Store) {
    let head = *add(store, "A", 10).await.last().expect("ten");
    for (component, at) in [("FAR", head), ("NEAR", head - 4), ("BELOW", head - 8)] {
        let registered = store.register(&key(component), id(at)).await;
        registered.expect("registered");
    }
    let before = position(store, "BELOW").await;
    let late = [id(head - 4), id(head - 2)];
    let mut rewound = store.rewind(&late).await.expect("rewound");
    rewound.sort_by_key(|one| one.from);
    let told: Vec<_> = rewound
        .iter()
        .map(|one| (one.key.clone(), one.from.get(), one.to.get()))
        .collect();
    let expected = [
        (key("NEAR"), head - 4, head - 5),
        (key("FAR"), head, head - 5),
    ];
    assert_eq!(told, expected);
    assert_eq!(position(store, "FAR").await, (head - 5, rewound[0].epoch));
    // What it has under way may have passed the ids as well.
    let below = position(store, "BELOW").await;
    assert_eq!(below, (before.0, rewound[0].epoch));
    assert!(below.1 > before.1);

    let forward = [super::consumers::to("FAR", None, head)];
    let advanced = store.advance(EventId::START, &forward).await;
    assert_eq!(advanced.expect("answered"), [Advanced::At(id(head))]);
    assert_eq!(store.rewind(&late).await.expect("answered"), []);
    assert_eq!(position(store, "FAR").await.0, head);
    let again = store.rewind(&[id(head - 2), id(head - 1)]).await;
    assert_eq!(again.expect("rewound")[0].to, id(head - 2));
}

pub async fn every_replica_can_tell_that_somebody_was_moved_back(store: &dyn Store) {
    let head = *add(store, "A", 3).await.last().expect("three");
    let (made, _) = store
        .register(&key("C"), id(head))
        .await
        .expect("registered");
    assert_eq!(made.rewound, 0);
    let rewound = store.rewind(&[id(head)]).await.expect("rewound");
    let told = store.consumer(&key("C")).await.expect("read");
    assert_eq!(told.expect("registered").rewound, rewound[0].epoch);
    let sought = store.seek(&key("C"), id(head)).await.expect("sought");
    let sought = sought.expect("registered");
    assert_eq!(sought.rewound, sought.epoch);
}

pub async fn stopped_consumer_is_left_where_it_is(store: &dyn Store) {
    let head = *add(store, "A", 3).await.last().expect("three");
    store
        .register(&key("AHEAD"), id(head + 10))
        .await
        .expect("registered");
    store.audit(EventId::START).await.expect("audited");
    assert_eq!(store.rewind(&[id(head)]).await.expect("answered"), []);
    assert_eq!(position(store, "AHEAD").await.0, head + 10);
}

fn skip_to(to: i64, reason: &str) -> Skip {
    Skip {
        from: id(to - 1),
        to: id(to),
        who: "somebody".to_owned(),
        reason: reason.to_owned(),
    }
}

pub async fn skips_are_kept_and_told_from_the_highest_down(store: &dyn Store) {
    assert_eq!(store.skips().await.expect("read"), []);
    for skip in [skip_to(7, "a"), skip_to(9, "b"), skip_to(8, "\u{e4}'")] {
        store.skip(&skip).await.expect("kept");
    }
    store.skip(&skip_to(9, "again")).await.expect("answered");
    let expected = [skip_to(9, "b"), skip_to(8, "\u{e4}'"), skip_to(7, "a")];
    assert_eq!(store.skips().await.expect("read"), expected);
}

pub async fn restore_ends_what_was_decided_about_ids_above_the_head(store: &dyn Store) {
    let head = *add(store, "A", 5).await.last().expect("five");
    for to in [head, head + 1] {
        store.skip(&skip_to(to, "")).await.expect("kept");
    }
    store.audit(id(head)).await.expect("audited");
    assert_eq!(store.skips().await.expect("read").len(), 2);
    store.audit(id(head + 1)).await.expect("audited");
    assert_eq!(store.skips().await.expect("read"), [skip_to(head, "")]);
}
