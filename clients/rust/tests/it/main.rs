//! The client against real services and databases, and against the scripted
//! service that misbehaves. Run by `scripts/with-services.sh clients/rust/test.sh`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod conformance;
mod outbox;
mod received;
mod round_trip;
mod runner;
mod services;
