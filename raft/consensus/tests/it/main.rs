//! Consensus over the real state machine and the real log, on a disk in memory that can be killed, cut off and made to
//! fail.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failing test, which is what is wanted"
)]

mod catching_up;
mod cluster;
mod durability;
mod elections;
mod failure;
mod forwarding;
mod founding;
mod joining;
mod membership;
mod peers;
mod proposals;
mod reads;
mod recovery;
mod restore;
mod snapshots;
mod support;
mod syncing;
mod versions;
mod withdrawals;
