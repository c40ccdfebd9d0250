//! Members: the nodes of the cluster, as the replicated state knows them.
//!
//! ```text
//!   invitation, or a place in the founding list
//!        |  AdmitMember: number given, directory and keys bound
//!        v
//!     Admitted ---- RemoveMember ----> Leaving, LeavingCompromised ---- CompleteRemoval ----> Removed, Compromised
//!     issuing certificates             they are revoked; Raft's group lets it go              stripped to name and key
//! ```
//!
//! The record says what is wanted: which role the member is to have, that it is to go. What is, the membership of the
//! Raft group says. The leader brings the second after the first ([`plan`](crate::plan)).

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto_identity::{MemberNumber, NodeName};

use crate::invitation::SecretHash;

/// Most members that have gone and are remembered by name and key. It is enough for years of replacing nodes, and what
/// one is remembered by is about 150 bytes. Beyond it the one with the lowest number is forgotten: its number is never
/// given again all the same, and its key could only come back by an invitation that an operator makes.
pub const GONE_MEMBERS_LIMIT: usize = 4_096;

/// How many bytes tell one data directory from another.
pub const INCARNATION_BYTES: usize = 16;

/// What tells one data directory from another: a random number that a node writes when it first starts in it. The same
/// key with another one means that a disk was lost, or restored from an old copy, and with it the vote and the log that
/// this member promised to keep (FLT-18).
pub type Incarnation = [u8; INCARNATION_BYTES];

/// Most members that are not removed. A group of one log with every node as voter or learner is built for hundreds
/// (design section 8 turns to edge agents beyond about 50 hosts).
pub const MEMBERS_LIMIT: usize = 1_000;

/// Most labels of a member; each is a node selector.
pub const LABELS_PER_MEMBER: usize = 64;

/// Most addresses of a member.
pub const ADDRESSES_PER_MEMBER: usize = 16;

/// Longest region, zone, label key, label value or build text of a member, in bytes.
pub const MEMBER_TEXT_LIMIT: usize = 255;

/// Longest address of a member: a DNS name of 253 bytes, a colon and a port.
pub const ADDRESS_LIMIT: usize = 259;

/// Most bytes of a member's public key. Ours have 44 (Ed25519); later kinds (ML-DSA, RSA) fit.
pub const MEMBER_KEY_LIMIT: usize = 4_096;

/// A member, and the number that `apply` gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Given in `apply`, never given again.
    pub number: MemberNumber,
    /// How often the record was changed since admission.
    pub revision: u64,
    /// What is known of it.
    pub record: MemberDraft,
    /// SHA-256 of the secret that admitted it, so that a newcomer that asks again gets the same answer. None for a member
    /// that came by the founding list, and for one that has gone.
    pub invitation: Option<SecretHash>,
}

impl Member {
    /// Whether its node has made itself known: by joining, or by founding the cluster. A member of the founding list
    /// whose node was never there has not.
    #[must_use]
    pub const fn has_joined(&self) -> bool {
        self.record.incarnation.is_some()
    }

    /// Whether secrets may be sealed to it: it is admitted, and its sealing key is known.
    #[must_use]
    pub fn is_sealable(&self) -> bool {
        self.record.status.is_admitted() && !self.record.sealing_key.is_empty()
    }

    /// Whether root keys may be sealed to it: it is to be a voter (design section 3, sealing).
    #[must_use]
    pub fn may_open_roots(&self) -> bool {
        self.is_sealable() && self.record.role == MemberRole::Voter
    }
}

/// What is known of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDraft {
    /// The node's name: last segment of its SPIFFE ID. Only one member that has not gone has it.
    pub name: NodeName,
    /// Public half of the node's identity key, to which peers pin their connections. Never changes.
    pub identity_key: Bytes,
    /// Public key to which secrets for this node are sealed. Never changes once it is known; empty for a member of the
    /// founding list until it joins.
    pub sealing_key: Bytes,
    /// Which data directory the node has; none until it joins. Never changes (FLT-18).
    pub incarnation: Option<Incarnation>,
    /// Where it stands, coarsely; empty when not told.
    pub region: String,
    /// Where it stands, finely; empty when not told.
    pub zone: String,
    /// What else tells it apart.
    pub labels: BTreeMap<String, String>,
    /// Names and ports at which peers reach it, in order of preference.
    pub addresses: Vec<String>,
    /// Highest version of commands that it can apply.
    pub version: u32,
    /// Version of its program, for people.
    pub build: String,
    /// What it is to do in the Raft group; what it does, the group's own membership says.
    pub role: MemberRole,
    /// Whether an operator chose the role, so that the plan leaves it alone: a learner is never promoted by itself, a
    /// voter never demoted to balance regions or counts. A voter that is dead is replaced all the same.
    pub role_pinned: bool,
    /// Whether it belongs to the cluster.
    pub status: MemberStatus,
    /// What it serves to others than our workloads.
    pub serves: MemberServices,
}

/// Longest URL of a service that a member announces, in bytes.
pub const SERVICE_URL_LIMIT: usize = quorate_proto_identity::endpoint_url::ENDPOINT_URL_LIMIT;

/// What a member serves to others than our workloads, as its configuration says: each with the URL at which it is to be
/// reached, or the address that it listens on, for people and for discovery. None: it does not serve it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberServices {
    /// The standard's bundle endpoint.
    pub bundle_endpoint: Option<String>,
    /// The Federation API.
    pub federation_api: Option<String>,
    /// OIDC discovery.
    pub oidc: Option<String>,
}

/// What a member is to do in the Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum MemberRole {
    /// Takes part in elections and quorums; root keys are sealed to it.
    Voter = 1,
    /// Follows the log, reads and signs.
    Learner = 2,
}

impl MemberRole {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
        }
    }

    /// The role that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Voter, Self::Learner].into_iter().find(|role| *role as u32 == number)
    }
}

/// Whether a member belongs to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum MemberStatus {
    /// It does.
    Admitted = 1,
    /// It did, and left in good order. Its number, name and key stay, so that they are not used again.
    Removed = 2,
    /// It did, and was thrown out because its keys may be in wrong hands.
    Compromised = 3,
    /// It is to go: it signs no more, and leaves the Raft group before it counts as removed.
    Leaving = 4,
    /// As [`MemberStatus::Leaving`], because its keys may be in wrong hands.
    LeavingCompromised = 5,
}

impl MemberStatus {
    /// Every status, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Admitted, Self::Removed, Self::Compromised, Self::Leaving, Self::LeavingCompromised];

    /// Whether the member belongs to the cluster: it may sign, and secrets are sealed to it.
    #[must_use]
    pub const fn is_admitted(self) -> bool {
        matches!(self, Self::Admitted)
    }

    /// Whether the member is on its way out. Until it has gone it is still a peer of the Raft group.
    #[must_use]
    pub const fn is_leaving(self) -> bool {
        matches!(self, Self::Leaving | Self::LeavingCompromised)
    }

    /// Whether the member has gone: peers refuse its key, and nothing is sealed to it.
    #[must_use]
    pub const fn has_gone(self) -> bool {
        matches!(self, Self::Removed | Self::Compromised)
    }

    /// Whether the member's keys may be in wrong hands.
    #[must_use]
    pub const fn is_compromised(self) -> bool {
        matches!(self, Self::Compromised | Self::LeavingCompromised)
    }

    /// What becomes of a leaving member when its removal is complete; every other status stays.
    #[must_use]
    pub const fn gone(self) -> Self {
        match self {
            Self::Leaving => Self::Removed,
            Self::LeavingCompromised => Self::Compromised,
            Self::Admitted | Self::Removed | Self::Compromised => self,
        }
    }

    /// The status that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| *status as u32 == number)
    }

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Removed => "removed",
            Self::Compromised => "compromised",
            Self::Leaving => "leaving",
            Self::LeavingCompromised => "leaving, compromised",
        }
    }
}
