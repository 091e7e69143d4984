//! A transactional event stream (outbox) served over gRPC.
//!
//! The modules depend on each other in one direction only:
//! `event <- store <- stream <- {grpc, http} <- app <- main`; `tests/it`
//! holds this. See ARCHITECTURE.md for the map.

pub mod cli;
pub mod grpc;
pub mod proto;
