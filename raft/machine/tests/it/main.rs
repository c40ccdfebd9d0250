//! The state machine through its public interface: commands in; outcomes, events and reads out.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which clippy does not count as tests: a panic there is a failing test"
)]

mod access;
mod admission;
mod audit;
mod authorities;
mod cluster;
mod crls;
mod entitlement;
mod entries;
mod federation;
mod founding;
mod histories;
mod idempotence;
mod issuing;
mod lifecycle;
mod listing;
mod members;
mod plan;
mod policy;
mod publication;
mod removal;
mod restore;
mod revocation;
mod sealing;
mod snapshots;
mod stored;
mod versions;
mod web;
mod world;
