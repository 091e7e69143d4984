//! One push session: what was sent in it, and which of it is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::AbortHandle,
};
use tonic::Status;

use crate::{
    case::{Group, Started},
    proto::{
        Event, EventGroup, Heartbeat, Payload, ReadyToReceiveResponse, SubscriptionEnding,
        SubscriptionStarted,
    },
    service::Message,
};

/// A session, and the events that count as delivered in it.
pub(crate) struct Session {
    /// Index of its receiver.
    pub(crate) receiver: usize,
    pub(crate) epoch: i64,
    pub(crate) groups: i64,
    pub(crate) delivered: BTreeMap<i64, Delivered>,
    /// Each group's `last_id`.
    pub(crate) group_ends: BTreeSet<i64>,
    /// The last acknowledgement that was asked for, and whether it succeeded.
    pub(crate) asked: Option<(i64, bool)>,
    /// Once the client knows of a successor: no acknowledgement above it.
    pub(crate) fence: Option<i64>,
    /// Ended by the service.
    pub(crate) ended: bool,
    /// Closed by the client.
    pub(crate) closed: bool,
    messages: Option<mpsc::Sender<Message>>,
    beating: Option<AbortHandle>,
}

/// An event as it was sent.
pub(crate) struct Delivered {
    pub(crate) key: String,
    pub(crate) group: i64,
    pub(crate) done: bool,
}

impl Session {
    pub(crate) fn new(receiver: usize, messages: mpsc::Sender<Message>) -> Self {
        Self {
            receiver,
            epoch: 0,
            groups: 0,
            delivered: BTreeMap::new(),
            group_ends: BTreeSet::new(),
            asked: None,
            fence: None,
            ended: false,
            closed: false,
            messages: Some(messages),
            beating: None,
        }
    }

    /// Sends `started`, and heartbeats from now on.
    pub(crate) async fn start(&mut self, started: &Started) {
        self.epoch = started.epoch;
        let interval = Duration::from_millis(started.heartbeat_ms);
        let message = SubscriptionStarted {
            session_id: format!("scripted-{}", started.epoch),
            epoch: started.epoch,
            start_after_id: started.start_after,
            max_in_flight_events: 1000,
            max_in_flight_bytes: 16 << 20,
            heartbeat_interval: prost_types::Duration::try_from(interval).ok(),
            later: later(),
        };
        self.send(Payload::Started(message)).await;
        if let Some(messages) = &self.messages {
            let beats = beat(messages.clone(), interval / 4);
            self.beating = Some(tokio::spawn(beats).abort_handle());
        }
    }

    /// Sends a group. One with a gap before it counts as not delivered.
    pub(crate) async fn send_group(&mut self, group: &Group) {
        let seq = group.seq.unwrap_or(self.groups);
        let last_id = group
            .last_id
            .or(group.events.last().map(crate::case::EventSpec::id))
            .unwrap_or_default();
        let events = group.events.iter().map(|event| Event {
            id: event.id(),
            r#type: "SCRIPTED".to_owned(),
            data_json: event.data_json(),
            ts: None,
            later: later(),
        });
        let message = EventGroup {
            seq,
            events: events.collect(),
            last_id,
            skipped_events: group.skipped,
            later: later(),
        };
        if seq == self.groups {
            self.note(group, last_id);
        }
        self.send(Payload::Group(message)).await;
    }

    fn note(&mut self, group: &Group, last_id: i64) {
        for event in &group.events {
            let delivered = Delivered {
                key: event.key().to_owned(),
                group: self.groups,
                done: false,
            };
            self.delivered.insert(event.id(), delivered);
        }
        self.group_ends.insert(last_id);
        self.groups += 1;
    }

    /// Sends a live group, whose `seq` may leave gaps.
    pub(crate) async fn send_live_group(&mut self, group: &Group) {
        self.groups = group.seq.unwrap_or(self.groups);
        self.send_group(group).await;
    }

    pub(crate) async fn heartbeat(&self) {
        self.send(Payload::Heartbeat(heartbeat())).await;
    }

    /// A kind of message that is not in the contract yet.
    pub(crate) async fn send_unknown(&self) {
        self.send(Payload::Later("later".to_owned())).await;
    }

    pub(crate) async fn announce_end(&self) {
        let ending = SubscriptionEnding {
            grace: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            reason: "drain".to_owned(),
        };
        self.send(Payload::Ending(ending)).await;
    }

    pub(crate) fn silence(&mut self) {
        if let Some(beating) = self.beating.take() {
            beating.abort();
        }
    }

    /// Ends the stream: without error, or with one.
    pub(crate) async fn end(&mut self, status: Option<Status>) {
        self.silence();
        self.ended = true;
        if let (Some(messages), Some(status)) = (self.messages.take(), status) {
            let _ = messages.send(Err(status)).await;
        }
    }

    /// The connection is gone, and with it perhaps the latest answer.
    pub(crate) fn lose(&mut self) {
        self.silence();
        if let Some((_, succeeded)) = &mut self.asked {
            *succeeded = false;
        }
        self.ended = true;
        self.messages = None;
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.ended && !self.closed
    }

    /// From now on nothing above what is done may be acknowledged.
    pub(crate) fn fence_off(&mut self) {
        self.fence.get_or_insert(self.done_up_to());
    }

    /// Everything up to this ID is done.
    fn done_up_to(&self) -> i64 {
        let undone = self.delivered.iter().find(|(_, event)| !event.done);
        let below = undone.map_or(i64::MAX, |(id, _)| *id);
        let events = self.delivered.range(..below).map(|(id, _)| *id);
        let ends = self.group_ends.range(..below).copied();
        events.chain(ends).max().unwrap_or_default()
    }

    /// The first event at or below `last_id` that is not done.
    pub(crate) fn undone_below(&self, last_id: i64) -> Option<i64> {
        let mut covered = self.delivered.range(..=last_id);
        covered.find(|(_, event)| !event.done).map(|(id, _)| *id)
    }

    /// A client that has closed the stream does not read: nothing to report.
    async fn send(&self, payload: Payload) {
        if let Some(messages) = &self.messages {
            let _ = messages.send(Ok(response(payload))).await;
        }
    }
}

async fn beat(messages: mpsc::Sender<Message>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if messages
            .send(Ok(response(Payload::Heartbeat(heartbeat()))))
            .await
            .is_err()
        {
            return;
        }
    }
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        frontier_id: 0,
        caught_up: true,
        server_time: None,
        later: later(),
    }
}

fn response(payload: Payload) -> ReadyToReceiveResponse {
    ReadyToReceiveResponse {
        payload: Some(payload),
    }
}

/// What a field holds that no client knows.
pub(crate) fn later() -> String {
    "from a later version".to_owned()
}
