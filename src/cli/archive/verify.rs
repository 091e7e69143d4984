//! Reading a warehouse again, range by range, against its ledger.

use std::io::IsTerminal as _;

use serde_json::json;

use super::super::{
    connect::{Target, call},
    failure::Failure,
    output::Output,
};
use crate::{
    event::{EventId, Want},
    limits,
    proto::GetStatusRequest,
    store::{
        Error, Span,
        history::{
            self, Warehouse,
            ledger::{Entry, Range},
        },
    },
};

/// Ranges of the ledger that are read at once.
const RANGES: usize = 100;

pub(super) struct Verification<'a> {
    warehouse: &'a dyn Warehouse,
    output: &'a mut Output,
    ranges: u64,
    events: u64,
    faults: u64,
    /// The range before.
    before: Option<Range>,
}

impl<'a> Verification<'a> {
    pub(super) fn new(warehouse: &'a dyn Warehouse, output: &'a mut Output) -> Self {
        Self {
            warehouse,
            output,
            ranges: 0,
            events: 0,
            faults: 0,
            before: None,
        }
    }

    /// Checks everything; a fault found is a failure.
    pub(super) async fn run(mut self, server: Option<Target>) -> Result<(), Failure> {
        let mut first = EventId::START;
        loop {
            let ranges = self.warehouse.ranges(first, RANGES).await?;
            let Some(last) = ranges.last() else { break };
            first = last.first.next();
            for range in ranges {
                self.neighbours(&range).await?;
                self.content(range).await?;
                self.before = Some(range);
            }
        }
        self.end().await?;
        if let Some(server) = server {
            self.compare(&server).await?;
        }
        self.conclude()
    }

    /// Ranges follow each other.
    async fn neighbours(&mut self, range: &Range) -> Result<(), Failure> {
        let after = self.before.map_or(EventId::START, |before| before.last);
        if range.first <= after {
            let text = "overlaps the range before";
            return self.fault("overlap", range.first, range.last, text);
        }
        let below = range.first.previous();
        if below <= after {
            return Ok(());
        }
        let rows = self.warehouse.count(after, below).await?;
        // Before the first range there was nothing to archive.
        if self.before.is_some() || rows > 0 {
            let text = format!("is not recorded as archived; it has {rows} rows");
            self.fault("hole", after.next(), below, &text)?;
        }
        Ok(())
    }

    /// What a range says is what is there.
    async fn content(&mut self, range: Range) -> Result<(), Failure> {
        let mut range = range;
        let mut found = self.read(&range).await?;
        if found != range {
            // An archiver that runs may have added to it meanwhile.
            let again = self.warehouse.ranges(range.first, 1).await?;
            if let Some(now) = again.first().filter(|now| **now != range) {
                range = *now;
                found = self.read(&range).await?;
            }
        }
        self.ranges += 1;
        self.events += found.events;
        if found.events != range.events {
            let text = format!(
                "has {} events, the ledger says {}",
                found.events, range.events
            );
            self.fault("count", range.first, range.last, &text)?;
        } else if found.checksum != range.checksum {
            let text = "has other content than the ledger says";
            self.fault("content", range.first, range.last, text)?;
        } else if found != range {
            let text = "has other times than the ledger says";
            self.fault("times", range.first, range.last, text)?;
        }
        if !self.output.is_json() && std::io::stderr().is_terminal() {
            let text = format!("{} events, up to ID {}", self.events, range.last);
            self.output.progress(text);
        }
        Ok(())
    }

    /// The range as its rows are.
    async fn read(&self, range: &Range) -> Result<Range, Error> {
        let mut found = Range::empty(range.first, range.last);
        let mut after = range.first.previous();
        while after < range.last {
            let span = Span {
                after,
                through: range.last,
                want: &Want::All,
                max_events: limits::PAGE_EVENTS,
                max_bytes: limits::PAGE_BYTES,
            };
            let page = self.warehouse.page(&span).await?;
            for event in &page.events {
                found.add(&Entry {
                    id: event.id,
                    digest: history::digest(event),
                    ts: event.ts,
                    fresh: false,
                });
            }
            after = page.through;
        }
        Ok(found)
    }

    /// Nothing lies above the ledger, unless an archiver runs.
    async fn end(&mut self) -> Result<(), Failure> {
        let last = self.before.map_or(EventId::START, |before| before.last);
        let rows = self.warehouse.count(last, EventId::MAX).await?;
        let extent = self.warehouse.extent().await?;
        if rows > 0 && extent.is_none_or(|extent| extent.last <= last) {
            let text = format!("is not recorded as archived; it has {rows} rows");
            self.fault("unrecorded", last.next(), EventId::MAX, &text)?;
        }
        Ok(())
    }

    /// The server must not believe more archived than is.
    async fn compare(&mut self, server: &Target) -> Result<(), Failure> {
        let mut admin = server.connect().await?.admin();
        let status = admin.get_status(call(GetStatusRequest {})).await?;
        let archived = EventId::stored(status.into_inner().archived_id);
        // Read afterwards, as an archiver may run.
        let extent = self.warehouse.extent().await?;
        let last = extent.map_or(EventId::START, |extent| extent.last);
        if archived > last {
            let text = "is archived, says the server, but not recorded";
            self.fault("missing", last.next(), archived, text)?;
        }
        Ok(())
    }

    fn fault(
        &mut self,
        kind: &str,
        first: EventId,
        last: EventId,
        text: &str,
    ) -> Result<(), Failure> {
        self.faults += 1;
        let (first, last) = (first.to_string(), last.to_string());
        let written = if self.output.is_json() {
            let fault = json!({"fault": kind, "first_id": first, "last_id": last, "text": text});
            self.output.object(&fault)
        } else {
            self.output.line(format_args!("{first} to {last} {text}"))
        };
        written.map_err(Failure::Output)
    }

    fn conclude(self) -> Result<(), Failure> {
        let last = self.before.map_or(0, |before| before.last.get());
        let (ranges, events, faults) = (self.ranges, self.events, self.faults);
        let written = if self.output.is_json() {
            let last = last.to_string();
            self.output.object(
                &json!({"ranges": ranges, "events": events, "last_id": last, "faults": faults}),
            )
        } else {
            self.output.line(format_args!(
                "{events} events in {ranges} ranges up to ID {last}: {faults} faults"
            ))
        };
        written.map_err(Failure::Output)?;
        if faults == 0 {
            return Ok(());
        }
        Err(Failure::Rejected(
            "the archive is not what its ledger says".to_owned(),
        ))
    }
}
