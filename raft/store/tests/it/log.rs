//! The Raft log.

mod basics;
mod errors;
mod flips;
mod model;
mod power_loss;
mod rules;
