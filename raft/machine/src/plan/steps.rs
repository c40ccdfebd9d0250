//! What is to be done next.

use std::collections::BTreeSet;

use quorate_proto_identity::MemberNumber;

use super::automatic::role_step;
use super::view::PlanView;
use crate::authority::{AuthorityState, Recipient};
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
    /// Seal every token key in use to the member, where it is not yet. A newcomer gets them before its first issuing
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
    /// Hand the leadership to another voter: this leader is not to be a voter any longer.
    TransferLeadership {
        /// The leader.
        from: MemberNumber,
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
    // Whoever is dead or not to be trusted goes first; whoever leaves in good order waits for who takes its place.
    let urgent = |number: &MemberNumber| view.is_dead(*number) || is_compromised(view, *number);
    let unwanted: Vec<MemberNumber> = unwanted_voters(view);
    let demotion = |number: MemberNumber| demotion(view, number);
    if let Some(step) = unwanted.iter().copied().filter(urgent).find_map(demotion) {
        return Some(step);
    }
    if let Some(step) = view.wanted_voters().into_iter().find_map(|member| promotion(view, member)) {
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
    let number = member.number;
    if view.votes(number) || !view.learners.contains(&number) || !view.is_caught_up(number) || !member.is_sealable() {
        return None;
    }
    let mut voters = view.voters_now();
    voters.insert(number);
    if !view.has_quorum(&voters) {
        return None;
    }
    let recipient = Recipient::Member(number);
    if lacks_roots(view, &recipient) {
        return Some(Step::SealRoots { member: number });
    }
    can_lead(view, number).then_some(Step::AddVoter { member: number })
}

/// The next step of making a voter a learner, if the others have a quorum without it and can sign.
fn demotion(view: &PlanView<'_>, number: MemberNumber) -> Option<Step> {
    let mut voters = view.voters_now();
    voters.remove(&number);
    let able = |voter: &MemberNumber| view.is_caught_up(*voter) && can_lead(view, *voter);
    let others_able = voters.iter().any(able);
    if !view.has_quorum(&voters) || !others_able {
        return None;
    }
    if number == view.leader {
        return Some(Step::TransferLeadership { from: number });
    }
    Some(Step::DemoteVoter { member: number })
}

/// Whether a member could sign as the leader: every root key that signs, or is about to, is sealed to it.
fn can_lead(view: &PlanView<'_>, number: MemberNumber) -> bool {
    let recipient = Recipient::Member(number);
    let signs = |state| matches!(state, AuthorityState::Prepared | AuthorityState::Active);
    view.state
        .x509_authorities()
        .filter(|root| signs(root.state))
        .all(|root| root.sealed.as_ref().is_some_and(|sealed| sealed.part_for(&recipient).is_some()))
}

/// Seals that are not to be there any more, and members that are not to be in the group: after the membership.
fn strip_and_drop(view: &PlanView<'_>, steps: &mut Vec<Step>) {
    for member in view.state.members().filter(|member| !view.votes(member.number)) {
        let number = member.number;
        match member.record.status {
            MemberStatus::Admitted => {
                let recipient = Recipient::Member(number);
                let mut roots = view.state.x509_authorities().filter_map(|root| root.sealed.as_ref());
                if !member.may_open_roots() && roots.any(|sealed| sealed.part_for(&recipient).is_some()) {
                    steps.push(Step::StripRootSeals { member: number });
                }
            }
            MemberStatus::Leaving | MemberStatus::LeavingCompromised if !view.is_in_group(number) => {
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
    let openable = |sealed: &&crate::authority::Sealed| sealed.part_for(&own).is_some();
    let roots = view.state.x509_authorities().filter_map(|root| root.sealed.as_ref());
    roots.filter(openable).any(|sealed| sealed.part_for(recipient).is_none())
}

/// Whether a token key that the leader can open is not sealed to this recipient.
fn lacks_tokens(view: &PlanView<'_>, recipient: &Recipient) -> bool {
    let own = Recipient::Member(view.leader);
    let openable = |sealed: &&crate::authority::Sealed| sealed.part_for(&own).is_some();
    let keys = view.state.jwt_authorities().filter_map(|key| key.sealed.as_ref());
    keys.filter(openable).any(|sealed| sealed.part_for(recipient).is_none())
}
