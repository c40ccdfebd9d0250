//! What was revoked, the CRLs that say so, and the ledger of what was issued: `quorate.cluster.v1.Revocations`.
//!
//! ```text
//!   Revoke, DeleteEntry   who is cut off? ──► one command ──► CRLs of every issuer ──► handed to the streams ──► answer
//!   Remove                one command: a ban and a token rule are lifted, what is in a CRL stays there
//!   List                  the state of this node
//!   SearchLedger          the ledger of this node, which it can afford to lose
//! ```
//!
//! What revocation takes is done by the actors ([`Revocations`]); here it is asked for, and told in words.

mod attributes;
mod ledger;
mod list;
mod revoke;
mod story;
mod target;

use std::time::Duration;

use quorate_actors::Revocations;
use quorate_proto_api::cluster::revocations_server::{Revocations as RevocationsApi, RevocationsServer};
use quorate_proto_api::cluster::{
    ChangeResponse, DeleteAndRevokeRequest, GetEntryCrlPerDomainRequest, GetEntryCrlPerDomainResponse,
    ListRevocationsRequest, ListRevocationsResponse, RemoveRevocationRequest, RevokeRequest, RevokeResponse,
    SearchLedgerRequest, SearchLedgerResponse, SetEntryCrlPerDomainRequest,
};
use tonic::{Request, Response, Status};

use super::reads::{Consistency, Reads, at_applied_index, look};
use super::writes::Writes;
use crate::node::Node;

/// How long is waited for a revocation to be carried out when the caller does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// The longest that is waited for it, whatever the caller says: it goes on by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The service.
#[derive(Clone)]
pub(super) struct RevocationsService {
    node: Node,
    writes: Writes,
    reads: Reads,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> RevocationsServer<RevocationsService> {
    RevocationsServer::new(RevocationsService { node: node.clone(), writes: Writes::new(node), reads: reads.clone() })
}

impl RevocationsService {
    /// Where revocations are carried out, once this node serves an authority.
    fn revocations(&self) -> Result<Revocations, Status> {
        let system = self.node.system().ok_or_else(|| Status::unavailable("the node is starting; try again"))?;
        Ok(system.revocations().clone())
    }
}

fn wait(millis: u64) -> Duration {
    match millis {
        0 => DEFAULT_WAIT,
        millis => Duration::from_millis(millis).min(LONGEST_WAIT),
    }
}

#[tonic::async_trait]
impl RevocationsApi for RevocationsService {
    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        revoke::revoke(self, request).await
    }

    async fn delete_entry(&self, request: Request<DeleteAndRevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        revoke::delete_entry(self, request).await
    }

    async fn list(
        &self,
        request: Request<ListRevocationsRequest>,
    ) -> Result<Response<ListRevocationsResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let (listed, applied) = look(state, list::listed);
        Ok(at_applied_index(listed, applied))
    }

    async fn remove(&self, request: Request<RemoveRevocationRequest>) -> Result<Response<ChangeResponse>, Status> {
        list::remove(self, request).await
    }

    async fn search_ledger(
        &self,
        request: Request<SearchLedgerRequest>,
    ) -> Result<Response<SearchLedgerResponse>, Status> {
        ledger::search(self, request).await
    }

    async fn set_entry_crl_per_domain(
        &self,
        request: Request<SetEntryCrlPerDomainRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        attributes::set(self, request).await
    }

    async fn get_entry_crl_per_domain(
        &self,
        request: Request<GetEntryCrlPerDomainRequest>,
    ) -> Result<Response<GetEntryCrlPerDomainResponse>, Status> {
        attributes::get(self, &request).await
    }
}
