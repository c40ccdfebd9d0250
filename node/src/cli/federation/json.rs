//! Relationships as JSON, in the form of their messages.

use quorate_proto_api::cluster::api_credential::Kind;
use quorate_proto_api::cluster::relationship_endpoint::Endpoint;
use quorate_proto_api::cluster::{
    ApiEndpoint, EndpointPins, HeldBundle, PollSettings, Relationship, RelationshipEndpoint, RelationshipStatus,
    ShowFederationResponse,
};
use serde::Serialize;

use crate::cli::json::{Base64, Wide};

/// `quorate.cluster.v1.Relationship`
#[derive(Serialize)]
pub(super) struct RelationshipJson<'a> {
    trust_domain: &'a str,
    endpoint: Option<EndpointJson<'a>>,
    pins: Option<PinsJson<'a>>,
    poll: Option<PollJson>,
    configured_by: &'a str,
    revision: Wide<u64>,
    created_at: Wide<i64>,
    changed_at: Wide<i64>,
    bundle: Option<HeldJson>,
}

impl<'a> From<&'a Relationship> for RelationshipJson<'a> {
    fn from(of: &'a Relationship) -> Self {
        let Relationship {
            trust_domain,
            endpoint,
            pins,
            poll,
            configured_by,
            revision,
            created_at,
            changed_at,
            bundle,
        } = of;
        Self {
            trust_domain,
            endpoint: endpoint.as_ref().and_then(EndpointJson::of),
            pins: pins.as_ref().map(Into::into),
            poll: poll.as_ref().map(Into::into),
            configured_by,
            revision: Wide(*revision),
            created_at: Wide(*created_at),
            changed_at: Wide(*changed_at),
            bundle: bundle.as_ref().map(Into::into),
        }
    }
}

/// `quorate.cluster.v1.RelationshipEndpoint`
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum EndpointJson<'a> {
    Web { url: &'a str },
    Spiffe { url: &'a str, endpoint_spiffe_id: &'a str },
    Api(ApiJson<'a>),
}

/// `quorate.cluster.v1.ApiEndpoint`
#[derive(Serialize)]
struct ApiJson<'a> {
    url: &'a str,
    server_spiffe_id: &'a str,
    credential: Option<CredentialJson<'a>>,
    watch: bool,
}

/// `quorate.cluster.v1.ApiCredential`
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum CredentialJson<'a> {
    None {},
    MutualTls {},
    ApiKey { secret_name: &'a str },
    Oauth { token_url: &'a str, client_id: &'a str, scope: &'a str, audience: &'a str, secret_name: &'a str },
}

impl<'a> EndpointJson<'a> {
    fn of(endpoint: &'a RelationshipEndpoint) -> Option<Self> {
        Some(match endpoint.endpoint.as_ref()? {
            Endpoint::Web(web) => Self::Web { url: &web.url },
            Endpoint::Spiffe(spiffe) => {
                Self::Spiffe { url: &spiffe.url, endpoint_spiffe_id: &spiffe.endpoint_spiffe_id }
            }
            Endpoint::Api(api) => {
                let ApiEndpoint { url, server_spiffe_id, credential, watch } = api;
                let kind = credential.as_ref().and_then(|credential| credential.kind.as_ref());
                Self::Api(ApiJson { url, server_spiffe_id, credential: kind.map(Into::into), watch: *watch })
            }
        })
    }
}

impl<'a> From<&'a Kind> for CredentialJson<'a> {
    fn from(kind: &'a Kind) -> Self {
        match kind {
            Kind::None(_) => Self::None {},
            Kind::MutualTls(_) => Self::MutualTls {},
            Kind::ApiKey(key) => Self::ApiKey { secret_name: &key.secret_name },
            Kind::Oauth(oauth) => Self::Oauth {
                token_url: &oauth.token_url,
                client_id: &oauth.client_id,
                scope: &oauth.scope,
                audience: &oauth.audience,
                secret_name: &oauth.secret_name,
            },
        }
    }
}

/// `quorate.cluster.v1.EndpointPins`
#[derive(Serialize)]
struct PinsJson<'a> {
    hosts: &'a [String],
    keys: Vec<Base64<'a>>,
}

impl<'a> From<&'a EndpointPins> for PinsJson<'a> {
    fn from(pins: &'a EndpointPins) -> Self {
        let EndpointPins { hosts, keys } = pins;
        Self { hosts, keys: keys.iter().map(|key| Base64(key)).collect() }
    }
}

/// `quorate.cluster.v1.PollSettings`
#[derive(Serialize)]
struct PollJson {
    floor_seconds: u32,
    refuse_redirects: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    accept_private: Option<bool>,
}

impl From<&PollSettings> for PollJson {
    fn from(of: &PollSettings) -> Self {
        let PollSettings { floor_seconds, refuse_redirects, accept_private } = *of;
        Self { floor_seconds, refuse_redirects, accept_private }
    }
}

/// `quorate.cluster.v1.HeldBundle`
#[derive(Serialize)]
pub(super) struct HeldJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<Wide<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_hint: Option<Wide<i64>>,
    x509_authorities: u32,
    jwt_authorities: u32,
    from_operator: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched_sequence: Option<Wide<u64>>,
    changed_at: Wide<i64>,
}

impl From<&HeldBundle> for HeldJson {
    fn from(of: &HeldBundle) -> Self {
        Self {
            sequence: of.sequence.map(Wide),
            refresh_hint: of.refresh_hint.map(Wide),
            x509_authorities: of.x509_authorities,
            jwt_authorities: of.jwt_authorities,
            from_operator: of.from_operator,
            fetched_sequence: of.fetched_sequence.map(Wide),
            changed_at: Wide(of.changed_at),
        }
    }
}

/// `quorate.cluster.v1.ShowFederationResponse`
#[derive(Serialize)]
pub(super) struct FederationJson<'a> {
    statuses: Vec<StatusJson<'a>>,
    now: Wide<i64>,
}

/// `quorate.cluster.v1.RelationshipStatus`
#[derive(Serialize)]
struct StatusJson<'a> {
    trust_domain: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_try: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<Wide<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_hint: Option<Wide<i64>>,
    error: &'a str,
    stale: bool,
    fetched_by: &'a str,
    watching: bool,
    older_in_row: u32,
}

impl<'a> From<&'a ShowFederationResponse> for FederationJson<'a> {
    fn from(of: &'a ShowFederationResponse) -> Self {
        Self { statuses: of.statuses.iter().map(Into::into).collect(), now: Wide(of.now) }
    }
}

impl<'a> From<&'a RelationshipStatus> for StatusJson<'a> {
    fn from(of: &'a RelationshipStatus) -> Self {
        Self {
            trust_domain: &of.trust_domain,
            last_success: of.last_success.map(Wide),
            last_try: of.last_try.map(Wide),
            next_try: of.next_try.map(Wide),
            sequence: of.sequence.map(Wide),
            refresh_hint: of.refresh_hint.map(Wide),
            error: &of.error,
            stale: of.stale,
            fetched_by: &of.fetched_by,
            watching: of.watching,
            older_in_row: of.older_in_row,
        }
    }
}
