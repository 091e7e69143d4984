//! The archive: events in a warehouse, exactly once, and read back from there.

mod adopted;
mod faults;
mod history;
mod joined;
mod kills;
mod round_trips;
pub mod stage;
mod standalone;
mod verify;
