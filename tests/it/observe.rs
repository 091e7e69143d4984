//! What operators see: metrics, traces, alerts and the doctor.

mod collector;
pub mod doctor;
mod metrics;
mod prometheus;
mod traces;
