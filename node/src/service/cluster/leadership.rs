//! Handing leadership over. The leader does it; a node that does not lead asks it to.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use quorate_proto_api::cluster::{TransferLeadershipRequest, TransferLeadershipResponse};
use quorate_proto_api::peer::TransferQuestion;
use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::{AskError, topics};
use quorate_raft_machine::State;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::ClusterService;
use super::change::title;
use crate::service::reads::at_applied_index;

/// How long a hand-over may take, until another is seen to lead: far more than the elections that it saves.
const TRANSFER_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked who leads.
const LOOK: Duration = Duration::from_millis(20);

/// Hands leadership over, and answers once another leads.
pub(super) async fn transfer(
    service: &ClusterService,
    request: Request<TransferLeadershipRequest>,
) -> Result<Response<TransferLeadershipResponse>, Status> {
    service.ready_to_change(&request).await?;
    let caller = service.writes.caller(&request);
    let TransferLeadershipRequest { name, dry_run } = request.into_inner();
    let to = if name.is_empty() { None } else { Some(voter(service, &name)?) };
    let consensus = service.consensus();
    let from = consensus.leader().ok_or_else(|| {
        Status::unavailable("there is no leader that could hand over: the voters elect one as soon as a majority can")
    })?;
    let named = |number| service.reads.applied().read(|state: &State| state.member(number).map(title));
    let from_title = named(from).unwrap_or_else(|| format!("member {from}"));
    if to == Some(from) {
        return Ok(answer(service, vec![format!("{from_title} leads already.")], from));
    }
    if consensus.raft_members().voters.last().is_some_and(|voters| voters.len() < 2) {
        return Err(Status::failed_precondition(format!("{from_title} is the only voter: nobody else can lead")));
    }
    let goal = to.and_then(named).unwrap_or_else(|| "the voter that suits best".to_owned());
    if dry_run {
        let sentence = format!("Leadership would be handed over from {from_title} to {goal}.");
        return Ok(answer(service, vec![sentence], from));
    }
    let audit = service.node.audit();
    audit.may_administer().map_err(|blocked| Status::resource_exhausted(blocked.to_string()))?;
    audit.acted(&caller, "cluster.transfer_leadership", &[("from", from_title.clone()), ("to", goal.clone())]);
    let began = Instant::now();
    let deadline = began + TRANSFER_LIMIT;
    let limit_millis = u64::try_from(TRANSFER_LIMIT.as_millis()).unwrap_or(u64::MAX);
    let question = TransferQuestion { to: to.map_or(0, MemberNumber::get), limit_millis };
    // This node's own answerer is asked when it leads itself.
    match consensus.ask(None, topics::TRANSFER, Bytes::from(question.encode_to_vec()), deadline).await {
        Err(AskError::Refused { reason, .. }) => {
            return Err(Status::failed_precondition(format!("{from_title} does not hand over: {reason}")));
        }
        // The leader that handed over may not have come to answer: who leads then is what counts.
        Ok(_)
        | Err(
            AskError::Unreachable { .. }
            | AskError::Deadline
            | AskError::NoLeader
            | AskError::NoMember(_)
            | AskError::Unfounded
            | AskError::TooLarge { .. }
            | AskError::Stopped { .. },
        ) => {}
    }
    loop {
        if let Some(leader) = consensus.leader().filter(|leader| *leader != from) {
            let leader_title = named(leader).unwrap_or_else(|| format!("member {leader}"));
            let mut sentences = vec![format!(
                "Leadership was handed over from {from_title} to {leader_title} in {} ms.",
                began.elapsed().as_millis()
            )];
            if to.is_some_and(|to| to != leader) {
                sentences.push(format!("It was to be {goal}: another was elected meanwhile."));
            }
            return Ok(answer(service, sentences, leader));
        }
        if Instant::now() >= deadline {
            return Err(Status::deadline_exceeded(format!(
                "{from_title} still leads after {} s: is {goal} there, and has it caught up?",
                TRANSFER_LIMIT.as_secs()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The number of a voter of this name.
fn voter(service: &ClusterService, name: &str) -> Result<MemberNumber, Status> {
    let subject = service.subject(name)?;
    if subject.raft.is_voter(subject.number().get()) {
        return Ok(subject.number());
    }
    Err(Status::failed_precondition(format!("{} has no vote: only a voter can lead", subject.title())))
}

fn answer(
    service: &ClusterService,
    sentences: Vec<String>,
    leader: MemberNumber,
) -> Response<TransferLeadershipResponse> {
    let state = service.reads.applied();
    let name = state.read(|state| state.member(leader).map(|member| member.record.name.to_string()));
    let message = TransferLeadershipResponse {
        sentences,
        leader: name.unwrap_or_default(),
        term: service.consensus().health().term,
    };
    at_applied_index(message, state.applied_index())
}
