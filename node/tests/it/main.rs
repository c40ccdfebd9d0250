//! Whole nodes over loopback: the built program as a child process, spoken to as its clients do.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a panic in a test is a failing test, which is what is wanted"
)]

mod admin_entries;
mod admin_roles;
mod admin_services;
mod audit;
mod authority;
mod backup;
mod bad_input;
mod bundle_endpoint;
mod cli_commands;
mod cluster;
mod cluster_api;
mod cluster_joining;
mod cluster_peers;
mod cluster_recovery;
mod demo;
mod endpoint;
mod federation_admin;
mod federation_api;
mod federation_hostile;
mod federation_restored;
mod federation_ways;
mod flood;
mod frames;
mod identities;
mod life;
mod node;
mod oauth_issuer;
mod operations;
mod revocation;
mod small_disk;
mod tokens;
