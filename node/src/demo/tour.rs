//! What a demonstration shows: an authority is founded, nodes join it, the calling user is registered, and the user's
//! SVIDs are fetched and verified at every node as any workload would do it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use quorate_proto_api::channel::{Address, CALL_LIMIT, channel};
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{InitRequest, InviteRequest, StatusRequest, StatusResponse, WaitRequest};
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::entry::{BatchCreateEntryRequest, BatchUpdateEntryRequest};
use quorate_proto_api::spire::types;
use quorate_proto_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use quorate_proto_api::workload::{
    JwtBundlesRequest, JwtsvidRequest, JwtsvidResponse, X509svidRequest, X509svidResponse,
};
use quorate_proto_api::{
    CONSISTENCY_HEADER, CONSISTENCY_LINEARIZABLE, LOG_INDEX_HEADER, WORKLOAD_HEADER, WORKLOAD_HEADER_VALUE,
};
use quorate_proto_identity::spiffe_id::SpiffeId;
use quorate_proto_identity::trust_domain::TrustDomain;
use tokio::time::sleep;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::assembly::Assembly;
use super::call::CallError;
use super::layout::{Base, NodeFiles, Site};
use super::outlook::Outlook;
use super::verify::{VerifyError, verified_jwt, verified_x509};

/// How long the authority may take from its founding until it signs: a root, a token key, an issuing certificate and
/// three synced writes.
const SERVE_LIMIT: Duration = Duration::from_secs(30);

/// How often it is asked.
const SERVE_PACE: Duration = Duration::from_millis(20);

/// For whom the demonstration's token is.
const AUDIENCE: &str = "demo-audience";

/// The ID of the calling user's entry.
const ENTRY: &str = "demo-user";

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
    #[error("{name} does not sign yet after {} s: {reasons}", SERVE_LIMIT.as_secs())]
    NotServing {
        /// Which node.
        name: String,
        /// The node's own reasons.
        reasons: String,
    },
    /// What the node issued does not verify.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Workloads of two trust domains could not speak with each other.
    #[error(transparent)]
    Spoken(#[from] CallError),
}

/// Whether the node answers on its admin socket.
pub(super) async fn answers(files: &NodeFiles) -> bool {
    status(files).await.is_ok()
}

/// What is printed before anything is done.
pub(super) fn introduction(sites: &[Site], nodes: u8, base: &Base) -> String {
    let count = if nodes == 1 { "one node".to_owned() } else { format!("{nodes} nodes") };
    let what = match sites {
        [one, two] => format!(
            "two SPIFFE authorities that federate, for the trust domains {} and {}, of {count} each",
            one.trust_domain, two.trust_domain
        ),
        _ => format!(
            "a SPIFFE authority for the trust domain {}, of {count}",
            sites.first().map_or("", |site| site.trust_domain)
        ),
    };
    format!("Quorate: {what}\n\n{}", fact("files", &base.path().display().to_string()))
}

/// One aligned line of a story.
pub(super) fn fact(name: &str, value: &str) -> String {
    let mut text = String::new();
    line(&mut text, name, value);
    text
}

/// Founds the authority; answers what to print.
pub(super) async fn found(files: &NodeFiles) -> Result<String, TourError> {
    let request = InitRequest { region: files.region.to_owned(), ..InitRequest::default() };
    let founded = cluster(files).init(limited(request)).await.map_err(called("found the authority"))?.into_inner();
    Ok(format!("cluster {} founded by {} in {}", founded.cluster_id, files.title(), files.region))
}

/// The names of the members, as the first node knows them; none before the founding.
pub(super) async fn members(files: &NodeFiles) -> Result<Vec<String>, TourError> {
    let status = status(files).await.map_err(called("ask the node how it stands"))?;
    Ok(status.members.into_iter().map(|member| member.name).collect())
}

/// Makes an invitation for a node.
pub(super) async fn invite(files: &NodeFiles, guest: &NodeFiles) -> Result<String, TourError> {
    let request =
        InviteRequest { name: guest.name.clone(), region: guest.region.to_owned(), ..InviteRequest::default() };
    let made = cluster(files).invite(limited(request)).await.map_err(called("invite a node"))?.into_inner();
    Ok(made.invitation)
}

/// Registers the calling user at the first node, fetches and verifies at all; answers what to print.
pub(super) async fn take(nodes: &[NodeFiles]) -> Result<String, TourError> {
    let Some(first) = nodes.first() else { return Ok(String::new()) };
    let user = calling_user(first)?;
    let (mut story, registered) = enrol(first, &user).await?;

    let x509 = fetch_x509(first).await?;
    let seen = verified_x509(&x509, &user)?;
    story.push('\n');
    line(&mut story, "X509-SVID", seen.spiffe_id.as_str());
    line(&mut story, "  serial", &seen.serial);
    line(&mut story, "  valid", &seen.valid);
    line(&mut story, "  chain", &seen.chain);
    line(&mut story, "  verified", "up to the root in the bundle that came with it");

    let (token, bundles) = fetch_jwt(first, &user).await?;
    let seen = verified_jwt(&token, AUDIENCE, &bundles, &user)?;
    story.push('\n');
    line(&mut story, "JWT-SVID", seen.spiffe_id.as_str());
    line(&mut story, "  audience", AUDIENCE);
    line(&mut story, "  valid", &seen.valid);
    line(&mut story, "  key", &seen.key);
    line(&mut story, "  verified", "with the key of that name in the JWT bundle");

    let others: Vec<&NodeFiles> = nodes.iter().skip(1).collect();
    for other in &others {
        applied(other, registered).await?;
        verified_x509(&fetch_x509(other).await?, &user)?;
        // A token of another node, with the keys that this one hands out.
        let (_own, bundles) = fetch_jwt(other, &user).await?;
        verified_jwt(&token, AUDIENCE, &bundles, &user)?;
    }
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
        let seen = format!("the same identity at {}; the token of {} verified there", names.join(", "), first.name);
        line(&mut story, "  everywhere", &seen);
    }
    Ok(story)
}

/// Registers the calling user; answers what to print, and where in the log that stands.
pub(super) async fn enrol(files: &NodeFiles, user: &SpiffeId) -> Result<(String, u64), TourError> {
    let registered = register(files, user).await?;
    Ok((fact("you", &format!("{} by selector unix:uid:{}", user.as_str(), Uid::current())), registered))
}

/// Commands to try next, ready to be pasted.
pub(super) async fn next_commands(assembly: &Assembly, base: &Base) -> String {
    let Some(files) = assembly.files().first() else { return String::new() };
    let (program, keep) = (program(), keep(base));
    let leader = Outlook::of(assembly.files()).await.leader.unwrap_or_else(|| files.name.clone());
    let process = assembly.keepers().iter().find(|keeper| keeper.files.name == leader);
    let process = process.and_then(|keeper| *keeper.process.borrow()).unwrap_or_default();
    let victim = match assembly.files().len() {
        1 => "it is started again, and nothing is lost".to_owned(),
        _ => format!("{leader}, which leads: the others go on, and it is started again"),
    };
    format!(
        "\nTry, in another terminal:\n\n\
         \x20 export SPIFFE_ENDPOINT_SOCKET=unix://{workload}\n\
         \x20 export QUORATE_ADMIN_SOCKET={admin}\n\
         \x20 {program} fetch x509\n\
         \x20 {program} fetch jwt --audience {AUDIENCE}\n\
         \x20 {program} entry create --spiffe-id spiffe://{trust_domain}/web --selector unix:uid:{uid}\n\
         \x20 {program} entry show\n\
         \x20 {program} cluster status\n\
         \x20 kill -9 {process}        # {victim}\n\n\
         {keep} Ctrl-C stops it.\n\n",
        trust_domain = files.site.trust_domain,
        workload = files.workload_socket().display(),
        admin = files.admin_socket().display(),
        uid = Uid::current(),
    )
}

/// The same after two trust domains were federated.
pub(super) async fn next_federation_commands(one: &Assembly, two: &Assembly, base: &Base) -> String {
    let (Some(first), Some(second)) = (one.files().first(), two.files().first()) else { return String::new() };
    let leader = Outlook::of(one.files()).await.leader.unwrap_or_else(|| first.name.clone());
    let process = one.keepers().iter().find(|keeper| keeper.files.name == leader);
    let process = process.and_then(|keeper| *keeper.process.borrow()).unwrap_or_default();
    format!(
        "\nTry, in another terminal:\n\n\
         \x20 export SPIFFE_ENDPOINT_SOCKET=unix://{workload}\n\
         \x20 export QUORATE_ADMIN_SOCKET={admin}\n\
         \x20 {program} fetch x509\n\
         \x20 {program} federation status\n\
         \x20 {program} authority prepare x509 --socket {second_admin}   # a new root over there ...\n\
         \x20 {program} federation refresh {other}   # ... is fetched, and pushed to your workload: fetch again\n\
         \x20 {program} federation delete {other}   # and fetch again: its workloads are refused from here on\n\
         \x20 kill -9 {process}        # {leader} of {domain}, which leads there: the others go on\n\n\
         {keep} Ctrl-C stops it.\n\n",
        program = program(),
        keep = keep(base),
        workload = first.workload_socket().display(),
        admin = first.admin_socket().display(),
        second_admin = second.admin_socket().display(),
        domain = first.site.trust_domain,
        other = second.site.trust_domain,
    )
}

/// The program that is running.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "quorate".to_owned(), |path| path.display().to_string())
}

/// What becomes of the files.
fn keep(base: &Base) -> String {
    if base.is_temporary() {
        "The files go when this ends; `demo --dir DIR` keeps them.".to_owned()
    } else {
        format!("The files stay in {}.", base.path().display())
    }
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
            return Err(TourError::NotServing { name: files.title(), reasons });
        }
        sleep(SERVE_PACE).await;
    }
}

/// Waits, however long it takes, until a node that was away serves again and has applied all that was acknowledged
/// before; gives how far that is.
pub(super) async fn caught_up(files: &NodeFiles) -> u64 {
    loop {
        if status(files).await.is_ok_and(|status| status.ready) {
            let mut request = limited(WaitRequest { index: 0, timeout_millis: 1_000 });
            let linearizable = MetadataValue::from_static(CONSISTENCY_LINEARIZABLE);
            request.metadata_mut().insert(CONSISTENCY_HEADER, linearizable);
            if let Ok(answer) = cluster(files).wait(request).await {
                return answer.into_inner().applied_index;
            }
        }
        sleep(SERVE_PACE).await;
    }
}

/// Waits until a node has applied what was written at another.
pub(super) async fn applied(files: &NodeFiles, index: u64) -> Result<(), TourError> {
    let timeout_millis = u64::try_from(CALL_LIMIT.as_millis()).unwrap_or(u64::MAX);
    let request = limited(WaitRequest { index, timeout_millis });
    cluster(files).wait(request).await.map(drop).map_err(called("wait for the entry at the other nodes"))
}

/// Fetches a token, as a workload would.
pub(super) async fn fetch_token(files: &NodeFiles) -> Result<(), Status> {
    let request = JwtsvidRequest { audience: vec![AUDIENCE.into()], spiffe_id: String::new() };
    workload(files).fetch_jwtsvid(as_workload(request)).await.map(drop)
}

/// Writes something that everybody may see: the hint of the calling user's entry.
pub(super) async fn write(files: &NodeFiles, number: u64) -> Result<(), TourError> {
    const DEED: &str = "write";
    let entry = types::Entry { id: ENTRY.to_owned(), hint: format!("written {number}"), ..types::Entry::default() };
    let input_mask = Some(types::EntryMask { hint: true, ..types::EntryMask::default() });
    let request = BatchUpdateEntryRequest { entries: vec![entry], input_mask, output_mask: None };
    let mut client = EntryClient::new(channel(&Address::Unix(files.admin_socket())));
    let answer = client.batch_update_entry(limited(request)).await.map_err(called(DEED))?.into_inner();
    let status = answer.results.into_iter().next().and_then(|result| result.status).unwrap_or_default();
    let code = Code::from(status.code);
    if code == Code::Ok {
        return Ok(());
    }
    Err(TourError::Answer { deed: DEED, what: format!("{code}: {}", status.message) })
}

fn cluster(files: &NodeFiles) -> ClusterClient<Channel> {
    ClusterClient::new(channel(&Address::Unix(files.admin_socket())))
}

/// How a node stands.
pub(super) async fn status(files: &NodeFiles) -> Result<StatusResponse, Status> {
    Ok(cluster(files).status(limited(StatusRequest::default())).await?.into_inner())
}

/// The SPIFFE ID that the demonstration gives the calling user. An account's name may hold what a path segment may
/// not (ATK-02); the number always fits.
pub(super) fn calling_user(files: &NodeFiles) -> Result<SpiffeId, TourError> {
    let deed = "name the calling user";
    let answer = |what: String| TourError::Answer { deed, what };
    let trust_domain = TrustDomain::new(files.site.trust_domain).map_err(|error| answer(error.to_string()))?;
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

/// Registers the calling user, and answers where in the log that stands; 0 if it was before.
async fn register(files: &NodeFiles, user: &SpiffeId) -> Result<u64, TourError> {
    const DEED: &str = "register the calling user";
    let id = |path: &str| types::Spiffeid { trust_domain: files.site.trust_domain.into(), path: path.into() };
    let entry = types::Entry {
        id: ENTRY.to_owned(),
        spiffe_id: Some(id(user.path())),
        parent_id: Some(id("/spire/nodes")),
        selectors: vec![types::Selector { r#type: "unix".into(), value: format!("uid:{}", Uid::current()) }],
        federates_with: files.site.other().map(str::to_owned).into_iter().collect(),
        ..types::Entry::default()
    };
    let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let answer = EntryClient::new(channel(&Address::Unix(files.admin_socket())))
        .batch_create_entry(limited(request))
        .await
        .map_err(called(DEED))?;
    let log_index = answer.metadata().get(LOG_INDEX_HEADER).and_then(|index| index.to_str().ok()?.parse().ok());
    let answer = answer.into_inner();
    let status = answer.results.into_iter().next().and_then(|result| result.status).unwrap_or_default();
    let code = Code::from(status.code);
    if matches!(code, Code::Ok | Code::AlreadyExists) {
        return Ok(log_index.unwrap_or_default());
    }
    Err(TourError::Answer { deed: DEED, what: format!("{code}: {}", status.message) })
}

pub(super) async fn fetch_x509(files: &NodeFiles) -> Result<X509svidResponse, TourError> {
    const DEED: &str = "fetch an X509-SVID";
    let mut stream =
        workload(files).fetch_x509svid(as_workload(X509svidRequest {})).await.map_err(called(DEED))?.into_inner();
    let message = stream.message().await.map_err(called(DEED))?;
    message.ok_or_else(|| TourError::Answer { deed: DEED, what: "the stream ended without a message".into() })
}

async fn fetch_jwt(files: &NodeFiles, user: &SpiffeId) -> Result<(JwtsvidResponse, Vec<u8>), TourError> {
    const DEED: &str = "fetch a JWT-SVID";
    let mut client = workload(files);
    let request = JwtsvidRequest { audience: vec![AUDIENCE.into()], spiffe_id: user.as_str().into() };
    let token = client.fetch_jwtsvid(as_workload(request)).await.map_err(called(DEED))?.into_inner();
    let mut stream =
        client.fetch_jwt_bundles(as_workload(JwtBundlesRequest {})).await.map_err(called(DEED))?.into_inner();
    let bundles = stream.message().await.map_err(called(DEED))?.unwrap_or_default();
    let own = format!("spiffe://{}", files.site.trust_domain);
    let keys = bundles
        .bundles
        .get(&own)
        .ok_or_else(|| TourError::Answer { deed: DEED, what: format!("no JWT bundle for {own}") })?;
    Ok((token, keys.to_vec()))
}

fn workload(files: &NodeFiles) -> SpiffeWorkloadApiClient<Channel> {
    SpiffeWorkloadApiClient::new(channel(&Address::Unix(files.workload_socket())))
}

/// With the header that the endpoint asks of every call (EP-08), and a deadline.
fn as_workload<T>(message: T) -> Request<T> {
    let mut request = limited(message);
    request.metadata_mut().insert(WORKLOAD_HEADER, MetadataValue::from_static(WORKLOAD_HEADER_VALUE));
    request
}

pub(super) fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

/// A call that was refused or lost.
pub(super) fn called(deed: &'static str) -> impl FnOnce(Status) -> TourError {
    move |status| TourError::Call { deed, status }
}

/// An answer as none should be.
pub(super) fn answer(deed: &'static str, what: impl Into<String>) -> TourError {
    TourError::Answer { deed, what: what.into() }
}

/// One aligned line of the story.
fn line(story: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(story, "  {name:<11} {value}");
}
