//! The store over whole disks: power cuts, flipped bits, errors, kills.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failing test")]

mod support;

mod log;
