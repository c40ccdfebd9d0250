//! `quorate fetch`: SVIDs and bundles as any workload gets them.

mod bundles;
mod jwt;
mod verify;
mod x509;

use std::future::Future;

use clap::Subcommand;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::failure::Failure;
use super::socket::Connection;

/// What can be fetched.
#[derive(Debug, Subcommand)]
pub(super) enum FetchCommand {
    /// X509-SVIDs. Their keys are shown to nobody; --write DIR puts them into files
    X509(x509::X509Args),
    /// JWT-SVIDs
    Jwt(jwt::JwtArgs),
    /// What verifies SVIDs: the X.509 and the JWT bundles
    Bundles(bundles::BundlesArgs),
    /// Verify somebody's SVID with these bundles: our own, and those of the trust domains that the caller federates with
    Verify(verify::VerifyArgs),
}

impl FetchCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::X509(args) => x509::run(args).await,
            Self::Jwt(args) => jwt::run(args).await,
            Self::Bundles(args) => bundles::run(args).await,
            Self::Verify(args) => verify::run(args).await,
        }
    }
}

fn client(connection: &Connection) -> SpiffeWorkloadApiClient<Channel> {
    SpiffeWorkloadApiClient::new(connection.channel())
}

/// The first message of a stream, which is all that holds now (WAPI-08). It comes without delay (WAPI-10), so there is
/// a limit to the wait.
async fn first<T>(
    connection: &Connection,
    deed: &'static str,
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
) -> Result<T, Failure> {
    let message = async {
        let mut stream = call.await?.into_inner();
        stream.message().await?.ok_or_else(|| Status::unavailable("the stream ended without a message"))
    };
    match tokio::time::timeout(CALL_LIMIT, message).await {
        Ok(message) => message.map_err(connection.failed(deed)),
        Err(_elapsed) => Err(connection.failed(deed)(Status::deadline_exceeded("no answer in time"))),
    }
}
