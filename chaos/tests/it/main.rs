//! The workspace examines itself: what may depend on what, what every crate inherits, what no file may hold.
//!
//! ```text
//!   Cargo.toml files ──> manifests ──> directions   (who may use whom; purity, followed through Cargo.lock)
//!                                  └─> inheritance  (lints, versions, package fields)
//!   every text file  ──> tree ──────> hygiene       (no machine's paths, no registry hosts, links that lead somewhere)
//!                                 └─> citations     (every rule of a standard that is kept has a test that cites it)
//! ```
//!
//! But for one seed of the simulation, which is run three times, nothing here starts a process; nothing asks the network.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a file that is not as expected is a failing test; helpers of tests are not covered by clippy.toml"
)]

mod citations;
mod directions;
mod hygiene;
mod inheritance;
mod manifests;
mod simulation;
mod tree;
