//! Requests of one group commit that repeat an earlier one (ARCHITECTURE, rule 9).

use std::collections::HashMap;

use uuid::Uuid;

use super::{Append, IdRuns, Refusal};
use crate::event::User;

/// What each request of a group commit comes to, in their order.
pub(super) type Outcomes = Vec<Result<IdRuns, Refusal>>;

/// Requests of a batch that need no new events.
#[derive(Default)]
pub(super) struct KnownRequests {
    stored: HashMap<(User, Uuid), (Vec<u8>, IdRuns)>,
    /// First use inside the batch, by index.
    first_use: HashMap<(User, Uuid), usize>,
}

impl KnownRequests {
    /// Notes what an earlier commit stored under a request id.
    pub(super) fn note(&mut self, user: User, request_id: Uuid, hash: Vec<u8>, ids: IdRuns) {
        self.stored.insert((user, request_id), (hash, ids));
    }

    /// Whether `request`, at `index` of its batch, repeats an earlier one.
    pub(super) fn claims(&mut self, request: &Append, index: usize) -> bool {
        let Some(request_id) = request.request_id else {
            return false;
        };
        let name = (request.user.clone(), request_id);
        self.stored.contains_key(&name) || *self.first_use.entry(name).or_insert(index) != index
    }

    /// Fills in the outcomes of those that [`Self::claims`] was true for.
    pub(super) fn answer_repeats(&self, requests: &[Append], outcomes: &mut Outcomes) {
        for (index, request) in requests.iter().enumerate() {
            let Some(request_id) = request.request_id else {
                continue;
            };
            let name = (request.user.clone(), request_id);
            let (hash, ids) = match (self.stored.get(&name), self.first_use.get(&name)) {
                (Some((hash, ids)), _) => (hash.clone(), Ok(ids.clone())),
                (None, Some(&first)) if first != index => {
                    (requests[first].content_hash(), outcomes[first].clone())
                }
                _ => continue,
            };
            let same = hash == request.content_hash();
            outcomes[index] = if same {
                ids
            } else {
                Err(Refusal::RequestIdReused)
            };
        }
    }
}
