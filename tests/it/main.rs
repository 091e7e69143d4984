//! Tests against the real program: a server per test, on ports of the system's
//! choice, with a database file of its own.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests start processes and tasks as they need; their modules are one crate"
)]

mod admin;
mod architecture;
mod archive;
mod auth;
mod calls;
mod cli;
mod console;
mod crash;
mod deploy;
mod faults;
mod fronts;
mod futoin;
mod hostile;
mod input;
mod late_ids;
mod ledger;
mod lifecycle;
mod load;
mod mysql;
mod observe;
mod originals;
mod poll;
mod postgres;
mod push;
mod quotas;
mod readme;
mod round_trip;
mod rules;
mod server;
mod services;
#[cfg(feature = "soak")]
mod soak;
mod soak_command;
mod sqlite;
mod store;
mod tls;
mod upkeep;
