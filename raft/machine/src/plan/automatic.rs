//! Roles that no operator chose: as many voters as the plan wants, spread over regions, dead ones replaced.
//!
//! One role changes at a time, and the next only when the Raft group has followed. Candidates are learners that are
//! there and have the log; a voter that leaves in good order stays until another has taken its place.

use std::collections::BTreeMap;

use quorate_proto_identity::MemberNumber;

use super::steps::Step;
use super::view::PlanView;
use crate::members::{Member, MemberRole};

/// The next role that is to change by itself, if any.
pub(super) fn role_step(view: &PlanView<'_>) -> Option<Step> {
    let plan = view.plan();
    let wanted = view.wanted_voters();
    // A change that is under way is waited for, unless who is waited for is dead.
    let under_way = wanted.iter().any(|member| !view.votes(member.number) && !view.is_dead(member.number));
    if !plan.automatic || wanted.is_empty() {
        return None;
    }
    let target = usize::try_from(plan.voters).unwrap_or(usize::MAX);
    let surplus = wanted.len() > target;
    if surplus {
        return surplus_voter(view, &wanted, under_way).map(|member| set(member, MemberRole::Learner));
    }
    if under_way {
        return None;
    }
    let candidates = candidates(view);
    let alive: Vec<&Member> = wanted.iter().copied().filter(|member| !view.is_dead(member.number)).collect();
    let missing = target.saturating_sub(wanted.len());
    // From an odd number two at a time: the one between is worth less than either.
    let step_size = if wanted.len().is_multiple_of(2) { 1 } else { missing.min(2) };
    let grows = missing > 0 && candidates.len() >= step_size;
    let replaces = missing == 0 && alive.len() < wanted.len();
    let newcomer = if grows || replaces {
        best_candidate(&candidates, &alive)
    } else if missing == 0 {
        better_spread(&candidates, &wanted)
    } else {
        None
    };
    newcomer.filter(|member| is_safe_with(view, member.number)).map(|member| set(member, MemberRole::Voter))
}

const fn set(member: &Member, role: MemberRole) -> Step {
    Step::SetRole { member: member.number, role }
}

/// Learners that may become voters.
fn candidates<'a>(view: &PlanView<'a>) -> Vec<&'a Member> {
    let state = view.state;
    let may = |member: &&Member| {
        let record = &member.record;
        member.is_sealable()
            && record.role == MemberRole::Learner
            && !record.role_pinned
            && view.learners.contains(&member.number)
            && view.is_caught_up(member.number)
    };
    state.members().filter(may).collect()
}

/// How many of these members each region has.
fn regions<'a>(members: &[&'a Member]) -> BTreeMap<&'a str, usize> {
    let mut regions = BTreeMap::new();
    for member in members {
        let count: &mut usize = regions.entry(member.record.region.as_str()).or_default();
        *count = count.saturating_add(1);
    }
    regions
}

fn crowd(regions: &BTreeMap<&str, usize>, member: &Member) -> usize {
    regions.get(member.record.region.as_str()).copied().unwrap_or_default()
}

/// The candidate whose region has the fewest voters, the oldest member of those.
fn best_candidate<'a>(candidates: &[&'a Member], voters: &[&Member]) -> Option<&'a Member> {
    let regions = regions(voters);
    candidates.iter().copied().min_by_key(|member| (crowd(&regions, member), member.number))
}

/// A candidate that would spread the voters better than one of them does. Of a member whose region nobody told, nothing
/// is known of that.
fn better_spread<'a>(candidates: &[&'a Member], voters: &[&Member]) -> Option<&'a Member> {
    let regions = regions(voters);
    let is_told = |member: &&Member| !member.record.region.is_empty();
    let movable = voters.iter().filter(|member| is_told(member) && !member.record.role_pinned);
    let most = movable.map(|member| crowd(&regions, member)).max()?;
    let told: Vec<&Member> = candidates.iter().copied().filter(is_told).collect();
    best_candidate(&told, voters).filter(|member| most >= crowd(&regions, member).saturating_add(2))
}

/// The voter that is one too many: a dead one, or the one of the most crowded region that no operator chose; the leader
/// last, because its going moves the leadership.
fn surplus_voter<'a>(view: &PlanView<'a>, wanted: &[&'a Member], under_way: bool) -> Option<&'a Member> {
    let regions = regions(wanted);
    let may = |member: &&&Member| {
        let is_dead = view.is_dead(member.number);
        (is_dead || (!member.record.role_pinned && !under_way))
            && is_safe_without(view, member.number)
            && view.state.check_voter_left(member).is_ok()
    };
    wanted
        .iter()
        .filter(may)
        .max_by_key(|member| {
            let number = member.number;
            (view.is_dead(number), !view.votes(number), crowd(&regions, member), number != view.leader, number)
        })
        .copied()
}

/// Whether the group would have its quorum with one voter more.
fn is_safe_with(view: &PlanView<'_>, number: MemberNumber) -> bool {
    let mut voters = view.voters_now();
    voters.insert(number);
    view.has_quorum(&voters)
}

/// Whether the group would have its quorum with one voter less.
fn is_safe_without(view: &PlanView<'_>, number: MemberNumber) -> bool {
    let mut voters = view.voters_now();
    voters.remove(&number);
    view.has_quorum(&voters)
}
