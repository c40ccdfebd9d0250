//! Endpoints of foreign trust domains, as they are found: `quorate.cluster.v1.FederationDiscovery`.
//!
//! A call changes nothing, and sends this node to hosts that strangers name, within the rules of
//! [`outbound`](crate::outbound). What it answers is words for an operator: nothing in it is believed.

use std::sync::Arc;

use quorate_proto_api::cluster::api_credential::Kind as Credential;
use quorate_proto_api::cluster::federation_discovery_server::{
    FederationDiscovery as DiscoveryApi, FederationDiscoveryServer,
};
use quorate_proto_api::cluster::relationship_endpoint::Endpoint;
use quorate_proto_api::cluster::{
    ApiCredential, ApiEndpoint, DiscoverRequest, DiscoverResponse, EndpointPins, FederationProposal, FoundBy,
    NoCredential, Relationship, RelationshipEndpoint, SeenBundle, SeenCertificate, SeenPolicy, SpiffeEndpoint,
    WebEndpoint,
};
use quorate_proto_identity::{Bundle, EndpointUrl, TrustDomain};
use quorate_raft_machine::federation::{EndpointPins as Pins, PINS_LIMIT};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::federation_discovery::document::{Issuer, Policy};
use crate::federation_discovery::find::{FoundBy as Found, Standing};
use crate::federation_discovery::fingerprint::SeenCertificate as Seen;
use crate::federation_discovery::proposal::Proposal;
use crate::federation_discovery::text::Kind;
use crate::federation_discovery::{Discovered, Discovery, DiscoveryError};
use crate::node::Node;

/// Searches that a node makes at a time: each may keep eight connections.
const SEARCHES_AT_ONCE: usize = 2;

/// The service.
#[derive(Clone)]
pub(super) struct DiscoveryService {
    node: Node,
    discovery: Discovery,
    turns: Arc<Semaphore>,
}

/// Puts the service together.
pub(super) fn service(node: &Node) -> FederationDiscoveryServer<DiscoveryService> {
    let discovery = Discovery::new(node.outbound().clone(), node.config().federation.dns_anchors.clone());
    let turns = Arc::new(Semaphore::new(SEARCHES_AT_ONCE));
    FederationDiscoveryServer::new(DiscoveryService { node: node.clone(), discovery, turns })
}

#[tonic::async_trait]
impl DiscoveryApi for DiscoveryService {
    async fn discover(&self, request: Request<DiscoverRequest>) -> Result<Response<DiscoverResponse>, Status> {
        let DiscoverRequest { trust_domain, url, pins } = request.into_inner();
        let domain = TrustDomain::new(&trust_domain)
            .map_err(|error| Status::invalid_argument(format!("{trust_domain:?} is no trust domain name: {error}")))?;
        let config = self.node.config();
        if domain == config.trust_domain {
            return Err(Status::invalid_argument(format!("{domain} is our own trust domain")));
        }
        let pins = pins_from_wire(pins.unwrap_or_default())?;
        let pins =
            config.federation.pins.iter().filter(|pin| pin.trust_domain == domain).fold(pins, |mut pins, pin| {
                pin.add_to(&mut pins);
                pins
            });
        let _turn = self.turns.try_acquire().map_err(|_taken| {
            Status::resource_exhausted("this node is searching for others already: wait for it, or ask another node")
        })?;
        let searched = if url.is_empty() {
            self.discovery.search(&domain, &pins).await
        } else {
            let at = EndpointUrl::parse(&url).map_err(|error| Status::invalid_argument(format!("{url:?}: {error}")))?;
            self.discovery.ask(&domain, &at, &pins).await
        };
        let Discovered { proposals, mut remarks } = searched.map_err(|error| refused(&error))?;
        let has_relationship = self.node.consensus().state().read(|state| state.relationship(&domain).is_some());
        if has_relationship {
            remarks.push(format!(
                "there is a relationship with {domain} already: change it with `quorate federation update`"
            ));
        }
        let proposals = proposals.iter().map(|proposal| to_wire(&domain, proposal)).collect();
        Ok(Response::new(DiscoverResponse { proposals, remarks }))
    }
}

fn refused(error: &DiscoveryError) -> Status {
    let text = error.to_string();
    match error {
        DiscoveryError::Name(_) => Status::invalid_argument(text),
        DiscoveryError::Setup(_) => Status::failed_precondition(text),
        DiscoveryError::Document(_) => Status::not_found(text),
    }
}

fn pins_from_wire(pins: EndpointPins) -> Result<Pins, Status> {
    let EndpointPins { hosts, keys } = pins;
    if hosts.len() > PINS_LIMIT || keys.len() > PINS_LIMIT {
        return Err(Status::invalid_argument(format!("at most {PINS_LIMIT} hosts and as many keys can be pinned")));
    }
    let keys = keys.iter().map(|key| <[u8; 32]>::try_from(key.as_ref())).collect::<Result<_, _>>();
    let keys = keys.map_err(|_| Status::invalid_argument("a pinned key is a SHA-256, of 32 bytes"))?;
    let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    Ok(Pins { hosts, keys })
}

fn to_wire(domain: &TrustDomain, proposal: &Proposal) -> FederationProposal {
    let Proposal { found, standing, seen, authorities, pins, obstacles } = proposal;
    let (found_by, source) = match &found.by {
        Found::Instance(label) => (FoundBy::DnsSd, label.clone()),
        Found::Service => (FoundBy::Srv, String::new()),
        Found::Document(url) => (FoundBy::Document, url.clone()),
    };
    let pins =
        EndpointPins { hosts: pins.hosts.clone(), keys: pins.keys.iter().map(|key| key.to_vec().into()).collect() };
    let relationship = Relationship {
        trust_domain: domain.to_string(),
        endpoint: found.kind.as_ref().map(|kind| endpoint(found.url.to_string(), kind, seen.policy.as_ref())),
        pins: Some(pins),
        ..Relationship::default()
    };
    FederationProposal {
        id: proposal.id(),
        found_by: found_by.into(),
        source,
        relationship: Some(relationship),
        url: found.url.to_string(),
        within_domain: *standing == Standing::Within,
        dnssec: found.vouched,
        confirm_host: *standing == Standing::Elsewhere,
        needs_bundle: proposal.needs_bundle(domain),
        address: seen.address.map(|address| address.to_string()).unwrap_or_default(),
        certificates: seen.certificates.iter().map(certificate).collect(),
        web_trust: seen.web_trust.clone().unwrap_or_default(),
        bundle: seen.document.clone().unwrap_or_default(),
        seen_bundle: seen.bundle.as_ref().map(|of| bundle(of, authorities)),
        policy: seen.policy.as_ref().map(policy),
        obstacles: obstacles.clone(),
    }
}

fn endpoint(url: String, kind: &Kind, policy: Option<&Policy>) -> RelationshipEndpoint {
    let endpoint = match kind {
        Kind::Web { .. } => Endpoint::Web(WebEndpoint { url }),
        Kind::Spiffe { id, .. } => Endpoint::Spiffe(SpiffeEndpoint { url, endpoint_spiffe_id: id.to_string() }),
        Kind::Api { id } => Endpoint::Api(ApiEndpoint {
            url,
            server_spiffe_id: id.as_ref().map(ToString::to_string).unwrap_or_default(),
            credential: Some(ApiCredential { kind: Some(Credential::None(NoCredential {})) }),
            watch: policy.is_none_or(|policy| policy.watch),
        }),
    };
    RelationshipEndpoint { endpoint: Some(endpoint) }
}

fn certificate(seen: &Seen) -> SeenCertificate {
    let Seen { subject, issuer, uri, names, not_after, key_fingerprint } = seen.clone();
    let key_fingerprint = key_fingerprint.to_vec().into();
    SeenCertificate { subject, issuer, spiffe_id: uri, names, not_after, key_fingerprint }
}

fn bundle(of: &Bundle, authorities: &[Seen]) -> SeenBundle {
    SeenBundle {
        sequence: of.sequence(),
        refresh_hint: of.refresh_hint(),
        x509_authorities: authorities.iter().map(certificate).collect(),
        jwt_key_ids: of.jwt_authorities().iter().map(|authority| authority.key_id.clone()).collect(),
    }
}

fn policy(of: &Policy) -> SeenPolicy {
    let told = |issuer: &Issuer| {
        let Issuer { issuer, audience, scope } = issuer;
        let scope = if scope.is_empty() { String::new() } else { format!(", scope {scope}") };
        format!("{issuer} for audience {audience}{scope}")
    };
    SeenPolicy {
        mutual_tls: of.mutual_tls,
        api_keys: of.api_keys,
        oauth: of.oauth.iter().map(told).collect(),
        anonymous: of.anonymous,
        watch: of.watch,
    }
}
