//! What a subscription says: its messages and the limits they keep.

use std::time::Duration;

use uuid::Uuid;

use super::segment::Selection;
use crate::event::EventId;

/// One message of a subscription.
#[derive(Debug)]
pub enum Delivery {
    /// The session is open; comes once, before any group.
    Started(Started),
    /// Events to process.
    Group(Group),
    /// Nothing new.
    Heartbeat {
        /// Highest settled id.
        frontier: EventId,
        /// Whether everything up to it was sent.
        caught_up: bool,
    },
    /// The stream ends soon: acknowledge and come back.
    Ending {
        /// Until then.
        grace: Duration,
    },
}

/// How a session began.
#[derive(Debug, Clone)]
pub struct Started {
    /// Names it in logs.
    pub session: Uuid,
    /// Fencing number; 0 for live.
    pub epoch: i64,
    /// Delivery starts after this id.
    pub start_after: EventId,
    /// Limits in force.
    pub limits: PushLimits,
}

/// Events pushed together.
#[derive(Debug)]
pub struct Group {
    /// 0, 1, 2 … within the session; live: with a step for each group dropped.
    pub seq: i64,
    /// The events; none after a long filtered run.
    pub selection: Selection,
    /// Live: events dropped before this group.
    pub skipped: u64,
}

/// Bounds and timing of a subscription, all inside the server's caps.
#[derive(Debug, Clone, Copy)]
pub struct PushLimits {
    /// Events sent and not acknowledged.
    pub in_flight_events: usize,
    /// Their bytes.
    pub in_flight_bytes: usize,
    /// Events of one group.
    pub group_events: usize,
    /// Bytes of one group.
    pub group_bytes: usize,
    /// Wait from the first event of a group to fill it.
    pub linger: Duration,
    /// Interval of heartbeats.
    pub heartbeat: Duration,
}
