//! The original's own clients, from npm, against the real service; and the
//! original's own server, where it is the judge of what they should see.
//!
//! `tests/futoin` has them as processes that obey. A test that is said to hold
//! for both servers runs the same body against both.

mod archiver;
mod classes;
mod client;
mod fronts;
mod place;
mod receivers;
mod relay;
mod service;
mod switching;
mod transactions;
