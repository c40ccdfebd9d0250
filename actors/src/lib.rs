//! The actors of a node: supervised I/O around the pure rules of `identity` and `machine`.
//!
//! ```text
//!   System
//!   └─ supervisor            starts its children in this order, stops them in the other; restarts one that ends, at once
//!      │                     the first time, then with growing waits; more than 10 ends in a minute end everything
//!      ├─ audit              the audit trail, hash-chained on disk, anchored in the state. Its end: records wait in their
//!      │                     queue
//!      ├─ ledger             issued SVIDs, written behind into sled. Its end: records wait in their queue
//!      ├─ authority          on the leader: signs issuing certificates, moves authorities on. Its end: requests are
//!      │                     refused for a moment and asked again
//!      ├─ membership         on the leader: seals keys to members, changes the Raft group after their records. Its end:
//!      │                     the next look goes on where it stopped
//!      ├─ issuer             keeps this node's issuing certificate and token key good. Its end: nothing is
//!      │                     interrupted, what it published stays until its own time is over
//!      ├─ revocation         signs the CRLs of this node's keys; on the leader: keys that are gone, CRLs of roots, new keys
//!      │                     that may sign. Its end: the next look goes on where it stopped
//!      ├─ endpoint           keeps this node's endpoint certificate good, once somebody wants it. Its end: nothing is
//!      │                     interrupted
//!      ├─ federation         on the leader: an actor for each relationship, which fetches its bundle. Its end: each of them is
//!      │                     started again
//!      ├─ acme               opens the web certificates there are; on the leader: orders and renews them. Its end: nothing is
//!      │                     interrupted, an order goes on where it stopped
//!      ├─ attestor           looks at the processes behind connections. Its end: new callers get Unavailable once
//!      └─ keeper-1 .. n      route changes to sessions, sharded by selectors. Its end: the streams of its shard end with
//!                            Unavailable, and their clients open them again
//!
//!                    what was applied (consensus)
//!          ┌───────────────┬────────┴──────┬──────────────────┐
//!      authority        issuer          keepers ── refresh ──> groups ──> slots ──> streams
//!      membership,         │ publishes                           │
//!      revocation          │                                     │
//!          ^               │ Leases, TokenKeys <── read by ──────┤
//!          │               v                                     v
//!          │         IssuanceStatus                 Svids, Bundles, entitlements
//!          └── what other members' actors ask, carried by consensus (`peers`): certificates, streams, CRLs
//! ```
//!
//! Children hold nothing that must be cleaned up in good order: what has to happen at their end happens when their state
//! is dropped, because ractor skips `post_stop` after a kill or a panic. Their mailboxes are bounded ([`MailboxError`]).
//! Actors are unnamed, and no registry or process group is used: both are global to the process, and tests run several
//! nodes in one (SIM-06).
//!
//! What this crate never does: decide what the state machine decides; read a clock or draw a random number but through
//! [`sources`]; write an issuing key anywhere; hold a lock while it signs; answer `PermissionDenied` when it does not know.

#![forbid(unsafe_code)]

pub mod acme;
pub mod attestation;
pub mod audit;
mod authority;
pub mod backup;
mod bundles;
mod endpoint;
mod errors;
mod events;
mod federation;
mod issuer;
pub mod keys;
mod ledger;
mod mailbox;
mod membership;
mod metrics;
mod own;
mod peers;
mod refusal;
mod revocation;
pub mod secrets;
mod session;
pub mod sources;
mod supervisor;
mod system;
mod watchers;

pub use authority::{
    Authorities, AuthorityChange, AuthorityError, DocumentError, RotationProgress, Timeline, founding,
};
pub use endpoint::{EndpointIdentity, endpoint_id};
pub use federation::{
    BundleSource, BundleWatch, ConfirmFuture, Document, Federation, FederationError, FetchError, FetchErrorKind,
    FetchFuture, FetchRequest, Fetched, NextFuture, Refreshed, RelationshipStatus, WatchFuture,
};
pub use issuer::{
    lease::IssuanceStatus,
    minter::{MintedJwt, MintedX509, Minter},
};
pub use ledger::{
    InvalidPosition, Issued, IssuedId, LEDGER_PAGE_LIMIT, Ledger, LedgerGap, LedgerPage, LedgerPosition, LedgerQuery,
    LedgerRow,
};
pub use mailbox::MailboxError;
pub use membership::{Aim, Membership, MembershipChange, MembershipError, Progress};
pub use refusal::Refusal;
pub use revocation::{CrlsHandedOut, CutOff, CutOffMember, RevocationPlan, Revocations, RevokeError, RevokeOutcome};
pub use secrets::{SecretError, Secrets};
pub use session::{AnswerStream, Caller, IDENTITIES_PER_CALLER_LIMIT, ValidatedToken, WorkloadApi};
pub use supervisor::SystemStatus;
pub use system::{Dependencies, Settings, StartError, System};
pub use watchers::{
    REFUSAL_BYTES_LIMIT, TooManyWatches, WATCHES_LIMIT, WATCHES_PER_PEER_LIMIT, WatchGuard, Watchers, WatchersTold,
    WatchingPeer, watching_at,
};
