//! The console: a page for operators on the HTTP listener, and what it asks.
//!
//! The page is part of the program and fetches nothing from elsewhere. Behind
//! it is a small API of JSON over the [`Gate`], the same calls that the gRPC
//! front makes: `access` finds out who calls, `api` answers, `tail` streams,
//! `history` keeps the last hour and `sampler` fills it. While nobody looks,
//! nothing of this asks the database anything.

mod access;
mod answer;
mod api;
mod history;
mod page;
mod sampler;
mod tail;
mod views;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, middleware};
use serde::Serialize;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::history::History;
use crate::{
    auth::{Authority, Gate, Principal, Right},
    error::Error,
    limits,
    stream::{Glance, Observer},
};

/// What the page tells of the configuration.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Facts {
    /// Who copies events into the warehouse.
    pub archiving: Archiving,
    /// Whether this process deletes what everybody has.
    pub discards: bool,
    /// Whether this process unregisters silent consumers.
    pub expires: bool,
}

/// Who copies events into the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Archiving {
    /// This process knows of none.
    Nobody,
    /// Another process.
    Others,
    /// This process, when it is its turn.
    Here,
}

/// The console of one process. Cloning shares it.
#[derive(Clone)]
pub struct Console(Arc<Shared>);

/// What came of a look at the database.
type Look = Result<Arc<Glance>, Error>;

/// What its requests and its task share.
struct Shared {
    gate: Gate,
    facts: Facts,
    history: Mutex<History>,
    attention: Attention,
    /// The last look at the database and what came of it, for pages that ask at
    /// the same time: a database that is away is waited for once.
    glance: tokio::sync::Mutex<Option<(Instant, Look)>>,
    tails: Arc<Semaphore>,
}

impl Console {
    /// A console that nobody has looked at yet.
    #[must_use]
    pub fn new(gate: Gate, facts: Facts) -> Self {
        Self(Arc::new(Shared {
            gate,
            facts,
            history: Mutex::default(),
            attention: Attention::default(),
            glance: tokio::sync::Mutex::default(),
            tails: Arc::new(Semaphore::new(limits::CONSOLE_TAILS)),
        }))
    }

    /// Its paths, to be served by `listen`.
    pub fn router(&self, authority: Authority) -> Router {
        page::routes()
            .merge(api::routes(Arc::clone(&self.0)))
            .layer(middleware::from_fn_with_state(authority, access::guard))
    }

    /// Keeps the last hour, until `stopping`.
    ///
    /// # Errors
    /// None; the type is that of a task.
    pub async fn keep_history(
        self,
        observer: Observer,
        stopping: CancellationToken,
    ) -> anyhow::Result<()> {
        sampler::run(&self.0, observer, &stopping).await;
        Ok(())
    }
}

impl Shared {
    /// The stream and its consumers as they are now, or were a moment ago, for
    /// who may see them.
    async fn glance(&self, caller: &Principal) -> Result<Arc<Glance>, Error> {
        caller.require(caller.may_observe(), Right::Observe, &"see the console")?;
        // Held over the look: who comes meanwhile shares it.
        let mut last = self.glance.lock().await;
        if let Some((at, glance)) = last.as_ref()
            && at.elapsed() < limits::CONSOLE_GLANCE
        {
            return glance.clone();
        }
        let glance = self.gate.glance(caller).await.map(Arc::new);
        if glance.as_ref().is_err_and(Error::is_of_caller) {
            return glance;
        }
        *last = Some((Instant::now(), glance.clone()));
        glance
    }

    /// What was read before is no longer how it is.
    async fn changed(&self) {
        *self.glance.lock().await = None;
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody looks at the console.
#[derive(Default)]
struct Attention {
    last: Mutex<Option<Instant>>,
    drawn: Notify,
}

impl Attention {
    /// Somebody looks now.
    fn draw(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.drawn.notify_one();
    }

    fn is_there(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < limits::CONSOLE_ATTENTION)
    }

    /// Waits for somebody, at most for so long.
    async fn wait(&self, longest: Duration) {
        // Elapsed is as good an end as any.
        let _ = tokio::time::timeout(longest, self.drawn.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attention_lasts_for_a_while_and_wakes_who_waits_for_it() {
        let attention = Attention::default();
        assert!(!attention.is_there());
        attention.draw();
        let begun = Instant::now();
        attention.wait(limits::HISTORY_LOOK).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::advance(limits::CONSOLE_ATTENTION / 2).await;
        assert!(attention.is_there());
        tokio::time::advance(limits::CONSOLE_ATTENTION / 2).await;
        assert!(!attention.is_there());
        let begun = Instant::now();
        attention.wait(limits::HISTORY_LOOK).await;
        assert_eq!(begun.elapsed(), limits::HISTORY_LOOK);
    }
}
