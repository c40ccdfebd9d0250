//! The state machine through its public interface: commands in; outcomes, events and reads out.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which clippy does not count as tests: a panic there is a failing test"
)]

mod authorities;
mod entitlement;
mod entries;
mod founding;
mod histories;
mod idempotence;
mod issuing;
mod listing;
mod members;
mod policy;
mod snapshots;
mod stored;
mod world;
