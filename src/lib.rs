//! A transactional event stream (outbox) served over gRPC and FutoIn.
//!
//! The modules depend on each other in one direction only:
//! `event <- store <- stream <- auth <- {grpc, futoin, http, console, upkeep} <- app <- main`; `tests/it`
//! holds this. See ARCHITECTURE.md for the map.

pub mod app;
pub mod auth;
mod bodies;
pub mod cli;
pub mod config;
pub mod console;
pub mod doctor;
pub mod error;
pub mod event;
pub mod futoin;
pub mod grpc;
pub mod http;
pub mod lifecycle;
pub mod limits;
pub mod listen;
pub mod origins;
pub mod proto;
pub mod quota;
pub mod soak;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod upkeep;
