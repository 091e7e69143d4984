//! The rules of ARCHITECTURE that keep positions and frontier true, each by its
//! number.

mod adoption;
mod batches;
mod cancelled;
mod discarding;
mod fencing;
mod large_events;
mod positions;
mod replicas;
mod restores;
mod subscriptions;
mod unreadable;
