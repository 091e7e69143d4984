//! From a stream into a warehouse: batches, and what becomes of one that is
//! not taken as a whole.

use super::{
    Rejection, Stored, Warehouse, digest,
    ledger::{self, Entry, Range},
    lenient,
};
use crate::{
    event::{Event, EventId, Moment},
    store::Error,
};

/// All events of a piece of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    after: EventId,
    through: EventId,
    events: Vec<Event>,
    bytes: usize,
}

impl Batch {
    /// Nothing yet, from here on.
    #[must_use]
    pub fn new(after: EventId) -> Self {
        Self {
            after,
            through: after,
            events: Vec::new(),
            bytes: 0,
        }
    }

    /// Goes on to `through`; `events` are all there are on the way, ascending.
    ///
    /// # Panics
    /// When they are not: a wrong batch would be recorded as complete.
    pub fn extend(&mut self, through: EventId, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let last = self.events.last().map_or(self.after, |event| event.id);
            assert!(
                event.id > last.max(self.through) && event.id <= through,
                "event {} is in its place",
                event.id
            );
            self.bytes += event.size();
            self.events.push(event);
        }
        self.through = self.through.max(through);
    }

    /// Drops what is done.
    pub fn forget_through(&mut self, through: EventId) {
        let done = self.events.partition_point(|event| event.id <= through);
        self.events.drain(..done);
        self.bytes = self.events.iter().map(Event::size).sum();
        self.after = self.after.max(through);
        self.through = self.through.max(through);
    }

    /// Below its first id.
    #[must_use]
    pub fn after(&self) -> EventId {
        self.after
    }

    /// Its last id.
    #[must_use]
    pub fn through(&self) -> EventId {
        self.through
    }

    /// Its events, ascending.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Memory of its events, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it goes nowhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.through <= self.after
    }

    /// The database refuses some row of it.
    pub(super) fn refused(&self, cause: String) -> Rejection {
        let id = |event: Option<&Event>| event.map_or(self.through, |event| event.id);
        Rejection::Refused {
            first: id(self.events.first()),
            last: id(self.events.last()),
            cause,
        }
    }

    /// As a table keeps it whose times have no fractions.
    pub(super) fn in_whole_seconds(&self) -> Self {
        let whole = |ts: Moment| Moment::from_unix_millis(ts.unix_millis().div_euclid(1000) * 1000);
        let mut batch = self.clone();
        for event in &mut batch.events {
            event.ts = event.ts.map(whole);
        }
        batch
    }

    /// The piece with the events `from..to`; the last one reaches to the end.
    fn piece(&self, from: usize, to: usize) -> Self {
        let after = match from {
            0 => self.after,
            _ => self.events[from - 1].id,
        };
        let through = if to == self.events.len() {
            self.through
        } else {
            self.events[to - 1].id
        };
        let mut piece = Self::new(after);
        piece.extend(through, self.events[from..to].iter().cloned());
        piece
    }

    /// Its events as entries of the ledger, if all of them were fresh.
    pub(super) fn fresh_entries(&self) -> Vec<Entry> {
        self.events.iter().map(|event| entry(event, true)).collect()
    }

    /// The same where the warehouse has `existing` of them, ascending.
    pub(super) fn entries(&self, existing: &[Event]) -> Result<Vec<Entry>, Rejection> {
        let entry = |event: &Event| {
            let found = existing.binary_search_by_key(&event.id, |stored| stored.id);
            match found.map(|at| &existing[at]) {
                Err(_) => Ok(entry(event, true)),
                Ok(stored) if lenient::is_same(stored, event) => Ok(self::entry(stored, false)),
                Ok(_) => Err(Rejection::Conflict(event.id)),
            }
        };
        self.events.iter().map(entry).collect()
    }

    /// What to write into the ledger, and what that means.
    pub(super) fn record(&self, entries: &[Entry], known: &[Range]) -> (Vec<Range>, Stored) {
        let is_known = |id| {
            known
                .iter()
                .any(|range| range.first <= id && id <= range.last)
        };
        let fresh = || entries.iter().filter(|entry| entry.fresh);
        let stored = Stored {
            fresh: fresh().count(),
            late: fresh().filter(|entry| is_known(entry.id)).count(),
        };
        (
            ledger::record(self.after, self.through, entries, known),
            stored,
        )
    }
}

/// A row that is stored as an entry of the ledger.
pub(super) fn entry(event: &Event, fresh: bool) -> Entry {
    Entry {
        id: event.id,
        digest: digest(event),
        ts: event.ts,
        fresh,
    }
}

/// What [`deposit`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposited {
    /// Everything up to here is in the warehouse.
    pub through: EventId,
    /// What of it was new.
    pub stored: Stored,
    /// Why it did not get further.
    pub rejection: Option<Rejection>,
}

/// Stores a batch, or as much of it as is in front of an event that the
/// warehouse does not take, which is then named.
///
/// # Errors
/// When the warehouse does not work; some of the batch may be stored then.
pub async fn deposit(warehouse: &dyn Warehouse, batch: &Batch) -> Result<Deposited, Error> {
    let mut done = Deposited {
        through: batch.after,
        stored: Stored::default(),
        rejection: None,
    };
    let (mut from, all) = (0, batch.events.len());
    let mut size = all;
    while done.through < batch.through {
        let piece = batch.piece(from, from + size);
        match warehouse.store(&piece).await? {
            Ok(stored) => {
                done.through = piece.through;
                done.stored.fresh += stored.fresh;
                done.stored.late += stored.late;
                from += size;
                size = all - from;
            }
            Err(Rejection::Conflict(id)) if piece.events[0].id < id => {
                size = piece.events.partition_point(|event| event.id < id);
            }
            Err(Rejection::Refused { .. }) if size > 1 => size /= 2,
            Err(rejection) => {
                done.rejection = Some(rejection);
                break;
            }
        }
    }
    Ok(done)
}
