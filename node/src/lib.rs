//! The process: everything that makes one `quorate` node out of the other crates.
//!
//! ```text
//!            quorate node --config FILE                      quorate entry | bundle | fetch | ...
//!                     |                                                    |
//!   config  checked whole before anything starts                          cli
//!                     |                                                    |
//!    +----------------v----------------------- run ----------------------- | -----------------+
//!    |  listeners  own accept loops, peer credentials from the kernel  <---+  unix sockets    |
//!    |      |                                                                                 |
//!    |  service    gRPC: authenticate the caller, convert, call a handle     ops  HTTP, read  |
//!    |      |                                                                only             |
//!    |  node       waits unfounded, or holds the running authority   <--- founding, joining   |
//!    +------|---------------------------------------------------------------------------------+
//!           v
//!    consensus handle (raft)      actors' system (issuer, sessions, attestation)
//!           |
//!         peer   TLS with the other nodes: each end proves its identity key
//!
//!    https     strangers, in: bundle_endpoint, federation_api, oidc        outbound   strangers, out: every address judged
//! ```
//!
//! This crate decides nothing about identities: what a caller may have is decided by the state machine, who a caller
//! is by attestation in `actors`. Here is only what a process needs: sockets, files, signals, words for people. No
//! private key passes through its logs, its metrics or the `Debug` of any of its types.

pub mod acme;
pub mod answers;
pub mod bundle_endpoint;
pub mod bundle_source;
pub mod cli;
pub mod config;
pub mod demo;
mod duration;
pub mod federation_api;
pub mod federation_client;
pub mod federation_discovery;
pub mod founding;
mod given;
pub mod hardening;
pub mod https;
pub mod invitation;
pub mod joining;
pub mod listeners;
mod metrics;
pub mod node;
pub mod oidc;
pub mod ops;
pub mod outbound;
pub mod peer;
pub mod peer_credentials;
mod pem;
mod relationships;
pub mod run;
pub mod service;
pub mod shutdown;
pub mod telemetry;
mod warnings;
