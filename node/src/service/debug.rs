//! A look at the running process: SPIRE's Debug service (spire-api.md section 12).

use quorate_proto_api::spire::debug::debug_server::{Debug as DebugApi, DebugServer};
use quorate_proto_api::spire::debug::{GetInfoRequest, GetInfoResponse, get_info_response};
use quorate_proto_api::spire::types;
use quorate_proto_identity::{AuthorityId, MemberNumber, SpiffeId, UnixMillis, UnixSeconds, Validity};
use quorate_raft_consensus::{Handle, Sources};
use quorate_raft_machine::State;
use tonic::{Request, Response, Status};

use crate::node::Node;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct DebugService {
    consensus: Handle,
    sources: Sources,
    started_at: UnixMillis,
}

/// Puts the service together.
pub(super) fn service(node: &Node) -> DebugServer<DebugService> {
    DebugServer::new(DebugService {
        consensus: node.consensus().clone(),
        sources: node.sources().clone(),
        started_at: node.started_at(),
    })
}

impl DebugService {
    fn info(&self) -> GetInfoResponse {
        let now = self.sources.now();
        let member = self.consensus.member();
        self.consensus.state().read(|state| GetInfoResponse {
            svid_chain: chain(state, member, now.seconds()),
            uptime: count(now.since(self.started_at).max(0) / 1_000),
            agents_count: 0,
            // Our own counts, as with SPIRE.
            federated_bundles_count: i32::from(state.cluster().is_some())
                .saturating_add(count(state.foreign_bundles().count())),
            entries_count: count(state.entry_count()),
        })
    }
}

/// What this node signs under, nearest first: its newest issuing certificate that is live, and the root of that.
fn chain(state: &State, member: Option<MemberNumber>, now: UnixSeconds) -> Vec<get_info_response::Cert> {
    let Some(cluster) = state.cluster() else {
        return Vec::new();
    };
    // Both are certificates of the authority: their URI name is the trust domain's ID.
    let authority = cluster.trust_domain.id();
    let issuing = state
        .issuing_certificates()
        .filter(|issuing| Some(issuing.member) == member && issuing.is_live(now))
        .max_by_key(|issuing| issuing.validity.not_after());
    let Some(issuing) = issuing else {
        return Vec::new();
    };
    let root = state.x509_authority(&issuing.issuer);
    let near = certificate(&authority, &issuing.key_id, issuing.validity);
    let far = root.map(|root| certificate(&authority, &root.id, root.validity));
    [Some(near), far].into_iter().flatten().collect()
}

fn certificate(id: &SpiffeId, key_id: &AuthorityId, validity: Validity) -> get_info_response::Cert {
    get_info_response::Cert {
        id: Some(types::Spiffeid::from(id)),
        expires_at: validity.not_after().0,
        // The subjects of our authorities differ in this attribute alone.
        subject: format!("SERIALNUMBER={key_id}"),
    }
}

fn count(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

#[tonic::async_trait]
impl DebugApi for DebugService {
    async fn get_info(&self, _request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        Ok(Response::new(self.info()))
    }
}
