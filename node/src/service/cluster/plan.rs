//! The plan: how many voters are wanted, and what the leader does about it by itself.

use quorate_proto_api::cluster::{GetPlanRequest, GetPlanResponse, Plan as WirePlan, SetPlanRequest, SetPlanResponse};
use quorate_raft_machine::plan::VOTERS_LIMIT;
use quorate_raft_machine::{MembershipPlan, Operation, State};
use tonic::{Request, Response, Status};

use super::ClusterService;
use super::change::counted;
use crate::service::reads::{Consistency, at_applied_index, look};
use crate::service::writes::at_log_index;

/// Tells the plan.
pub(super) async fn get(
    service: &ClusterService,
    request: &Request<GetPlanRequest>,
) -> Result<Response<GetPlanResponse>, Status> {
    let (plan, applied) = look(service.reads.current(Consistency::of(request)?).await?, State::plan);
    Ok(at_applied_index(GetPlanResponse { plan: Some(to_wire(plan)) }, applied))
}

/// Changes the plan.
pub(super) async fn set(
    service: &ClusterService,
    request: Request<SetPlanRequest>,
) -> Result<Response<SetPlanResponse>, Status> {
    service.ready_to_change(&request).await?;
    let SetPlanRequest { voters, dead_voter_grace, automatic, dry_run } = *request.get_ref();
    let (before, members) = service
        .reads
        .applied()
        .read(|state| (state.plan(), state.members().filter(|member| member.record.status.is_admitted()).count()));
    let plan = MembershipPlan {
        voters: voters.unwrap_or(before.voters),
        dead_voter_grace: dead_voter_grace.unwrap_or(before.dead_voter_grace),
        automatic: automatic.unwrap_or(before.automatic),
    };
    if !(1..=VOTERS_LIMIT).contains(&plan.voters) {
        return Err(Status::invalid_argument(format!("voters: {} is not from 1 to {VOTERS_LIMIT}", plan.voters)));
    }
    if plan.dead_voter_grace == 0 {
        return Err(Status::invalid_argument(
            "dead_voter_grace: 0 s would replace a voter at each breath; give at least the time of a restart",
        ));
    }
    let (sentences, warnings) = announced(before, plan, members);
    if dry_run {
        let answer = SetPlanResponse { plan: Some(to_wire(plan)), sentences, warnings, log_index: 0 };
        return Ok(Response::new(answer));
    }
    let (_done, log_index) = service.change(&request, Operation::SetPlan(plan)).await?;
    let answer = SetPlanResponse { plan: Some(to_wire(plan)), sentences, warnings, log_index };
    Ok(at_log_index(answer, Some(log_index)))
}

fn announced(before: MembershipPlan, plan: MembershipPlan, members: usize) -> (Vec<String>, Vec<String>) {
    let wanted = usize::try_from(plan.voters).unwrap_or(usize::MAX);
    let mut sentences = Vec::new();
    if before == plan {
        sentences.push("The plan is as it was.".to_owned());
    }
    if before.voters != plan.voters {
        let how = if plan.automatic {
            "the leader promotes and demotes members to come to that"
        } else {
            "roles change by command alone"
        };
        sentences.push(format!("The plan wants {}; {how}.", counted(wanted, "voter")));
    }
    if before.dead_voter_grace != plan.dead_voter_grace {
        sentences.push(format!(
            "A voter that is silent for {} s is replaced by a learner that is there.",
            plan.dead_voter_grace
        ));
    }
    if before.automatic != plan.automatic {
        sentences.push(if plan.automatic {
            "The leader gives out roles by itself, but those that an operator chose.".to_owned()
        } else {
            "Roles change by command alone; nobody takes the place of a voter that is dead.".to_owned()
        });
    }
    let mut warnings = Vec::new();
    if plan.voters.is_multiple_of(2) {
        warnings.push(format!(
            "An even number of voters, {}, bears the loss of no more of them than one voter fewer would.",
            plan.voters
        ));
    }
    if members < wanted {
        warnings.push(format!("The cluster has {}: invite more.", counted(members, "member")));
    }
    (sentences, warnings)
}

/// Gives the plan out.
pub(super) fn to_wire(plan: MembershipPlan) -> WirePlan {
    let MembershipPlan { voters, dead_voter_grace, automatic } = plan;
    WirePlan { voters, dead_voter_grace, automatic }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_plan_is_told_with_what_it_means() {
        let before = MembershipPlan { voters: 3, dead_voter_grace: 300, automatic: true };
        let (sentences, warnings) = announced(before, MembershipPlan { voters: 4, ..before }, 3);
        assert_eq!(sentences.len(), 1);
        assert!(sentences[0].starts_with("The plan wants 4 voters; the leader promotes"), "{sentences:?}");
        assert!(warnings[0].contains("even number") && warnings[1].contains("3 members"), "{warnings:?}");
        assert_eq!(announced(before, before, 3).0, ["The plan is as it was."]);
    }
}
