//! The whole tree of actors on a real log: what workloads see.

mod attestation;
mod entitlement;
mod issuance;
mod supervision;
mod token_keys;
mod tokens;
mod world;
