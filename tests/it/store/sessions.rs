//! Push sessions and heartbeats.

use futoin_eventstream::{
    event::Label,
    store::{Consumer, NewSession, Opening, Standing, Store},
};
use uuid::Uuid;

use super::engines::{id, key};

pub const LAPSE: std::time::Duration = super::engines::LONG;

const HERE: Uuid = Uuid::from_u128(1);
const THERE: Uuid = Uuid::from_u128(2);

pub fn session(component: &str, replica: Uuid, yields: bool) -> NewSession {
    NewSession {
        key: key(component),
        id: Uuid::new_v4(),
        replica,
        label: Label::parse(&format!("of {replica}")).expect("a label"),
        yields,
    }
}

pub async fn open(store: &dyn Store, session: &NewSession) -> Consumer {
    match store.open_session(session).await.expect("answered") {
        Opening::Opened(consumer) => consumer,
        other => panic!("expected it to be opened, not {other:?}"),
    }
}

async fn standing(store: &dyn Store, replica: Uuid, epoch: i64) -> Standing {
    let beat = store.beat(replica, &[(key("C"), epoch)]).await;
    beat.expect("beaten")[0]
}

const FRESH: Standing = Standing::Current {
    acked: futoin_eventstream::event::EventId::START,
};

pub async fn session_opens_under_a_new_epoch(store: &dyn Store) {
    let unknown = store.open_session(&session("C", HERE, false)).await;
    assert_eq!(unknown.expect("answered"), Opening::Unknown);
    let (made, _) = store.register(&key("C"), id(4)).await.expect("registered");
    let new = session("C", HERE, true);
    let opened = open(store, &new).await;
    assert!(opened.epoch > made.epoch);
    assert_eq!((opened.position, opened.session), (id(4), Some(new.label)));
    assert_eq!(standing(store, HERE, opened.epoch).await, FRESH);
}

pub async fn yielding_session_leaves_an_open_one_alone(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    let first = session("C", HERE, false);
    let opened = open(store, &first).await;
    for replica in [HERE, THERE] {
        let second = store.open_session(&session("C", replica, true)).await;
        let occupied = Opening::Occupied(first.label.clone());
        assert_eq!(second.expect("answered"), occupied);
    }
    let now = store.consumer(&key("C")).await.expect("read");
    assert_eq!(now.expect("registered").epoch, opened.epoch);
    assert_eq!(standing(store, HERE, opened.epoch).await, FRESH);
}

pub async fn other_session_takes_over(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    let first = open(store, &session("C", HERE, false)).await;
    let second = open(store, &session("C", THERE, false)).await;
    assert!(second.epoch > first.epoch);
    assert_eq!(
        standing(store, HERE, first.epoch).await,
        Standing::TakenOver
    );
    assert_eq!(standing(store, THERE, second.epoch).await, FRESH);
}

pub async fn closed_session_makes_room(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    let new = session("C", HERE, false);
    let first = open(store, &new).await;
    let closed = store.close_sessions(&[(key("C"), new.id)]).await;
    closed.expect("closed");
    let found = store.consumer(&key("C")).await.expect("read");
    assert_eq!(found.expect("registered").session, None);
    let second = open(store, &session("C", THERE, true)).await;
    assert!(second.epoch > first.epoch);
}

pub async fn close_of_an_earlier_session_changes_nothing(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    let earlier = session("C", HERE, false);
    open(store, &earlier).await;
    let second = open(store, &session("C", THERE, false)).await;
    let closed = store.close_sessions(&[(key("C"), earlier.id)]).await;
    closed.expect("answered");
    assert_eq!(standing(store, THERE, second.epoch).await, FRESH);
}

pub async fn seek_and_unregistration_end_a_session(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    let opened = open(store, &session("C", HERE, false)).await;
    let sought = store.seek(&key("C"), id(1)).await.expect("answered");
    let sought = sought.expect("registered");
    assert_eq!(sought.session, None);
    let stale = standing(store, HERE, opened.epoch).await;
    assert_eq!(stale, Standing::Stale(sought.epoch));

    let opened = open(store, &session("C", HERE, true)).await;
    assert!(store.unregister(&key("C")).await.expect("answered"));
    assert_eq!(
        standing(store, HERE, opened.epoch).await,
        Standing::Stale(0)
    );
    // Nothing of it is left to a later registration.
    let (made, _) = store.register(&key("C"), id(0)).await.expect("registered");
    assert_eq!(made.session, None);
    let stale = standing(store, HERE, opened.epoch).await;
    assert_eq!(stale, Standing::Stale(made.epoch));
}

pub async fn beat_tells_what_was_credited(store: &dyn Store) {
    store.register(&key("C"), id(0)).await.expect("registered");
    let opened = open(store, &session("C", HERE, false)).await;
    for (epoch, acked, stands_at) in [
        (Some(opened.epoch), 3, 3),
        (Some(opened.epoch), 2, 3),
        (Some(opened.epoch - 1), 9, 3),
        (None, 5, 5),
    ] {
        let credited = store.credit(&key("C"), epoch, id(acked)).await;
        credited.expect("credited");
        let standing = standing(store, HERE, opened.epoch).await;
        let acked = id(stands_at);
        assert_eq!(standing, Standing::Current { acked });
    }
    // A credit is the session's, not the position's.
    let found = store.consumer(&key("C")).await.expect("read");
    assert_eq!(found.expect("registered").position, id(0));
    let next = open(store, &session("C", HERE, false)).await;
    assert_eq!(standing(store, HERE, next.epoch).await, FRESH);
}
