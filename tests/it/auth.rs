//! Users, their credentials and rights.

mod audit;
mod certificates;
mod cli;
mod exposure;
mod jwt;
mod reload;
mod rights;
pub mod stage;
mod through_fronts;
mod tokens;
mod unread;
