//! Tests against the real program: a server per test, on ports of the system's
//! choice, with a database file of its own.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests start processes and tasks as they need; their modules are one crate"
)]

mod architecture;
mod cli;
mod crash;
mod faults;
mod ledger;
mod lifecycle;
mod load;
mod round_trip;
mod server;
#[cfg(feature = "soak")]
mod soak;
