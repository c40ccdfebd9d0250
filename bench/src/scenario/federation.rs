//! Two clusters that trust each other, and one that trusts a thousand others.
//!
//! ```text
//!   two.example: prepare, activate, taint, revoke a root        one.example
//!     bundle ──── push (a watch of the Federation API) ─────────► state of all nodes ──► open stream of a workload
//!            ◄─── or polling (https_spiffe, refresh hint 1 s) ──
//!
//!   1,000 endpoints (https_web, hint 300 s) ◄── polled by the leader of one.example, a little over a hint long
//! ```

use super::Options;
use crate::clients::next;
use crate::endpoints::{Endpoints, WebIdentity, domain};
use crate::load::{Meter, Window, histogram, note};
use crate::nodes::OwnNodes;
use crate::product::{FEDERATED, Product};
use crate::report::{Figure, Report, Row, Verdict, percentiles};
use crate::trouble::Trouble;
use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::federation_client::FederationClient;
use quorate_proto_api::cluster::relationship_endpoint::Endpoint;
use quorate_proto_api::cluster::{
    ApiCredential, ApiEndpoint, CreateRelationshipRequest, DeleteRelationshipRequest, GetPolicyRequest,
    MutualTlsCredential, PollSettings, Publication, Relationship, RelationshipEndpoint, RelationshipStatus,
    SetPolicyRequest, ShowFederationRequest, SpiffeEndpoint, UpdateRelationshipRequest, WebEndpoint, api_credential,
};
use quorate_proto_api::spire::entry::BatchCreateEntryRequest;
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::types;
use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::{AuthorityId, Certificate};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tonic::Streaming;
use tonic::transport::Channel;

/// Roots that come and go while a change is pushed, and while it is polled. A revoked root is remembered to its end, and
/// there may be 64 in all.
const PUSHED: usize = 40;
const POLLED: usize = 12;

/// A new root is in the peer's streams within so many milliseconds of the call that makes it, ninety-nine times of a hundred.
const PUSH_P99_MS: f64 = 500.0;

/// The refresh hint of the publishing cluster, in seconds: the longest that polling takes.
const HINT: i64 = 1;

/// Federated trust domains of the leader whose processor time is measured, and their refresh hint in seconds.
const DOMAINS: usize = 1_000;
const DOMAINS_HINT: i64 = 300;

/// What polling them may cost the leader, in hundredths of a core.
const LEADER_PERCENT: f64 = 5.0;

/// How much longer than the hint a fetch may be ago: the jitter of the timers, and a look at the clocks.
const FRESH_SLACK: i64 = 45;

/// The shortest refresh hint that is polled by, in seconds, for a part of the full numbers (A-34).
const SHORTEST_HINT: i64 = 60;

/// How long it is watched at rest, before.
const AT_REST: Duration = Duration::from_secs(20);

/// The longest that a change may take before the measurement gives up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How often something is looked at.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    if options.directory.is_some() {
        return Err(Trouble::Unexpected("the clusters are changed here, so they are not those of --dir".to_owned()));
    }
    let nodes = options.nodes.unwrap_or(Options::CLUSTER);
    let ([one, two], directory) = Product::federated(nodes).await?;
    let identity = WebIdentity::new(directory.path())?;
    let directory = Arc::new(directory);
    let (mut one, mut two) = (OwnNodes::of(one, Arc::clone(&directory))?, OwnNodes::of(two, directory)?);
    for node in 0..one.count() {
        one.configure(node, &format!("\n[federation]\nweb_roots = \"{}\"\n", identity.roots.display()))?;
    }
    let api = free_address()?;
    for node in 0..two.count() {
        // Those that others would dial stand behind one name; here the first one does for all.
        let listen = if node == 0 { api.clone() } else { free_address()? };
        let url = format!("https://{api}/");
        two.configure(
            node,
            &format!("\n[federation_api]\nlisten = \"{listen}\"\nserver = \"https_spiffe\"\nurl = \"{url}\"\n"),
        )?;
    }
    two.start_all().await?;
    one.start_all().await?;
    let mut report = Report::new("federation", 1);
    arrivals(options, &one, &two, &api, &mut report).await?;
    two.stop().await?;
    thousand(options, &one, &identity, &mut report).await?;
    one.stop().await?;
    Ok(report)
}

/// From a change of the bundle of `two` to an open stream at `one`, by both ways.
async fn arrivals(
    options: &Options,
    one: &OwnNodes,
    two: &OwnNodes,
    api: &str,
    report: &mut Report,
) -> Result<(), Trouble> {
    publish_quickly(two).await?;
    federate(one).await?;
    let scaled = |count: usize| ((count as f64 * options.scale) as usize).max(2);
    let push = Endpoint::Api(ApiEndpoint {
        url: format!("https://{api}/"),
        server_spiffe_id: server_id(),
        credential: Some(ApiCredential { kind: Some(api_credential::Kind::MutualTls(MutualTlsCredential {})) }),
        watch: true,
    });
    let polled = Endpoint::Spiffe(SpiffeEndpoint { url: endpoint_of(two)?, endpoint_spiffe_id: server_id() });
    for (name, endpoint, count) in [("push", push, scaled(PUSHED)), ("polling", polled, scaled(POLLED))] {
        lead_to(one, endpoint).await?;
        let (came, went) = changes(one, two, count).await?;
        for (what, windows) in [("new root in the peer's stream", [came]), ("revoked root gone from it", [went])] {
            let latency = percentiles(&windows);
            report.rows.push(Row::of(format!("{name}: {what}"), &windows));
            if name == "push" {
                report.verdicts.push(Verdict::at_most(
                    format!("{name}: {what}, p99 ms"),
                    latency.p99 / 1e3,
                    PUSH_P99_MS,
                ));
            }
        }
    }
    report.notes.push(format!(
        "{} nodes each, all on this machine; the clock starts before the call that prepares or revokes the root, so key, \
         commits of both clusters and the fetch are within; the stream is open at node-{} of {}, refresh hint {HINT} s; \
         processor times are those of the publishing leader and of this process",
        one.count(),
        one.count(),
        FEDERATED[0],
    ));
    Ok(())
}

/// Roots of `two` that come and go, each awaited in a stream at `one`.
async fn changes(one: &OwnNodes, two: &OwnNodes, count: usize) -> Result<(Window, Window), Trouble> {
    let mut admin = two.clients_of(0).admin();
    let mut workload = one.clients_of(one.count() - 1).workload();
    let mut stream = workload.open().await?;
    next(&mut stream).await?;
    let (mut came, mut went) = (histogram()?, histogram()?);
    let publisher = two.process_of(two.leader().await?)?;
    let (first, second) = (Meter::start(publisher.clone())?, Meter::start(publisher)?);
    for _ in 0..count {
        let old = admin.active_root().await?;
        let mut caller = admin.clone();
        let start = Instant::now();
        let new = caller.prepare_root().await?;
        trusted(&mut stream, &new, true).await?;
        note(&mut came, start.elapsed());
        admin.activate_root(&new).await?;
        admin.taint_root(&old).await?;
        // Nothing stands under it for anybody who watches: until the certificates are new, the gate is shut.
        let start = revoked(&mut admin, &old).await?;
        trusted(&mut stream, &old, false).await?;
        note(&mut went, start.elapsed());
    }
    let operations = count as u64;
    Ok((first.stop(operations, came)?, second.stop(operations, went)?))
}

/// Takes a root out of the bundle, as soon as its gate is open; tells when the call began that did it.
async fn revoked(admin: &mut crate::clients::Admin, id: &AuthorityId) -> Result<Instant, Trouble> {
    let until = Instant::now() + GIVE_UP;
    loop {
        let start = Instant::now();
        match admin.revoke_root(id).await {
            Ok(()) => return Ok(start),
            Err(error) if start > until => return Err(error),
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Reads a stream until the other trust domain's bundle in it has this root, or has it no more.
async fn trusted(stream: &mut Streaming<X509svidResponse>, root: &AuthorityId, wanted: bool) -> Result<(), Trouble> {
    let seen = async {
        loop {
            let message = next(stream).await?;
            let bundle = message.federated_bundles.get(&format!("spiffe://{}", FEDERATED[1]));
            let roots = Certificate::parse_concatenated(bundle.map_or(&[][..], |bytes| bytes))
                .map_err(Trouble::crypto("federated bundle"))?;
            if roots.iter().any(|found| found.authority_id() == *root) == wanted {
                return Ok(());
            }
        }
    };
    let late = |_| Err(Trouble::Unexpected(format!("root {root}: nothing in the peer's stream after {GIVE_UP:?}")));
    timeout(GIVE_UP, seen).await.unwrap_or_else(late)
}

/// What it costs the leader of `one` to keep a thousand bundles fresh.
async fn thousand(
    options: &Options,
    one: &OwnNodes,
    identity: &WebIdentity,
    report: &mut Report,
) -> Result<(), Trouble> {
    let count = ((DOMAINS as f64 * options.scale) as usize).max(10);
    let hint = ((DOMAINS_HINT as f64 * options.scale) as i64).clamp(SHORTEST_HINT, DOMAINS_HINT);
    // A hint and its jitter, so that each of them comes by.
    let watched = Duration::from_secs((hint + FRESH_SLACK).unsigned_abs());
    let endpoints = Endpoints::serve(identity, count, hint).await?;
    let mut client = federation(one, 0);
    let request = DeleteRelationshipRequest { trust_domain: FEDERATED[1].to_owned(), dry_run: false };
    client.delete_relationship(request).await.map_err(Trouble::call("DeleteRelationship"))?;
    let leader = one.leader().await?;
    let process = one.process_of(leader)?;
    let rest = share(&process, AT_REST).await?;
    let began = Instant::now();
    for number in 0..count {
        let endpoint = Endpoint::Web(WebEndpoint { url: endpoints.url(number) });
        let relationship = Relationship {
            trust_domain: domain(number),
            endpoint: Some(RelationshipEndpoint { endpoint: Some(endpoint) }),
            ..Relationship::default()
        };
        let request =
            CreateRelationshipRequest { relationship: Some(relationship), ..CreateRelationshipRequest::default() };
        client.create_relationship(request).await.map_err(Trouble::call("CreateRelationship"))?;
    }
    while fetched(&statuses(&mut client).await?) < count {
        if began.elapsed() > GIVE_UP * 2 {
            return Err(Trouble::Unexpected("not all bundles were fetched after two minutes".to_owned()));
        }
        sleep(LOOK * 10).await;
    }
    let first = began.elapsed();
    let before = endpoints.served();
    let busy = share(&process, watched).await?;
    let asked = endpoints.served() - before;
    let answer = client.show_federation(ShowFederationRequest::default()).await;
    let answer = answer.map_err(Trouble::call("ShowFederation"))?.into_inner();
    let oldest = answer.now - hint - FRESH_SLACK;
    let fresh = |status: &&RelationshipStatus| !status.stale && status.last_success.is_some_and(|at| at >= oldest);
    let fresh = answer.statuses.iter().filter(fresh).count();
    let still_leads = one.leader().await? == leader;
    report.figures.extend([
        Figure::new(format!("{count} relationships made, and each bundle fetched"), first.as_secs_f64(), "s"),
        Figure::new("leader at rest, before", rest, "% of a core"),
        Figure::new(format!("requests to the endpoints in {} s", watched.as_secs()), asked as f64, ""),
    ]);
    report.verdicts.push(Verdict::at_most(
        format!("leader with {count} relationships, hint {hint} s, % of a core"),
        busy,
        LEADER_PERCENT,
    ));
    report.verdicts.push(Verdict::at_least("bundles that are fresh", fresh as f64, count as f64));
    if !still_leads {
        report.notes.push("the leader changed while it was watched: its figure is not one of a leader".to_owned());
    }
    Ok(())
}

/// Processor time that a process uses for a while, in hundredths of a core.
async fn share(process: &crate::process::Process, time: Duration) -> Result<f64, Trouble> {
    let (start, before) = (Instant::now(), process.cpu()?);
    sleep(time).await;
    Ok((process.cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0)
}

async fn statuses(client: &mut FederationClient<Channel>) -> Result<Vec<RelationshipStatus>, Trouble> {
    let answer = client.show_federation(ShowFederationRequest::default()).await;
    Ok(answer.map_err(Trouble::call("ShowFederation"))?.into_inner().statuses)
}

fn fetched(statuses: &[RelationshipStatus]) -> usize {
    statuses.iter().filter(|status| status.last_success.is_some()).count()
}

/// A short refresh hint, and activation as soon as peers that watch confirm: roots come and go quickly.
async fn publish_quickly(two: &OwnNodes) -> Result<(), Trouble> {
    let mut client = ClusterClient::new(channel(&Address::Unix(two.admin_socket_of(0))));
    let policy = client.get_policy(GetPolicyRequest {}).await.map_err(Trouble::call("GetPolicy"))?.into_inner();
    let mut policy = policy.policy.unwrap_or_default();
    policy.refresh_hint = HINT;
    policy.publication = Publication::ConfirmedByPeers.into();
    let request = SetPolicyRequest { policy: Some(policy), ..SetPolicyRequest::default() };
    client.set_policy(request).await.map(drop).map_err(Trouble::call("SetPolicy"))
}

/// An entry of `one` for this process, which federates with `two`.
async fn federate(one: &OwnNodes) -> Result<(), Trouble> {
    let id = |path: &str| Some(types::Spiffeid { trust_domain: FEDERATED[0].to_owned(), path: path.to_owned() });
    let own = types::Selector { r#type: "unix".to_owned(), value: format!("uid:{}", nix::unistd::getuid()) };
    let entry = types::Entry {
        spiffe_id: id("/bench/federation"),
        parent_id: id("/spire/nodes"),
        selectors: vec![own],
        federates_with: vec![FEDERATED[1].to_owned()],
        ..types::Entry::default()
    };
    let mut client = EntryClient::new(channel(&Address::Unix(one.admin_socket_of(0))));
    let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    client.batch_create_entry(request).await.map(drop).map_err(Trouble::call("BatchCreateEntry"))
}

/// Has `one` fetch the bundle of `two` from there, and waits until it does; with a watch, until that is open.
async fn lead_to(one: &OwnNodes, endpoint: Endpoint) -> Result<(), Trouble> {
    let watches = matches!(endpoint, Endpoint::Api(_));
    let mut client = federation(one, 0);
    let request = UpdateRelationshipRequest {
        trust_domain: FEDERATED[1].to_owned(),
        endpoint: Some(RelationshipEndpoint { endpoint: Some(endpoint) }),
        poll: Some(PollSettings { floor_seconds: 1, ..PollSettings::default() }),
        ..UpdateRelationshipRequest::default()
    };
    client.update_relationship(request).await.map_err(Trouble::call("UpdateRelationship"))?;
    let began = Instant::now();
    loop {
        let statuses = statuses(&mut client).await?;
        let ready = |status: &RelationshipStatus| status.error.is_empty() && status.watching == watches;
        if statuses.iter().any(|status| status.last_success.is_some() && ready(status)) {
            return Ok(());
        }
        if began.elapsed() > GIVE_UP {
            return Err(Trouble::Unexpected(format!("the relationship does not come about: {statuses:?}")));
        }
        sleep(LOOK).await;
    }
}

fn federation(nodes: &OwnNodes, node: usize) -> FederationClient<Channel> {
    FederationClient::new(channel(&Address::Unix(nodes.admin_socket_of(node))))
}

fn server_id() -> String {
    format!("spiffe://{}/spire/server", FEDERATED[1])
}

/// Where the first node serves its bundle, by its configuration.
fn endpoint_of(nodes: &OwnNodes) -> Result<String, Trouble> {
    let path: PathBuf = nodes.configuration_of(0);
    let text = std::fs::read_to_string(&path).map_err(Trouble::system(path.display().to_string()))?;
    let listen = text.split("spiffe_listen = \"").nth(1).and_then(|rest| rest.split('"').next());
    let listen = listen.ok_or_else(|| Trouble::Unexpected(format!("{}: no spiffe_listen", path.display())))?;
    Ok(format!("https://{listen}/"))
}

/// An address of this machine that nobody listens at.
fn free_address() -> Result<String, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Trouble::system("bind"))?;
    Ok(listener.local_addr().map_err(Trouble::system("bound address"))?.to_string())
}
