//! Past and coming steps in the life of authorities, for those who look.

use quorate_proto_identity::{AuthorityId, UnixSeconds};

use super::{AuthorityKind, AuthorityState, AuthorityView, activate_at, prepare_at, published_at_from};
use crate::state::State;

/// A step in the life of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Milestone {
    /// It entered the bundle, or its successor is to.
    Prepared,
    /// Every live member serves it to readers elsewhere.
    Published,
    /// Every known peer has it in force.
    Confirmed,
    /// It began to sign, or its successor is to.
    Activated,
    /// It signs no more.
    Retired,
    /// An operator wanted another in its place.
    Replaced,
    /// Somebody may have its key.
    Suspected,
    /// Everything under it is replaced.
    Tainted,
    /// It left the bundle before its end.
    Revoked,
    /// Its life ends.
    Ended,
    /// It can be removed.
    Pruned,
}

impl Milestone {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Published => "published",
            Self::Confirmed => "confirmed by peers",
            Self::Activated => "activated",
            Self::Retired => "old",
            Self::Replaced => "to be replaced",
            Self::Suspected => "suspected",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
            Self::Ended => "ends",
            Self::Pruned => "pruned",
        }
    }
}

/// When a step was taken, or falls due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineStep {
    /// When.
    pub at: UnixSeconds,
    /// What the authority signs.
    pub kind: AuthorityKind,
    /// Which authority; none for one that is still to be made.
    pub id: Option<AuthorityId>,
    /// Which step.
    pub milestone: Milestone,
    /// Whether it was taken. One that is not, and whose time is over, is due and has not come about.
    pub taken: bool,
}

/// Past and coming steps of all authorities that the state keeps, by their time.
#[must_use]
pub fn timeline(state: &State, now: UnixSeconds) -> Vec<TimelineStep> {
    let mut steps: Vec<TimelineStep> = Vec::new();
    for kind in AuthorityKind::ALL {
        let authorities = state.authorities(kind);
        for authority in &authorities {
            steps.extend(past(authority, now));
        }
        let active = authorities.iter().find(|authority| authority.state == AuthorityState::Active);
        let prepared = authorities.iter().find(|authority| authority.state == AuthorityState::Prepared);
        let coming = |at, id, milestone| TimelineStep { at, kind, id, milestone, taken: false };
        if let Some(active) = active {
            let in_time = |at: UnixSeconds| if active.is_to_be_replaced() { now } else { at.max(now) };
            if prepared.is_none() {
                steps.push(coming(in_time(prepare_at(&active.validity)), None, Milestone::Prepared));
            }
            // While no mark is there, as if it came now.
            let published = prepared.map_or(now, |prepared| published_at_from(state, prepared, now));
            let at = in_time(activate_at(&active.validity)).max(published);
            steps.push(coming(at, prepared.map(|prepared| prepared.id.clone()), Milestone::Activated));
        }
    }
    steps.sort_by(|a, b| (a.at, a.kind, a.milestone, &a.id).cmp(&(b.at, b.kind, b.milestone, &b.id)));
    steps
}

/// What an authority has behind it, and its end.
fn past(authority: &AuthorityView, now: UnixSeconds) -> impl Iterator<Item = TimelineStep> {
    let times = authority.times;
    let (kind, id) = (authority.kind, authority.id.clone());
    let end = authority.validity.not_after();
    let is_kept = authority.state.in_bundle();
    let ends = is_kept.then_some([(end, Milestone::Ended, now > end), (authority.gone_at(), Milestone::Pruned, false)]);
    let taken = [
        (Some(times.prepared_at), Milestone::Prepared),
        (times.published_at, Milestone::Published),
        (times.confirmed_at, Milestone::Confirmed),
        (times.activated_at, Milestone::Activated),
        (times.retired_at, Milestone::Retired),
        (times.replace_at, Milestone::Replaced),
        (times.suspected_at, Milestone::Suspected),
        (times.tainted_at, Milestone::Tainted),
        (times.revoked_at, Milestone::Revoked),
    ];
    let taken = taken.into_iter().filter_map(|(at, milestone)| Some((at?, milestone, true)));
    taken.chain(ends.into_iter().flatten()).map(move |(at, milestone, taken)| TimelineStep {
        at,
        kind,
        id: Some(id.clone()),
        milestone,
        taken,
    })
}
