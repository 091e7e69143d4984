//! The archive: events in a warehouse, exactly once, and read back from there.

mod adopted;
mod faults;
mod history;
mod kills;
mod round_trips;
mod stage;
mod standalone;
mod verify;
