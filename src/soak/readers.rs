//! Readers that others use, beside ours on the same events: what they would
//! have lost. Their rules are pure; all read through sessions of their own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    engine::Session,
    ledger::{Tag, locked},
    verdict::Delivery,
    writer::Scene,
};

/// How long [`Kind::Grace`] waits for an id that is missing.
const GRACE: Duration = Duration::from_millis(500);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Pause of the original while there is little to read.
const ORIGINAL_LOOK: Duration = Duration::from_millis(100);

/// A rule for what may be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whatever is above the last id.
    Naive,
    /// The same, but waits half a second for ids that are missing.
    Grace,
    /// What FutoIn's implementation on Node.js does.
    Original,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Naive, Self::Grace, Self::Original];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive (id > last)",
            Self::Grace => "500 ms grace",
            Self::Original => "original's read",
        }
    }
}

/// A reader and what it took for delivered.
pub(super) struct Reader {
    pub(super) kind: Kind,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Reader {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            deliveries: Mutex::default(),
        }
    }

    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        locked(&self.deliveries).clone()
    }

    /// Whether it has gone past `id`.
    pub(super) fn is_past(&self, id: i64) -> bool {
        locked(&self.deliveries)
            .last()
            .is_some_and(|last| last.id > id)
    }

    /// Reads until there is nothing more to come.
    pub(super) async fn run(
        self: Arc<Self>,
        scene: Arc<Scene>,
        written: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut session = scene.engine.session().await?;
        let mut cursor = Cursor::default();
        let pause = match self.kind {
            Kind::Original => ORIGINAL_LOOK,
            Kind::Naive | Kind::Grace => LOOK,
        };
        loop {
            let last_look = written.is_cancelled();
            let found = match self.look(&scene, &mut *session, cursor.last).await {
                Ok(found) => found,
                Err(error) => {
                    // A conflict costs the original its transaction; it looks again.
                    scene.ledger.trouble(&error);
                    session = scene.engine.session().await?;
                    Vec::new()
                }
            };
            let now = scene.ledger.now();
            let taken = match self.kind {
                Kind::Grace => cursor.after_grace(found, now),
                Kind::Naive | Kind::Original => cursor.at_once(found),
            };
            let nothing = taken.is_empty() && cursor.missing.is_empty();
            let delivery = |(id, data): (i64, String)| Delivery {
                id,
                tag: Tag::from_json(&data),
                at: now,
                session: 0,
            };
            locked(&self.deliveries).extend(taken.into_iter().map(delivery));
            if last_look && nothing {
                return Ok(());
            }
            sleep(pause).await;
        }
    }

    async fn look(
        &self,
        scene: &Scene,
        session: &mut dyn Session,
        after: i64,
    ) -> Result<Vec<(i64, String)>, sqlx::Error> {
        if self.kind == Kind::Original {
            let [begin, query, end] = scene.engine.original(after);
            session.run(&begin).await?;
            let found = session.read(&query).await?;
            session.run(&end).await?;
            return Ok(found);
        }
        let (queue, data) = (&scene.names.queue, scene.engine.data());
        let query =
            format!("SELECT id, {data} FROM {queue} WHERE id > {after} ORDER BY id LIMIT 5000");
        session.read(&query).await
    }
}

/// Where a reader is, and since when it misses which ids above.
#[derive(Debug, Default)]
struct Cursor {
    last: i64,
    missing: BTreeMap<i64, Duration>,
}

impl Cursor {
    fn at_once(&mut self, found: Vec<(i64, String)>) -> Vec<(i64, String)> {
        let highest = found.iter().map(|(id, _)| *id).max();
        self.last = highest.unwrap_or(self.last);
        found
    }

    fn after_grace(&mut self, found: Vec<(i64, String)>, now: Duration) -> Vec<(i64, String)> {
        let mut expected = self.last + 1;
        for (id, _) in &found {
            self.missing.remove(id);
            for missing in expected..*id {
                self.missing.entry(missing).or_insert(now);
            }
            expected = id + 1;
        }
        let waits_for = self
            .missing
            .iter()
            .find(|(_, since)| now.saturating_sub(**since) < GRACE);
        let end = waits_for.map_or(i64::MAX, |(id, _)| *id);
        let taken: Vec<_> = found.into_iter().take_while(|(id, _)| *id < end).collect();
        self.last = taken.last().map_or(self.last, |(id, _)| *id);
        self.missing = self.missing.split_off(&(self.last + 1));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ids: &[i64]) -> Vec<(i64, String)> {
        ids.iter().map(|&id| (id, String::new())).collect()
    }

    fn ids(taken: &[(i64, String)]) -> Vec<i64> {
        taken.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn the_naive_reader_goes_past_what_is_missing() {
        let mut cursor = Cursor::default();
        assert_eq!(ids(&cursor.at_once(found(&[1, 3]))), [1, 3]);
        assert_eq!(cursor.last, 3);
        assert!(cursor.at_once(Vec::new()).is_empty());
        assert_eq!(cursor.last, 3);
    }

    #[test]
    fn grace_waits_for_each_missing_id_from_when_it_was_missed() {
        let mut cursor = Cursor::default();
        let ms = Duration::from_millis;
        assert_eq!(ids(&cursor.after_grace(found(&[1, 3]), ms(0))), [1]);
        assert_eq!(ids(&cursor.after_grace(found(&[3, 5]), ms(400))), [0; 0]);
        assert_eq!(ids(&cursor.after_grace(found(&[3, 5]), ms(500))), [3]);
        assert_eq!(ids(&cursor.after_grace(found(&[4, 5]), ms(600))), [4, 5]);
        assert!(cursor.missing.is_empty(), "{cursor:?}");
    }
}
