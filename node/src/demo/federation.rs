//! Two trust domains come to trust each other: each is given the other's bundle once, and fetches it by itself from then on.
//!
//! ```text
//!   one.example                                             two.example
//!     bundle ── handed over by the operator, once ──────────► relationship: https_spiffe, as spiffe://one.example/spire/server
//!     relationship ◄────────────────────────────────────────── bundle
//!     entry, federates with two.example                       entry, federates with one.example
//!     workload ◄──────────── mutual TLS, both ways ──────────► workload
//! ```
//!
//! Here both operators are one, so that nothing can be exchanged on the way; otherwise each compares what arrived.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::cluster::federation_client::FederationClient;
use quorate_proto_api::cluster::relationship_endpoint::Endpoint;
use quorate_proto_api::cluster::{
    CreateRelationshipRequest, RefreshRelationshipRequest, Relationship, RelationshipEndpoint, SpiffeEndpoint,
};
use quorate_proto_api::spire::bundle::GetBundleRequest;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::types;
use quorate_proto_identity::{Bundle, Certificate, JwtAuthority, PublicKey, TrustDomain};
use tokio::time::sleep;
use tonic::Code;

use super::call::{Workload, call};
use super::layout::NodeFiles;
use super::tour::{TourError, answer, applied, called, calling_user, enrol, fact, fetch_x509, limited};

/// How long it may take until the other domain's bundle is in the answers to workloads: it is pushed as soon as it is applied.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(20);

/// How long the first fetch from the other's endpoint may take: its certificate is signed after the node begins to serve.
const FETCH_LIMIT: Duration = Duration::from_secs(30);

/// How often either is looked at.
const PACE: Duration = Duration::from_millis(50);

/// Makes `to`'s bundle known to `from`, and has it fetched from then on; answers what to print.
pub(super) async fn trust(from: &NodeFiles, to: &NodeFiles) -> Result<String, TourError> {
    const DEED: &str = "make a relationship";
    let domain = to.site.trust_domain;
    let url = to.bundle_endpoint().ok_or_else(|| answer(DEED, "the other node's configuration has no endpoint"))?;
    let endpoint_spiffe_id = format!("spiffe://{domain}/spire/server");
    let endpoint =
        Endpoint::Spiffe(SpiffeEndpoint { url: url.clone(), endpoint_spiffe_id: endpoint_spiffe_id.clone() });
    let relationship = Relationship {
        trust_domain: domain.to_owned(),
        endpoint: Some(RelationshipEndpoint { endpoint: Some(endpoint) }),
        ..Relationship::default()
    };
    let request = CreateRelationshipRequest {
        relationship: Some(relationship),
        bundle: document(to).await?,
        ..CreateRelationshipRequest::default()
    };
    let mut client = federation(from);
    match client.create_relationship(limited(request)).await {
        Ok(_) => {}
        // From an earlier demonstration in this directory.
        Err(status) if status.code() == Code::AlreadyExists => {}
        Err(status) => return Err(called(DEED)(status)),
    }
    fetched(&mut client, domain).await?;
    Ok(fact(
        "trusts",
        &format!("{} gets the bundle of {domain} from {url}, as {endpoint_spiffe_id}", from.site.trust_domain),
    ))
}

/// Waits until the bundle was fetched from the other's endpoint.
async fn fetched(client: &mut FederationClient<tonic::transport::Channel>, domain: &str) -> Result<(), TourError> {
    let deadline = Instant::now() + FETCH_LIMIT;
    loop {
        let request = RefreshRelationshipRequest { trust_domain: domain.to_owned(), accept_older: false };
        match client.refresh_relationship(limited(request)).await {
            Ok(_) => return Ok(()),
            Err(status) if Instant::now() >= deadline => return Err(called("fetch a foreign bundle")(status)),
            Err(_) => sleep(PACE).await,
        }
    }
}

/// A cluster's own bundle as the document that operators hand to each other.
async fn document(files: &NodeFiles) -> Result<Bytes, TourError> {
    const DEED: &str = "read a bundle";
    let mut client = BundleClient::new(channel(&Address::Unix(files.admin_socket())));
    let bundle = client.get_bundle(limited(GetBundleRequest { output_mask: None })).await.map_err(called(DEED))?;
    let bundle = read(&bundle.into_inner()).map_err(|what| answer(DEED, what))?;
    Ok(bundle.to_json().into())
}

fn read(message: &types::Bundle) -> Result<Bundle, String> {
    let mut bundle = Bundle::new(TrustDomain::new(&message.trust_domain).map_err(|error| error.to_string())?);
    for root in &message.x509_authorities {
        bundle.add_x509_authority(Certificate::parse(&root.asn1).map_err(|error| error.to_string())?);
    }
    for key in &message.jwt_authorities {
        let public_key = PublicKey::from_spki_der(&key.public_key).map_err(|error| error.to_string())?;
        bundle.add_jwt_authority(JwtAuthority { key_id: key.key_id.clone(), public_key });
    }
    bundle.set_sequence(Some(message.sequence_number));
    bundle.set_refresh_hint(Some(message.refresh_hint));
    Ok(bundle)
}

/// The calling user's workload at a node, once it can verify those of the other trust domain.
pub(super) async fn workload(files: &NodeFiles, other: &str) -> Result<Workload, TourError> {
    let user = calling_user(files)?;
    let deadline = Instant::now() + ARRIVAL_LIMIT;
    loop {
        let workload = Workload::new(&fetch_x509(files).await?, &user)?;
        if workload.knows(other) {
            return Ok(workload);
        }
        if Instant::now() >= deadline {
            let what = format!("{} has no bundle of {other} after {} s", files.title(), ARRIVAL_LIMIT.as_secs());
            return Err(answer("fetch an X509-SVID", what));
        }
        sleep(PACE).await;
    }
}

/// Has the calling user's workloads at two nodes of different trust domains call each other, both ways.
pub(super) async fn speak(one: &NodeFiles, two: &NodeFiles) -> Result<(), TourError> {
    let caller = workload(one, two.site.trust_domain).await?;
    let answerer = workload(two, one.site.trust_domain).await?;
    call(&caller, &answerer).await?;
    call(&answerer, &caller).await?;
    Ok(())
}

/// Has both trust domains trust each other, registers the calling user in each, and has its workloads at all nodes speak with
/// each other; answers what to print.
pub(super) async fn take(one: &[NodeFiles], two: &[NodeFiles]) -> Result<String, TourError> {
    let (Some(first), Some(second)) = (one.first(), two.first()) else { return Ok(String::new()) };
    let mut story = trust(first, second).await?;
    story.push_str(&trust(second, first).await?);
    for nodes in [one, two] {
        let Some(first) = nodes.first() else { continue };
        let (enrolled, registered) = enrol(first, &calling_user(first)?).await?;
        story.push_str(&enrolled);
        for other in nodes.iter().skip(1) {
            applied(other, registered).await?;
        }
    }
    for (one, two) in one.iter().zip(two) {
        speak(one, two).await?;
    }
    let (caller, answerer) = (calling_user(first)?, calling_user(second)?);
    story.push('\n');
    story.push_str(&fact("call", &format!("{caller} -> {answerer}, and back: mutual TLS 1.3")));
    story.push_str(&fact("  verified", "each side with the bundle of the other's trust domain"));
    if one.len() > 1 {
        story.push_str(&fact("  everywhere", &format!("between the workloads of {} pairs of nodes", one.len())));
    }
    Ok(story)
}

fn federation(files: &NodeFiles) -> FederationClient<tonic::transport::Channel> {
    FederationClient::new(channel(&Address::Unix(files.admin_socket())))
}
