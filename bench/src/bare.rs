//! The bare server: the same services on the same kind of socket with answers of the same size, and no work behind
//! them. It is a process of its own, so that its processor time can be told from the caller's.

use crate::clients::Clients;
use crate::process::Process;
use crate::trouble::Trouble;
use bytes::Bytes;
use clap::Args;
use quorate_proto_api::spire::svid::svid_server::{Svid, SvidServer};
use quorate_proto_api::spire::{svid, types};
use quorate_proto_api::workload;
use quorate_proto_api::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// How long the child may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// Sizes of the answers, as the product was seen to give them.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    /// Bytes of the first message of FetchX509SVID.
    #[arg(long, default_value_t = 0)]
    pub(crate) x509: usize,
    /// Bytes of a token.
    #[arg(long, default_value_t = 0)]
    pub(crate) jwt: usize,
    /// Bytes of a minted chain.
    #[arg(long, default_value_t = 0)]
    pub(crate) mint: usize,
}

/// A bare server that runs.
pub(crate) struct Bare {
    child: Child,
    process: Process,
    socket: PathBuf,
    _directory: TempDir,
}

impl Bare {
    /// Starts this same program as a bare server.
    pub(crate) async fn start(sizes: Sizes) -> Result<Self, Trouble> {
        let directory = tempfile::tempdir().map_err(Trouble::system("temporary directory"))?;
        let socket = directory.path().join("bare.sock");
        let program = std::env::current_exe().map_err(Trouble::system("path of this program"))?;
        let child = Command::new(program)
            .arg("bare")
            .args(["--x509", &sizes.x509.to_string()])
            .args(["--jwt", &sizes.jwt.to_string()])
            .args(["--mint", &sizes.mint.to_string()])
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(Trouble::system("start the bare server"))?;
        let give_up = Instant::now() + START_LIMIT;
        while !socket.exists() {
            if Instant::now() > give_up {
                return Err(Trouble::NotReady("the bare server does not listen".to_owned()));
            }
            sleep(LOOK).await;
        }
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| Trouble::NotReady("the bare server ended".to_owned()))?;
        Ok(Self { child, process: Process::of(pid)?, socket, _directory: directory })
    }

    /// Its process.
    pub(crate) fn process(&self) -> Process {
        self.process.clone()
    }

    /// Clients for it: it has one socket for both services.
    pub(crate) fn clients(&self) -> Clients {
        Clients::new(self.socket.clone(), self.socket.clone())
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<(), Trouble> {
        self.child.kill().await.map_err(Trouble::system("end the bare server"))
    }
}

/// What the child does: it serves until it is ended.
pub(crate) async fn serve(socket: PathBuf, sizes: Sizes) -> Result<(), Trouble> {
    let listener = UnixListener::bind(&socket).map_err(Trouble::system(socket.display().to_string()))?;
    let answers = Answers::of(sizes);
    Server::builder()
        .add_service(SpiffeWorkloadApiServer::new(answers.clone()))
        .add_service(SvidServer::new(answers))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
        .map_err(|error| Trouble::Unexpected(format!("bare server: {error}")))
}

/// Answers made once.
#[derive(Clone)]
struct Answers {
    x509: workload::X509svidResponse,
    jwt: workload::JwtsvidResponse,
    mint: svid::MintX509svidResponse,
}

impl Answers {
    fn of(sizes: Sizes) -> Self {
        let filler = |bytes: usize| Bytes::from(vec![b'x'; bytes]);
        let x509 = workload::X509svid { x509_svid: filler(sizes.x509), ..workload::X509svid::default() };
        let jwt = workload::Jwtsvid { svid: "x".repeat(sizes.jwt), ..workload::Jwtsvid::default() };
        let minted = types::X509svid { cert_chain: vec![filler(sizes.mint)], ..types::X509svid::default() };
        Self {
            x509: workload::X509svidResponse { svids: vec![x509], ..workload::X509svidResponse::default() },
            jwt: workload::JwtsvidResponse { svids: vec![jwt] },
            mint: svid::MintX509svidResponse { svid: Some(minted) },
        }
    }
}

/// A stream of answers.
type Answering<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One message, and then silence.
fn once<T: Send + 'static>(message: T) -> Response<Answering<T>> {
    Response::new(Box::pin(tokio_stream::once(Ok(message)).chain(tokio_stream::pending())))
}

fn nothing<T>() -> Result<T, Status> {
    Err(Status::unimplemented("the bare server has no such answer"))
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Answers {
    type FetchX509SVIDStream = Answering<workload::X509svidResponse>;
    type FetchX509BundlesStream = Answering<workload::X509BundlesResponse>;
    type FetchJWTBundlesStream = Answering<workload::JwtBundlesResponse>;
    type FetchWITSVIDStream = Answering<workload::WitsvidResponse>;
    type FetchWITBundlesStream = Answering<workload::WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        _: Request<workload::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        Ok(once(self.x509.clone()))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<workload::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        nothing()
    }

    async fn fetch_jwtsvid(
        &self,
        _: Request<workload::JwtsvidRequest>,
    ) -> Result<Response<workload::JwtsvidResponse>, Status> {
        Ok(Response::new(self.jwt.clone()))
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<workload::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        nothing()
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<workload::ValidateJwtsvidRequest>,
    ) -> Result<Response<workload::ValidateJwtsvidResponse>, Status> {
        nothing()
    }

    async fn fetch_witsvid(
        &self,
        _: Request<workload::WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        nothing()
    }

    async fn fetch_wit_bundles(
        &self,
        _: Request<workload::WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        nothing()
    }
}

#[tonic::async_trait]
impl Svid for Answers {
    async fn mint_x509svid(
        &self,
        _: Request<svid::MintX509svidRequest>,
    ) -> Result<Response<svid::MintX509svidResponse>, Status> {
        Ok(Response::new(self.mint.clone()))
    }

    async fn mint_jwtsvid(
        &self,
        _: Request<svid::MintJwtsvidRequest>,
    ) -> Result<Response<svid::MintJwtsvidResponse>, Status> {
        nothing()
    }

    async fn mint_witsvid(
        &self,
        _: Request<svid::MintWitsvidRequest>,
    ) -> Result<Response<svid::MintWitsvidResponse>, Status> {
        nothing()
    }

    async fn batch_new_x509svid(
        &self,
        _: Request<svid::BatchNewX509svidRequest>,
    ) -> Result<Response<svid::BatchNewX509svidResponse>, Status> {
        nothing()
    }

    async fn new_jwtsvid(
        &self,
        _: Request<svid::NewJwtsvidRequest>,
    ) -> Result<Response<svid::NewJwtsvidResponse>, Status> {
        nothing()
    }

    async fn batch_new_witsvid(
        &self,
        _: Request<svid::BatchNewWitsvidRequest>,
    ) -> Result<Response<svid::BatchNewWitsvidResponse>, Status> {
        nothing()
    }

    async fn new_downstream_x509ca(
        &self,
        _: Request<svid::NewDownstreamX509caRequest>,
    ) -> Result<Response<svid::NewDownstreamX509caResponse>, Status> {
        nothing()
    }
}
