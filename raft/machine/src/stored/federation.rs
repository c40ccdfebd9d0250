//! Stored forms of relationships, and of the operations on them. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::{Message, Oneof};
use quorate_proto_identity::{EndpointUrl, UnixSeconds};

use super::foreign::{StoredBundle, from_bundle, to_bundle};
use super::membership::node_name;
use super::secret::secret_name;
use super::{StoredError, at_most, kind, present, spiffe_id, to_bytes, trust_domain, valid};
use crate::command::Operation;
use crate::federation::{
    ApiCredential, ApiServer, Endpoint, EndpointPins, NewRelationship, PINS_LIMIT, PollSettings, Relationship,
    RelationshipChange, RelationshipOrigin,
};
use crate::objects::Object;

#[derive(Clone, PartialEq, Message)]
struct StoredEndpoint {
    #[prost(oneof = "StoredProfile", tags = "1, 2, 3")]
    profile: Option<StoredProfile>,
}

#[derive(Clone, PartialEq, Oneof)]
enum StoredProfile {
    #[prost(string, tag = "1")]
    Web(String),
    #[prost(message, tag = "2")]
    Spiffe(StoredSpiffe),
    #[prost(message, tag = "3")]
    Api(StoredApi),
}

#[derive(Clone, PartialEq, Message)]
struct StoredSpiffe {
    #[prost(string, tag = "1")]
    url: String,
    #[prost(string, tag = "2")]
    endpoint_spiffe_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredApi {
    #[prost(string, tag = "1")]
    url: String,
    /// None for a certificate of the Web PKI.
    #[prost(string, optional, tag = "2")]
    server_spiffe_id: Option<String>,
    #[prost(bool, tag = "3")]
    watch: bool,
    #[prost(oneof = "StoredCredential", tags = "4, 5, 6")]
    credential: Option<StoredCredential>,
}

/// None of these stands for no credential.
#[derive(Clone, PartialEq, Oneof)]
enum StoredCredential {
    #[prost(message, tag = "4")]
    MutualTls(StoredNothing),
    #[prost(string, tag = "5")]
    ApiKey(String),
    #[prost(message, tag = "6")]
    OAuth(StoredOAuth),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredNothing {}

#[derive(Clone, PartialEq, Message)]
struct StoredOAuth {
    #[prost(string, tag = "1")]
    token_url: String,
    #[prost(string, tag = "2")]
    client_id: String,
    #[prost(string, tag = "3")]
    scope: String,
    #[prost(string, tag = "4")]
    audience: String,
    #[prost(string, tag = "5")]
    secret: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPins {
    #[prost(string, repeated, tag = "1")]
    hosts: Vec<String>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    keys: Vec<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredPoll {
    #[prost(uint32, tag = "1")]
    floor: u32,
    #[prost(bool, tag = "2")]
    follow_redirects: bool,
    #[prost(bool, optional, tag = "3")]
    accept_private: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredOrigin {
    /// The node by whose configuration; none for an operator.
    #[prost(string, optional, tag = "1")]
    configuration: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRelationship {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(message, optional, tag = "2")]
    endpoint: Option<StoredEndpoint>,
    #[prost(message, optional, tag = "3")]
    pins: Option<StoredPins>,
    #[prost(message, optional, tag = "4")]
    poll: Option<StoredPoll>,
    #[prost(message, optional, tag = "5")]
    origin: Option<StoredOrigin>,
    #[prost(uint64, tag = "6")]
    revision: u64,
    #[prost(int64, tag = "7")]
    created_at: i64,
    #[prost(int64, tag = "8")]
    changed_at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredNewRelationship {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(message, optional, tag = "2")]
    endpoint: Option<StoredEndpoint>,
    #[prost(message, optional, tag = "3")]
    pins: Option<StoredPins>,
    #[prost(message, optional, tag = "4")]
    poll: Option<StoredPoll>,
    #[prost(message, optional, tag = "5")]
    origin: Option<StoredOrigin>,
    #[prost(message, optional, tag = "6")]
    bundle: Option<StoredBundle>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredUpdateRelationship {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(message, optional, tag = "2")]
    endpoint: Option<StoredEndpoint>,
    #[prost(message, optional, tag = "3")]
    pins: Option<StoredPins>,
    #[prost(message, optional, tag = "4")]
    poll: Option<StoredPoll>,
    #[prost(message, optional, tag = "5")]
    origin: Option<StoredOrigin>,
    #[prost(uint64, tag = "6")]
    expected_revision: u64,
}

fn url(text: &str) -> Result<EndpointUrl, StoredError> {
    let url = valid(EndpointUrl::parse(text), "endpoint URL")?;
    // In its usual form alone: else two texts would be stored for one relationship.
    if url.as_str() != text {
        return Err(StoredError::Value { what: "endpoint URL", reason: "it is not in its usual form".to_owned() });
    }
    Ok(url)
}

fn from_endpoint(endpoint: &Endpoint) -> StoredEndpoint {
    let text = |url: &EndpointUrl| url.as_str().to_owned();
    let profile = match endpoint {
        Endpoint::Web { url } => StoredProfile::Web(text(url)),
        Endpoint::Spiffe { url, endpoint_spiffe_id } => {
            StoredProfile::Spiffe(StoredSpiffe { url: text(url), endpoint_spiffe_id: endpoint_spiffe_id.to_string() })
        }
        Endpoint::Api { url, server, credential, watch } => StoredProfile::Api(StoredApi {
            url: text(url),
            server_spiffe_id: match server {
                ApiServer::Web => None,
                ApiServer::Spiffe(id) => Some(id.to_string()),
            },
            watch: *watch,
            credential: from_credential(credential),
        }),
    };
    StoredEndpoint { profile: Some(profile) }
}

fn from_credential(credential: &ApiCredential) -> Option<StoredCredential> {
    match credential {
        ApiCredential::None => None,
        ApiCredential::MutualTls => Some(StoredCredential::MutualTls(StoredNothing {})),
        ApiCredential::ApiKey { secret } => Some(StoredCredential::ApiKey(secret.as_str().to_owned())),
        ApiCredential::OAuth { token_url, client_id, scope, audience, secret } => {
            Some(StoredCredential::OAuth(StoredOAuth {
                token_url: token_url.as_str().to_owned(),
                client_id: client_id.clone(),
                scope: scope.clone(),
                audience: audience.clone(),
                secret: secret.as_str().to_owned(),
            }))
        }
    }
}

fn to_endpoint(stored: StoredEndpoint) -> Result<Endpoint, StoredError> {
    Ok(match present(stored.profile, "profile of an endpoint")? {
        StoredProfile::Web(text) => Endpoint::Web { url: url(&text)? },
        StoredProfile::Spiffe(StoredSpiffe { url: text, endpoint_spiffe_id }) => Endpoint::Spiffe {
            url: url(&text)?,
            endpoint_spiffe_id: spiffe_id(&endpoint_spiffe_id, "SPIFFE ID of an endpoint")?,
        },
        StoredProfile::Api(StoredApi { url: text, server_spiffe_id, watch, credential }) => Endpoint::Api {
            url: url(&text)?,
            server: match server_spiffe_id {
                None => ApiServer::Web,
                Some(id) => ApiServer::Spiffe(spiffe_id(&id, "SPIFFE ID of a Federation API")?),
            },
            credential: to_credential(credential)?,
            watch,
        },
    })
}

fn to_credential(stored: Option<StoredCredential>) -> Result<ApiCredential, StoredError> {
    Ok(match stored {
        None => ApiCredential::None,
        Some(StoredCredential::MutualTls(StoredNothing {})) => ApiCredential::MutualTls,
        Some(StoredCredential::ApiKey(secret)) => ApiCredential::ApiKey { secret: secret_name(&secret)? },
        Some(StoredCredential::OAuth(StoredOAuth { token_url, client_id, scope, audience, secret })) => {
            let (token_url, secret) = (url(&token_url)?, secret_name(&secret)?);
            ApiCredential::OAuth { token_url, client_id, scope, audience, secret }
        }
    })
}

fn from_pins(pins: &EndpointPins) -> StoredPins {
    let EndpointPins { hosts, keys } = pins;
    StoredPins { hosts: hosts.clone(), keys: keys.iter().map(|key| Bytes::copy_from_slice(key)).collect() }
}

fn to_pins(stored: StoredPins) -> Result<EndpointPins, StoredError> {
    let StoredPins { hosts, keys } = stored;
    at_most(&hosts, PINS_LIMIT, "pinned hosts")?;
    at_most(&keys, PINS_LIMIT, "pinned keys")?;
    let key = |key: &Bytes| valid(<[u8; 32]>::try_from(key.as_ref()), "hash of a pinned key");
    Ok(EndpointPins { hosts, keys: keys.iter().map(key).collect::<Result<_, _>>()? })
}

const fn from_poll(poll: PollSettings) -> StoredPoll {
    let PollSettings { floor, follow_redirects, accept_private } = poll;
    StoredPoll { floor, follow_redirects, accept_private }
}

const fn to_poll(stored: StoredPoll) -> PollSettings {
    let StoredPoll { floor, follow_redirects, accept_private } = stored;
    PollSettings { floor, follow_redirects, accept_private }
}

fn from_origin(origin: &RelationshipOrigin) -> StoredOrigin {
    StoredOrigin {
        configuration: match origin {
            RelationshipOrigin::Operator => None,
            RelationshipOrigin::Configuration { node } => Some(node.as_str().to_owned()),
        },
    }
}

fn to_origin(stored: &StoredOrigin) -> Result<RelationshipOrigin, StoredError> {
    Ok(match &stored.configuration {
        None => RelationshipOrigin::Operator,
        Some(node) => RelationshipOrigin::Configuration { node: node_name(node)? },
    })
}

impl Object for Relationship {
    const KIND: u8 = kind::RELATIONSHIP;

    fn stored(&self) -> Vec<u8> {
        let Self { trust_domain, endpoint, pins, poll, origin, revision, created_at, changed_at } = self;
        to_bytes(&StoredRelationship {
            trust_domain: trust_domain.as_str().to_owned(),
            endpoint: Some(from_endpoint(endpoint)),
            pins: Some(from_pins(pins)),
            poll: Some(from_poll(*poll)),
            origin: Some(from_origin(origin)),
            revision: *revision,
            created_at: created_at.0,
            changed_at: changed_at.0,
        })
    }
}

pub(crate) fn decode_relationship(bytes: Bytes) -> Result<Relationship, StoredError> {
    let stored = StoredRelationship::decode(bytes)?;
    Ok(Relationship {
        trust_domain: trust_domain(&stored.trust_domain)?,
        endpoint: to_endpoint(present(stored.endpoint, "endpoint")?)?,
        pins: to_pins(present(stored.pins, "pins of an endpoint")?)?,
        poll: to_poll(present(stored.poll, "settings of polls")?),
        origin: to_origin(&present(stored.origin, "origin of a relationship")?)?,
        revision: stored.revision,
        created_at: UnixSeconds(stored.created_at),
        changed_at: UnixSeconds(stored.changed_at),
    })
}

pub(super) fn from_new_relationship(new: &NewRelationship) -> StoredNewRelationship {
    let NewRelationship { trust_domain, endpoint, pins, poll, origin, bundle } = new;
    StoredNewRelationship {
        trust_domain: trust_domain.as_str().to_owned(),
        endpoint: Some(from_endpoint(endpoint)),
        pins: Some(from_pins(pins)),
        poll: Some(from_poll(*poll)),
        origin: Some(from_origin(origin)),
        bundle: bundle.as_ref().map(from_bundle),
    }
}

pub(super) fn to_new_relationship(stored: StoredNewRelationship) -> Result<Operation, StoredError> {
    Ok(Operation::CreateRelationship(Box::new(NewRelationship {
        trust_domain: trust_domain(&stored.trust_domain)?,
        endpoint: to_endpoint(present(stored.endpoint, "endpoint")?)?,
        pins: to_pins(present(stored.pins, "pins of an endpoint")?)?,
        poll: to_poll(present(stored.poll, "settings of polls")?),
        origin: to_origin(&present(stored.origin, "origin of a relationship")?)?,
        bundle: stored.bundle.map(to_bundle).transpose()?,
    })))
}

pub(super) fn from_update_relationship(
    of: &quorate_proto_identity::TrustDomain,
    change: &RelationshipChange,
    expected_revision: u64,
) -> StoredUpdateRelationship {
    let RelationshipChange { endpoint, pins, poll, origin } = change;
    StoredUpdateRelationship {
        trust_domain: of.as_str().to_owned(),
        endpoint: endpoint.as_ref().map(from_endpoint),
        pins: pins.as_ref().map(from_pins),
        poll: poll.map(from_poll),
        origin: origin.as_ref().map(from_origin),
        expected_revision,
    }
}

pub(super) fn to_update_relationship(stored: StoredUpdateRelationship) -> Result<Operation, StoredError> {
    let change = RelationshipChange {
        endpoint: stored.endpoint.map(to_endpoint).transpose()?,
        pins: stored.pins.map(to_pins).transpose()?,
        poll: stored.poll.map(to_poll),
        origin: stored.origin.as_ref().map(to_origin).transpose()?,
    };
    Ok(Operation::UpdateRelationship {
        trust_domain: trust_domain(&stored.trust_domain)?,
        change: Box::new(change),
        expected_revision: stored.expected_revision,
    })
}
