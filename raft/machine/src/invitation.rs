//! Invitations: how a node that is not in the cluster comes into it, once.
//!
//! An invitation is made by an operator and carries a random secret. The state holds only the secret's SHA-256, bound to
//! a name and an end; the secret itself is in the operator's hands and is sent by the newcomer (ATK-07). Admission takes
//! the invitation out of the state in the same step in which the member comes in, so that two newcomers with one secret
//! cannot both be let in, whichever nodes they ask and whenever (ATK-06, INV-10).

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use quorate_proto_identity::{NodeName, UnixSeconds};

use crate::members::{Incarnation, MemberRole};

/// Most invitations that wait for their newcomers, expired ones not counted: as many as there may be members.
pub const INVITATIONS_LIMIT: usize = crate::members::MEMBERS_LIMIT;

/// Longest life of an invitation, in seconds: 7 days. The default of the command line is 10 minutes; whoever ships a
/// machine with an invitation on it has a week, and after that a leaked one is worth nothing.
pub const INVITATION_LIFETIME_LIMIT: i64 = 7 * 24 * 3_600;

/// How many bytes the hash of a secret has.
pub const SECRET_HASH_BYTES: usize = 32;

/// SHA-256 of the secret of an invitation. The secret has 256 random bits, so nothing slower is needed.
pub type SecretHash = [u8; SECRET_HASH_BYTES];

/// An invitation as an operator wants it.
#[derive(Clone, PartialEq, Eq)]
pub struct NewInvitation {
    /// SHA-256 of its secret.
    pub secret_hash: SecretHash,
    /// The only name that it admits.
    pub name: NodeName,
    /// The role that the member is to have, and keeps until an operator changes it; none leaves it to the plan.
    pub role: Option<MemberRole>,
    /// Where the node stands, coarsely; empty when not told.
    pub region: String,
    /// Where the node stands, finely; empty when not told.
    pub zone: String,
    /// What else tells it apart.
    pub labels: BTreeMap<String, String>,
    /// When it can be used no more, in the log's time.
    pub expires_at: UnixSeconds,
}

/// An invitation that waits for its newcomer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// What was wanted.
    pub invitation: NewInvitation,
    /// When it was made, in the log's time.
    pub created_at: UnixSeconds,
}

impl Invitation {
    /// Whether it can no longer be used at this instant.
    #[must_use]
    pub fn has_expired(&self, now: UnixSeconds) -> bool {
        now >= self.invitation.expires_at
    }
}

/// A newcomer, as the member that it asked saw it. The member has checked that the newcomer holds the identity key.
#[derive(Clone, PartialEq, Eq)]
pub struct Admission {
    /// SHA-256 of the secret that it sent; none when the founding list is to know it.
    pub secret_hash: Option<SecretHash>,
    /// Which data directory it has.
    pub incarnation: Incarnation,
    /// The name that it is configured with.
    pub name: NodeName,
    /// The public key that it proved.
    pub identity_key: Bytes,
    /// The public key to which secrets for it are to be sealed.
    pub sealing_key: Bytes,
    /// Names and ports at which peers reach it, in order of preference.
    pub addresses: Vec<String>,
    /// Highest version of commands that it can apply.
    pub version: u32,
    /// Version of its program, for people.
    pub build: String,
}

impl fmt::Debug for NewInvitation {
    /// Leaves the hash out: it is no secret, but nobody is helped by having it in a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret_hash: _, name, role, region, zone, labels, expires_at } = self;
        formatter
            .debug_struct("NewInvitation")
            .field("name", name)
            .field("role", role)
            .field("region", region)
            .field("zone", zone)
            .field("labels", labels)
            .field("expires_at", expires_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Admission {
    /// Leaves the hash out, as [`NewInvitation`] does.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret_hash, incarnation, name, identity_key, sealing_key: _, addresses, version, build } = self;
        formatter
            .debug_struct("Admission")
            .field("invited", &secret_hash.is_some())
            .field("incarnation", &u128::from_be_bytes(*incarnation))
            .field("name", name)
            .field("identity_key_bytes", &identity_key.len())
            .field("addresses", addresses)
            .field("version", version)
            .field("build", build)
            .finish_non_exhaustive()
    }
}
