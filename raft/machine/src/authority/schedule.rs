//! What falls due when: computed from the state and a given instant, and nothing else.
//!
//! ```text
//!   active authority's life   |--|-------------------------------|---------|-------|
//!                    not before  made                       prepare_at  activate_at  not after
//!                    (backdated)                      half of it left, a sixth of it left,
//!                                                     at most 30 days  at most 7 days
//! ```
//!
//! Life counts from the making. The backdating comes on top of it, for verifiers whose clocks are behind; counted in, it
//! would have the successor of a root of seconds prepared before that root had signed anything. One that is suspect, because
//! a member was compromised while it signed, is replaced as soon as that can be: both steps are due at once.
//!
//! Only the leader acts on this. Since every step is refused by `apply` when another has already made it, a change of
//! leader at any instant neither skips nor repeats one.

use quorate_proto_identity::{AuthorityId, UnixSeconds, Validity};

use super::{AuthorityState, BACKDATE};
use crate::state::State;

/// Most of an authority's life that is left when its successor is prepared: 30 days.
const PREPARE_AT_MOST: i64 = 30 * 24 * 3_600;

/// Most of an authority's life that is left when its successor is activated: 7 days.
const ACTIVATE_AT_MOST: i64 = 7 * 24 * 3_600;

/// How long a token key is kept past its end, in seconds. A token may end with its key, and validators of tokens give
/// `exp` up to 60 s of leeway (our own do), so a bundle without the key would refuse what they are to accept. An issuing
/// certificate is kept as long, so that one that was revoked is still known to verifiers whose clocks are behind.
///
/// A root goes with the second after its own end: nothing under it outlives it (design section 2, property 3), and a chain
/// with an expired root verifies nowhere.
pub const EXPIRY_GRACE: i64 = 60;

/// A step that is due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A root is to be made and prepared.
    PrepareX509Authority,
    /// This prepared root is to be activated, once the gate is open.
    ActivateX509Authority {
        /// Which.
        id: AuthorityId,
    },
    /// A token key is to be made and prepared.
    PrepareJwtAuthority,
    /// This prepared token key is to be activated, once the gate is open.
    ActivateJwtAuthority {
        /// Which.
        id: AuthorityId,
    },
    /// Authorities or issuing certificates have ended and can go.
    PruneAuthorities,
    /// Entries have expired and can go.
    PruneExpiredEntries,
}

/// When the successor of an authority with this validity is to be prepared.
#[must_use]
pub fn prepare_at(validity: &Validity) -> UnixSeconds {
    let left = life(validity).wrapping_div(2).min(PREPARE_AT_MOST);
    validity.not_after().minus(left)
}

/// When the successor of an authority with this validity is to be activated.
#[must_use]
pub fn activate_at(validity: &Validity) -> UnixSeconds {
    let left = life(validity).wrapping_div(6).min(ACTIVATE_AT_MOST);
    validity.not_after().minus(left)
}

/// Seconds from the making of an authority to its end.
fn life(validity: &Validity) -> i64 {
    validity.seconds().saturating_sub(BACKDATE).max(0)
}

/// The first instant at which a root with this validity can be removed.
#[must_use]
pub fn root_gone_at(validity: &Validity) -> UnixSeconds {
    validity.not_after().plus(1)
}

/// The first instant at which a token key or an issuing certificate with this validity can be removed.
#[must_use]
pub fn gone_at(validity: &Validity) -> UnixSeconds {
    validity.not_after().plus(EXPIRY_GRACE).plus(1)
}

/// What is due at `now`, in the order in which it is to be done. Nothing is due before the authority is founded.
#[must_use]
pub fn due(state: &State, now: UnixSeconds) -> Vec<Due> {
    let mut steps = Vec::new();
    if state.cluster().is_none() {
        return steps;
    }
    let roots = state.x509_authorities().map(|root| Known {
        id: &root.id,
        state: root.state,
        validity: root.validity,
        is_suspect: root.times.suspected_at.is_some(),
        is_openable: state.is_openable(root.sealed.as_ref()),
    });
    match next_step(roots, now) {
        Step::Prepare => steps.push(Due::PrepareX509Authority),
        Step::Activate(id) => steps.push(Due::ActivateX509Authority { id }),
        Step::Wait => {}
    }
    let keys = state.jwt_authorities().map(|key| Known {
        id: &key.id,
        state: key.state,
        validity: key.validity,
        is_suspect: key.times.suspected_at.is_some(),
        is_openable: state.is_openable(key.sealed.as_ref()),
    });
    match next_step(keys, now) {
        Step::Prepare => steps.push(Due::PrepareJwtAuthority),
        Step::Activate(id) => steps.push(Due::ActivateJwtAuthority { id }),
        Step::Wait => {}
    }
    if state.has_prunable_authorities(now) {
        steps.push(Due::PruneAuthorities);
    }
    if state.next_entry_expiry().is_some_and(|expiry| expiry < now) {
        steps.push(Due::PruneExpiredEntries);
    }
    steps
}

enum Step {
    Prepare,
    Activate(AuthorityId),
    Wait,
}

/// What decides of an authority's next step.
struct Known<'a> {
    id: &'a AuthorityId,
    state: AuthorityState,
    validity: Validity,
    is_suspect: bool,
    is_openable: bool,
}

/// The next step of one kind of authority. A prepared one that can never be activated does not count, and another is made:
/// it has itself expired (the cluster was off for long), or no member can open it. One that is suspect is activated all the
/// same, and then replaced: it is in the bundle already, and nothing leaves that without taint and revocation.
fn next_step<'a>(authorities: impl Iterator<Item = Known<'a>>, now: UnixSeconds) -> Step {
    let mut active = None;
    let mut prepared = None;
    for known in authorities {
        match known.state {
            AuthorityState::Active => active = Some((known.validity, known.is_suspect)),
            AuthorityState::Prepared if now <= known.validity.not_after() && known.is_openable => {
                prepared = Some(known.id.clone());
            }
            AuthorityState::Prepared | AuthorityState::Old | AuthorityState::Tainted | AuthorityState::Revoked => {}
        }
    }
    let (prepare_due, activate_due) = active.map_or((true, true), |(validity, is_suspect)| {
        (is_suspect || now >= prepare_at(&validity), is_suspect || now >= activate_at(&validity))
    });
    match prepared {
        Some(id) if activate_due => Step::Activate(id),
        None if prepare_due => Step::Prepare,
        Some(_) | None => Step::Wait,
    }
}
