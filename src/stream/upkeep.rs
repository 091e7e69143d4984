//! What upkeep needs of the stream beside what every client does.

use uuid::Uuid;

use super::EventStream;
use crate::{
    error::Error,
    store::{self, Claim, Claimed, Discard, Discardable, Discarded, Expired, Expiry, Fence},
};

impl EventStream {
    /// Names this replica.
    #[must_use]
    pub fn replica(&self) -> Uuid {
        self.engine.sessions.replica()
    }

    /// Begins, or goes on with, a task that one replica does at a time.
    ///
    /// # Errors
    /// Of the database.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, Error> {
        self.reported(self.engine.store.claim(claim).await)
    }

    /// Ends a tenure.
    ///
    /// # Errors
    /// Of the database.
    pub async fn release(&self, fence: Fence) -> Result<(), Error> {
        self.reported(self.engine.store.release(fence).await)
    }

    /// What [`Self::discard`] would find, by the positions alone.
    ///
    /// # Errors
    /// Of the database.
    pub async fn discardable(&self, archiving: bool) -> Result<Discardable, Error> {
        self.reported(self.engine.store.discardable(archiving).await)
    }

    /// Saves the frontier, up to which settled events may be discarded.
    ///
    /// # Errors
    /// Of the database.
    pub async fn save_frontier(&self) -> Result<(), Error> {
        self.engine.tailer.prove().await?;
        let frontier = self.engine.hub.tip().frontier;
        self.reported(self.engine.store.advance(frontier, &[]).await)?;
        Ok(())
    }

    /// Deletes settled events that every consumer has.
    ///
    /// # Errors
    /// Of the database.
    pub async fn discard(&self, batch: &Discard) -> Result<Discarded, Error> {
        self.reported(self.engine.store.discard(batch).await)
    }

    /// Unregisters a consumer unless it has shown life, and ends what this
    /// replica has of it.
    ///
    /// # Errors
    /// Of the database.
    pub async fn expire(&self, expiry: &Expiry<'_>) -> Result<Expired, Error> {
        let expired = self.reported(self.engine.store.expire(expiry).await)?;
        if expired == Expired::Removed {
            self.engine.sessions.clear_problem(expiry.key);
        }
        Ok(expired)
    }

    fn reported<T>(&self, outcome: Result<T, store::Error>) -> Result<T, Error> {
        outcome.map_err(|error| self.engine.tailer.failed(error))
    }
}
