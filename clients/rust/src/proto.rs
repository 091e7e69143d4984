//! The generated messages and clients of the contract, `proto/futoin/evt/v1`:
//! for whoever wants to call the service without the rest of this crate.

#![allow(
    clippy::allow_attributes,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    rustdoc::all,
    reason = "generated code"
)]

include!("proto/futoin.evt.v1.rs");
