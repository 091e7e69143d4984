//! A new, empty store of each engine, and what all functions of the suite say.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futoin_eventstream::{
    event::{Component, ConsumerKey, EventData, EventId, EventType, NewEvent, User, Want},
    store::{
        Append, IdRuns, Names, Options, Page, Refusal, Span, Store,
        mysql::{Galera, MysqlOptions, MysqlStore, MysqlUrl},
        postgres::{PostgresOptions, PostgresStore, PostgresUrl},
        sqlite::{SqliteOptions, SqliteStore, Synchronous},
    },
};
use tempfile::TempDir;

use crate::{mysql, postgres::Cluster};

/// Sessions outlast the test.
pub const LONG: Duration = Duration::from_hours(1);

/// A store and what must live as long as it.
pub struct Opened {
    pub store: Arc<dyn Store>,
    _dir: Option<TempDir>,
}

fn common(session_lapse: Duration) -> Options {
    Options {
        names: Names::default(),
        request_window: Duration::from_hours(1),
        session_lapse,
        place: "here".into(),
    }
}

/// An SQLite file whose sessions lapse after `session_lapse`.
pub async fn sqlite(session_lapse: Duration) -> Opened {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let options = SqliteOptions {
        path: dir.path().join("store.db"),
        synchronous: Synchronous::Normal,
        busy_timeout: Duration::from_secs(5),
        read_connections: 2,
        common: common(session_lapse),
    };
    let store = SqliteStore::open(options).await.expect("opened");
    Opened {
        store: Arc::new(store),
        _dir: Some(dir),
    }
}

/// A PostgreSQL database whose sessions lapse after `session_lapse`.
pub async fn postgres(session_lapse: Duration) -> Opened {
    let database = Cluster::shared().database().await;
    let options = PostgresOptions {
        common: common(session_lapse),
        ..postgres_options(&database.url)
    };
    let store = PostgresStore::open(options).await.expect("opened");
    Opened {
        store: Arc::new(store),
        _dir: None,
    }
}

/// A store at this URL.
pub fn postgres_options(url: &str) -> PostgresOptions {
    PostgresOptions {
        url: PostgresUrl::parse(url).expect("a URL"),
        schema: None,
        statement_timeout: Duration::from_secs(10),
        read_connections: 2,
        write_connections: 2,
        common: common(LONG),
    }
}

/// A MariaDB database whose sessions lapse after `session_lapse`.
pub async fn mysql(session_lapse: Duration) -> Opened {
    let database = mysql::Cluster::shared().database().await;
    let options = MysqlOptions {
        url: MysqlUrl::parse(&database.url).expect("a URL"),
        statement_timeout: Duration::from_secs(10),
        read_connections: 2,
        write_connections: 2,
        galera: Galera::Refuse,
        common: common(session_lapse),
    };
    let store = MysqlStore::open(options).await.expect("opened");
    Opened {
        store: Arc::new(store),
        _dir: None,
    }
}

pub fn id(raw: i64) -> EventId {
    EventId::parse_boundary(raw).expect("in range")
}

pub fn user(name: &str) -> User {
    User::parse(name).expect("a user")
}

pub fn key(component: &str) -> ConsumerKey {
    ConsumerKey {
        user: user("test"),
        component: Component::parse(component).expect("a component"),
    }
}

pub fn event(kind: &str, data: &str) -> NewEvent {
    NewEvent {
        kind: EventType::parse(kind).expect("a type"),
        data: EventData::parse(data.to_owned()).expect("JSON"),
    }
}

pub fn want(types: &[&str]) -> Want {
    let parse = |kind: &&str| EventType::parse(kind).expect("a type");
    Want::Only(types.iter().map(parse).collect::<BTreeSet<_>>())
}

/// A request of these events.
pub fn request(request_id: Option<u128>, events: &[NewEvent]) -> Append {
    Append {
        user: user("test"),
        request_id: request_id.map(uuid::Uuid::from_u128),
        events: events.to_vec(),
    }
}

/// Ids of an accepted request.
pub fn ids(outcome: &Result<IdRuns, Refusal>) -> Vec<i64> {
    let runs = outcome.as_ref().expect("accepted");
    runs.iter().map(EventId::get).collect()
}

/// Adds `count` events of one type.
pub async fn add(store: &dyn Store, kind: &str, count: usize) -> Vec<i64> {
    let events = vec![event(kind, "1"); count];
    let outcomes = store.append(&[request(None, &events)]).await;
    ids(&outcomes.expect("appended")[0])
}

/// Everything above `after`, within bounds that nothing reaches.
pub fn above(after: i64, want: &Want) -> Span<'_> {
    Span {
        after: id(after),
        through: EventId::MAX,
        want,
        max_events: 1000,
        max_bytes: 1 << 20,
    }
}

pub async fn page(store: &dyn Store, span: &Span<'_>) -> Page {
    store.page(span).await.expect("read")
}

/// Ids of a page, and how far it reached.
pub fn read(page: &Page) -> (Vec<i64>, i64) {
    let ids = page.events.iter().map(|event| event.id.get()).collect();
    (ids, page.through.get())
}
