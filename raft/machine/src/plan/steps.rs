//! What is to be done next.

use std::collections::BTreeSet;

use quorate_proto_identity::MemberNumber;

use super::automatic::role_step;
use super::view::PlanView;
use crate::authority::{AuthorityKind, AuthorityState, Recipient, Sealed};
use crate::command::Operation;
use crate::members::{Member, MemberRole, MemberStatus};

/// One step towards what is wanted. Each is done, and its command applied, before the plan is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A change of voters stands half way, because the leader that began it is gone: change to these voters.
    SettleVoters {
        /// The newer of the two sets.
        voters: BTreeSet<MemberNumber>,
    },
    /// Seal every key that the leader can open to the recovery key, where it is not yet.
    SealRecovery,
    /// Seal every token key in use, and every secret, to the member, where it is not yet. A newcomer gets them before its first issuing
    /// certificate, so that a node that is ready signs tokens too.
    SealTokens {
        /// To whom.
        member: MemberNumber,
    },
    /// Let the member follow the log.
    AddLearner {
        /// Whom.
        member: MemberNumber,
    },
    /// Seal every root key that the leader can open to the member, where it is not yet.
    SealRoots {
        /// To whom.
        member: MemberNumber,
    },
    /// Make the learner a voter.
    AddVoter {
        /// Whom.
        member: MemberNumber,
    },
    /// Hand the leadership over: this leader is not to be a voter any longer, or cannot open the keys in use.
    TransferLeadership {
        /// The leader.
        from: MemberNumber,
        /// A voter that is there, has the log, and can open keys that are needed.
        to: MemberNumber,
    },
    /// Make the voter a learner.
    DemoteVoter {
        /// Whom.
        member: MemberNumber,
    },
    /// Erase the member's seals of root keys.
    StripRootSeals {
        /// Whose.
        member: MemberNumber,
    },
    /// Take the learner out of the Raft group.
    DropFromRaft {
        /// Whom.
        member: MemberNumber,
    },
    /// End the removal of a member that is out of the Raft group.
    CompleteRemoval {
        /// Whose.
        member: MemberNumber,
    },
    /// Give a member another role, to fit the plan.
    SetRole {
        /// Whom.
        member: MemberNumber,
        /// The role.
        role: MemberRole,
    },
}

impl Step {
    /// The operation that is all of this step, when it is one.
    #[must_use]
    pub const fn operation(&self) -> Option<Operation> {
        match *self {
            Self::StripRootSeals { member } => Some(Operation::StripSeals { number: member }),
            Self::CompleteRemoval { member } => Some(Operation::CompleteRemoval { number: member }),
            Self::SetRole { member, role } => Some(Operation::SetMemberRole { number: member, role, pinned: false }),
            Self::SettleVoters { .. }
            | Self::SealRecovery
            | Self::SealTokens { .. }
            | Self::AddLearner { .. }
            | Self::SealRoots { .. }
            | Self::AddVoter { .. }
            | Self::TransferLeadership { .. }
            | Self::DemoteVoter { .. }
            | Self::DropFromRaft { .. } => None,
        }
    }

    /// Whether it changes who votes, or who leads.
    #[must_use]
    pub const fn changes_voters(&self) -> bool {
        matches!(
            self,
            Self::SettleVoters { .. }
                | Self::AddVoter { .. }
                | Self::TransferLeadership { .. }
                | Self::DemoteVoter { .. }
        )
    }
}

/// What can be done now, in the order in which it is to be done (design section 3, sealing; section 4, membership).
/// At most one of the steps changes voters. Nothing is left to do, or nothing can be done as things stand, when there is
/// no step.
///
/// The orders are kept because each step is offered only when the one before it can be seen in the view:
///
/// - *admission*: token keys are sealed to the newcomer, it becomes a learner;
/// - *promotion*: root keys are sealed to it, then it becomes a voter;
/// - *demotion*: it becomes a learner, then its seals of root keys are erased;
/// - *removal*: it becomes a learner, it leaves the group, then its seals are erased and its record is closed.
///
/// So the leader may be gone after any step, and the next one goes on from there.
#[must_use]
pub fn next_steps(view: &PlanView<'_>) -> Vec<Step> {
    if view.state.cluster().is_none() || view.voters.is_empty() {
        return Vec::new();
    }
    let mut steps = Vec::new();
    if view.is_between() {
        steps.push(Step::SettleVoters { voters: view.voters_now() });
    }
    seal_in_use(view, &mut steps);
    let role = role_step(view).filter(|_| !view.is_between());
    if !view.is_between() {
        let joined = view.state.members().filter(|member| member.record.status.is_admitted() && member.has_joined());
        let outside = joined.filter(|member| !view.is_in_group(member.number));
        steps.extend(outside.map(|member| Step::AddLearner { member: member.number }));
        steps.extend(voter_step(view, role.as_ref()));
    }
    strip_and_drop(view, &mut steps);
    steps.extend(role);
    steps
}

/// Seals that are missing: of token keys to every member, of root keys to every voter, of both to the recovery key. Some
/// are, when a key was prepared while a member came, or when a leader died between two seals.
fn seal_in_use(view: &PlanView<'_>, steps: &mut Vec<Step>) {
    let state = view.state;
    if let Some(key) = state.recovery_key() {
        let recipient = Recipient::RecoveryKey(key.id.clone());
        if lacks_roots(view, &recipient) || lacks_tokens(view, &recipient) {
            steps.push(Step::SealRecovery);
        }
    }
    for member in state.members().filter(|member| member.is_sealable()) {
        let recipient = Recipient::Member(member.number);
        if lacks_tokens(view, &recipient) {
            steps.push(Step::SealTokens { member: member.number });
        }
        if member.may_open_roots() && view.votes(member.number) && lacks_roots(view, &recipient) {
            steps.push(Step::SealRoots { member: member.number });
        }
    }
}

/// The next step of a promotion or a demotion, if there is one that is safe now.
fn voter_step(view: &PlanView<'_>, role: Option<&Step>) -> Option<Step> {
    let wanted = view.wanted_voters();
    let promotion = |member: &&Member| promotion(view, member);
    if let Some(step) = wanted.iter().find_map(|member| promotion(member).filter(|step| !step.changes_voters())) {
        return Some(step);
    }
    if let Some(to) = better_leader(view) {
        return Some(Step::TransferLeadership { from: view.leader, to });
    }
    // Whoever is dead or not to be trusted goes first; whoever leaves in good order waits for who takes its place.
    let urgent = |number: &MemberNumber| view.is_dead(*number) || is_compromised(view, *number);
    let unwanted: Vec<MemberNumber> = unwanted_voters(view);
    let demotion = |number: MemberNumber| demotion(view, number);
    if let Some(step) = unwanted.iter().copied().filter(urgent).find_map(demotion) {
        return Some(step);
    }
    if let Some(step) = wanted.iter().find_map(promotion) {
        return Some(step);
    }
    if matches!(role, Some(Step::SetRole { role: MemberRole::Voter, .. })) {
        return None;
    }
    unwanted.into_iter().find_map(demotion)
}

/// Voters of the group that are not to be voters, by their records or because they have none.
fn unwanted_voters(view: &PlanView<'_>) -> Vec<MemberNumber> {
    let wanted: BTreeSet<MemberNumber> = view.wanted_voters().into_iter().map(|member| member.number).collect();
    view.voters_now().difference(&wanted).copied().collect()
}

fn is_compromised(view: &PlanView<'_>, number: MemberNumber) -> bool {
    view.state.member(number).is_some_and(|member| member.record.status.is_compromised())
}

/// The next step of making a learner a voter: the root keys that sign, or are about to, are sealed to it before it can be
/// elected.
fn promotion(view: &PlanView<'_>, member: &Member) -> Option<Step> {
    if !is_promotable(view, member) {
        return None;
    }
    let number = member.number;
    let recipient = Recipient::Member(number);
    if lacks_roots(view, &recipient) {
        return Some(Step::SealRoots { member: number });
    }
    can_lead(view, number).then_some(Step::AddVoter { member: number })
}

/// Whether a member that is to be a voter is a learner that is there and has the log, and the group would have its quorum
/// with it.
fn is_promotable(view: &PlanView<'_>, member: &Member) -> bool {
    let number = member.number;
    let mut voters = view.voters_now();
    member.may_open_roots()
        && voters.insert(number)
        && view.learners.contains(&number)
        && !view.votes(number)
        && view.is_caught_up(number)
        && view.has_quorum(&voters)
}

/// The next step of making a voter a learner, if the others have a quorum without it and can sign.
fn demotion(view: &PlanView<'_>, number: MemberNumber) -> Option<Step> {
    let mut voters = view.voters_now();
    voters.remove(&number);
    let successor = successor(view, number).filter(|_| view.has_quorum(&voters))?;
    if number == view.leader {
        return Some(Step::TransferLeadership { from: number, to: successor });
    }
    Some(Step::DemoteVoter { member: number })
}

/// A voter that could lead instead of this one: it is there, has the log, and can open the keys that sign. One that is
/// to go itself comes last.
fn successor(view: &PlanView<'_>, number: MemberNumber) -> Option<MemberNumber> {
    let able = |voter: &MemberNumber| *voter != number && view.is_caught_up(*voter) && can_lead(view, *voter);
    let stays = |voter: &MemberNumber| view.state.member(*voter).is_some_and(Member::may_open_roots);
    view.voters_now().into_iter().filter(able).min_by_key(|voter| (!stays(voter), *voter))
}

/// Whether a member could do a leader's work: every root and token key that signs, or is about to, is sealed to it, so
/// that it can sign, and can seal to others.
fn can_lead(view: &PlanView<'_>, number: MemberNumber) -> bool {
    let recipient = Recipient::Member(number);
    usable_keys(view).into_iter().all(|(_, sealed)| sealed.part_for(&recipient).is_some())
}

/// The keys that sign or are about to. A prepared one that no member can open will never sign, and another makes its way
/// (`apply` lets it).
fn usable_keys<'a>(view: &PlanView<'a>) -> Vec<(AuthorityKind, &'a Sealed)> {
    let state = view.state;
    let is_usable = |authority: AuthorityState, sealed: Option<&Sealed>| match authority {
        AuthorityState::Active => true,
        AuthorityState::Prepared => state.is_openable(sealed),
        AuthorityState::Old | AuthorityState::Tainted | AuthorityState::Revoked => false,
    };
    let roots = state.x509_authorities().map(|root| (AuthorityKind::X509, root.state, root.sealed.as_ref()));
    let keys = state.jwt_authorities().map(|key| (AuthorityKind::Jwt, key.state, key.sealed.as_ref()));
    roots
        .chain(keys)
        .filter(|(_, authority, sealed)| is_usable(*authority, *sealed))
        .filter_map(|(kind, _, sealed)| Some((kind, sealed?)))
        .collect()
}

/// Who is to lead instead of a leader that cannot open all keys: a voter that can, or one that can open a key which
/// somebody waits for. Each such change of leader leads to a seal that was missing, so there is an end to them.
fn better_leader(view: &PlanView<'_>) -> Option<MemberNumber> {
    let leader = view.leader;
    if can_lead(view, leader) {
        return None;
    }
    let keys = usable_keys(view);
    let opens = |member: MemberNumber, sealed: &Sealed| sealed.part_for(&Recipient::Member(member)).is_some();
    let waits = |kind: AuthorityKind, sealed: &Sealed| {
        let waits_for_root =
            |member: &Member| member.may_open_roots() && (view.votes(member.number) || is_promotable(view, member));
        view.state.members().any(|member| {
            let may = match kind {
                AuthorityKind::X509 => waits_for_root(member),
                AuthorityKind::Jwt => member.is_sealable(),
            };
            may && !opens(member.number, sealed)
        })
    };
    let helps = |voter: &MemberNumber| {
        *voter != leader
            && view.is_caught_up(*voter)
            && keys.iter().any(|(kind, sealed)| !opens(leader, sealed) && opens(*voter, sealed) && waits(*kind, sealed))
    };
    successor(view, leader).or_else(|| view.voters_now().into_iter().find(helps))
}

/// Seals that are not to be there any more, and members that are not to be in the group: after the membership.
fn strip_and_drop(view: &PlanView<'_>, steps: &mut Vec<Step>) {
    for member in view.state.members().filter(|member| !view.votes(member.number)) {
        let number = member.number;
        match member.record.status {
            MemberStatus::Admitted => {
                let recipient = Recipient::Member(number);
                let mut roots = view.state.x509_authorities().filter_map(|root| root.sealed.as_ref());
                let has_seals = !member.may_open_roots() && roots.any(|sealed| sealed.part_for(&recipient).is_some());
                if has_seals && view.state.check_root_strippable(number).is_ok() {
                    steps.push(Step::StripRootSeals { member: number });
                }
            }
            MemberStatus::Leaving | MemberStatus::LeavingCompromised
                if !view.is_in_group(number) && view.state.check_strippable(number).is_ok() =>
            {
                steps.push(Step::CompleteRemoval { member: number });
            }
            MemberStatus::Leaving
            | MemberStatus::LeavingCompromised
            | MemberStatus::Removed
            | MemberStatus::Compromised => {}
        }
    }
    if view.is_between() {
        return;
    }
    let has_gone =
        |number: &MemberNumber| view.state.member(*number).is_none_or(|member| !member.record.status.is_admitted());
    let dropped = view.learners.iter().filter(|number| !view.votes(**number) && has_gone(number));
    steps.extend(dropped.map(|number| Step::DropFromRaft { member: *number }));
}

/// Whether a root key that the leader can open is not sealed to this recipient.
fn lacks_roots(view: &PlanView<'_>, recipient: &Recipient) -> bool {
    let own = Recipient::Member(view.leader);
    let openable = |sealed: &&Sealed| sealed.part_for(&own).is_some();
    let roots = view.state.x509_authorities().filter_map(|root| root.sealed.as_ref());
    roots.filter(openable).any(|sealed| sealed.part_for(recipient).is_none())
}

/// Whether a token key or secret that the leader can open is not sealed to this recipient.
fn lacks_tokens(view: &PlanView<'_>, recipient: &Recipient) -> bool {
    let own = Recipient::Member(view.leader);
    let openable = |sealed: &&Sealed| sealed.part_for(&own).is_some();
    let keys = view.state.jwt_authorities().filter_map(|key| key.sealed.as_ref());
    let secrets = view.state.secrets().map(|secret| &secret.sealed);
    keys.chain(secrets).filter(openable).any(|sealed| sealed.part_for(recipient).is_none())
}
