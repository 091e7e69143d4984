//! An event's way through the service, as spans of one trace: added, committed,
//! delivered to each consumer, acknowledged by it.
//!
//! Which span added an event is known by its id, in the memory of this process
//! and for the latest [`limits::TRACED_EVENTS`] alone: the tables know nothing
//! of traces. An event that another process inserted has no context, and its
//! delivery says so. Exists only while traces are on; nothing waits for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use opentelemetry::{
    KeyValue,
    trace::{SpanContext, SpanKind},
};

use super::segment::Selection;
use crate::{
    event::{ConsumerKey, EventId},
    limits,
    telemetry::traces::{self, Finished, Traces},
};

/// The journeys of events through this process.
#[derive(Debug)]
pub(super) struct Journeys {
    traces: &'static Traces,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Which span added an event.
    added: HashMap<EventId, SpanContext>,
    /// The same, oldest first.
    order: VecDeque<EventId>,
    /// A commit is under way: its events may be visible, their ids not known.
    committing: bool,
    /// Deliveries of events that it may have added.
    waiting: Vec<Handed>,
    /// What was not acknowledged yet, oldest first.
    delivered: VecDeque<Delivered>,
}

/// Events that were handed to somebody.
#[derive(Debug)]
struct Handed {
    /// `None`: to `LIVE`, which acknowledges nothing.
    to: Option<ConsumerKey>,
    ids: Vec<EventId>,
    at: SystemTime,
    /// The call that asked for them.
    call: Option<SpanContext>,
}

#[derive(Debug)]
struct Delivered {
    to: ConsumerKey,
    last: EventId,
    span: SpanContext,
}

impl Journeys {
    /// None while traces are off.
    pub(super) fn new() -> Option<Arc<Self>> {
        let traces = traces::traces()?;
        Some(Arc::new(Self {
            traces,
            memory: Mutex::default(),
        }))
    }

    /// The span that adds events, if anybody will see it.
    pub(super) fn origin(&self) -> Option<SpanContext> {
        self.traces.current()
    }

    /// A commit begins. Deliveries that may be of its events wait for its end.
    pub(super) fn commit(&self) -> Committing<'_> {
        self.memory().committing = true;
        Committing {
            journeys: self,
            begun: traces::now(),
        }
    }

    /// Events were handed to somebody.
    pub(super) fn delivered(&self, to: Option<&ConsumerKey>, selection: &Selection) {
        if selection.count() == 0 {
            return;
        }
        let handed = Handed {
            to: to.cloned(),
            ids: selection.events().map(|event| event.id).collect(),
            at: traces::now(),
            call: self.traces.current(),
        };
        let mut memory = self.memory();
        let known = |id| memory.added.contains_key(id);
        let may_wait = memory.committing && memory.waiting.len() < limits::TRACED_DELIVERIES;
        if may_wait && !handed.ids.iter().all(known) {
            memory.waiting.push(handed);
        } else {
            self.tell(&mut memory, handed);
        }
    }

    /// A consumer has acknowledged everything up to this id, in a call that
    /// began then.
    pub(super) fn acknowledged(&self, by: &ConsumerKey, last: EventId, begun: SystemTime) {
        let mut memory = self.memory();
        self.tell_waiting(&mut memory);
        let (acknowledged, kept) = std::mem::take(&mut memory.delivered)
            .into_iter()
            .partition(|delivery: &Delivered| delivery.to == *by && delivery.last <= last);
        memory.delivered = kept;
        drop(memory);
        let acknowledged: Vec<_> = acknowledged.into_iter().map(|it| it.span).collect();
        let call = self.traces.current();
        for delivery in &acknowledged {
            self.traces.record(Finished {
                name: format!("acknowledge {}", by.component.as_str()),
                kind: SpanKind::Consumer,
                begun,
                ended: traces::now(),
                parent: Some(delivery.clone()),
                links: call.iter().cloned().collect(),
                attributes: consumer(by).to_vec(),
            });
        }
        let seen = acknowledged.len().min(limits::SPAN_LINKS);
        self.traces.link_current(&acknowledged[..seen]);
    }

    fn tell_waiting(&self, memory: &mut Memory) {
        for handed in std::mem::take(&mut memory.waiting) {
            self.tell(memory, handed);
        }
    }

    /// A delivery is part of the trace that added its first traced event, and
    /// linked to those of the others.
    fn tell(&self, memory: &mut Memory, handed: Handed) {
        let Handed { to, ids, at, call } = handed;
        let mut origins: Vec<_> = ids
            .iter()
            .filter_map(|id| memory.added.get(id).cloned())
            .collect();
        let unknown = ids.len() - origins.len();
        let parent = (!origins.is_empty()).then(|| origins.remove(0));
        origins.truncate(limits::SPAN_LINKS - 1);
        let mut attributes = vec![
            count("messaging.batch.message_count", ids.len()),
            count("eventstream.events_without_context", unknown),
        ];
        if let (Some(first), Some(last)) = (ids.first(), ids.last()) {
            attributes.push(KeyValue::new("eventstream.first_id", first.get()));
            attributes.push(KeyValue::new("eventstream.last_id", last.get()));
        }
        let component = to.as_ref().map_or("LIVE", |to| to.component.as_str());
        let name = format!("deliver {component}");
        if let Some(to) = &to {
            attributes.extend(consumer(to));
        }
        let span = self.traces.record(Finished {
            name,
            kind: SpanKind::Producer,
            begun: at,
            ended: traces::now(),
            parent,
            links: origins.into_iter().chain(call).collect(),
            attributes,
        });
        if let (Some(to), Some(span), Some(last)) = (to, span, ids.last()) {
            let last = *last;
            memory.delivered.push_back(Delivered { to, last, span });
            if memory.delivered.len() > limits::TRACED_DELIVERIES {
                memory.delivered.pop_front();
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn note(&mut self, id: EventId, origin: SpanContext) {
        if self.added.insert(id, origin).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > limits::TRACED_EVENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.added.remove(&oldest);
        }
    }
}

/// A commit under way. However it ends, what waited for it is told.
pub(super) struct Committing<'a> {
    journeys: &'a Journeys,
    begun: SystemTime,
}

impl Committing<'_> {
    /// These spans have added these events.
    pub(super) fn done<'i>(
        &self,
        requests: impl Iterator<Item = (&'i SpanContext, Vec<EventId>)>,
        together: usize,
    ) {
        let ended = traces::now();
        let mut memory = self.journeys.memory();
        for (origin, ids) in requests {
            self.journeys.traces.record(Finished {
                name: "commit".to_owned(),
                kind: SpanKind::Internal,
                begun: self.begun,
                ended,
                parent: Some(origin.clone()),
                links: Vec::new(),
                attributes: vec![count("eventstream.events_in_commit", together)],
            });
            for id in ids {
                memory.note(id, origin.clone());
            }
        }
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        let mut memory = self.journeys.memory();
        memory.committing = false;
        self.journeys.tell_waiting(&mut memory);
    }
}

fn consumer(key: &ConsumerKey) -> [KeyValue; 2] {
    [
        KeyValue::new("messaging.system", "eventstream"),
        KeyValue::new("messaging.consumer.group.name", key.ident()),
    ]
}

fn count(name: &'static str, count: usize) -> KeyValue {
    KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX))
}
