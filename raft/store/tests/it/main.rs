//! The store over whole disks: power cuts, flipped bits, errors, kills.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a panic in a test is a failing test")]

mod crash;
mod directory;
mod log;
mod snapshot;
mod stored_forms;
mod support;
