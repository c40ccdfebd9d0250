//! What authorities of every kind have in common. The rules of the life cycle read nothing else, so a further kind joins
//! them here and nowhere else.

use quorate_proto_identity::{AuthorityId, UnixSeconds, Validity};

use super::{AuthorityKind, AuthorityState, AuthorityTimes, Sealed, gone_at, root_gone_at};
use crate::state::State;

/// An authority of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityView {
    /// What it signs.
    pub kind: AuthorityKind,
    /// Which one it is.
    pub id: AuthorityId,
    /// Where it stands in its life.
    pub state: AuthorityState,
    /// From when to when it lives.
    pub validity: Validity,
    /// When it came to each state.
    pub times: AuthorityTimes,
    /// Whether any member can open its private half.
    pub is_openable: bool,
}

impl AuthorityView {
    /// Whether somebody may have its key, so that it is to be replaced at once, and to leave the bundle.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.times.suspected_at.is_some()
    }

    /// Whether another is to take its place without waiting for its time: it is suspect, or an operator wants it.
    #[must_use]
    pub const fn is_to_be_replaced(&self) -> bool {
        self.is_suspect() || self.times.replace_at.is_some()
    }

    /// Whether it may still begin to sign.
    #[must_use]
    pub fn is_usable(&self, now: UnixSeconds) -> bool {
        now <= self.validity.not_after() && self.is_openable
    }

    /// The first instant at which it can be removed.
    #[must_use]
    pub fn gone_at(&self) -> UnixSeconds {
        match self.kind {
            AuthorityKind::X509 => root_gone_at(&self.validity),
            AuthorityKind::Jwt => gone_at(&self.validity),
        }
    }
}

impl State {
    /// The authorities of a kind in every state that is kept, in the order of their IDs.
    #[must_use]
    pub fn authorities(&self, kind: AuthorityKind) -> Vec<AuthorityView> {
        let view = |id: &AuthorityId, state, validity, times, sealed: Option<&Sealed>| AuthorityView {
            kind,
            id: id.clone(),
            state,
            validity,
            times,
            is_openable: self.is_openable(sealed),
        };
        match kind {
            AuthorityKind::X509 => self
                .x509_authorities()
                .map(|root| view(&root.id, root.state, root.validity, root.times, root.sealed.as_ref()))
                .collect(),
            AuthorityKind::Jwt => self
                .jwt_authorities()
                .map(|key| view(&key.id, key.state, key.validity, key.times, key.sealed.as_ref()))
                .collect(),
        }
    }

    /// The authority of a kind with this ID.
    #[must_use]
    pub fn authority(&self, kind: AuthorityKind, id: &AuthorityId) -> Option<AuthorityView> {
        self.authorities(kind).into_iter().find(|authority| authority.id == *id)
    }

    /// The authority of a kind that signs; none before the founding.
    #[must_use]
    pub fn active_authority(&self, kind: AuthorityKind) -> Option<AuthorityView> {
        self.authorities(kind).into_iter().find(|authority| authority.state == AuthorityState::Active)
    }
}
