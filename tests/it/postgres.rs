//! PostgreSQL: the adversarial cases of the frontier, through the real service,
//! driven by transactions that the tests hold open.

mod cases;
mod cluster;
mod contract;
mod gate;
mod load;
mod mutants;
mod replicas;
mod restarts;
mod sentinel;
mod skip;
mod stage;
mod text;

pub use cluster::{Cluster, Database};
