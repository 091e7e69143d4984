//! What is measured, one scenario a file.

pub(crate) mod add;
pub(crate) mod add_batch;
pub(crate) mod archive;
pub(crate) mod discard;
pub(crate) mod drain;
pub(crate) mod fanout;
pub(crate) mod flat;
pub(crate) mod futoin;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod producers;
pub(crate) mod receivers;
pub(crate) mod start;
