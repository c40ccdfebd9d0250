//! What falls due when: computed from the state and a given instant, and nothing else.
//!
//! ```text
//!   active authority's life   |--|-------------------------------|---------|-------|
//!                    not before  made                       prepare_at  activate_at  not after
//!                    (backdated)                      half of it left, a sixth of it left,
//!                                                     at most 30 days  at most 7 days
//!
//!   to be replaced            marked ──> prepare ──> publish ──publication time──> activate
//!   suspect                                                                            └──> taint ──> revoke (each suspect)
//! ```
//!
//! Life counts from the making. The backdating comes on top of it, for verifiers whose clocks are behind; counted in, it
//! would have the successor of a root of seconds prepared before that root had signed anything.
//!
//! One that an operator wants replaced does not wait for its time. One that is suspect, because a member was compromised
//! or an operator says so, goes on to leave the bundle: what stands under it is replaced (taint), then it verifies nothing
//! any more (revoke). That begins when one signs that is not suspect, so that nothing is replaced twice.
//!
//! The same rules hold for every kind of authority. Only the leader acts on this. Since every step is refused by `apply`
//! when another has already made it, a change of leader at any instant neither skips nor repeats one; a new authority says
//! which one it succeeds, for that.

use quorate_proto_identity::{AuthorityId, UnixSeconds, Validity};

use super::gate::CLOCK_MARGIN;
use super::publication::{can_be_confirmed, lacks_mark, published_at};
use super::{AuthorityKind, AuthorityState, AuthorityView, BACKDATE};
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
    /// An authority is to be made and prepared.
    Prepare {
        /// What it signs.
        kind: AuthorityKind,
    },
    /// This prepared authority is to be marked as published, once every live member has applied it: from then on the
    /// readers of the bundle elsewhere have their time.
    Publish {
        /// What it signs.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
    },
    /// This prepared authority is to be marked as confirmed, once every known peer has it in force: the activation waits
    /// for nothing else.
    Confirm {
        /// What it signs.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
    },
    /// This prepared authority is to be activated, once the gate is open.
    Activate {
        /// What it signs.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
    },
    /// Everything under this old authority is to be replaced: somebody may have its key.
    Taint {
        /// What it signed.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
    },
    /// This tainted authority is to leave the bundle, once no stream depends on it.
    Revoke {
        /// What it signed.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
    },
    /// Authorities or issuing certificates have ended, by every clock that lets a member sign, and can go.
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
    for kind in AuthorityKind::ALL {
        let cycle = Cycle::of(state, kind, now);
        steps.extend(cycle.next_step(state, now));
        steps.extend(cycle.steps_of_suspects());
    }
    if state.has_prunable_authorities(now.minus(CLOCK_MARGIN)) {
        steps.push(Due::PruneAuthorities);
    }
    if state.next_entry_expiry().is_some_and(|expiry| expiry < now) {
        steps.push(Due::PruneExpiredEntries);
    }
    steps
}

/// The first instant after `now` at which [`due`] can answer more than it does at `now`, so that nothing needs to be
/// polled.
#[must_use]
pub fn next_due_at(state: &State, now: UnixSeconds) -> Option<UnixSeconds> {
    let authorities = AuthorityKind::ALL.into_iter().flat_map(|kind| state.authorities(kind)).flat_map(|authority| {
        let gone = authority.gone_at().plus(CLOCK_MARGIN);
        match authority.state {
            AuthorityState::Active => [prepare_at(&authority.validity), activate_at(&authority.validity)],
            // A prepared one that has itself expired no longer counts, and another one is made.
            AuthorityState::Prepared => {
                let end = authority.validity.not_after().plus(1);
                [end, published_at(state, &authority).unwrap_or(end)]
            }
            AuthorityState::Old | AuthorityState::Tainted | AuthorityState::Revoked => [gone, gone],
        }
    });
    let issuing = state.issuing_certificates().map(|issuing| gone_at(&issuing.validity).plus(CLOCK_MARGIN));
    let invitations = state.invitations().map(|invitation| invitation.invitation.expires_at.plus(CLOCK_MARGIN));
    let entries = state.next_entry_expiry().map(|expiry| expiry.plus(1));
    authorities.chain(issuing).chain(invitations).chain(entries).filter(|at| *at > now).min()
}

/// The authorities of a kind, as the next step of their life sees them.
struct Cycle {
    kind: AuthorityKind,
    active: Option<AuthorityView>,
    /// The one that may become active. One that can never be does not count, and another is made: it has itself expired
    /// (the cluster was off for long), or no member can open it.
    prepared: Option<AuthorityView>,
    /// Old and tainted ones whose key somebody may have.
    suspects: Vec<AuthorityView>,
}

impl Cycle {
    fn of(state: &State, kind: AuthorityKind, now: UnixSeconds) -> Self {
        let mut cycle = Self { kind, active: None, prepared: None, suspects: Vec::new() };
        for authority in state.authorities(kind) {
            match authority.state {
                AuthorityState::Active => cycle.active = Some(authority),
                AuthorityState::Prepared if authority.is_usable(now) => cycle.prepared = Some(authority),
                AuthorityState::Old | AuthorityState::Tainted if authority.is_suspect() => {
                    cycle.suspects.push(authority);
                }
                AuthorityState::Prepared | AuthorityState::Old | AuthorityState::Tainted | AuthorityState::Revoked => {}
            }
        }
        cycle
    }

    /// Prepare, publish, confirm or activate. A prepared one that is suspect is activated all the same, and then replaced: it is in the
    /// bundle already, and nothing leaves that without taint and revocation.
    fn next_step(&self, state: &State, now: UnixSeconds) -> Option<Due> {
        let Self { kind, active, prepared, .. } = self;
        let (prepare_due, activate_due, has_ended) = active.as_ref().map_or((true, true, true), |active| {
            let replace = active.is_to_be_replaced();
            let reached = |at| replace || now >= at;
            let validity = &active.validity;
            (reached(prepare_at(validity)), reached(activate_at(validity)), now > validity.not_after())
        });
        let Some(next) = prepared else {
            return prepare_due.then_some(Due::Prepare { kind: *kind });
        };
        let (kind, id) = (*kind, next.id.clone());
        let is_published = published_at(state, next).is_some_and(|published| now >= published);
        // Once nothing signs any more, nobody is spared by waiting for readers of the bundle.
        if activate_due && (has_ended || is_published) {
            Some(Due::Activate { kind, id })
        } else if lacks_mark(state, next) {
            // As soon as it is prepared: readers have their time while the former one goes on.
            Some(Due::Publish { kind, id })
        } else if activate_due && can_be_confirmed(state, next) {
            Some(Due::Confirm { kind, id })
        } else {
            None
        }
    }

    /// Taint and revoke, once what takes their place is no suspect itself.
    fn steps_of_suspects(&self) -> impl Iterator<Item = Due> + '_ {
        let begins = self.active.as_ref().is_some_and(|active| !active.is_suspect());
        self.suspects.iter().filter(move |_| begins).map(|suspect| {
            let (kind, id) = (self.kind, suspect.id.clone());
            if suspect.state == AuthorityState::Tainted { Due::Revoke { kind, id } } else { Due::Taint { kind, id } }
        })
    }
}
