//! What is truly the same for every engine: table names, lists of ids, the
//! hash of a request.

use sha2::{Digest, Sha256};

use super::Append;
use crate::event::EventId;

/// Names of the tables that applications and the original see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The queue; also the name of the stream.
    pub queue: String,
    /// The consumers.
    pub consumers: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            queue: Self::QUEUE.to_owned(),
            consumers: Self::CONSUMERS.to_owned(),
        }
    }
}

impl Names {
    const QUEUE: &'static str = "evt_queue";
    const CONSUMERS: &'static str = "evt_consumers";

    /// `sql`, which is written with the default names, with these names.
    #[must_use]
    pub fn apply(&self, sql: &'static str) -> std::borrow::Cow<'static, str> {
        if self.queue == Self::QUEUE && self.consumers == Self::CONSUMERS {
            return sql.into();
        }
        // The prefixes `evt_queue_`/`evt_consumers_` of index names follow.
        sql.replace(Self::QUEUE, "\u{1}")
            .replace(Self::CONSUMERS, &self.consumers)
            .replace('\u{1}', &self.queue)
            .into()
    }
}

/// Ascending ids as inclusive runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdRuns(Vec<(i64, i64)>);

impl IdRuns {
    /// The run `first..=last`.
    #[must_use]
    pub fn run(first: EventId, last: EventId) -> Self {
        Self(vec![(first.get(), last.get())])
    }

    /// Ascending ids, as few runs as possible.
    #[must_use]
    pub fn collect(ids: &[i64]) -> Self {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for &id in ids {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                _ => runs.push((id, id)),
            }
        }
        Self(runs)
    }

    /// Every id, ascending.
    pub fn iter(&self) -> impl Iterator<Item = EventId> {
        self.0
            .iter()
            .flat_map(|&(first, last)| first..=last)
            .map(EventId::stored)
    }

    /// The first id; [`EventId::START`] if there is none.
    #[must_use]
    pub fn first(&self) -> EventId {
        self.0
            .first()
            .map_or(EventId::START, |run| EventId::stored(run.0))
    }

    /// As `1-3,7`, for the request table.
    #[must_use]
    pub fn to_text(&self) -> String {
        let runs: Vec<_> = self
            .0
            .iter()
            .map(|(first, last)| format!("{first}-{last}"))
            .collect();
        runs.join(",")
    }

    /// The reverse of [`Self::to_text`]; `None` if it is something else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let run = |run: &str| {
            let (first, last) = run.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        text.split(',')
            .map(run)
            .collect::<Option<Vec<_>>>()
            .map(Self)
    }
}

impl Append {
    /// Tells a retry from other events under the same request id.
    #[must_use]
    pub fn content_hash(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        for event in &self.events {
            for part in [event.kind.as_str(), event.data.as_str()] {
                hash.update(part.len().to_le_bytes());
                hash.update(part);
            }
        }
        hash.finalize().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_in_index_names_too() {
        let names = Names {
            queue: "q".into(),
            consumers: "evt_queue_users".into(),
        };
        let sql = "CREATE INDEX evt_consumers_last ON evt_consumers; SELECT 1 FROM evt_queue";
        assert_eq!(
            names.apply(sql),
            "CREATE INDEX evt_queue_users_last ON evt_queue_users; SELECT 1 FROM q"
        );
    }

    #[test]
    fn id_runs_survive_their_text() {
        let runs = IdRuns(vec![(1, 3), (7, 7)]);
        assert_eq!(runs.to_text(), "1-3,7-7");
        assert_eq!(IdRuns::from_text(&runs.to_text()), Some(runs.clone()));
        assert_eq!(
            runs.iter().map(EventId::get).collect::<Vec<_>>(),
            [1, 2, 3, 7]
        );
        assert_eq!(IdRuns::from_text("x"), None);
        assert_eq!(IdRuns::collect(&[1, 2, 3, 7]), runs);
    }
}
