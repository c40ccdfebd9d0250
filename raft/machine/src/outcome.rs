//! Outcomes: what the proposer of a command learns.
//!
//! An outcome is compact (codes, identifiers, numbers), because the state keeps the outcomes of each origin so that a
//! repeated command gets the same answer. Whole entries are read from the state.

use quorate_proto_identity::{
    AuthorityId, EntryId, MemberNumber, NodeName, SerialNumber, TrustDomain, UnixMillis, UnixSeconds,
};

use crate::access::ApiKeyId;
use crate::authority::{AuthorityKind, AuthorityState};
use crate::federation::SecretName;

/// Longest message of a refusal, in bytes; what is longer is cut off at a character. Messages are kept with outcomes,
/// where each counts as if it were this long.
pub const REFUSAL_MESSAGE_LIMIT: usize = 512;

/// What came of a command: one result for each of its operations, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// As many as the command has operations.
    pub results: Vec<OperationResult>,
}

/// What came of an operation. A refusal is a result that all members share, not an error.
pub type OperationResult = Result<Done, Refusal>;

/// An operation that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The authority was founded.
    Founded {
        /// The number of the founding member.
        member: MemberNumber,
    },
    /// The entry was registered, with revision 0.
    EntryCreated {
        /// Its ID.
        id: EntryId,
        /// Its place in listings; never given again.
        creation_number: u64,
        /// When, in whole seconds of the log's time.
        created_at: UnixSeconds,
    },
    /// Nothing changed: an entry with the same parent, SPIFFE ID and selectors is there.
    EntryExists {
        /// The ID of that entry; the first created one when several are alike.
        id: EntryId,
    },
    /// The entry was changed.
    EntryUpdated {
        /// Its ID.
        id: EntryId,
        /// Its revision number now.
        revision_number: u64,
    },
    /// The entry was removed.
    EntryDeleted {
        /// The ID it had.
        id: EntryId,
        /// The number of the revocation of what was issued for it, if that was asked for.
        revocation: Option<u64>,
    },
    /// Expired entries were removed.
    EntriesPruned {
        /// How many.
        count: u64,
        /// Whether more are waiting for another command.
        more: bool,
    },
    /// The policy was replaced.
    PolicySet {
        /// Its revision now.
        revision: u64,
    },
    /// An authority came to a new state.
    AuthorityMoved {
        /// Root or token key.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
        /// The state it is in now.
        state: AuthorityState,
    },
    /// What had expired was removed.
    AuthoritiesPruned {
        /// How many roots.
        x509: u64,
        /// How many token keys.
        jwt: u64,
        /// How many issuing certificates.
        issuing: u64,
    },
    /// The issuing certificate was recorded.
    IssuingCertificateRecorded {
        /// Whose it is.
        member: MemberNumber,
        /// The subject key ID of its key.
        key_id: AuthorityId,
        /// Its serial number.
        serial: SerialNumber,
    },
    /// Issuing certificates were revoked.
    IssuingCertificatesRevoked {
        /// Whose they are.
        member: MemberNumber,
        /// How many.
        count: u64,
    },
    /// The member was admitted or changed, or is what it was to be already.
    MemberSet {
        /// Its number.
        number: MemberNumber,
    },
    /// The newcomer is a member, from now on or since it first asked.
    MemberAdmitted {
        /// Its number.
        number: MemberNumber,
    },
    /// The invitation waits for its newcomer.
    InvitationCreated {
        /// The name that it is for.
        name: NodeName,
    },
    /// The invitation is no longer worth anything.
    InvitationDeleted {
        /// The name that it was for.
        name: NodeName,
    },
    /// The member signs no more, and is on its way out or has gone.
    MemberLeaving {
        /// Its number.
        number: MemberNumber,
        /// How many issuing certificates of it were revoked.
        revoked: u64,
    },
    /// The member has gone.
    MemberGone {
        /// Its number.
        number: MemberNumber,
    },
    /// The authority's key is sealed to all that were named.
    AuthoritySealed {
        /// Root or token key.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
        /// How many of them it was not sealed to before.
        added: u64,
    },
    /// The member has no seal that it may not have.
    SealsStripped {
        /// Its number.
        number: MemberNumber,
        /// How many it had.
        count: u64,
    },
    /// The recovery key is set, or there is none.
    RecoveryKeySet {
        /// Its ID.
        id: Option<String>,
    },
    /// The plan is set.
    PlanSet,
    /// The cluster's epoch was raised.
    EpochRaised {
        /// The epoch now.
        epoch: u64,
    },
    /// The cluster works by this version.
    VersionRaised {
        /// The version.
        version: u32,
    },
    /// The log's time was set.
    TimeReset {
        /// What it was.
        before: UnixMillis,
        /// What it is.
        after: UnixMillis,
    },
    /// The revocation is recorded.
    Revoked {
        /// Its number.
        number: u64,
    },
    /// The revocation bans nobody and refuses no token any more.
    RevocationRemoved {
        /// Its number.
        number: u64,
    },
    /// The CRL is its issuer's newest.
    CrlRecorded {
        /// The issuing key or root.
        issuer: AuthorityId,
    },
    /// The key may sign, from now on or already.
    IssuingKeyActivated {
        /// Which.
        key: AuthorityId,
    },
    /// Every certificate of the keys is revoked, and in the CRLs of their roots.
    IssuingKeysRevoked {
        /// How many certificates were not revoked before.
        certificates: u64,
    },
    /// Revocations and revoked leaves that have ended were removed.
    RevocationsPruned {
        /// How many revocations.
        revocations: u64,
        /// How many leaves.
        leaves: u64,
        /// Whether more are waiting for another command.
        more: bool,
    },
    /// The authority is to be replaced.
    AuthorityMarked {
        /// Root or token key.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
    },
    /// The authority is marked as published or confirmed, from now on or already.
    AuthorityPublished {
        /// Root or token key.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
        /// Whether it was said of every known peer.
        confirmed: bool,
    },
    /// The head of the audit log is known to everybody.
    AuditAnchored {
        /// Whose.
        member: MemberNumber,
        /// The last log index that its records derive from.
        index: u64,
    },
    /// The state is that of another cluster now.
    Restored {
        /// The number of its one member.
        member: MemberNumber,
        /// The sequence number of its bundle.
        sequence: u64,
        /// How many issuing certificates were revoked.
        revoked: u64,
    },
    /// The relationship was made or changed, or is what it was to be already.
    RelationshipSet {
        /// With which trust domain.
        trust_domain: TrustDomain,
        /// Its revision now.
        revision: u64,
    },
    /// The relationship has ended.
    RelationshipDeleted {
        /// With which trust domain.
        trust_domain: TrustDomain,
        /// Whether there was a foreign bundle, which was withdrawn with it.
        bundle: bool,
    },
    /// The foreign bundle is in place.
    ForeignBundleSet {
        /// Whose.
        trust_domain: TrustDomain,
        /// Its version now.
        version: u64,
        /// Whether its content is another than before.
        changed: bool,
    },
    /// The foreign bundle is deleted, or will be when the rest of the entries is.
    ForeignBundleDeleted {
        /// Whose.
        trust_domain: TrustDomain,
        /// How many entries were deleted or unlinked.
        entries: u64,
        /// Whether more are waiting for another command; the bundle goes with the last of them.
        more: bool,
    },
    /// The secret is in place.
    SecretPut {
        /// Its name.
        name: SecretName,
        /// Its revision now.
        revision: u64,
    },
    /// The secret is erased.
    SecretDeleted {
        /// Its name.
        name: SecretName,
    },
    /// The secret is sealed to all that were named.
    SecretSealed {
        /// Its name.
        name: SecretName,
        /// How many of them it was not sealed to before.
        added: u64,
    },
    /// The API key is there, with its newest secret.
    ApiKeySet {
        /// Its ID.
        id: ApiKeyId,
        /// When that secret ends.
        expires_at: UnixSeconds,
    },
    /// The API key is not taken any more.
    ApiKeyDeleted {
        /// The ID it had.
        id: ApiKeyId,
    },
    /// The access rule or the settings are as wanted.
    AccessSet {
        /// The revision now; 0 when the rule was taken away.
        revision: u64,
    },
    /// The ACME settings are set.
    AcmeSet {
        /// Their revision now.
        revision: u64,
    },
    /// The domain's certificate, order or failure is noted.
    WebDomainChanged {
        /// The DNS name.
        domain: String,
    },
    /// The OpenID Connect discovery provider is set.
    OidcSet {
        /// The revision of its settings now.
        revision: u64,
    },
}

/// An operation that was refused, and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of refusal; stable, for programs.
    pub code: RefusalCode,
    /// Why, for people; at most [`REFUSAL_MESSAGE_LIMIT`] bytes. Members of mixed versions may word it differently, so it
    /// decides nothing and enters no hash.
    pub message: String,
}

impl Refusal {
    /// Makes a refusal, its message cut at [`REFUSAL_MESSAGE_LIMIT`].
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > REFUSAL_MESSAGE_LIMIT {
            message.truncate(message.floor_char_boundary(REFUSAL_MESSAGE_LIMIT));
        }
        Self { code, message }
    }

    /// A field or value that breaks a rule, whatever the state.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Invalid, message)
    }

    /// What the operation is about does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::NotFound, message)
    }

    /// The state does not allow it now.
    pub(crate) fn wrong_state(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::WrongState, message)
    }
}

/// Why an operation was refused. The numbers are stored and never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum RefusalCode {
    /// The authority has not been founded.
    NotFounded = 1,
    /// The authority has been founded before.
    AlreadyFounded = 2,
    /// The entry, authority or member is not known.
    NotFound = 3,
    /// The ID or name is taken.
    AlreadyExists = 4,
    /// A value breaks a rule.
    Invalid = 5,
    /// The state of the thing does not allow it: a transition that the life cycle does not have.
    WrongState = 6,
    /// Somebody else changed it since it was read.
    Conflict = 7,
    /// A named limit of the state is reached.
    LimitReached = 8,
    /// The command is a repeat, or came so late that it may be one, and its outcome is no longer kept. It was not
    /// carried out this time; whether it was before is to be read from the state.
    OutcomeForgotten = 9,
}

impl RefusalCode {
    /// Every code, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::NotFounded,
        Self::AlreadyFounded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Invalid,
        Self::WrongState,
        Self::Conflict,
        Self::LimitReached,
        Self::OutcomeForgotten,
    ];

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The code that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }
}
