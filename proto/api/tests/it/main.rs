//! Tests of the crate from outside.
#![expect(clippy::expect_used, reason = "a panic in a test is a failing test")]

#[path = "../../codegen/mod.rs"]
mod codegen;

mod freshness;
mod standard;
