//! The standard's Workload API: checks what was asked, and passes it to the actors that answer.
//!
//! ```text
//!   gate (header, limits) ──> arguments ──> actors' WorkloadApi: who is it, what is it entitled to, sign
//!                                  |                 |
//!                          InvalidArgument    PermissionDenied, Unavailable
//! ```
//!
//! Nothing is added to the service and nothing left out of it (WAPI-04); the WIT-SVID profile is
//! not offered yet and says so (WAPI-44).

mod arguments;
mod claims;

use std::sync::Arc;

use quorate_actors::{AnswerStream, Caller, Refusal, WorkloadApi};
use quorate_proto_api::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use quorate_proto_api::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use quorate_proto_identity::SpiffeId;
use tokio_stream::adapters::Map;
use tokio_stream::{Empty, StreamExt as _};
use tonic::{Request, Response, Status};

use super::refusal::status;
use crate::listeners::connection::Connection;
use crate::node::Node;

/// Largest request: audiences and a token to validate, both with their limits, and room to spare.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// A stream of answers as gRPC takes it.
type Answers<T> = Map<AnswerStream<T>, fn(Result<T, Refusal>) -> Result<T, Status>>;

/// The service.
#[derive(Clone)]
pub(super) struct WorkloadService {
    node: Node,
}

/// The service, ready to be called.
pub(super) type WorkloadServer = SpiffeWorkloadApiServer<WorkloadService>;

/// Puts the service together.
pub(super) fn service(node: &Node) -> WorkloadServer {
    SpiffeWorkloadApiServer::new(WorkloadService { node: node.clone() }).max_decoding_message_size(MAX_REQUEST_BYTES)
}

impl WorkloadService {
    /// The actors, once there is an authority (EP-19).
    fn api(&self) -> Result<&WorkloadApi, Status> {
        self.node
            .system()
            .map(quorate_actors::System::workload_api)
            .ok_or_else(|| Status::unavailable("no authority serves on this node yet"))
    }
}

/// Who calls: found by the kernel when the connection was opened, never by the request (EP-17).
fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>, Status> {
    request
        .extensions()
        .get::<Arc<Connection>>()
        .map(|connection| Arc::clone(connection.caller()))
        .ok_or_else(|| Status::unavailable("the caller is not known"))
}

fn answers<T>(opened: Result<AnswerStream<T>, Refusal>) -> Result<Response<Answers<T>>, Status> {
    let pass: fn(Result<T, Refusal>) -> Result<T, Status> = |answer| answer.map_err(|refusal| status(&refusal));
    match opened {
        Ok(stream) => Ok(Response::new(stream.map(pass))),
        Err(refusal) => Err(status(&refusal)),
    }
}

fn no_wit<T>() -> Result<T, Status> {
    Err(Status::unimplemented("the WIT-SVID profile is not offered"))
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadService {
    type FetchX509SVIDStream = Answers<X509svidResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        answers(self.api()?.x509_svids(&caller(&request)?).await)
    }

    type FetchX509BundlesStream = Answers<X509BundlesResponse>;

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        answers(self.api()?.x509_bundles(&caller(&request)?).await)
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        arguments::audiences(&request.get_ref().audience)?;
        let seconds = arguments::token_seconds(request.metadata())?;
        let spiffe_id = match request.get_ref().spiffe_id.as_str() {
            "" => None,
            text => {
                Some(SpiffeId::parse(text).map_err(|error| Status::invalid_argument(format!("spiffe_id: {error}")))?)
            }
        };
        let caller = caller(&request)?;
        let audiences = request.into_inner().audience;
        let fetched = self.api()?.fetch_jwt_svids(&caller, audiences, spiffe_id.as_ref(), seconds).await;
        fetched.map(Response::new).map_err(|refusal| status(&refusal))
    }

    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        answers(self.api()?.jwt_bundles(&caller(&request)?).await)
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let ValidateJwtsvidRequest { audience, svid } = request.get_ref();
        arguments::token(svid)?;
        let caller = caller(&request)?;
        let verified = self.api()?.validate_jwt_svid(&caller, audience, svid).await;
        let verified = verified.map_err(|refusal| status(&refusal))?;
        Ok(Response::new(ValidateJwtsvidResponse {
            spiffe_id: verified.spiffe_id().as_str().to_owned(),
            claims: Some(claims::to_wire(verified.claims())),
        }))
    }

    type FetchWITSVIDStream = Empty<Result<WitsvidResponse, Status>>;

    async fn fetch_witsvid(
        &self,
        _request: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        no_wit()
    }

    type FetchWITBundlesStream = Empty<Result<WitBundlesResponse, Status>>;

    async fn fetch_wit_bundles(
        &self,
        _request: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        no_wit()
    }
}
