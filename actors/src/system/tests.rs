//! The whole tree of actors on a real log: what workloads see.

mod attestation;
mod audit;
mod cluster;
mod endpoint;
mod entitlement;
mod federation;
pub(crate) mod foreign;
mod issuance;
mod membership;
mod network;
mod publication;
mod revocation;
mod rotation;
mod secrets;
mod several_nodes;
mod supervision;
mod token_keys;
mod tokens;
mod world;
