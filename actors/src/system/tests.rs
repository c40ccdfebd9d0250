//! The whole tree of actors on a real log: what workloads see.

mod attestation;
mod cluster;
mod entitlement;
mod issuance;
mod membership;
mod network;
mod supervision;
mod token_keys;
mod tokens;
mod world;
