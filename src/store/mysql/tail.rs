//! The tail's place until its evidence is merged.

use async_trait::async_trait;

use super::MysqlStore;
use crate::{
    event::EventId,
    store::{Blocker, Error, IdRange, Proof, Tail, TailRead},
};

/// The tail of one database.
pub(super) struct MysqlTail(MysqlStore);

impl MysqlTail {
    pub(super) fn new(store: MysqlStore) -> Self {
        Self(store)
    }
}

fn missing<T>(_store: &MysqlStore) -> Result<T, Error> {
    Err(Error::Contract("the tail is not merged yet".into()))
}

#[async_trait]
impl Tail for MysqlTail {
    async fn frontier(&mut self, _known: EventId) -> Result<Proof, Error> {
        missing(&self.0)
    }

    async fn read(&mut self, _after: EventId, _gaps: &[IdRange]) -> Result<TailRead, Error> {
        missing(&self.0)
    }
}

impl MysqlStore {
    pub(super) async fn read_blockers(&self) -> Result<Vec<Blocker>, Error> {
        Ok(Vec::new())
    }
}
