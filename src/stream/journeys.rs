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
        traces::traces().map(|traces| Arc::new(Self::of(traces)))
    }

    fn of(traces: &'static Traces) -> Self {
        Self {
            traces,
            memory: Mutex::default(),
        }
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

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

    use super::*;
    use crate::{
        event::{Component, Event, User, Want},
        stream::segment::{Room, Segment},
    };

    /// Journeys, and what is told of them.
    fn journeys() -> (Journeys, InMemorySpanExporter) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let traces = Box::leak(Box::new(Traces::over(provider)));
        (Journeys::of(traces), exporter)
    }

    fn origin(number: u64) -> SpanContext {
        SpanContext::new(
            TraceId::from_bytes(u128::from(number).to_be_bytes()),
            SpanId::from_bytes(number.to_be_bytes()),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        )
    }

    fn selection(ids: &[i64]) -> Selection {
        let events = ids.iter().map(|&id| Event {
            id: EventId::stored(id),
            kind: "A".into(),
            data: "1".into(),
            ts: None,
            fault: None,
        });
        let (first, last) = (ids[0], ids[ids.len() - 1]);
        let (after, through) = (EventId::stored(first - 1), EventId::stored(last));
        let segment = Arc::new(Segment::new(after, through, events.collect()));
        let room = Room {
            events: 100,
            bytes: 1 << 20,
        };
        let mut selection = Selection::at(after);
        selection.pick(&segment, &Want::All, room);
        selection
    }

    fn key(component: &str) -> ConsumerKey {
        ConsumerKey {
            user: User::local(),
            component: Component::parse(component).unwrap(),
        }
    }

    fn added(journeys: &Journeys, origin: &SpanContext, id: i64) {
        let ids = vec![EventId::stored(id)];
        journeys.commit().done([(origin, ids)].into_iter(), 1);
    }

    fn named(exporter: &InMemorySpanExporter, name: &str) -> Vec<SpanData> {
        let spans = exporter.get_finished_spans().unwrap();
        spans.into_iter().filter(|span| span.name == name).collect()
    }

    #[test]
    fn delivery_that_overtakes_its_commit_is_told_after_it() {
        let (journeys, exporter) = journeys();
        let adding = origin(7);
        let commit = journeys.commit();
        journeys.delivered(Some(&key("SHOP")), &selection(&[5]));
        assert!(named(&exporter, "deliver SHOP").is_empty());
        let ids = vec![EventId::stored(5)];
        commit.done([(&adding, ids)].into_iter(), 1);
        drop(commit);
        let [delivered] = &named(&exporter, "deliver SHOP")[..] else {
            panic!("it is told once");
        };
        assert_eq!(delivered.parent_span_id, adding.span_id());
        assert_eq!(delivered.span_context.trace_id(), adding.trace_id());
    }

    #[test]
    fn delivery_during_a_commit_that_fails_is_told_all_the_same() {
        let (journeys, exporter) = journeys();
        let commit = journeys.commit();
        journeys.delivered(None, &selection(&[5]));
        drop(commit);
        let [delivered] = &named(&exporter, "deliver LIVE")[..] else {
            panic!("it is told once");
        };
        assert_eq!(delivered.parent_span_id, SpanId::INVALID);
    }

    #[test]
    fn group_belongs_to_its_first_trace_and_is_linked_to_the_others() {
        let (journeys, exporter) = journeys();
        added(&journeys, &origin(1), 11);
        added(&journeys, &origin(2), 12);
        journeys.delivered(Some(&key("SHOP")), &selection(&[10, 11, 12]));
        let [delivered] = &named(&exporter, "deliver SHOP")[..] else {
            panic!("one group");
        };
        assert_eq!(delivered.parent_span_id, origin(1).span_id());
        assert_eq!(delivered.links.len(), 1);
        assert_eq!(delivered.links[0].span_context, origin(2));
        let unknown = KeyValue::new("eventstream.events_without_context", 1_i64);
        assert!(delivered.attributes.contains(&unknown), "{delivered:?}");
    }

    #[test]
    fn acknowledgement_is_told_once_for_each_delivery_that_it_covers() {
        let (journeys, exporter) = journeys();
        added(&journeys, &origin(1), 11);
        for (component, id) in [("SHOP", 11), ("SHOP", 12), ("CRM", 11)] {
            journeys.delivered(Some(&key(component)), &selection(&[id]));
        }
        for _ in 0..2 {
            journeys.acknowledged(&key("SHOP"), EventId::stored(11), traces::now());
        }
        let [acknowledged] = &named(&exporter, "acknowledge SHOP")[..] else {
            panic!("one delivery, acknowledged once");
        };
        assert_eq!(acknowledged.span_context.trace_id(), origin(1).trace_id());
        assert!(named(&exporter, "acknowledge CRM").is_empty());
        journeys.acknowledged(&key("SHOP"), EventId::stored(12), traces::now());
        assert_eq!(named(&exporter, "acknowledge SHOP").len(), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let (journeys, _exporter) = journeys();
        let many = limits::TRACED_EVENTS + 10;
        for id in 1..=many {
            let id = EventId::stored(i64::try_from(id).unwrap());
            journeys.memory().note(id, origin(1));
        }
        let commit = journeys.commit();
        for _ in 0..limits::TRACED_DELIVERIES + 10 {
            journeys.delivered(Some(&key("SHOP")), &selection(&[1]));
        }
        drop(commit);
        let memory = journeys.memory();
        assert_eq!(memory.added.len(), limits::TRACED_EVENTS);
        assert_eq!(memory.order.len(), limits::TRACED_EVENTS);
        assert_eq!(memory.delivered.len(), limits::TRACED_DELIVERIES);
        assert!(memory.waiting.is_empty());
    }
}
