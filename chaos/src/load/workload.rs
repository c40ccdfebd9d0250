//! A client of the Workload API, as any library is one: no retry, no deadline of the server's kindness.

use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use quorate_proto_api::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest,
    X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use quorate_proto_api::{WORKLOAD_HEADER, WORKLOAD_HEADER_VALUE};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// How long a call may take. A call that hangs is a call that failed.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Workload(SpiffeWorkloadApiClient<Channel>);

impl Workload {
    /// A new connection to this socket.
    pub(crate) fn new(socket: &Path) -> Self {
        Self(SpiffeWorkloadApiClient::new(channel(&Address::Unix(socket.to_path_buf()))))
    }

    /// Opens a stream of X509-SVIDs.
    pub(crate) async fn x509_svids(&mut self) -> Result<Streaming<X509svidResponse>, Status> {
        within(self.0.fetch_x509svid(marked(X509svidRequest {}))).await
    }

    /// Opens a stream of X.509 bundles.
    pub(crate) async fn x509_bundles(&mut self) -> Result<Streaming<X509BundlesResponse>, Status> {
        within(self.0.fetch_x509_bundles(marked(X509BundlesRequest {}))).await
    }

    /// Opens a stream of JWT bundles.
    pub(crate) async fn jwt_bundles(&mut self) -> Result<Streaming<JwtBundlesResponse>, Status> {
        within(self.0.fetch_jwt_bundles(marked(JwtBundlesRequest {}))).await
    }

    /// Opens a stream of X509-SVIDs, takes its first message and leaves it.
    pub(crate) async fn x509_svid(&mut self) -> Result<X509svidResponse, Status> {
        let mut stream = self.x509_svids().await?;
        first(&mut stream).await
    }

    /// The X.509 bundles of this moment.
    pub(crate) async fn x509_bundle(&mut self) -> Result<X509BundlesResponse, Status> {
        let mut stream = self.x509_bundles().await?;
        first(&mut stream).await
    }

    /// A token for this audience.
    pub(crate) async fn token(&mut self, audience: &str) -> Result<String, Status> {
        let request = JwtsvidRequest { audience: vec![audience.to_owned()], ..JwtsvidRequest::default() };
        let answer = within(self.0.fetch_jwtsvid(marked(request))).await?;
        let svid = answer.svids.into_iter().next();
        svid.map(|svid| svid.svid).ok_or_else(|| Status::data_loss("an answer without a token"))
    }

    /// Has a token checked.
    pub(crate) async fn validate(&mut self, token: &str, audience: &str) -> Result<(), Status> {
        let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: token.to_owned() };
        within(self.0.validate_jwtsvid(marked(request))).await.map(drop)
    }
}

async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    let answer = timeout(CALL_LIMIT, call).await.map_err(|_| late())??;
    Ok(answer.into_inner())
}

/// The first message of a stream.
async fn first<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let message = timeout(CALL_LIMIT, stream.message()).await.map_err(|_| late())??;
    message.ok_or_else(|| Status::data_loss("the stream ended without a message"))
}

fn late() -> Status {
    Status::deadline_exceeded(format!("no answer within {CALL_LIMIT:?}"))
}

/// Every call of the Workload API carries its header.
fn marked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(WORKLOAD_HEADER, MetadataValue::from_static(WORKLOAD_HEADER_VALUE));
    request
}
