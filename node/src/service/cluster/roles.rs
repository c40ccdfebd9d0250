//! Voter or learner: the wish is one entry in the log; the leader's actors do the rest, and this tells how far they are.

use quorate_actors::Membership;
use quorate_proto_api::cluster::{MemberRole as WireRole, Progress, SetMemberRoleRequest};
use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::RaftMembers;
use quorate_raft_machine::{MemberRole, Operation, State};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::ClusterService;
use super::change::{Stand, Steps, Subject, counted, dry_run, follow, title};
use crate::service::writes::at_log_index;

/// Sets the role that a member is to have, and tells the steps until it has it.
pub(super) async fn set(
    service: &ClusterService,
    request: Request<SetMemberRoleRequest>,
) -> Result<Response<ReceiverStream<Result<Progress, Status>>>, Status> {
    service.ready_to_change(&request).await?;
    let role = match request.get_ref().role() {
        WireRole::Voter => MemberRole::Voter,
        WireRole::Learner => MemberRole::Learner,
        WireRole::Unspecified => return Err(Status::invalid_argument("role: give voter or learner")),
    };
    let subject = service.subject(&request.get_ref().name)?;
    if !subject.member.record.status.is_admitted() {
        return Err(Status::failed_precondition(format!("{} is on its way out of the cluster", subject.title())));
    }
    let (will, warnings) = announced(service, &subject, role);
    if request.get_ref().dry_run {
        return Ok(dry_run(service, will, warnings).await);
    }
    let number = subject.number();
    let membership = service.membership()?;
    let (_done, log_index) = service.change(&request, Operation::SetMemberRole { number, role, pinned: true }).await?;
    let (mut steps, stream) = Steps::new();
    let service = service.clone();
    tokio::spawn(async move {
        steps.will(will, warnings).await;
        if let Some(done) = follow(&service, &mut steps, |service| stand(service, &membership, number, role)).await {
            steps.done(done, Vec::new(), log_index).await;
        }
    });
    Ok(at_log_index(stream, Some(log_index)))
}

/// What will be done, and what somebody should know before.
fn announced(service: &ClusterService, subject: &Subject, role: MemberRole) -> (Vec<String>, Vec<String>) {
    let (title, plan) = (subject.title(), service.reads.applied().read(State::plan));
    let votes = subject.raft.is_voter(subject.number().get());
    let voters = voters(&subject.raft);
    let (will, after) = match role {
        MemberRole::Voter if votes => (format!("{title} is a voter already; it is noted that it stays one."), voters),
        MemberRole::Voter => (
            format!("{title} will be a voter: the root keys are sealed to it, then it is given a vote."),
            voters.saturating_add(1),
        ),
        MemberRole::Learner if !votes => (format!("{title} is no voter; it is noted that it stays a learner."), voters),
        MemberRole::Learner => (
            format!(
                "{title} will be a learner: it loses its vote, then what is sealed of the root keys to it is erased."
            ),
            voters.saturating_sub(1),
        ),
    };
    let mut warnings = Vec::new();
    if role == MemberRole::Learner && service.consensus().leader() == Some(subject.number()) {
        warnings.push("It leads: leadership is handed over first.".to_owned());
    }
    if after != voters && after.is_multiple_of(2) {
        warnings.push(format!(
            "An even number of voters, {after}, bears the loss of no more of them than one voter fewer would."
        ));
    }
    if plan.automatic && after != usize::try_from(plan.voters).unwrap_or(usize::MAX) {
        warnings.push(format!(
            "The plan wants {}; this choice holds against it until the role is set again, and the plan fills up with \
             other members.",
            counted(usize::try_from(plan.voters).unwrap_or(usize::MAX), "voter")
        ));
    }
    (vec![will], warnings)
}

/// How many voters there are by the newest membership.
pub(super) fn voters(raft: &RaftMembers) -> usize {
    raft.voters.last().map_or(0, std::collections::BTreeSet::len)
}

fn stand(service: &ClusterService, membership: &Membership, number: MemberNumber, role: MemberRole) -> Stand {
    let otherwise = service.reads.applied().read(|state| match state.member(number) {
        Some(member) if member.record.status.is_admitted() && member.record.role == role => None,
        Some(member) => Some(format!("somebody else decided otherwise about {} meanwhile", title(member))),
        None => Some(format!("member {number} has gone")),
    });
    match otherwise {
        Some(text) => Stand::Over(Status::aborted(text)),
        None => Stand::of(membership.progress(role.into(), number)),
    }
}
