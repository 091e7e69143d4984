//! PostgreSQL: the adversarial cases of the frontier, through the real service,
//! driven by transactions that the tests hold open.

mod cases;
mod cluster;
mod contract;
mod doctor;
mod failover;
mod gate;
mod load;
mod mutants;
mod pooler;
mod privileges;
mod replicas;
mod restarts;
mod sentinel;
mod skip;
mod stage;
mod text;
mod tls;
mod troubles;

pub use cluster::{Cluster, Database, OWNER, insert, insert_row, programs, run, unprivileged};
