//! How a subscription comes to its consumer, and lets go of it.

use std::sync::Arc;

use super::{Engine, sessions::Session};
use crate::{
    error::Error,
    event::{ConsumerKey, EventId, Label},
    store::{NewSession, Opening},
};

/// How a reliable subscription came to its consumer, or shall.
#[derive(Debug)]
pub(super) enum Claim {
    /// Unregistered reading.
    Live,
    /// Another session is open; this one waits for its end.
    StandBy(NewSession),
    /// The consumer is ours.
    Held(Held),
}

/// Leaves its session when dropped.
pub(super) struct Held {
    pub engine: Arc<Engine>,
    pub session: Arc<Session>,
    pub key: ConsumerKey,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.engine.sessions.leave(&self.session);
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Outcome of [`Engine::claim`].
pub(super) enum Claimed {
    /// Ours, with the position to start from.
    Held(Held, EventId),
    /// Another session is open and was left alone.
    Occupied(Label),
}

impl Engine {
    /// Opens a session, unless another one is open and respected.
    pub(super) async fn claim(self: &Arc<Self>, session: &NewSession) -> Result<Claimed, Error> {
        let open = || async {
            self.store
                .open_session(session)
                .await
                .map_err(|error| self.tailer.failed(error))
        };
        let attempt = self.sessions.attempt(session);
        let mut opening = open().await?;
        // The session in the way may have ended here a moment ago.
        if matches!(opening, Opening::Occupied(_)) && self.sessions.flush().await? {
            opening = open().await?;
        }
        match opening {
            Opening::Unknown => {
                attempt.refused();
                Err(Error::NotRegistered {
                    consumer: session.key.ident(),
                })
            }
            Opening::Occupied(label) => {
                attempt.refused();
                Ok(Claimed::Occupied(label))
            }
            Opening::Opened(opened) => {
                self.heed_rewind(&opened);
                self.refuse_stopped(&opened).await?;
                let entered = attempt.enter(opened.epoch);
                let key = session.key.clone();
                let held = Held {
                    engine: Arc::clone(self),
                    session: entered,
                    key,
                };
                Ok(Claimed::Held(held, opened.position))
            }
        }
    }
}
