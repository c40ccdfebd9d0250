//! The replicated state machine: the one place where the cluster's state changes.
//!
//! ```text
//!    committed entry                                                      what this node's actors learn
//!  CommandBatch::decode                                                     Event, in order
//!          |                                                                      ^
//!          v                                                                      |
//!      Command { origin, caller, time, operations } ---> State::apply(log index) -+--> Outcome: Done or Refusal for
//!                                                             |                        each operation, kept for repeats
//!                                                             v
//!   +---------------------------------------- State ------------------------------------------------------+
//!   | cluster, policy, counters | members | roots, token keys, issuing certificates | origins, outcomes   |
//!   | registry: entries in chunks behind Arc, | invitations, plan, | recovery key     | state hash        |
//!   |           interned texts, indexes       |                    |                  |                   |
//!   | relationships, foreign bundles, secrets | ACME, web certificates, OIDC issuers  |                   |
//!   +------+---------------------------+-------------------------------------+----------------------------+
//!          | reads: entry, list,       | due(state, now): what falls due     | view(): a copy of chunk
//!          v entitled, bundle          | in the life of authorities          v pointers, streamed as snapshot
//!                                      v next_steps(view): what brings the Raft group to what is wanted
//! ```
//!
//! `apply` is a pure function: the same commands give the same state on every member and in every version. There is no
//! clock, no randomness, no input or output and no iteration over hash tables here; time and random values come in with
//! the command. What a command asks for and may not have is a [`Refusal`] that all members share, never an error.
//! Private keys are here only sealed, and this crate cannot open them.

#![forbid(unsafe_code)]

pub mod access;
mod apply;
pub mod audit;
pub mod authority;
pub mod bundle;
pub mod command;
pub mod entry;
pub mod event;
pub mod federation;
mod hash;
pub mod invariants;
pub mod invitation;
pub mod members;
mod objects;
pub mod origins;
pub mod outcome;
pub mod plan;
pub mod policy;
mod recovery;
mod registration;
pub mod registry;
pub mod restore;
pub mod revocation;
pub mod snapshot;
mod state;
mod stored;
mod versions;
pub mod web;

pub use audit::AuditAnchor;
pub use authority::{
    AuthorityKind, AuthorityState, AuthorityTimes, AuthorityView, Due, IssuingCertificate, IssuingKey, IssuingKeyState,
    JwtAuthority, Recipient, Sealed, SealedFor, X509Authority, due,
};
pub use bundle::{BundleContent, BundleJwtAuthority, BundleX509Authority};
pub use command::{
    Caller, CallerIdentity, Command, CommandBatch, Found, NewIssuingCertificate, NewJwtAuthority, NewX509Authority,
    Operation, Origin,
};
pub use entry::{AdditionalAttributes, Entry, EntryChange, EntryDraft};
pub use event::Event;
pub use federation::{
    ApiCredential, ApiServer, BundleFields, Endpoint, EndpointPins, ForeignBundle, ForeignDeletion, ForeignOrigin,
    NewForeignBundle, NewRelationship, PollSettings, Relationship, RelationshipChange, RelationshipOrigin, Secret,
    SecretName, SecretNameError, SetHow,
};
pub use hash::{STATE_HASH_BYTES, StateHash};
pub use invitation::{Admission, Invitation, NewInvitation, SecretHash};
pub use members::{Incarnation, Member, MemberDraft, MemberRole, MemberServices, MemberStatus};
pub use outcome::{Done, OperationResult, Outcome, Refusal, RefusalCode};
pub use plan::{MemberHealth, MembershipPlan, PlanView, Step, next_steps};
pub use policy::{AuditIssuance, CrlMode, NetworkProfile, Policy, PolicyError, Publication};
pub use recovery::RecoveryKey;
pub use registry::{Entitled, Entitlement, EntryFilter, MatchMode, NodeScope, node_id};
pub use revocation::{
    CrlAudience, CrlDecision, CrlSet, KeyRevocationCause, NewCrl, NewRevocation, Revocation, RevocationDue,
    RevocationReason, RevocationTarget, RevokedLeaf, crl_set_for,
};
pub use snapshot::{SNAPSHOT_CHUNK_BYTES, SnapshotError, SnapshotReader, StateView};
pub use state::{Cluster, Counters, State};
pub use stored::StoredError;
pub use versions::COMMAND_VERSION;
