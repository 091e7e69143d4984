//! The tail: everything visible is settled, see the module's head.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{
    SqliteStore,
    changes::{Header, WalIndex},
    queue::ReadSpan,
};
use crate::{
    event::{EventId, Want},
    limits,
    store::{Effect, Error, IdRange, Proof, Span, Tail, TailRead},
};

/// The tail of one file.
pub(super) struct SqliteTail {
    store: SqliteStore,
    open: Option<Open>,
}

/// A connection of the tail's own (a pool pings a connection each time it comes
/// back, which costs as much as a look), and what the last look saw.
struct Open {
    connection: SqliteConnection,
    index: Option<WalIndex>,
    /// The index header before the last look, and the head that it found.
    seen: Option<(Header, EventId)>,
}

impl SqliteTail {
    pub(super) fn new(store: SqliteStore) -> Self {
        Self { store, open: None }
    }

    /// Taken out for a look and put back after it: after a failure the next
    /// look is taken through a new connection.
    async fn open(&mut self) -> Result<Open, Error> {
        match self.open.take() {
            Some(open) => Ok(open),
            None => Ok(Open {
                connection: self.store.connections.read_apart().await?,
                index: None,
                seen: None,
            }),
        }
    }
}

impl Open {
    fn header(&self) -> Option<Header> {
        self.index.as_ref()?.header()
    }

    /// The head, if nothing was committed since the last look.
    fn unchanged(&self, header: Option<Header>) -> Option<EventId> {
        let (seen, head) = self.seen?;
        (Some(seen) == header).then_some(head)
    }

    /// `header` was read before the look that found `head`. The index is opened
    /// after the first look, when the connection holds the file in WAL mode.
    fn note(&mut self, header: Option<Header>, head: EventId, store: &SqliteStore) {
        self.seen = header.map(|header| (header, head));
        if self.index.is_none() {
            self.index = WalIndex::open(&store.options.path);
        }
    }
}

#[async_trait]
impl Tail for SqliteTail {
    async fn frontier(&mut self, _known: EventId) -> Result<Proof, Error> {
        self.store.connections.check_file(Effect::None)?;
        let mut open = self.open().await?;
        let header = open.header();
        let head = if let Some(head) = open.unchanged(header) {
            head
        } else {
            let bounds = self.store.read_bounds(&mut open.connection).await?;
            open.note(header, bounds.head, &self.store);
            bounds.head
        };
        self.open = Some(open);
        Ok(Proof {
            frontier: head,
            head,
            more: false,
        })
    }

    async fn read(&mut self, after: EventId, _gaps: &[IdRange]) -> Result<TailRead, Error> {
        self.store.connections.check_file(Effect::None)?;
        let mut open = self.open().await?;
        let header = open.header();
        let read = match open.unchanged(header).filter(|head| *head <= after) {
            Some(head) => TailRead {
                events: Vec::new(),
                scanned: after,
                dead_through: after,
                head,
                more: false,
            },
            None => self.look(&mut open, header, after).await?,
        };
        self.open = Some(open);
        Ok(read)
    }
}

impl SqliteTail {
    async fn look(
        &self,
        open: &mut Open,
        header: Option<Header>,
        after: EventId,
    ) -> Result<TailRead, Error> {
        let span = Span {
            after,
            through: EventId::MAX,
            want: &Want::All,
            max_events: limits::PAGE_EVENTS,
            max_bytes: limits::PAGE_BYTES,
        };
        let found = self.store.read_all(&mut open.connection, &span).await?;
        let ReadSpan { page, head, more } = found;
        open.note(header, head, &self.store);
        Ok(TailRead {
            events: page.events,
            scanned: page.through,
            dead_through: page.through,
            head,
            more,
        })
    }
}
