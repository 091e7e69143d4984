//! The gRPC front.

pub mod wire;

/// The generated server traits.
pub mod server {
    #![allow(
        clippy::allow_attributes,
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/server/futoin.evt.v1.rs"));
}
