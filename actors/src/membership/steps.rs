//! The steps of the membership: what is due as this leader sees it, and how each is taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::{Handle, MemberContact, MembershipChangeError, RaftMembers, TransferError};
use quorate_raft_machine::{AuthorityKind, MemberHealth, PlanView, Step, next_steps};
use tokio::time::Instant;

use crate::{
    authority::{AuthorityArguments, IssuingError, SealTo, confirm_office, propose, seal_lacking},
    metrics,
};

/// How long a change of the Raft group may take. A learner that is added need not have caught up for it.
const CHANGE_TIME_LIMIT: Duration = Duration::from_secs(10);

/// A member that is at most so many entries behind has caught up: under load some batches are always on their way.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// Why a step was not taken. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// Sealing or proposing failed, or this node does not lead.
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    /// The Raft group could not be changed.
    #[error("the Raft group could not be changed")]
    Group(#[from] MembershipChangeError),
    /// The leadership could not be handed over.
    #[error("the leadership could not be handed over")]
    Transfer(#[from] TransferError),
    /// The task ended without a word: a fault of the program, which the log tells of.
    #[error("the task that took the step was lost")]
    Lost,
}

/// Takes the steps that are due, in their order. Gives how many.
pub(super) async fn reconcile(arguments: &AuthorityArguments, leads_since: Instant) -> Result<usize, StepError> {
    // A round of the quorum is worth its while only when there is something to do.
    if wanted(arguments, leads_since).is_empty() {
        return Ok(0);
    }
    confirm_office(arguments).await?;
    let steps = wanted(arguments, leads_since);
    for step in &steps {
        let result = take(arguments, step).await;
        metrics::membership_step(name(step), if result.is_ok() { "done" } else { "failed" });
        result?;
        tracing::info!(
            target: "quorate::security",
            step = name(step), member = member(step).map(|member| member.get()),
            "a step of the membership was taken"
        );
    }
    Ok(steps.len())
}

/// What is to be done next, as this leader sees it.
fn wanted(arguments: &AuthorityArguments, leads_since: Instant) -> Vec<Step> {
    let handle = &arguments.handle;
    let Some(leader) = handle.member() else { return Vec::new() };
    let RaftMembers { voters, learners, .. } = handle.raft_members();
    let voters = voters.iter().map(members).collect();
    let health = health(handle, leads_since);
    handle.state().read(|state| next_steps(&PlanView { state, leader, voters, learners: members(&learners), health }))
}

/// How the members stand with this leader. Silence counts from the beginning of its term, because it cannot know what came
/// before.
fn health(handle: &Handle, leads_since: Instant) -> BTreeMap<MemberNumber, MemberHealth> {
    let now = Instant::now();
    let health = |contact: MemberContact| {
        let heard = contact.last_report.map_or(leads_since, |report| report.max(leads_since));
        // A new leader counts everybody as connected for a while. Only who has spoken to it is one to rely on: a quorum
        // with a member that is gone is none.
        let connected = contact.connected && contact.last_report.is_some_and(|report| report >= leads_since);
        let silent_for = if connected { Duration::ZERO } else { now.saturating_duration_since(heard) };
        let is_near = handle.caught_up(contact.number).is_some_and(|behind| behind <= CAUGHT_UP_ENTRIES);
        (contact.number, MemberHealth { connected, silent_for, caught_up: connected && is_near })
    };
    handle.members().into_iter().map(health).collect()
}

async fn take(arguments: &AuthorityArguments, step: &Step) -> Result<(), StepError> {
    let handle = &arguments.handle;
    let deadline = Instant::now() + CHANGE_TIME_LIMIT;
    if let Some(operation) = step.operation() {
        propose(arguments, operation).await?;
        return Ok(());
    }
    let newest = || handle.raft_members().voters.pop().unwrap_or_default();
    match step {
        Step::SealRecovery => {
            seal_lacking(arguments, AuthorityKind::X509, SealTo::Recovery).await?;
            seal_lacking(arguments, AuthorityKind::Jwt, SealTo::Recovery).await?;
        }
        Step::SealTokens { member } => {
            seal_lacking(arguments, AuthorityKind::Jwt, SealTo::Member(*member)).await?;
        }
        Step::SealRoots { member } => {
            seal_lacking(arguments, AuthorityKind::X509, SealTo::Member(*member)).await?;
        }
        Step::AddLearner { member } => handle.add_learner(*member, deadline).await?,
        Step::DropFromRaft { member } => handle.drop_from_raft(*member, deadline).await?,
        Step::AddVoter { member } => {
            let mut voters = newest();
            voters.insert(member.get());
            handle.change_voters(voters, deadline).await?;
        }
        Step::DemoteVoter { member } => {
            let mut voters = newest();
            voters.remove(&member.get());
            handle.change_voters(voters, deadline).await?;
        }
        Step::SettleVoters { voters } => {
            handle.change_voters(voters.iter().map(|voter| voter.get()).collect(), deadline).await?;
        }
        Step::TransferLeadership { from: _, to } => {
            handle.transfer_leadership(Some(*to), deadline).await?;
        }
        // Operations, proposed above.
        Step::StripRootSeals { .. } | Step::CompleteRemoval { .. } | Step::SetRole { .. } => {}
    }
    Ok(())
}

/// Whom a step is about.
fn member(step: &Step) -> Option<MemberNumber> {
    match step {
        Step::SealTokens { member }
        | Step::AddLearner { member }
        | Step::SealRoots { member }
        | Step::AddVoter { member }
        | Step::TransferLeadership { from: member, to: _ }
        | Step::DemoteVoter { member }
        | Step::StripRootSeals { member }
        | Step::DropFromRaft { member }
        | Step::CompleteRemoval { member }
        | Step::SetRole { member, role: _ } => Some(*member),
        Step::SettleVoters { voters: _ } | Step::SealRecovery => None,
    }
}

fn members(numbers: &BTreeSet<u64>) -> BTreeSet<MemberNumber> {
    numbers.iter().filter_map(|number| MemberNumber::new(*number)).collect()
}

fn name(step: &Step) -> &'static str {
    match step {
        Step::SettleVoters { .. } => "settle_voters",
        Step::SealRecovery => "seal_recovery",
        Step::SealTokens { .. } => "seal_tokens",
        Step::AddLearner { .. } => "add_learner",
        Step::SealRoots { .. } => "seal_roots",
        Step::AddVoter { .. } => "add_voter",
        Step::TransferLeadership { .. } => "transfer_leadership",
        Step::DemoteVoter { .. } => "demote_voter",
        Step::StripRootSeals { .. } => "strip_root_seals",
        Step::DropFromRaft { .. } => "drop_from_raft",
        Step::CompleteRemoval { .. } => "complete_removal",
        Step::SetRole { .. } => "set_role",
    }
}
