//! What upkeep needs of the stream beside what every client does.

use uuid::Uuid;

use super::EventStream;
use crate::{
    error::Error,
    event::EventId,
    store::{Claim, Claimed, Fence},
};

impl EventStream {
    /// Names this replica.
    #[must_use]
    pub fn replica(&self) -> Uuid {
        self.engine.sessions.replica()
    }

    /// The frontier, proven anew.
    ///
    /// # Errors
    /// Of the database.
    pub async fn prove_frontier(&self) -> Result<EventId, Error> {
        self.engine.tailer.prove().await?;
        Ok(self.engine.hub.tip().frontier)
    }

    /// Begins, or goes on with, a task that one replica does at a time.
    ///
    /// # Errors
    /// Of the database.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, Error> {
        let claimed = self.engine.store.claim(claim).await;
        claimed.map_err(|error| self.engine.tailer.failed(error))
    }

    /// Ends a tenure.
    ///
    /// # Errors
    /// Of the database.
    pub async fn release(&self, fence: Fence) -> Result<(), Error> {
        let released = self.engine.store.release(fence).await;
        released.map_err(|error| self.engine.tailer.failed(error))
    }
}
