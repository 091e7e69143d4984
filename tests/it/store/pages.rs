//! Pages, the tail and places in time.

use futoin_eventstream::{
    event::{EventId, Moment, Want},
    limits,
    store::{Span, Store},
};

use super::engines::{above, add, event, id, page, read, request, want};

pub const LAPSE: std::time::Duration = super::engines::LONG;

pub async fn page_is_bounded_by_events(store: &dyn Store) {
    let ids = add(store, "A", 5).await;
    let span = Span {
        max_events: 2,
        ..above(ids[0], &Want::All)
    };
    assert_eq!(
        read(&page(store, &span).await),
        (ids[1..3].to_vec(), ids[2])
    );
}

pub async fn page_is_bounded_by_bytes_but_takes_one_event(store: &dyn Store) {
    let large = format!("\"{}\"", "x".repeat(100_000));
    let events = [event("A", "1"), event("A", &large), event("A", "3")];
    store
        .append(&[request(None, &events)])
        .await
        .expect("appended");
    let (mut after, mut seen) = (0, Vec::new());
    while seen.len() < 3 {
        let span = Span {
            max_bytes: 10,
            ..above(after, &Want::All)
        };
        let (ids, through) = read(&page(store, &span).await);
        assert_eq!(ids.last(), Some(&through), "one at a time");
        assert_eq!(ids.len(), 1);
        seen.extend(ids);
        after = through;
    }
    assert!(seen.is_sorted());
}

pub async fn page_is_bounded_by_its_span(store: &dyn Store) {
    let ids = add(store, "A", 5).await;
    let span = Span {
        through: id(ids[3]),
        ..above(ids[1], &Want::All)
    };
    assert_eq!(
        read(&page(store, &span).await),
        (ids[2..4].to_vec(), ids[3])
    );
}

pub async fn page_takes_what_the_filter_takes(store: &dyn Store) {
    let events = ["A", "B", "C", "A", "B"].map(|kind| event(kind, "1"));
    let outcomes = store.append(&[request(None, &events)]).await;
    let ids = super::engines::ids(&outcomes.expect("appended")[0]);
    let head = ids[4];
    for (want, expected) in [
        (want(&["A"]), vec![ids[0], ids[3]]),
        (want(&["B", "C"]), vec![ids[1], ids[2], ids[4]]),
        (want(&["D"]), vec![]),
        (want(&[]), vec![]),
        (Want::All, ids),
    ] {
        let found = page(store, &above(0, &want)).await;
        assert_eq!(read(&found), (expected, head));
    }
}

pub async fn filtered_page_looks_at_a_bounded_number_of_rows(store: &dyn Store) {
    let mut ids = Vec::new();
    while ids.len() <= limits::SCAN_ROWS {
        ids.extend(add(store, "B", 1000).await);
    }
    let last = add(store, "A", 1).await[0];
    let want = want(&["A"]);
    let (found, through) = read(&page(store, &above(0, &want)).await);
    assert_eq!((found, through), (vec![], ids[limits::SCAN_ROWS - 1]));
    let (found, through) = read(&page(store, &above(through, &want)).await);
    assert_eq!((found, through), (vec![last], last));
}

pub async fn page_of_nothing_reaches_the_end(store: &dyn Store) {
    let empty = page(store, &above(0, &Want::All)).await;
    assert_eq!(read(&empty), (vec![], 0));
    let ids = add(store, "A", 2).await;
    let end = page(store, &above(ids[1], &Want::All)).await;
    assert_eq!(read(&end), (vec![], ids[1]));
    assert_eq!(end.discarded_to.get(), 0);
}

pub async fn tail_sees_every_event_once(store: &dyn Store) {
    let mut tail = store.tail();
    let mut expected = add(store, "A", 1500).await;
    let (mut seen, mut scanned) = (Vec::new(), id(0));
    loop {
        let read = tail.read(scanned, &[]).await.expect("read");
        assert!(read.dead_through <= read.scanned && read.scanned <= read.head);
        seen.extend(read.events.iter().map(|event| event.id.get()));
        scanned = read.scanned;
        if !read.more && expected.len() == 1500 {
            expected.extend(add(store, "B", 10).await);
        } else if !read.more {
            break;
        }
    }
    assert_eq!(seen, expected);
    let proof = tail.frontier(id(0)).await.expect("proven");
    assert_eq!(Some(&proof.head.get()), expected.last());
    assert!(proof.frontier <= proof.head);
}

pub async fn first_at_finds_the_lowest_id(store: &dyn Store) {
    let ids = add(store, "A", 3).await;
    let long_ago = Moment::from_unix_millis(0);
    let found = store
        .first_at(long_ago, EventId::START)
        .await
        .expect("read");
    assert_eq!(found, Some(id(ids[0])));
    let far = Moment::from_unix_millis(253_402_300_799_000);
    assert_eq!(
        store.first_at(far, EventId::START).await.expect("read"),
        None
    );
}
