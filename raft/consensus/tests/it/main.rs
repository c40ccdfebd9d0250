//! Consensus over the real state machine and the real log, on a disk in memory that can be killed, cut off and made to
//! fail.

mod durability;
mod failure;
mod founding;
mod proposals;
mod snapshots;
mod support;
