//! JWT authorities: the keys that sign tokens.

use bytes::Bytes;
use quorate_proto_identity::{AuthorityId, UnixSeconds, Validity};

use super::{AuthorityState, AuthorityTimes, Sealed, gone_at};

/// A token key, shared by all nodes: a token has no chain, so its signer must be in the bundle itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAuthority {
    /// The `kid` of its tokens.
    pub id: AuthorityId,
    /// Its public key: subjectPublicKeyInfo, DER.
    pub public_key: Bytes,
    /// When it was made, and until when its tokens may be valid.
    pub validity: Validity,
    /// Where it stands in its life.
    pub state: AuthorityState,
    /// When it came there.
    pub times: AuthorityTimes,
    /// Its private key, as long as it is in use.
    pub sealed: Option<Sealed>,
}

impl JwtAuthority {
    /// Whether it has ended and can be removed. One that is active stays until another takes its place.
    pub(crate) fn is_prunable(&self, now: UnixSeconds) -> bool {
        self.state != AuthorityState::Active && now >= gone_at(&self.validity)
    }
}
