//! Commands: every change of the replicated state, with the proposer's time and random values inside.
//!
//! A command travels in an envelope that says who sent it (the origin, which makes a repeat harmless), on whose behalf
//! (the caller, for the audit record) and when (stamped by the leader's batcher). Everything that `apply` needs is in
//! it: identifiers, key material and certificates are made by the node that took the call.

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, ClusterId, EndpointUrl, EntryId, MemberNumber, NodeName, SerialNumber, SpiffeId, TrustDomain,
    UnixMillis,
};

use crate::access::{AccessRule, ApiKeyId, ApiKeyRotation, NewApiKey};
use crate::audit::AUDIT_HASH_BYTES;
use crate::authority::{AuthorityKind, Sealed, SealedFor};
use crate::entry::{EntryChange, EntryDraft};
use crate::federation::{ForeignDeletion, NewForeignBundle, NewRelationship, RelationshipChange, SecretName};
use crate::invitation::{Admission, NewInvitation};
use crate::members::{MemberDraft, MemberRole, MemberServices};
use crate::plan::MembershipPlan;
use crate::policy::Policy;
use crate::restore::Restore;
use crate::revocation::{NewCrl, NewRevocation, RevocationReason};
use crate::versions;
use crate::web::{AcmeSettings, NewWebCertificate, OidcSettings, WebChallenge};

/// Most operations in one command. A batch call of the registration API carries at most a few hundred entries (SPIRE's
/// own page size is 500); a bound twice as high keeps one command from holding up `apply` for long.
pub const OPERATIONS_PER_COMMAND: usize = 1_000;

/// Most commands in one batch, as the leader's batcher makes them (design section 4).
pub const COMMANDS_PER_BATCH: usize = 512;

/// Most bytes of one stored command: a foreign bundle of up to 1 MiB, and as much again for its envelope and for what
/// later versions add. It is also what one AppendEntries may carry (design section 4).
pub const COMMAND_BYTES_LIMIT: usize = 2 * 1024 * 1024;

/// Longest address text of a caller: an IPv6 address with port and scope, or the path of a unix socket, fits well.
pub const CALLER_ADDRESS_LIMIT: usize = 256;

/// One command: operations in the envelope of design section 4.
///
/// The format version and the least version that can apply it are not fields: encoding writes them, decoding checks
/// them, and so no value of this type can disagree with its own envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Which process sent it, and as its how manieth command.
    pub origin: Origin,
    /// On whose behalf, for the audit record.
    pub caller: Caller,
    /// When: stamped by the leader's batcher. `apply` uses the later of this and the last command's time.
    pub time: UnixMillis,
    /// What to do, one after the other; each succeeds or is refused by itself.
    pub operations: Vec<Operation>,
}

/// Where a command comes from. The same origin and sequence means the same command, sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The member number of the node that sent it; 0 only for a node that has no number yet.
    pub node: u64,
    /// Which start of that node's process; a value that no other start of the node has.
    pub boot: u64,
    /// The how manieth command of that start, from 1.
    pub sequence: u64,
    /// Every sequence up to this one has been answered and will not be sent again, so its outcome may be forgotten.
    pub acknowledged: u64,
}

/// Who asked for a command, for the audit record. It never decides anything in `apply`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub identity: CallerIdentity,
    /// From where: a socket path or a network address, at most [`CALLER_ADDRESS_LIMIT`] bytes; may be empty.
    pub address: String,
}

impl Caller {
    /// The node itself, acting on its own: rotation, pruning, renewal.
    #[must_use]
    pub const fn node() -> Self {
        Self { identity: CallerIdentity::Node, address: String::new() }
    }
}

/// Who asked for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerIdentity {
    /// The node that sent the command, on its own account.
    Node,
    /// A process on the node's host, as the kernel named it on a unix socket.
    Unix {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its process number at the time of the call.
        pid: u32,
    },
    /// A peer that proved a SPIFFE ID with its certificate.
    Spiffe(SpiffeId),
}

/// Commands that one entry of the Raft log carries, in order. One that is refused never fails its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandBatch {
    /// At most [`COMMANDS_PER_BATCH`].
    pub commands: Vec<Command>,
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Founds the authority, once.
    Found(Box<Found>),
    /// Registers an entry, unless a similar one is there.
    CreateEntry(Box<EntryDraft>),
    /// Changes some fields of an entry.
    UpdateEntry {
        /// Which entry.
        id: EntryId,
        /// What to change; a field that is not given stays.
        change: Box<EntryChange>,
    },
    /// Removes an entry.
    DeleteEntry {
        /// Which entry.
        id: EntryId,
        /// Whether what was issued for it is revoked in the same step, and why.
        revoke: Option<RevocationReason>,
    },
    /// Removes entries whose `expires_at` has passed at the command's time, at most
    /// [`PRUNED_ENTRIES_PER_OPERATION`](crate::entry::PRUNED_ENTRIES_PER_OPERATION) of them.
    PruneExpiredEntries,
    /// Replaces the trust domain's policy.
    SetPolicy {
        /// The new policy.
        policy: Policy,
        /// The revision that the new policy was made from: another one in the state means that somebody else was
        /// faster, and the change is refused. 0 stands for whichever it is.
        expected_revision: u64,
    },
    /// Adds a root to the bundle that does not sign yet.
    PrepareX509Authority(Box<NewX509Authority>),
    /// Lets a prepared root sign; the one that signed until now becomes old.
    ActivateX509Authority {
        /// The prepared root.
        id: AuthorityId,
        /// An issuing certificate under it for each live member, so that all switch in one command.
        issuing_certificates: Vec<NewIssuingCertificate>,
    },
    /// Adds a token key to the bundle that does not sign yet.
    PrepareJwtAuthority(Box<NewJwtAuthority>),
    /// Lets a prepared token key sign; the one that signed until now becomes old.
    ActivateJwtAuthority {
        /// The prepared key.
        id: AuthorityId,
    },
    /// Marks an old root as tainted: everything under it is to be replaced at once.
    TaintX509Authority {
        /// The old root.
        id: AuthorityId,
    },
    /// Marks an old token key as tainted.
    TaintJwtAuthority {
        /// The old key.
        id: AuthorityId,
    },
    /// Takes a tainted root out of the bundle.
    RevokeX509Authority {
        /// The tainted root.
        id: AuthorityId,
    },
    /// Takes a tainted token key out of the bundle.
    RevokeJwtAuthority {
        /// The tainted key.
        id: AuthorityId,
    },
    /// Removes authorities and issuing certificates whose end, and a grace time, have passed at the command's time.
    PruneAuthorities,
    /// Records an issuing certificate, and the first CRL of its key: from here on its member is live.
    RecordIssuingCertificate(Box<NewIssuingCertificate>),
    /// Revokes issuing certificates of a member, which fences it: it stops signing when it applies this.
    RevokeIssuingCertificate {
        /// Whose.
        member: MemberNumber,
        /// Just the one with this serial number, or all of them.
        serial: Option<SerialNumber>,
    },
    /// Admits a member of the founding list, or changes what is known of one: where it stands, how it is reached, its
    /// role. Whether it belongs to the cluster, and which keys and directory it has, other operations say.
    SetMember {
        /// Which member; none admits a new one, whose number is given in `apply`.
        number: Option<MemberNumber>,
        /// What is to be known of it from now on.
        member: Box<MemberDraft>,
    },
    /// Makes an invitation, which admits one newcomer of one name, once.
    CreateInvitation(Box<NewInvitation>),
    /// Takes an invitation back.
    DeleteInvitation {
        /// The name that it was for.
        name: NodeName,
    },
    /// Lets a newcomer in. The same secret, key and directory get the same answer, however often they ask.
    AdmitMember(Box<Admission>),
    /// A member says how it is reached and what it can do.
    AnnounceMember {
        /// Which member.
        number: MemberNumber,
        /// Names and ports at which peers reach it, in order of preference.
        addresses: Vec<String>,
        /// Highest version of commands that it can apply.
        version: u32,
        /// Version of its program, for people.
        build: String,
        /// What it serves to others than our workloads.
        serves: MemberServices,
    },
    /// Says which role a member is to have. The Raft group follows.
    SetMemberRole {
        /// Which member.
        number: MemberNumber,
        /// The role.
        role: MemberRole,
        /// Whether an operator chose it (true), or the plan (false).
        pinned: bool,
    },
    /// Begins the removal of a member: it signs no more from here on. The Raft group follows.
    RemoveMember {
        /// Which member.
        number: MemberNumber,
        /// Whether its keys may be in wrong hands. It can be said later of one that was removed without.
        compromised: bool,
    },
    /// Ends the removal of a member that the Raft group has let go: nothing stays sealed to it.
    CompleteRemoval {
        /// Which member.
        number: MemberNumber,
    },
    /// Seals a root key to further recipients.
    SealX509Authority {
        /// Which root.
        id: AuthorityId,
        /// One part for each recipient, sealed in the suite of the others. A recipient that has one keeps it.
        parts: Vec<SealedFor>,
    },
    /// Seals a token key to further recipients.
    SealJwtAuthority {
        /// Which key.
        id: AuthorityId,
        /// As for a root.
        parts: Vec<SealedFor>,
    },
    /// Takes away the seals that a member may not have by its record: of roots if it is to be no voter, of everything
    /// if it has gone.
    StripSeals {
        /// Which member.
        number: MemberNumber,
    },
    /// Sets the recovery key, or takes it away. What was sealed to a former one is erased.
    SetRecoveryKey {
        /// The public key.
        public_key: Option<Bytes>,
    },
    /// Sets the plan of the membership.
    SetPlan(MembershipPlan),
    /// Raises the cluster's epoch, which shuts out every member that has not applied this (design section 4, lost
    /// quorum).
    RaiseEpoch,
    /// Switches on the behaviour of a version, when every admitted member can do it.
    RaiseVersion {
        /// The version.
        version: u32,
    },
    /// Sets the log's time, back too. Nothing else does; for when a clock was far ahead.
    ResetTime {
        /// The time from here on.
        time: UnixMillis,
    },
    /// Records a revocation: what it is about is banned and refused from here on, and CRLs are handed out (CRL-08). Each
    /// issuer puts what it signed into its CRL.
    Revoke(Box<NewRevocation>),
    /// Lifts the ban and the token rule of a revocation. What is in a CRL stays there.
    RemoveRevocation {
        /// Its number.
        number: u64,
    },
    /// Records the next CRL of an issuing key or root.
    RecordCrl(Box<NewCrl>),
    /// Lets a prepared issuing key sign (CRL-07).
    ActivateIssuingKey {
        /// Which.
        key: AuthorityId,
    },
    /// Revokes every certificate of issuing keys, and replaces the CRLs of the roots that signed them, in one step
    /// (CRL-06).
    RevokeIssuingKeys {
        /// Which, at most [`KEYS_PER_REVOCATION`](crate::revocation::KEYS_PER_REVOCATION).
        keys: Vec<AuthorityId>,
        /// Why.
        reason: RevocationReason,
        /// The next CRL of each root in the bundle that signed one of the certificates.
        root_crls: Vec<NewCrl>,
    },
    /// Removes revocations and revoked leaves that have ended, at most
    /// [`PRUNED_ENTRIES_PER_OPERATION`](crate::entry::PRUNED_ENTRIES_PER_OPERATION) of them.
    PruneRevocations,
    /// Says that an authority that signs, or is about to, is to be replaced: whoever leads goes on with it.
    MarkAuthority {
        /// Root or token key.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
        /// Whether somebody may have its key, so that it is tainted and revoked too.
        compromised: bool,
    },
    /// Says that every live member has applied an authority that is prepared, and so serves it to readers of the bundle
    /// elsewhere; or that every known peer has it in force.
    MarkPublished {
        /// Root or token key.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
        /// Whether it is in force at every known peer.
        confirmed: bool,
    },
    /// Tells the head of a member's audit log to everybody.
    AnchorAudit {
        /// Whose log.
        member: MemberNumber,
        /// How many records it has.
        records: u64,
        /// The last log index that its records derive from.
        index: u64,
        /// The hash of its last record.
        hash: [u8; AUDIT_HASH_BYTES],
    },
    /// Makes another cluster of the state in a backup. The first command of a restored cluster, and never one of a running
    /// one.
    Restore(Box<Restore>),
    /// Makes a relationship with a foreign trust domain, and puts the bundle to begin with in place (FED-16, FED-34).
    CreateRelationship(Box<NewRelationship>),
    /// Changes a relationship; what was fetched by its earlier form is not taken any more.
    UpdateRelationship {
        /// With which trust domain.
        trust_domain: TrustDomain,
        /// What to change; a field that is not given stays.
        change: Box<RelationshipChange>,
        /// The revision that the change was made from: another one means that somebody else was faster, and it is
        /// refused. 0 stands for whichever it is.
        expected_revision: u64,
    },
    /// Ends a relationship: its foreign bundle is withdrawn, and its secrets are erased (FED-48).
    DeleteRelationship {
        /// With which trust domain.
        trust_domain: TrustDomain,
    },
    /// Puts the bundle of a foreign trust domain in place, whole (BND-06).
    SetForeignBundle(Box<NewForeignBundle>),
    /// Deletes the bundle of a foreign trust domain; again, as long as the answer says that more entries wait.
    DeleteForeignBundle {
        /// Whose.
        trust_domain: TrustDomain,
        /// What becomes of entries that federate with it.
        mode: ForeignDeletion,
    },
    /// Puts a secret under its name, in place of the one that is there.
    PutSecret {
        /// Its name.
        name: SecretName,
        /// The secret, sealed to those who may open it.
        sealed: Sealed,
    },
    /// Erases a secret.
    DeleteSecret {
        /// Its name.
        name: SecretName,
    },
    /// Seals a secret to further recipients.
    SealSecret {
        /// Its name.
        name: SecretName,
        /// The revision that was opened for it: where another was put meanwhile, the parts hold what it was before, and
        /// are refused.
        revision: u64,
        /// One part for each recipient, sealed in the suite of the others. A recipient that has one keeps it.
        parts: Vec<SealedFor>,
    },
    /// Makes an API key, by which a peer may ask for our bundle.
    CreateApiKey(Box<NewApiKey>),
    /// Gives an API key another secret.
    RotateApiKey(Box<ApiKeyRotation>),
    /// Deletes an API key.
    DeleteApiKey {
        /// Which.
        id: ApiKeyId,
    },
    /// Sets who may ask for our bundle, or takes such a rule away.
    SetAccessRule {
        /// For which peer; none is for everybody without a rule of its own.
        peer: Option<TrustDomain>,
        /// The rule; none takes it away.
        rule: Option<Box<AccessRule>>,
        /// The revision that the change was made from: another one in the state means that somebody else was faster, and
        /// the change is refused. 0 stands for whichever it is.
        expected_revision: u64,
    },
    /// Settles whether the bundle endpoint answers everybody.
    SetAccessSettings {
        /// Whether it does.
        anonymous_endpoint: bool,
    },
    /// Sets which web authority certificates are had from by ACME, and for which domains.
    SetAcme {
        /// All settings; none switches it off.
        settings: Option<Box<AcmeSettings>>,
        /// The revision that they were made from; 0 stands for whichever it is.
        expected_revision: u64,
    },
    /// Wants another certificate for a domain.
    RequestWebCertificate {
        /// The DNS name.
        domain: String,
    },
    /// Notes an order that was placed for a domain.
    BeginWebOrder {
        /// The DNS name.
        domain: String,
        /// Where the authority keeps it.
        url: String,
        /// The authority's directory.
        directory: EndpointUrl,
        /// The secret with the key of the certificate to be.
        key: SecretName,
    },
    /// Notes what proves control over a domain.
    SetWebChallenge {
        /// The DNS name.
        domain: String,
        /// The order's URL.
        order: String,
        /// What every member shows from here on.
        challenge: Box<WebChallenge>,
    },
    /// Takes a web certificate into use, which ends its order.
    RecordWebCertificate(Box<NewWebCertificate>),
    /// Gives an order up, or notes that none could be placed.
    FailWebOrder {
        /// The DNS name.
        domain: String,
        /// The order's URL; none if none could be placed.
        order: Option<String>,
        /// Why, in words.
        reason: String,
    },
    /// Sets the OpenID Connect discovery provider.
    SetOidc {
        /// All settings; none switches it off.
        settings: Option<Box<OidcSettings>>,
        /// The revision that they were made from; 0 stands for whichever it is.
        expected_revision: u64,
    },
}

impl Operation {
    /// Whether this takes rights away: it is acknowledged only when every connected member has applied it (design
    /// section 2, property 5). An update of an entry, a member or a foreign bundle may, so it counts.
    #[must_use]
    pub const fn is_withdrawal(&self) -> bool {
        match self {
            Self::UpdateEntry { .. }
            | Self::DeleteEntry { .. }
            | Self::TaintX509Authority { .. }
            | Self::TaintJwtAuthority { .. }
            | Self::RevokeX509Authority { .. }
            | Self::RevokeJwtAuthority { .. }
            | Self::RevokeIssuingCertificate { .. }
            | Self::SetMember { .. }
            | Self::RemoveMember { .. }
            | Self::CompleteRemoval { .. }
            | Self::Revoke(_)
            | Self::RevokeIssuingKeys { .. }
            | Self::DeleteRelationship { .. }
            | Self::SetForeignBundle(_)
            | Self::DeleteForeignBundle { .. }
            // No rights go with these. But whichever member is asked has to show the challenge, and the issuer's document.
            | Self::SetWebChallenge { .. }
            | Self::SetOidc { .. }
            | Self::RotateApiKey(_)
            | Self::DeleteApiKey { .. }
            | Self::SetAccessRule { .. }
            | Self::SetAccessSettings { .. } => true,
            Self::Found(_)
            | Self::CreateEntry(_)
            | Self::PruneExpiredEntries
            | Self::SetPolicy { .. }
            | Self::PrepareX509Authority(_)
            | Self::ActivateX509Authority { .. }
            | Self::PrepareJwtAuthority(_)
            | Self::ActivateJwtAuthority { .. }
            | Self::PruneAuthorities
            | Self::RecordIssuingCertificate(_)
            | Self::CreateInvitation(_)
            | Self::DeleteInvitation { .. }
            | Self::AdmitMember(_)
            | Self::AnnounceMember { .. }
            | Self::SetMemberRole { .. }
            | Self::SealX509Authority { .. }
            | Self::SealJwtAuthority { .. }
            | Self::StripSeals { .. }
            | Self::SetRecoveryKey { .. }
            | Self::SetPlan(_)
            | Self::RaiseEpoch
            | Self::MarkPublished { .. }
            | Self::CreateRelationship(_)
            | Self::UpdateRelationship { .. }
            | Self::PutSecret { .. }
            | Self::DeleteSecret { .. }
            | Self::SealSecret { .. }
            | Self::SetAcme { .. }
            | Self::RequestWebCertificate { .. }
            | Self::BeginWebOrder { .. }
            | Self::RecordWebCertificate(_)
            | Self::FailWebOrder { .. }
            | Self::CreateApiKey(_)
            | Self::RaiseVersion { .. }
            | Self::ResetTime { .. }
            | Self::RemoveRevocation { .. }
            | Self::RecordCrl(_)
            | Self::ActivateIssuingKey { .. }
            | Self::PruneRevocations
            | Self::MarkAuthority { .. }
            | Self::AnchorAudit { .. }
            | Self::Restore(_) => false,
        }
    }
}

impl Command {
    /// Whether any of its operations takes rights away ([`Operation::is_withdrawal`]).
    #[must_use]
    pub fn is_withdrawal(&self) -> bool {
        self.operations.iter().any(Operation::is_withdrawal)
    }

    /// The least version of the program that can apply it, as its stored form says.
    #[must_use]
    pub fn min_version(&self) -> u32 {
        self.operations.iter().map(versions::min_version).max().unwrap_or(versions::FIRST)
    }
}

/// What founds an authority. The first member gets number 1, so both authorities are sealed to
/// `Recipient::Member(1)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// A random number that tells this cluster from every other, those of the same trust domain too.
    pub cluster_id: ClusterId,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The trust domain's policy.
    pub policy: Policy,
    /// The founding node.
    pub member: MemberDraft,
    /// The first root, which signs at once.
    pub x509_authority: NewX509Authority,
    /// The first token key, which signs at once.
    pub jwt_authority: NewJwtAuthority,
}

/// A root made by the leader, its private half sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewX509Authority {
    /// The self-signed certificate, DER.
    pub certificate: Bytes,
    /// The root's CRL, DER, signed by it.
    pub crl: Bytes,
    /// The private key, sealed to those who may open it.
    pub sealed: Sealed,
    /// The authority of its kind that was active when it was decided to make this one: it is refused when another has become
    /// active meanwhile, or what a deposed leader decided could add one more to what its successor has done. None for the
    /// first of a cluster, and for whoever takes it however things stand.
    pub succeeds: Option<AuthorityId>,
}

/// A token key made by the leader, its private half sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJwtAuthority {
    /// The `kid` of its tokens.
    pub id: AuthorityId,
    /// The public key: subjectPublicKeyInfo, DER.
    pub public_key: Bytes,
    /// When it was made, and until when its tokens may be valid.
    pub validity: quorate_proto_identity::Validity,
    /// The private key, sealed to those who may open it.
    pub sealed: Sealed,
    /// As with a root ([`NewX509Authority::succeeds`]).
    pub succeeds: Option<AuthorityId>,
}

/// An issuing certificate that the leader signed for a member's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIssuingCertificate {
    /// Whose key it is.
    pub member: MemberNumber,
    /// The certificate, DER.
    pub certificate: Bytes,
    /// The CRL of the certificate's key, DER, signed by that key. May be empty for a further certificate of a key that
    /// is recorded already (CRL-03).
    pub crl: Bytes,
    /// The start of the member's process that made the key: when a later start records one of its own, nobody signs CRLs
    /// for this one any more (CRL-06).
    pub boot: u64,
}
