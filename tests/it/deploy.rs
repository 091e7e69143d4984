//! The service as it is deployed: beside an application that is stopped before
//! it, as replicas that are replaced one after the other, restored from a
//! backup by the commands of the runbook.

pub mod fleet;
pub mod journal;
mod pod;
pub mod rolling;
mod runbook;
