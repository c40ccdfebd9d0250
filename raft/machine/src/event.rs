//! Events: what subscribers on this node learn when a command was applied.

use std::sync::Arc;

use quorate_proto_identity::{AuthorityId, EntryId, MemberNumber, NodeName, TrustDomain, UnixMillis};

use crate::entry::Entry;
use crate::federation::SecretName;

/// One change of the state, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The authority was founded: everything is new.
    Founded,
    /// An entry was created (no `before`), changed (both), or removed (no `after`).
    EntryChanged {
        /// Which entry.
        id: EntryId,
        /// As it was.
        before: Option<Arc<Entry>>,
        /// As it is.
        after: Option<Arc<Entry>>,
    },
    /// What lies in the scope of some node may be more or less than that one entry: an alias or an entry whose SPIFFE
    /// ID is another entry's parent came, changed or went. Sessions are to be looked at afresh. Comes at most once a
    /// command, after its [`Event::EntryChanged`].
    ScopesChanged,
    /// The policy was replaced.
    PolicyChanged,
    /// The bundle has new content.
    BundleChanged {
        /// Its sequence number now.
        sequence: u64,
    },
    /// A root came, went, or changed its state.
    X509AuthorityChanged {
        /// Which.
        id: AuthorityId,
    },
    /// A token key came, went, or changed its state.
    JwtAuthorityChanged {
        /// Which.
        id: AuthorityId,
    },
    /// An issuing certificate was recorded, revoked or pruned.
    IssuingCertificateChanged {
        /// Whose.
        member: MemberNumber,
        /// The subject key ID of its key.
        key_id: AuthorityId,
    },
    /// A member was admitted, changed, began to leave or has gone. What a node serves may depend on its own record: its
    /// scope is to be made anew ([`NodeScope`](crate::NodeScope)).
    MemberChanged {
        /// Which.
        number: MemberNumber,
    },
    /// An invitation was made, used, or taken back.
    InvitationChanged {
        /// The name that it is for.
        name: NodeName,
    },
    /// The recovery key was set or taken away.
    RecoveryKeyChanged,
    /// The plan of the membership was set.
    PlanChanged,
    /// The cluster's epoch was raised: peers of an earlier one are to be refused.
    EpochRaised {
        /// The epoch now.
        epoch: u64,
    },
    /// New behaviour of `apply` was switched on.
    VersionRaised {
        /// The version now.
        version: u32,
    },
    /// The log's time was set by command, perhaps back. To be said loudly wherever people look.
    TimeReset {
        /// What it was.
        before: UnixMillis,
        /// What it is.
        after: UnixMillis,
    },
    /// A revocation was made, lifted or pruned: who is banned and which tokens are refused may have changed.
    RevocationChanged {
        /// Its number.
        number: u64,
    },
    /// An issuing key or a root has a new CRL.
    CrlRecorded {
        /// Which.
        issuer: AuthorityId,
    },
    /// A prepared issuing key may sign from here on (CRL-07).
    IssuingKeyActivated {
        /// Whose.
        member: MemberNumber,
        /// Which.
        key_id: AuthorityId,
    },
    /// A relationship was made, changed or ended.
    RelationshipChanged {
        /// With which trust domain.
        trust_domain: TrustDomain,
    },
    /// The bundle of a foreign trust domain came, has other content, or went.
    ForeignBundleChanged {
        /// Whose.
        trust_domain: TrustDomain,
    },
    /// A secret was put, sealed to others, or erased.
    SecretChanged {
        /// Its name.
        name: SecretName,
    },
    /// An API key, an access rule or a setting of access was changed: who may ask for our bundle, and how.
    AccessChanged,
    /// The ACME settings were set.
    AcmeChanged,
    /// A domain's web certificate, its order, or what failed has changed, or the domain went.
    WebDomainChanged {
        /// The DNS name.
        domain: String,
    },
    /// The OpenID Connect discovery provider was set.
    OidcChanged,
    /// CRLs are handed out from here on, or are no longer (CRL-08). Comes at most once a command, after everything that
    /// led to it.
    CrlsSwitched {
        /// Whether they are.
        on: bool,
    },
    /// What [`State::crl_set`](crate::State::crl_set) answers is another. Comes at most once a command, last of all.
    CrlSetChanged,
}
