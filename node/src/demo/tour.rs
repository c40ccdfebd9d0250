//! What a demonstration shows: an authority is founded, the calling user is registered, and the user's SVIDs are
//! fetched and verified as any workload would do it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use quorate_proto_api::channel::{Address, CALL_LIMIT, channel};
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{InitRequest, StatusRequest, StatusResponse};
use quorate_proto_api::spire::entry::BatchCreateEntryRequest;
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::types;
use quorate_proto_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use quorate_proto_api::workload::{
    JwtBundlesRequest, JwtsvidRequest, JwtsvidResponse, X509svidRequest, X509svidResponse,
};
use quorate_proto_api::{WORKLOAD_HEADER, WORKLOAD_HEADER_VALUE};
use quorate_proto_identity::spiffe_id::SpiffeId;
use quorate_proto_identity::trust_domain::TrustDomain;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use super::child::NodeProcess;
use super::layout::{Base, NodeFiles, TRUST_DOMAIN};
use super::verify::{VerifyError, verified_jwt, verified_x509};

/// How long the authority may take from its founding until it signs: a root, a token key, an issuing certificate and
/// three synced writes.
const SERVE_LIMIT: Duration = Duration::from_secs(30);

/// How often it is asked.
const SERVE_PACE: Duration = Duration::from_millis(20);

/// For whom the demonstration's token is.
const AUDIENCE: &str = "demo-audience";

/// What can go wrong on the tour.
#[derive(Debug, thiserror::Error)]
pub enum TourError {
    /// A call to the node was refused or lost.
    #[error("{deed}: {}", status.message())]
    Call {
        /// What was tried.
        deed: &'static str,
        /// What the node said.
        status: Status,
    },
    /// The node answered a call as no node should.
    #[error("{deed}: {what}")]
    Answer {
        /// What was tried.
        deed: &'static str,
        /// What is wrong with the answer.
        what: String,
    },
    /// The authority was founded and does not sign.
    #[error("the node does not sign yet after {} s: {reasons}", SERVE_LIMIT.as_secs())]
    NotServing {
        /// The node's own reasons.
        reasons: String,
    },
    /// What the node issued does not verify.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// Whether the node answers on its admin socket.
pub(super) async fn answers(files: &NodeFiles) -> bool {
    status(files).await.is_ok()
}

/// What is printed before anything is done.
pub(super) fn introduction(node: &NodeProcess) -> String {
    format!(
        "Quorate: a SPIFFE authority for the trust domain {TRUST_DOMAIN}\n\n  node      {} (process {})\n  files     {}\n\n",
        node.files().name,
        node.id(),
        node.files().directory().display(),
    )
}

/// Founds the authority unless there is one, registers the calling user, fetches and verifies; answers what to print.
pub(super) async fn take(files: &NodeFiles) -> Result<String, TourError> {
    let before = status(files).await.map_err(call("ask the node how it stands"))?;
    let mut story = String::new();
    if before.founded {
        line(&mut story, "authority", &format!("cluster {} from an earlier demonstration", before.cluster_id));
    } else {
        let founded = ClusterClient::new(channel(&Address::Unix(files.admin_socket())))
            .init(limited(InitRequest::default()))
            .await
            .map_err(call("found the authority"))?
            .into_inner();
        line(&mut story, "authority", &format!("cluster {} founded", founded.cluster_id));
    }
    wait_until_serving(files).await?;
    let user = calling_user()?;
    line(&mut story, "you", &format!("{} by selector unix:uid:{}", user.as_str(), Uid::current()));
    register(files, &user).await?;

    let x509 = fetch_x509(files).await?;
    let seen = verified_x509(&x509, &user)?;
    story.push('\n');
    line(&mut story, "X509-SVID", seen.spiffe_id.as_str());
    line(&mut story, "  serial", &seen.serial);
    line(&mut story, "  valid", &seen.valid);
    line(&mut story, "  chain", &seen.chain);
    line(&mut story, "  verified", "up to the root in the bundle that came with it");

    let (token, bundles) = fetch_jwt(files, &user).await?;
    let seen = verified_jwt(&token, AUDIENCE, &bundles, &user)?;
    story.push('\n');
    line(&mut story, "JWT-SVID", seen.spiffe_id.as_str());
    line(&mut story, "  audience", AUDIENCE);
    line(&mut story, "  valid", &seen.valid);
    line(&mut story, "  key", &seen.key);
    line(&mut story, "  verified", "with the key of that name in the JWT bundle");
    Ok(story)
}

/// Commands to try next, ready to be pasted.
pub(super) fn next_commands(node: &NodeProcess, base: &Base) -> String {
    let program = std::env::current_exe().map_or_else(|_| "quorate".to_owned(), |path| path.display().to_string());
    let files = node.files();
    let keep = if base.is_temporary() {
        "The files go when this ends; `demo --dir DIR` keeps them.".to_owned()
    } else {
        format!("The files stay in {}.", base.path().display())
    };
    format!(
        "\nTry, in another terminal:\n\n\
         \x20 export SPIFFE_ENDPOINT_SOCKET=unix://{workload}\n\
         \x20 export QUORATE_ADMIN_SOCKET={admin}\n\
         \x20 {program} fetch x509\n\
         \x20 {program} fetch jwt --audience {AUDIENCE}\n\
         \x20 {program} entry create --spiffe-id spiffe://{TRUST_DOMAIN}/web --selector unix:uid:{uid}\n\
         \x20 {program} entry show\n\
         \x20 kill -9 {process}        # it is started again, and nothing is lost\n\n\
         {keep} Ctrl-C stops it.\n\n",
        workload = files.workload_socket().display(),
        admin = files.admin_socket().display(),
        uid = Uid::current(),
        process = node.id(),
    )
}

/// Waits until the node says that it may sign.
pub(super) async fn wait_until_serving(files: &NodeFiles) -> Result<(), TourError> {
    let deadline = Instant::now() + SERVE_LIMIT;
    loop {
        let reasons = match status(files).await {
            Ok(status) if status.ready => return Ok(()),
            Ok(status) => status.reasons.join("; "),
            Err(status) => status.message().to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(TourError::NotServing { reasons });
        }
        tokio::time::sleep(SERVE_PACE).await;
    }
}

async fn status(files: &NodeFiles) -> Result<StatusResponse, Status> {
    let mut client = ClusterClient::new(channel(&Address::Unix(files.admin_socket())));
    Ok(client.status(limited(StatusRequest::default())).await?.into_inner())
}

/// The SPIFFE ID that the demonstration gives the calling user. An account's name may hold what a path segment may
/// not (ATK-02); the number always fits.
fn calling_user() -> Result<SpiffeId, TourError> {
    let deed = "name the calling user";
    let answer = |what: String| TourError::Answer { deed, what };
    let trust_domain = TrustDomain::new(TRUST_DOMAIN).map_err(|error| answer(error.to_string()))?;
    let by_name = User::from_uid(Uid::current())
        .ok()
        .flatten()
        .and_then(|user| SpiffeId::from_segments(&trust_domain, &["user", &user.name]).ok());
    match by_name {
        Some(id) => Ok(id),
        None => SpiffeId::from_segments(&trust_domain, &["user", &format!("uid-{}", Uid::current())])
            .map_err(|error| answer(error.to_string())),
    }
}

async fn register(files: &NodeFiles, user: &SpiffeId) -> Result<(), TourError> {
    const DEED: &str = "register the calling user";
    let id = |path: &str| types::Spiffeid { trust_domain: TRUST_DOMAIN.into(), path: path.into() };
    let entry = types::Entry {
        spiffe_id: Some(id(user.path())),
        parent_id: Some(id("/spire/nodes")),
        selectors: vec![types::Selector { r#type: "unix".into(), value: format!("uid:{}", Uid::current()) }],
        ..types::Entry::default()
    };
    let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let answer = EntryClient::new(channel(&Address::Unix(files.admin_socket())))
        .batch_create_entry(limited(request))
        .await
        .map_err(call(DEED))?
        .into_inner();
    let status = answer.results.into_iter().next().and_then(|result| result.status).unwrap_or_default();
    let code = Code::from(status.code);
    if matches!(code, Code::Ok | Code::AlreadyExists) {
        return Ok(());
    }
    Err(TourError::Answer { deed: DEED, what: format!("{code}: {}", status.message) })
}

async fn fetch_x509(files: &NodeFiles) -> Result<X509svidResponse, TourError> {
    const DEED: &str = "fetch an X509-SVID";
    let mut stream =
        workload(files).fetch_x509svid(as_workload(X509svidRequest {})).await.map_err(call(DEED))?.into_inner();
    let message = stream.message().await.map_err(call(DEED))?;
    message.ok_or_else(|| TourError::Answer { deed: DEED, what: "the stream ended without a message".into() })
}

async fn fetch_jwt(files: &NodeFiles, user: &SpiffeId) -> Result<(JwtsvidResponse, Vec<u8>), TourError> {
    const DEED: &str = "fetch a JWT-SVID";
    let mut client = workload(files);
    let request = JwtsvidRequest { audience: vec![AUDIENCE.into()], spiffe_id: user.as_str().into() };
    let token = client.fetch_jwtsvid(as_workload(request)).await.map_err(call(DEED))?.into_inner();
    let mut stream =
        client.fetch_jwt_bundles(as_workload(JwtBundlesRequest {})).await.map_err(call(DEED))?.into_inner();
    let bundles = stream.message().await.map_err(call(DEED))?.unwrap_or_default();
    let own = format!("spiffe://{TRUST_DOMAIN}");
    let keys = bundles
        .bundles
        .get(&own)
        .ok_or_else(|| TourError::Answer { deed: DEED, what: format!("no JWT bundle for {own}") })?;
    Ok((token, keys.to_vec()))
}

fn workload(files: &NodeFiles) -> SpiffeWorkloadApiClient<tonic::transport::Channel> {
    SpiffeWorkloadApiClient::new(channel(&Address::Unix(files.workload_socket())))
}

/// With the header that the endpoint asks of every call (EP-08), and a deadline.
fn as_workload<T>(message: T) -> Request<T> {
    let mut request = limited(message);
    request.metadata_mut().insert(WORKLOAD_HEADER, MetadataValue::from_static(WORKLOAD_HEADER_VALUE));
    request
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

fn call(deed: &'static str) -> impl FnOnce(Status) -> TourError {
    move |status| TourError::Call { deed, status }
}

/// One aligned line of the story.
fn line(story: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(story, "  {name:<11} {value}");
}
