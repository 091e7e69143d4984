//! Group commits.

use futoin_eventstream::{
    event::Want,
    store::{Append, Refusal, Store},
};

use super::engines::{above, add, event, ids, page, request, user};

pub const LAPSE: std::time::Duration = super::engines::LONG;

pub async fn ids_grow_in_the_order_of_the_request(store: &dyn Store) {
    let first = add(store, "A", 3).await;
    let second = add(store, "A", 1200).await;
    assert!(first.iter().chain(&second).is_sorted());
    assert_eq!(second.len(), 1200);
    let head = store.bounds().await.expect("bounds").head.get();
    assert_eq!(second.last(), Some(&head));
}

pub async fn requests_of_one_commit_get_runs_of_their_own(store: &dyn Store) {
    let requests = [
        request(None, &[event("A", "1")]),
        request(Some(7), &[event("B", "2"), event("B", "3")]),
        request(None, &[event("C", "4")]),
    ];
    let outcomes = store.append(&requests).await.expect("appended");
    let given: Vec<Vec<i64>> = outcomes.iter().map(ids).collect();
    let stored = page(store, &above(0, &Want::All)).await.events;
    for (request, given) in requests.iter().zip(given) {
        assert_eq!(given.len(), request.events.len());
        for (event, id) in request.events.iter().zip(given) {
            let found = stored.iter().find(|stored| stored.id.get() == id);
            let found = found.expect("stored");
            assert_eq!(&*found.kind, event.kind.as_str());
            assert_eq!(&*found.data, event.data.as_str());
            assert!(found.ts.is_some() && found.fault.is_none());
        }
    }
}

pub async fn repeated_request_returns_the_first_ids(store: &dyn Store) {
    let requests = [request(Some(1), &[event("A", "1"), event("A", "2")])];
    let first = store.append(&requests).await.expect("appended");
    add(store, "B", 5).await;
    let again = store.append(&requests).await.expect("answered");
    assert_eq!(ids(&first[0]), ids(&again[0]));
    assert_eq!(page(store, &above(0, &Want::All)).await.events.len(), 7);
}

pub async fn repeat_inside_one_commit_returns_the_first_ids(store: &dyn Store) {
    let one = request(Some(1), &[event("A", "1")]);
    let other = request(Some(1), &[event("A", "2")]);
    let requests = [one.clone(), request(None, &[event("B", "1")]), one, other];
    let outcomes = store.append(&requests).await.expect("appended");
    assert_eq!(ids(&outcomes[0]), ids(&outcomes[2]));
    assert_eq!(outcomes[3], Err(Refusal::RequestIdReused));
    assert_eq!(page(store, &above(0, &Want::All)).await.events.len(), 2);
}

pub async fn request_ids_belong_to_their_user(store: &dyn Store) {
    let mine = request(Some(1), &[event("A", "1")]);
    let theirs = Append {
        user: user("other"),
        ..mine.clone()
    };
    let outcomes = store.append(&[mine, theirs]).await.expect("appended");
    assert_ne!(ids(&outcomes[0]), ids(&outcomes[1]));
}

pub async fn same_request_id_with_other_events_is_refused(store: &dyn Store) {
    let first = request(Some(1), &[event("A", "1")]);
    store.append(&[first]).await.expect("appended");
    for events in [
        &[event("A", "2")][..],
        &[event("B", "1")],
        &[event("A", "1"), event("A", "1")],
    ] {
        let outcomes = store.append(&[request(Some(1), events)]).await;
        assert_eq!(outcomes.expect("answered"), [Err(Refusal::RequestIdReused)]);
    }
    assert_eq!(page(store, &above(0, &Want::All)).await.events.len(), 1);
}

pub async fn text_is_kept_to_the_letter(store: &dyn Store) {
    let texts = [
        "12345678901234567890.10",
        r#"{"b":1,"a":2,"b":"\u0000\ud800"}"#,
        "\"😀 \\\\ ' % _ ?1\"",
        " \n1e400\t",
    ];
    let events = texts.map(|text| event("A", text));
    store
        .append(&[request(None, &events)])
        .await
        .expect("appended");
    let stored = page(store, &above(0, &Want::All)).await.events;
    let stored: Vec<&str> = stored.iter().map(|event| &*event.data).collect();
    assert_eq!(stored, texts);
}
