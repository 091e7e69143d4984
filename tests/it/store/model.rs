//! A store against a small model in memory: whatever is done, in whatever
//! order, both answer the same.

use std::{collections::BTreeMap, time::Duration};

use futoin_eventstream::{
    event::{EventId, Want},
    store::{Advance, Advanced, NewSession, Opening, Refusal, Store},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use uuid::Uuid;

use super::{
    engines::{LONG, Opened, above, event, id, key, page, read, request, want},
    sessions::session,
};

const KINDS: [&str; 3] = ["A", "B", "C"];
const COMPONENTS: [&str; 2] = ["ONE", "TWO"];
const REPLICA: Uuid = Uuid::from_u128(9);

/// Cases of an ordinary run; a soak asks for more in the environment.
const CASES: u32 = 16;

#[derive(Debug, Clone)]
enum Step {
    /// Requests of one commit: request id (0: none) and types of the events.
    Append(Vec<(u128, Vec<usize>)>),
    Register(usize, i64),
    Unregister(usize),
    Seek(usize, i64),
    /// Component, whether with the current epoch or the one before, position.
    Advance(usize, Option<bool>, i64),
    Open(usize, bool),
    Close(usize),
    /// After, types (none: all), events at most.
    Page(i64, Option<Vec<usize>>, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let component = 0..COMPONENTS.len();
    let place = 0..30i64;
    let kinds = proptest::collection::vec(0..KINDS.len(), 1..4);
    let requests = proptest::collection::vec((0..4u128, kinds.clone()), 1..4);
    prop_oneof![
        3 => requests.prop_map(Step::Append),
        1 => (component.clone(), place.clone()).prop_map(|(c, p)| Step::Register(c, p)),
        1 => component.clone().prop_map(Step::Unregister),
        1 => (component.clone(), place.clone()).prop_map(|(c, p)| Step::Seek(c, p)),
        3 => (component.clone(), any::<Option<bool>>(), place.clone())
            .prop_map(|(c, epoch, p)| Step::Advance(c, epoch, p)),
        2 => (component.clone(), any::<bool>()).prop_map(|(c, yields)| Step::Open(c, yields)),
        1 => component.prop_map(Step::Close),
        2 => (place, proptest::option::of(kinds), 1..6usize)
            .prop_map(|(after, kinds, most)| Step::Page(after, kinds, most)),
    ]
}

/// What a store must remember.
#[derive(Default)]
struct Model {
    events: Vec<(i64, usize)>,
    requests: BTreeMap<u128, (Vec<usize>, Vec<i64>)>,
    consumers: BTreeMap<usize, Registered>,
    highest_epoch: i64,
}

struct Registered {
    position: i64,
    epoch: i64,
    session: Option<Uuid>,
}

impl Model {
    fn head(&self) -> i64 {
        self.events.last().map_or(0, |(id, _)| *id)
    }

    /// A new epoch is above every one before.
    fn renew(&mut self, component: usize, epoch: i64) {
        assert!(epoch > self.highest_epoch, "epochs grow");
        self.highest_epoch = epoch;
        let found = self.consumers.get_mut(&component);
        found.expect("registered").epoch = epoch;
    }

    async fn check(&mut self, store: &dyn Store, step: Step) {
        match step {
            Step::Append(requests) => self.append(store, requests).await,
            Step::Register(component, place) => self.register(store, component, place).await,
            Step::Unregister(component) => {
                let removed = store.unregister(&key(COMPONENTS[component])).await;
                let known = self.consumers.remove(&component).is_some();
                assert_eq!(removed.expect("answered"), known);
            }
            Step::Seek(component, place) => self.seek(store, component, place).await,
            Step::Advance(component, current, place) => {
                self.advance(store, component, current, place).await;
            }
            Step::Open(component, yields) => self.open(store, component, yields).await,
            Step::Close(component) => {
                let Some(found) = self.consumers.get_mut(&component) else {
                    return;
                };
                if let Some(id) = found.session.take() {
                    let closing = [(key(COMPONENTS[component]), id)];
                    store.close_sessions(&closing).await.expect("closed");
                }
            }
            Step::Page(after, kinds, most) => self.page(store, after, kinds, most).await,
        }
    }

    async fn append(&mut self, store: &dyn Store, requests: Vec<(u128, Vec<usize>)>) {
        let append = |(request_id, kinds): &(u128, Vec<usize>)| {
            let events: Vec<_> = kinds.iter().map(|kind| event(KINDS[*kind], "1")).collect();
            request((*request_id > 0).then_some(*request_id), &events)
        };
        let commit: Vec<_> = requests.iter().map(append).collect();
        let outcomes = store.append(&commit).await.expect("appended");
        assert_eq!(outcomes.len(), requests.len());
        for ((request_id, kinds), outcome) in requests.into_iter().zip(outcomes) {
            if let Some((before, ids)) = self.requests.get(&request_id) {
                if *before == kinds {
                    assert_eq!(super::engines::ids(&outcome), *ids);
                } else {
                    assert_eq!(outcome, Err(Refusal::RequestIdReused));
                }
                continue;
            }
            let ids = super::engines::ids(&outcome);
            assert_eq!(ids.len(), kinds.len());
            for (id, kind) in ids.iter().zip(&kinds) {
                assert!(*id > self.head(), "ids grow");
                self.events.push((*id, *kind));
            }
            if request_id > 0 {
                self.requests.insert(request_id, (kinds, ids));
            }
        }
    }

    async fn register(&mut self, store: &dyn Store, component: usize, place: i64) {
        let name = key(COMPONENTS[component]);
        let (found, made) = store.register(&name, id(place)).await.expect("answered");
        assert_eq!(made, !self.consumers.contains_key(&component));
        if made {
            let registered = Registered {
                position: place,
                epoch: 0,
                session: None,
            };
            self.consumers.insert(component, registered);
            self.renew(component, found.epoch);
        }
        let known = &self.consumers[&component];
        assert_eq!(
            (found.position.get(), found.epoch),
            (known.position, known.epoch)
        );
        assert_eq!(found.session.is_some(), known.session.is_some());
    }

    async fn seek(&mut self, store: &dyn Store, component: usize, place: i64) {
        let sought = store.seek(&key(COMPONENTS[component]), id(place)).await;
        let sought = sought.expect("answered");
        let Some(known) = self.consumers.get_mut(&component) else {
            assert_eq!(sought, None);
            return;
        };
        known.position = place;
        known.session = None;
        let sought = sought.expect("registered");
        assert_eq!((sought.position.get(), sought.session), (place, None));
        self.renew(component, sought.epoch);
    }

    async fn advance(
        &mut self,
        store: &dyn Store,
        component: usize,
        current: Option<bool>,
        place: i64,
    ) {
        let known = self.consumers.get_mut(&component);
        let epoch = known.as_ref().map_or(1, |known| known.epoch);
        let one = Advance {
            key: key(COMPONENTS[component]),
            epoch: current.map(|current| if current { epoch } else { epoch - 1 }),
            to: id(place),
        };
        let outcome = store.advance(EventId::START, &[one]).await;
        let expected = match known {
            None => Advanced::Unknown,
            Some(known) if current == Some(false) => Advanced::Stale(known.epoch),
            Some(known) => {
                known.position = known.position.max(place);
                Advanced::At(id(known.position))
            }
        };
        assert_eq!(outcome.expect("answered"), [expected]);
    }

    async fn open(&mut self, store: &dyn Store, component: usize, yields: bool) {
        let new: NewSession = session(COMPONENTS[component], REPLICA, yields);
        let opening = store.open_session(&new).await.expect("answered");
        match self.consumers.get_mut(&component) {
            None => assert_eq!(opening, Opening::Unknown),
            Some(known) if known.session.is_some() && yields => {
                assert_eq!(opening, Opening::Occupied(new.label));
            }
            Some(known) => {
                known.session = Some(new.id);
                let Opening::Opened(opened) = opening else {
                    panic!("expected it to be opened, not {opening:?}");
                };
                assert_eq!(opened.position.get(), known.position);
                self.renew(component, opened.epoch);
            }
        }
    }

    async fn page(&self, store: &dyn Store, after: i64, kinds: Option<Vec<usize>>, most: usize) {
        let filter = kinds.as_ref().map_or(Want::All, |kinds| {
            want(&kinds.iter().map(|kind| KINDS[*kind]).collect::<Vec<_>>())
        });
        let span = futoin_eventstream::store::Span {
            max_events: most,
            ..above(after, &filter)
        };
        let (ids, through) = read(&page(store, &span).await);
        let wanted = |kind| kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind));
        let all: Vec<i64> = self
            .events
            .iter()
            .filter(|(id, kind)| *id > after && wanted(*kind))
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(ids, all[..all.len().min(most)]);
        // Nothing wanted lies between the last one and `through`.
        let next = all.get(ids.len()).copied();
        assert!(next.is_none_or(|next| through < next));
        assert!(through >= ids.last().copied().unwrap_or(after));
        if next.is_none() && ids.len() < most {
            assert_eq!(through, self.head().max(after));
        }
    }
}

/// Runs the property against stores that `open` makes.
pub fn check(open: impl AsyncFn(Duration) -> Opened) {
    let config = if std::env::var_os("PROPTEST_CASES").is_some() {
        Config::default()
    } else {
        Config::with_cases(CASES)
    };
    let config = Config {
        failure_persistence: None,
        ..config
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let steps = proptest::collection::vec(step(), 1..60);
    let outcome = TestRunner::new(config).run(&steps, |steps| {
        runtime.block_on(async {
            let opened = open(LONG).await;
            let mut model = Model::default();
            for step in steps {
                model.check(&*opened.store, step).await;
            }
            opened.store.close().await;
        });
        Ok(())
    });
    outcome.expect("the store behaves as its model");
}
