//! The calls of the page: state, history and live tail to look at, seek and
//! unregister to act.
//!
//! The caller was decided by `access` and comes as an extension; what it may do is
//! asked for by the gate, as for every front. Several pages share one look at the
//! database. Bodies, searches and live tails are bounded by `limits`.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{
        DefaultBodyLimit, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    response::{IntoResponse as _, Response, sse::Sse},
    routing::{get, post},
};
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    answer::{Failure, field},
    tail::Tail,
    views,
};
use crate::{
    auth::Principal,
    error::Error,
    event::{Component, EventId, EventType, Moment, StartAt, User, Want},
    limits,
};

const STATE: &str = "/console/api/state";
const HISTORY: &str = "/console/api/history";
const TAIL: &str = "/console/api/tail";
const SEEK: &str = "/console/api/seek";
const UNREGISTER: &str = "/console/api/unregister";

/// Whether a path belongs to this file.
pub(super) fn is_below(path: &str) -> bool {
    path.starts_with("/console/api/")
}

pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(STATE, get(state))
        .route(HISTORY, get(history))
        .route(TAIL, get(tail))
        .route(SEEK, post(seek))
        .route(UNREGISTER, post(unregister))
        .layer(DefaultBodyLimit::max(limits::CONSOLE_BODY))
        .with_state(shared)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    #[serde(default)]
    search: String,
}

async fn state(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Principal>,
    query: Result<Query<Search>, QueryRejection>,
) -> Result<Json<views::State>, Failure> {
    let Query(Search { search }) = query?;
    if search.chars().count() > limits::CONSOLE_SEARCH {
        let rule = format!("must be at most {} characters", limits::CONSOLE_SEARCH);
        return Err(Error::invalid("search", rule).into());
    }
    let glance = shared.glance(&caller).await?;
    shared.attention.draw();
    Ok(Json(views::State::of(
        &glance,
        shared.facts,
        &caller,
        &search,
    )))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    /// Milliseconds since 1970: slots that begin then or later.
    #[serde(default)]
    since: i64,
}

async fn history(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Principal>,
    query: Result<Query<Since>, QueryRejection>,
) -> Result<Json<views::HistoryView>, Failure> {
    let Query(Since { since }) = query?;
    // A page in the background asks for nothing else: its next answer has how
    // far the consumers were now.
    match shared.glance(&caller).await {
        Err(error) if error.is_of_caller() => return Err(error.into()),
        // What is in memory can be told without the database.
        Ok(_) | Err(_) => shared.attention.draw(),
    }
    let since = Moment::from_unix_millis(since);
    let slots = shared
        .history()
        .since(since)
        .map(views::SlotView::of)
        .collect();
    Ok(Json(views::HistoryView {
        now: Moment::now().unix_millis(),
        step: views::millis(limits::HISTORY_SLOT),
        slots,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Types with commas between; all if absent.
    types: Option<String>,
}

async fn tail(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Principal>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(Filter { types }) = query?;
    let want = types.as_deref().map_or(Ok(Want::All), want)?;
    let permit = Arc::clone(&shared.tails).try_acquire_owned();
    let permit = permit.map_err(|_full| Error::overloaded("the number of live tails"))?;
    let tail = Tail::open(&shared.gate, caller, want, permit).await?;
    // A proxy in between shall not gather it.
    let unbuffered = [(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    )];
    Ok((unbuffered, Sse::new(tail.messages())).into_response())
}

fn want(types: &str) -> Result<Want, Failure> {
    let types: Vec<_> = types.split(',').collect();
    if types.len() > limits::MAX_WANT_TYPES {
        let rule = format!("must have at most {} types", limits::MAX_WANT_TYPES);
        return Err(Error::invalid("types", rule).into());
    }
    let parse = |kind: &&str| EventType::parse(kind).map_err(field("types"));
    types
        .iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .map(Want::Only)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    user: String,
    component: String,
}

impl Which {
    fn parse(&self) -> Result<(User, Component), Failure> {
        let user = User::parse(&self.user).map_err(field("user"))?;
        let component = Component::parse(&self.component).map_err(field("component"))?;
        Ok((user, component))
    }
}

/// Where to, in one of three ways.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum To {
    /// After this id, a text of digits.
    After(String),
    /// Before the first event at or after it, milliseconds since 1970.
    Time(i64),
    /// The frontier.
    Now(bool),
}

impl To {
    fn parse(&self) -> Result<StartAt, Failure> {
        match self {
            Self::After(text) => {
                let number = text.parse().map_err(|_| {
                    Error::invalid("to.after", format!("must be 0 to {}", EventId::MAX))
                })?;
                let id = EventId::parse_boundary(number).map_err(field("to.after"))?;
                Ok(StartAt::After(id))
            }
            Self::Time(millis) => {
                let time = Moment::parse(*millis).map_err(field("to.time"))?;
                Ok(StartAt::Time(time))
            }
            Self::Now(true) => Ok(StartAt::Now),
            Self::Now(false) => Err(Error::invalid("to.now", "must be true").into()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seek {
    consumer: Which,
    to: To,
}

#[derive(Serialize)]
struct Sought {
    consumer: views::Consumer,
}

async fn seek(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Principal>,
    body: Result<Json<Seek>, JsonRejection>,
) -> Result<Json<Sought>, Failure> {
    let Json(Seek { consumer, to }) = body?;
    let (user, component) = consumer.parse()?;
    let to = to.parse()?;
    let sought = shared.gate.seek(&caller, user, component, to).await?;
    shared.changed().await;
    let consumer = views::Consumer::of(&sought, &caller, None);
    Ok(Json(Sought { consumer }))
}

#[derive(Serialize)]
struct Unregistered {}

async fn unregister(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Principal>,
    body: Result<Json<Which>, JsonRejection>,
) -> Result<Json<Unregistered>, Failure> {
    let Json(which) = body?;
    let (user, component) = which.parse()?;
    shared.gate.unregister(&caller, user, component).await?;
    shared.changed().await;
    Ok(Json(Unregistered {}))
}
