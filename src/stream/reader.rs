//! Reading from a cursor on: from the hub if the cursor is inside its ring,
//! else from the store, or from the warehouse what the store has no more; never
//! beyond the frontier. The one code path of polling and push.

use std::sync::Arc;

use super::{
    Engine,
    hub::Follow,
    segment::{Room, Segment, Selection},
};
use crate::{
    error::Error,
    event::{EventId, Want},
    limits,
    store::{self, Effect, Span},
};

/// A place in the stream and a filter.
#[derive(Debug)]
pub(super) struct Reader {
    engine: Arc<Engine>,
    cursor: EventId,
    want: Want,
    generation: u64,
    /// Up to here the active table had nothing when it was last looked at.
    discarded_to: EventId,
}

/// What one read found.
#[derive(Debug)]
pub(super) enum Found {
    /// Events, or filtered progress, up to [`Selection::reached`].
    Selection(Selection),
    /// The cursor stands at the frontier.
    CaughtUp,
    /// The ring has left the reader behind; only for [`Reader::follow`].
    Behind {
        /// Where the ring begins.
        floor: EventId,
        /// Events published before that.
        published: u64,
    },
}

impl Reader {
    pub(super) fn new(engine: Arc<Engine>, cursor: EventId, want: Want) -> Self {
        let generation = engine.hub.tip().generation;
        Self {
            engine,
            cursor,
            want,
            generation,
            discarded_to: EventId::START,
        }
    }

    /// Everything up to here was read.
    pub(super) fn cursor(&self) -> EventId {
        self.cursor
    }

    /// Whether there may be something to read.
    pub(super) fn is_caught_up(&self) -> bool {
        self.cursor >= self.engine.hub.tip().frontier
    }

    /// Goes on from `cursor`.
    pub(super) fn skip_to(&mut self, cursor: EventId) {
        self.cursor = cursor;
    }

    /// Reads from the hub alone.
    pub(super) fn follow(&mut self, room: Room) -> Result<Found, Error> {
        if self.engine.hub.tip().generation != self.generation {
            return Err(Error::Database {
                effect: Effect::None,
            });
        }
        match self.engine.hub.follow(self.cursor) {
            Follow::CaughtUp => Ok(Found::CaughtUp),
            Follow::Behind { floor, published } => Ok(Found::Behind { floor, published }),
            Follow::Segments(segments) => self.select(&segments, room),
        }
    }

    /// Reads from the hub, or one bounded page from the store or the warehouse.
    pub(super) async fn read(&mut self, room: Room) -> Result<Found, Error> {
        match self.follow(room)? {
            Found::Behind { .. } if self.is_caught_up() => Ok(Found::CaughtUp),
            Found::Behind { .. } => {
                let page = self.page(room).await?;
                self.select(&[page], room)
            }
            found => Ok(found),
        }
    }

    async fn page(&mut self, room: Room) -> Result<Arc<Segment>, Error> {
        let after = self.cursor;
        let (max_events, max_bytes) = match self.want {
            Want::All | Want::Only(_) => (room.events.min(limits::PAGE_EVENTS), room.bytes),
            // Of what is read much may be left out here.
            Want::Matching(_) => (limits::PAGE_EVENTS, limits::PAGE_BYTES.max(room.bytes)),
        };
        let span = Span {
            after: self.cursor,
            through: self.engine.hub.tip().frontier,
            want: self.want.of_store(),
            max_events,
            max_bytes,
        };
        if self.discarded_to <= after {
            let page = self.engine.store.page(&span).await;
            let page = page.map_err(|error| self.engine.tailer.failed(error))?;
            if page.discarded_to <= after {
                return Ok(Arc::new(Segment::new(after, page.through, page.events)));
            }
            self.discarded_to = page.discarded_to;
        }
        let page = self.engine.archived_page(&span, self.discarded_to).await?;
        Ok(Arc::new(Segment::new(after, page.through, page.events)))
    }

    fn select(&mut self, segments: &[Arc<Segment>], room: Room) -> Result<Found, Error> {
        let mut selection = Selection::at(self.cursor);
        for segment in segments {
            selection.pick(segment, &self.want, room);
            if selection.is_full() {
                break;
            }
        }
        if let Some((id, fault)) = selection.blocked_by() {
            return Err(Error::EventUnreadable { id, fault });
        }
        if selection.reached() <= self.cursor {
            let cause = format!("nothing is left above {} below the frontier", self.cursor);
            return Err(self.engine.tailer.failed(store::Error::Lost {
                effect: Effect::None,
                cause,
            }));
        }
        self.cursor = selection.reached();
        Ok(Found::Selection(selection))
    }
}
