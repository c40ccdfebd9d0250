//! Federation: the bundles of foreign trust domains, fetched by whoever leads and held by all.
//!
//! ```text
//!   System
//!   └─ federation (keeper)      on every node; where it leads, an actor for each relationship
//!      ├─ other.example         its own timer, at most one retrieval, perhaps a watch
//!      └─ third.example
//!             │ retrieve                    │ take
//!             v                             v
//!      BundleSource (node: HTTPS) ──>  read, compare ──> SetForeignBundle ──> log ──> every member ──> workloads
//!             ^ Unreachable: another member asks (topic FETCH)
//!             └ board <── how it is ── Federation: status, refresh, warnings (topic FEDERATION)
//! ```
//!
//! What is fetched is recorded when it is another bundle than is held, and nothing else is: when it was asked for, and with
//! what success, stays in the leader's memory. A retrieval that failed waits for the next interval (FED-47), and what is held
//! stays. Who changes a relationship, and what may take a bundle's place, the state machine decides.

mod fetching;
mod handle;
mod keeper;
mod peer;
mod poll;
mod source;
mod status;
mod taking;
mod watching;

use std::sync::Arc;

use quorate_raft_consensus::Handle;
use tokio::sync::Semaphore;

pub use handle::{Federation, FederationError};
pub use peer::Refreshed;
pub use source::{
    BundleSource, BundleWatch, ConfirmFuture, Document, FetchError, FetchErrorKind, FetchFuture, FetchRequest, Fetched,
    NextFuture, WatchFuture,
};
pub use status::RelationshipStatus;

pub(crate) use fetching::answer_fetch;
pub(crate) use handle::answer_federation;
pub(crate) use keeper::{FEDERATION_MAILBOX_LIMIT, FederationActor, FederationMessage};
pub(crate) use status::Board;

use crate::{endpoint::EndpointShared, mailbox::Address, secrets::Secrets, session::core::Core};

/// The most retrievals of this node at a time. Each relationship has one at most, and takes 10 s at most: more than 1,500
/// peers would have to be slow together, at the shortest interval, before one waits for another. It bounds what they can
/// have in memory, 1 MiB each.
pub(crate) const FETCHES_LIMIT: usize = 256;

/// What the actors of federation start from, and what questions of other members are answered from.
#[derive(Clone)]
pub(crate) struct FederationArguments {
    pub(crate) handle: Handle,
    pub(crate) core: Arc<Core>,
    /// Speaks HTTPS; none in a node that fetches nothing.
    pub(crate) source: Option<Arc<dyn BundleSource>>,
    pub(crate) secrets: Secrets,
    pub(crate) endpoint: EndpointShared,
    pub(crate) board: Arc<Board>,
    pub(crate) fetches: Arc<Semaphore>,
    pub(crate) address: Address<FederationMessage>,
}
