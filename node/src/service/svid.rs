//! SVIDs minted for an operator: the part of SPIRE's SVID service that needs no agents (spire-api.md section 8).
//!
//! Whoever reaches this may have any workload ID of the trust domain, entry or no entry. That is what the admin socket is
//! for, and why it has a lock of its own. The rules of what is minted are the minter's.

use quorate_actors::{MintedJwt, MintedX509, Minter};
use quorate_proto_api::convert::{jwt_svid, spiffe_id, x509_svid};
use quorate_proto_api::spire::svid::svid_server::{Svid, SvidServer};
use quorate_proto_api::spire::svid::{
    BatchNewWitsvidRequest, BatchNewWitsvidResponse, BatchNewX509svidRequest, BatchNewX509svidResponse,
    MintJwtsvidRequest, MintJwtsvidResponse, MintWitsvidRequest, MintWitsvidResponse, MintX509svidRequest,
    MintX509svidResponse, NewDownstreamX509caRequest, NewDownstreamX509caResponse, NewJwtsvidRequest,
    NewJwtsvidResponse,
};
use tonic::{Request, Response, Status};

use super::refusal::status;
use super::writes::Writes;
use crate::node::Node;

/// The service.
#[derive(Clone)]
pub(super) struct SvidService {
    node: Node,
    writes: Writes,
}

/// Puts the service together.
pub(super) fn service(node: &Node) -> SvidServer<SvidService> {
    SvidServer::new(SvidService { node: node.clone(), writes: Writes::new(node) })
}

impl SvidService {
    /// The minter, once there is an authority.
    fn minter(&self) -> Result<&Minter, Status> {
        let system = self.node.system().ok_or_else(|| {
            Status::unavailable(
                "no authority is founded on this node, or it is just starting: see quorate cluster status",
            )
        })?;
        Ok(system.minter())
    }
}

/// A lifetime in seconds; 0 stands for the policy's.
fn ttl(seconds: i32) -> Result<u32, Status> {
    u32::try_from(seconds)
        .map_err(|_| Status::invalid_argument(format!("ttl: {seconds} s: a lifetime is not negative")))
}

fn not_here<T>(method: &str, why: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{method}: {why}")))
}

/// Why the calls of agents are not answered.
const NO_AGENTS: &str = "this version of the node takes no agents";

/// Why the calls about WIT-SVIDs are not answered.
const NO_WIT: &str = "this version of the node makes no WIT-SVIDs";

#[tonic::async_trait]
impl Svid for SvidService {
    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let caller = self.writes.caller(&request);
        let MintX509svidRequest { csr, ttl: seconds } = request.into_inner();
        if csr.is_empty() {
            return Err(Status::invalid_argument("csr: missing"));
        }
        let minted = self.minter()?.mint_x509(&caller, &csr, ttl(seconds)?).await;
        let minted = minted.map_err(|refusal| status(&refusal))?;
        let MintedX509 { chain, spiffe_id, expires_at } = minted;
        let svid = x509_svid(chain, &spiffe_id, expires_at);
        Ok(Response::new(MintX509svidResponse { svid: Some(svid) }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let caller = self.writes.caller(&request);
        let MintJwtsvidRequest { id, audience, ttl: seconds } = request.into_inner();
        let id = spiffe_id("id", id.as_ref())?;
        let minted = self.minter()?.mint_jwt(&caller, &id, audience, ttl(seconds)?).await;
        let minted = minted.map_err(|refusal| status(&refusal))?;
        let MintedJwt { token, spiffe_id, issued_at, expires_at } = minted;
        let svid = jwt_svid(token, &spiffe_id, issued_at, expires_at);
        Ok(Response::new(MintJwtsvidResponse { svid: Some(svid) }))
    }

    async fn mint_witsvid(
        &self,
        _request: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        not_here("MintWITSVID", NO_WIT)
    }

    async fn batch_new_x509svid(
        &self,
        _request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        not_here("BatchNewX509SVID", NO_AGENTS)
    }

    async fn new_jwtsvid(&self, _request: Request<NewJwtsvidRequest>) -> Result<Response<NewJwtsvidResponse>, Status> {
        not_here("NewJWTSVID", NO_AGENTS)
    }

    async fn batch_new_witsvid(
        &self,
        _request: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        not_here("BatchNewWITSVID", NO_WIT)
    }

    async fn new_downstream_x509ca(
        &self,
        _request: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        not_here("NewDownstreamX509CA", "this version of the node takes no nested authorities")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_lifetime_is_refused() {
        assert_eq!(ttl(0).unwrap(), 0);
        assert_eq!(ttl(60).unwrap(), 60);
        assert_eq!(ttl(-1).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
