//! The wire: every message and service that leaves or enters a node, as Rust types.
//!
//! ```text
//!   proto/*.proto ── codegen (protox, prost, tonic) ──► src/generated   committed; a test finds it stale
//!                                                           |
//!            workload   spire::{types, entry, ...}   health   cluster   federation   peer
//!                                                           |
//!          convert   wire message <──► identity type, errors name the field
//!          redacted  Debug of what bears secrets: neither keys nor tokens are printed
//!          channel   the one function that makes client channels (SIM-01)
//! ```
//!
//! | Module | Package | Offered on |
//! |-|-|-|
//! | [`workload`] | none (the standard's) | the workload socket |
//! | [`spire`] | `spire.api.types`, `spire.api.server.*` | the admin socket |
//! | [`health`] | `grpc.health.v1` | the admin socket |
//! | [`cluster`] | `quorate.cluster.v1` | the admin socket |
//! | [`federation`] | `quorate.federation.v1` | the listener of the Federation API, to other trust domains |
//! | [`peer`] | `quorate.peer.v1` | the peer port, to members and newcomers |
//!
//! `bytes` fields are [`bytes::Bytes`], so that one signed answer is shared by many streams, and maps are ordered
//! (SIM-04). This crate decides nothing and holds no state; entries become the state machine's own type in the `node`
//! crate, because this one does not know the machine.

mod generated;
mod redacted;

pub mod channel;
pub mod convert;

pub use generated::{cluster, federation, health, peer, workload};

/// The SPIRE server API, which is also our registration API.
pub mod spire {
    pub use crate::generated::spire::api::server::bundle::v1 as bundle;
    pub use crate::generated::spire::api::server::debug::v1 as debug;
    pub use crate::generated::spire::api::server::entry::v1 as entry;
    pub use crate::generated::spire::api::server::localauthority::v1 as localauthority;
    pub use crate::generated::spire::api::server::svid::v1 as svid;
    pub use crate::generated::spire::api::server::trustdomain::v1 as trustdomain;
    pub use crate::generated::spire::api::types;
}

/// Descriptors for server reflection (EP-26): the Workload API and health, with what they import.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/reflection.bin");

/// The metadata that every call of the Workload API carries (EP-08), with the value [`WORKLOAD_HEADER_VALUE`].
pub const WORKLOAD_HEADER: &str = "workload.spiffe.io";

/// The one value of [`WORKLOAD_HEADER`] that is accepted; upper case is not (EP-09).
pub const WORKLOAD_HEADER_VALUE: &str = "true";

/// The metadata by which an answer to a write says where in the replicated log it stands.
pub const LOG_INDEX_HEADER: &str = "quorate-log-index";

/// The metadata by which an answer to a read says how much of the log the answering node had applied.
pub const APPLIED_INDEX_HEADER: &str = "quorate-applied-index";

/// The metadata by which a caller asks for a read of another kind than a local one.
pub const CONSISTENCY_HEADER: &str = "quorate-consistency";

/// The value of [`CONSISTENCY_HEADER`] that asks for a linearizable read: it sees every write that was answered before
/// the call, whichever node took it.
pub const CONSISTENCY_LINEARIZABLE: &str = "linearizable";

/// The value of [`CONSISTENCY_HEADER`] that asks for what is the rule: a read of what this node has applied.
pub const CONSISTENCY_LOCAL: &str = "local";

/// The metadata of the Federation API that holds an API key.
pub const API_KEY_HEADER: &str = "quorate-api-key";

/// The path of the Federation API's listener where its discovery document is, as JSON.
pub const FEDERATION_DOCUMENT_PATH: &str = "/.well-known/spiffe-federation";

/// The metadata by which a workload asks for a shorter life of a JWT-SVID, in seconds.
pub const JWT_TTL_HEADER: &str = "quorate-jwt-ttl";
