//! Founding, policy and state of the cluster: `quorate.cluster.v1.Cluster`.

mod policy;
mod status;

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

use super::reads::{NOT_FOUNDED, Reads};
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
pub(super) fn service(node: &Node) -> ClusterServer<ClusterService> {
    ClusterServer::new(ClusterService { node: node.clone(), writes: Writes::new(node), reads: Reads::new(node) })
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

    async fn get_policy(&self, _request: Request<GetPolicyRequest>) -> Result<Response<GetPolicyResponse>, Status> {
        let policy = self.reads.current().await?.read(current).ok_or_else(|| Status::unavailable(NOT_FOUNDED))?;
        Ok(Response::new(GetPolicyResponse { policy: Some(policy) }))
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

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(status::of(&self.node)))
    }

    async fn wait(&self, _request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        Err(Status::unimplemented("Wait"))
    }

    async fn invite(&self, _request: Request<InviteRequest>) -> Result<Response<InviteResponse>, Status> {
        Err(Status::unimplemented("Invite"))
    }

    async fn list_invitations(
        &self,
        _request: Request<ListInvitationsRequest>,
    ) -> Result<Response<ListInvitationsResponse>, Status> {
        Err(Status::unimplemented("ListInvitations"))
    }

    async fn revoke_invitation(
        &self,
        _request: Request<RevokeInvitationRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        Err(Status::unimplemented("RevokeInvitation"))
    }

    type SetMemberRoleStream = ReceiverStream<Result<Progress, Status>>;

    async fn set_member_role(
        &self,
        _request: Request<SetMemberRoleRequest>,
    ) -> Result<Response<Self::SetMemberRoleStream>, Status> {
        Err(Status::unimplemented("SetMemberRole"))
    }

    async fn fence(&self, _request: Request<FenceRequest>) -> Result<Response<ChangeResponse>, Status> {
        Err(Status::unimplemented("Fence"))
    }

    type RemoveStream = ReceiverStream<Result<Progress, Status>>;

    async fn remove(&self, _request: Request<RemoveRequest>) -> Result<Response<Self::RemoveStream>, Status> {
        Err(Status::unimplemented("Remove"))
    }

    async fn transfer_leadership(
        &self,
        _request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        Err(Status::unimplemented("TransferLeadership"))
    }

    async fn get_plan(&self, _request: Request<GetPlanRequest>) -> Result<Response<GetPlanResponse>, Status> {
        Err(Status::unimplemented("GetPlan"))
    }

    async fn set_plan(&self, _request: Request<SetPlanRequest>) -> Result<Response<SetPlanResponse>, Status> {
        Err(Status::unimplemented("SetPlan"))
    }

    async fn set_recovery_key(
        &self,
        _request: Request<SetRecoveryKeyRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        Err(Status::unimplemented("SetRecoveryKey"))
    }

    async fn raise_version(&self, _request: Request<RaiseVersionRequest>) -> Result<Response<ChangeResponse>, Status> {
        Err(Status::unimplemented("RaiseVersion"))
    }

    async fn reset_time(&self, _request: Request<ResetTimeRequest>) -> Result<Response<ChangeResponse>, Status> {
        Err(Status::unimplemented("ResetTime"))
    }
}

/// What a founder is told. All causes are in the text: whoever reads it has no log at hand yet.
fn not_founded(error: &FoundingError) -> Status {
    let text = with_causes(error);
    match error {
        FoundingError::AlreadyFounded { .. } => Status::failed_precondition(text),
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
