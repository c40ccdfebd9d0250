//! Certificates of web authorities, and the OpenID Connect discovery provider: `quorate.cluster.v1.WebCertificates` and
//! `OidcProvider`.
//!
//! ```text
//!   GetAcme, GetOidc                    the state of this node
//!   SetAcme, SetOidc, OrderWebCertificate   one command; whoever leads carries the orders out (actors, `acme`)
//! ```

mod acme;
mod oidc;

use quorate_proto_api::cluster::oidc_provider_server::{OidcProvider as OidcApi, OidcProviderServer};
use quorate_proto_api::cluster::web_certificates_server::{WebCertificates as CertificatesApi, WebCertificatesServer};
use quorate_proto_api::cluster::{
    GetAcmeRequest, GetAcmeResponse, GetOidcRequest, GetOidcResponse, OrderWebCertificateRequest,
    OrderWebCertificateResponse, SetAcmeRequest, SetAcmeResponse, SetOidcRequest, SetOidcResponse,
};
use quorate_raft_machine::{Done, Operation};
use tonic::{Request, Response, Status};

use super::reads::{Consistency, Reads, at_applied_index, look};
use super::writes::{Writes, at_log_index, refused};
use crate::node::Node;

/// Both services: they differ in nothing but their words.
#[derive(Debug, Clone)]
pub(super) struct WebService {
    writes: Writes,
    reads: Reads,
}

/// Puts the service of certificates together.
pub(super) fn certificates(node: &Node, reads: &Reads) -> WebCertificatesServer<WebService> {
    WebCertificatesServer::new(WebService { writes: Writes::new(node), reads: reads.clone() })
}

/// Puts the service of the discovery provider together.
pub(super) fn oidc_provider(node: &Node, reads: &Reads) -> OidcProviderServer<WebService> {
    OidcProviderServer::new(WebService { writes: Writes::new(node), reads: reads.clone() })
}

impl WebService {
    /// Has one operation carried out.
    async fn change<T>(&self, request: &Request<T>, operation: Operation) -> Result<(Done, u64), Status> {
        let written = self.writes.write(self.writes.caller(request), vec![operation]).await?;
        match written.results.into_iter().next() {
            Some(Ok(done)) => Ok((done, written.log_index)),
            Some(Err(refusal)) => Err(refused(&refusal)),
            None => Err(Status::internal(format!("the command at log index {} has no outcome", written.log_index))),
        }
    }
}

/// Takes the revision that a change was made from; 0 stands for whichever it is. Settings that were never set have none.
fn expected_revision(given: Option<u64>) -> Result<u64, Status> {
    match given {
        None => Ok(0),
        Some(0) => Err(Status::invalid_argument("expected_revision: 0 is the revision of no settings; leave it out")),
        Some(revision) => Ok(revision),
    }
}

#[tonic::async_trait]
impl CertificatesApi for WebService {
    async fn get_acme(&self, request: Request<GetAcmeRequest>) -> Result<Response<GetAcmeResponse>, Status> {
        let (answer, applied) = look(self.reads.current(Consistency::of(&request)?).await?, acme::told);
        Ok(at_applied_index(answer, applied))
    }

    async fn set_acme(&self, request: Request<SetAcmeRequest>) -> Result<Response<SetAcmeResponse>, Status> {
        let SetAcmeRequest { settings, expected_revision: expected } = request.get_ref().clone();
        let settings = settings.map(acme::settings).transpose()?.map(Box::new);
        let expected_revision = expected_revision(expected)?;
        let (done, log_index) = self.change(&request, Operation::SetAcme { settings, expected_revision }).await?;
        let revision = if let Done::AcmeSet { revision } = done { revision } else { 0 };
        Ok(at_log_index(SetAcmeResponse { revision, log_index }, Some(log_index)))
    }

    async fn order_web_certificate(
        &self,
        request: Request<OrderWebCertificateRequest>,
    ) -> Result<Response<OrderWebCertificateResponse>, Status> {
        let domain = request.get_ref().domain.clone();
        let (_done, log_index) = self.change(&request, Operation::RequestWebCertificate { domain }).await?;
        Ok(at_log_index(OrderWebCertificateResponse { log_index }, Some(log_index)))
    }
}

#[tonic::async_trait]
impl OidcApi for WebService {
    async fn get_oidc(&self, request: Request<GetOidcRequest>) -> Result<Response<GetOidcResponse>, Status> {
        let (answer, applied) = look(self.reads.current(Consistency::of(&request)?).await?, oidc::told);
        Ok(at_applied_index(answer, applied))
    }

    async fn set_oidc(&self, request: Request<SetOidcRequest>) -> Result<Response<SetOidcResponse>, Status> {
        let SetOidcRequest { settings, expected_revision: expected } = request.get_ref().clone();
        let settings = settings.map(oidc::settings).transpose()?.map(Box::new);
        let expected_revision = expected_revision(expected)?;
        let wire = settings.as_deref().map(oidc::to_wire);
        let (done, log_index) = self.change(&request, Operation::SetOidc { settings, expected_revision }).await?;
        let revision = if let Done::OidcSet { revision } = done { revision } else { 0 };
        Ok(at_log_index(SetOidcResponse { settings: wire, revision, log_index }, Some(log_index)))
    }
}
