//! Whole nodes over loopback: the built program as a child process, spoken to as its clients do.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failing test, which is what is wanted"
)]

mod bad_input;
mod endpoint;
mod flood;
mod identities;
mod life;
mod node;
mod operations;
mod tokens;
