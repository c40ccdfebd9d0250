//! Members: the nodes of the cluster, as the replicated state knows them.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto_identity::{MemberNumber, NodeName};

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
}

/// What is known of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDraft {
    /// The node's name: last segment of its SPIFFE ID. Only one member that is not removed has it.
    pub name: NodeName,
    /// Public half of the node's identity key, to which peers pin their connections. Never changes.
    pub identity_key: Bytes,
    /// Public key to which secrets for this node are sealed. Never changes.
    pub sealing_key: Bytes,
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
    /// What it does in the Raft group.
    pub role: MemberRole,
    /// Whether it belongs to the cluster.
    pub status: MemberStatus,
}

/// What a member does in the Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum MemberRole {
    /// Takes part in elections and quorums; root keys are sealed to it.
    Voter = 1,
    /// Follows the log, reads and signs.
    Learner = 2,
}

impl MemberRole {
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
    /// It did, and left in good order. Its number and record stay, so that neither is used again.
    Removed = 2,
    /// It did, and was thrown out because its keys may be in wrong hands.
    Compromised = 3,
}

impl MemberStatus {
    /// The status that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Admitted, Self::Removed, Self::Compromised].into_iter().find(|status| *status as u32 == number)
    }
}
