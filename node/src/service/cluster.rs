//! Founding, policy, members and state of the cluster: `quorate.cluster.v1.Cluster`.
//!
//! ```text
//!   a call, at any node ──► its wish is proposed (forwarded to the leader) ──► the log
//!                                                                               |  the leader's actors carry it out
//!   stream of steps ◄── what this node sees of it: state, Raft membership ◄─────+
//!
//!   what only the leader knows or can do (news of members, hand-over) ──► asked of it, with a short limit
//! ```

mod change;
mod invitations;
mod leadership;
mod plan;
mod policy;
mod removal;
mod roles;
mod status;
mod upkeep;
mod wait;

use quorate_proto_api::cluster::cluster_server::{Cluster as ClusterApi, ClusterServer};
use quorate_proto_api::cluster::{
    ChangeResponse, FenceRequest, GetPlanRequest, GetPlanResponse, GetPolicyRequest, GetPolicyResponse, InitRequest,
    InitResponse, InviteRequest, InviteResponse, ListInvitationsRequest, ListInvitationsResponse, Policy, Progress,
    RaiseVersionRequest, RemoveRequest, ResetTimeRequest, RevokeInvitationRequest, SetMemberRoleRequest,
    SetPlanRequest, SetPlanResponse, SetPolicyRequest, SetPolicyResponse, SetRecoveryKeyRequest, StatusRequest,
    StatusResponse, TransferLeadershipRequest, TransferLeadershipResponse, WaitRequest, WaitResponse,
};
use quorate_raft_machine::{Done, Operation, State};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::reads::{Consistency, NOT_FOUNDED, Reads, at_applied_index, look};
use super::writes::{Writes, at_log_index, not_applied, refused};
use crate::founding::{FoundedAuthority, Founding, FoundingError};
use crate::node::Node;

/// The service.
#[derive(Clone)]
pub(super) struct ClusterService {
    node: Node,
    writes: Writes,
    reads: Reads,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> ClusterServer<ClusterService> {
    ClusterServer::new(ClusterService { node: node.clone(), writes: Writes::new(node), reads: reads.clone() })
}

/// The policy in the state, with its revision.
fn current(state: &State) -> Option<Policy> {
    state.policy().map(|policy| policy::to_wire(policy, state.policy_revision()))
}

#[tonic::async_trait]
impl ClusterApi for ClusterService {
    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let caller = self.writes.caller(&request);
        let InitRequest { policy, region, zone, labels } = request.into_inner();
        let policy = policy::from_wire(&policy.unwrap_or_default())?;
        let founding = Founding { policy, region, zone, labels, caller };
        // In a task of its own: a caller that goes away leaves no founding half done.
        let node = self.node.clone();
        let founded = tokio::spawn(async move { node.found(founding).await });
        let founded = founded.await.map_err(|_| Status::internal("the founding came to no end; repeat the call"))?;
        let FoundedAuthority { cluster, trust_domain, member, log_index } =
            founded.map_err(|error| not_founded(&error))?;
        let answer = InitResponse {
            cluster_id: cluster.to_string(),
            trust_domain: trust_domain.as_str().to_owned(),
            node_name: self.node.config().name.to_string(),
            member: member.get(),
            log_index,
        };
        Ok(at_log_index(answer, Some(log_index)))
    }

    async fn get_policy(&self, request: Request<GetPolicyRequest>) -> Result<Response<GetPolicyResponse>, Status> {
        let (policy, applied) = look(self.reads.current(Consistency::of(&request)?).await?, current);
        let policy = policy.ok_or_else(|| Status::unavailable(NOT_FOUNDED))?;
        Ok(at_applied_index(GetPolicyResponse { policy: Some(policy) }, applied))
    }

    async fn set_policy(&self, request: Request<SetPolicyRequest>) -> Result<Response<SetPolicyResponse>, Status> {
        let caller = self.writes.caller(&request);
        let SetPolicyRequest { policy, expected_revision } = request.into_inner();
        let wire = policy.ok_or_else(|| Status::invalid_argument("policy: missing"))?;
        let policy = policy::from_wire(&wire)?;
        // The state machine checks it again. Checked here, a policy that no member would take never gets into the log.
        policy.check().map_err(|error| Status::invalid_argument(error.to_string()))?;
        let operation =
            Operation::SetPolicy { policy, expected_revision: policy::expected_revision(expected_revision)? };
        let written = self.writes.write(caller, vec![operation]).await?;
        let log_index = written.log_index;
        match written.results.into_iter().next() {
            Some(Ok(Done::PolicySet { revision })) => {
                let answer = SetPolicyResponse { policy: Some(policy::to_wire(&policy, revision)), log_index };
                Ok(at_log_index(answer, Some(log_index)))
            }
            Some(Err(refusal)) => Err(refused(&refusal)),
            Some(Ok(_)) | None => Err(Status::internal("the policy was set with an outcome of another kind")),
        }
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let status = status::of(&self.node, request.into_inner().removed_members).await;
        let applied = status.applied_index;
        Ok(at_applied_index(status, applied))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        wait::until_applied(&self.reads, &request).await
    }

    async fn invite(&self, request: Request<InviteRequest>) -> Result<Response<InviteResponse>, Status> {
        invitations::invite(self, request).await
    }

    async fn list_invitations(
        &self,
        request: Request<ListInvitationsRequest>,
    ) -> Result<Response<ListInvitationsResponse>, Status> {
        invitations::list(self, &request).await
    }

    async fn revoke_invitation(
        &self,
        request: Request<RevokeInvitationRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        invitations::revoke(self, request).await
    }

    type SetMemberRoleStream = ReceiverStream<Result<Progress, Status>>;

    async fn set_member_role(
        &self,
        request: Request<SetMemberRoleRequest>,
    ) -> Result<Response<Self::SetMemberRoleStream>, Status> {
        roles::set(self, request).await
    }

    async fn fence(&self, request: Request<FenceRequest>) -> Result<Response<ChangeResponse>, Status> {
        removal::fence(self, request).await
    }

    type RemoveStream = ReceiverStream<Result<Progress, Status>>;

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<Self::RemoveStream>, Status> {
        removal::remove(self, request).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        leadership::transfer(self, request).await
    }

    async fn get_plan(&self, request: Request<GetPlanRequest>) -> Result<Response<GetPlanResponse>, Status> {
        plan::get(self, &request).await
    }

    async fn set_plan(&self, request: Request<SetPlanRequest>) -> Result<Response<SetPlanResponse>, Status> {
        plan::set(self, request).await
    }

    async fn set_recovery_key(
        &self,
        request: Request<SetRecoveryKeyRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        upkeep::set_recovery_key(self, request).await
    }

    async fn raise_version(&self, request: Request<RaiseVersionRequest>) -> Result<Response<ChangeResponse>, Status> {
        upkeep::raise_version(self, request).await
    }

    async fn reset_time(&self, request: Request<ResetTimeRequest>) -> Result<Response<ChangeResponse>, Status> {
        upkeep::reset_time(self, request).await
    }
}

/// What a founder is told. All causes are in the text: whoever reads it has no log at hand yet.
fn not_founded(error: &FoundingError) -> Status {
    let text = with_causes(error);
    match error {
        FoundingError::AlreadyFounded { .. } | FoundingError::ByOtherMeans { .. } => Status::failed_precondition(text),
        FoundingError::Policy(_) => Status::invalid_argument(text),
        FoundingError::Refused(refusal) => refused(refusal),
        FoundingError::Propose(cause) => not_applied(cause),
        FoundingError::Consensus(_) | FoundingError::Plan(_) | FoundingError::Log(_) => Status::unavailable(text),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
