//! Relationships: from where, and how, the bundle of a foreign trust domain is fetched.

use quorate_proto_identity::bundle::REFRESH_LEAST_SECONDS;
use quorate_proto_identity::{Bundle, EndpointUrl, NodeName, SpiffeId, TrustDomain, UnixSeconds};

use super::SecretName;

/// Most relationships. Each is an actor with a timer on the leader; twice what the scale plan asks for.
pub const RELATIONSHIPS_LIMIT: usize = 2_000;

/// Most host names, and most keys, that an endpoint may be pinned to: a rotation of either needs two at a time.
pub const PINS_LIMIT: usize = 16;

/// Longest text of a credential (client ID, scope, audience), in bytes.
pub const CREDENTIAL_TEXT_LIMIT: usize = 1_024;

/// Longest least time between two polls, in seconds: a day, as hints are cut too.
pub const POLL_FLOOR_LIMIT: u32 = 24 * 60 * 60;

/// One-way trust in a foreign trust domain's bundle endpoint (FED-45): what must be known before it is first asked
/// (FED-16, FED-32).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relationship {
    /// Whose bundle is fetched. Never inferred from the URL (FED-50).
    pub trust_domain: TrustDomain,
    /// From where, and how.
    pub endpoint: Endpoint,
    /// What else must hold of the endpoint.
    pub pins: EndpointPins,
    /// How often, and over what.
    pub poll: PollSettings,
    /// Who made it.
    pub origin: RelationshipOrigin,
    /// Given by a counter of the whole state at each change, so that no two versions of any relationship have the same:
    /// what was fetched for an earlier one is not taken. Never 0.
    pub revision: u64,
    /// When it was made, in the log's time.
    pub created_at: UnixSeconds,
    /// When it was last changed.
    pub changed_at: UnixSeconds,
}

/// A relationship to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRelationship {
    /// Whose bundle is fetched.
    pub trust_domain: TrustDomain,
    /// From where, and how.
    pub endpoint: Endpoint,
    /// What else must hold of the endpoint.
    pub pins: EndpointPins,
    /// How often, and over what.
    pub poll: PollSettings,
    /// Who makes it.
    pub origin: RelationshipOrigin,
    /// The bundle to begin with (FED-34, FED-41): it takes the place of one that is there.
    pub bundle: Option<Bundle>,
}

/// What to change of a relationship; what is not given stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelationshipChange {
    /// From where, and how.
    pub endpoint: Option<Endpoint>,
    /// What else must hold of the endpoint.
    pub pins: Option<EndpointPins>,
    /// How often, and over what.
    pub poll: Option<PollSettings>,
    /// Who stands for it from here on.
    pub origin: Option<RelationshipOrigin>,
}

/// Where a bundle is fetched from, and by which profile. The profile is always told, and there is no way back from one to
/// another (FED-50).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The standard's `https_web`: a server certificate of the Web PKI.
    Web {
        /// The endpoint.
        url: EndpointUrl,
    },
    /// The standard's `https_spiffe`: an X509-SVID of exactly this ID (FED-40).
    Spiffe {
        /// The endpoint.
        url: EndpointUrl,
        /// The server. In the trust domain itself, or in another whose bundle is held too (FED-33, FED-35).
        endpoint_spiffe_id: SpiffeId,
    },
    /// The Federation API, `quorate.federation.v1`.
    Api {
        /// Where it is served.
        url: EndpointUrl,
        /// What the server shows.
        server: ApiServer,
        /// What we show.
        credential: ApiCredential,
        /// Whether to have changes pushed, beside polling.
        watch: bool,
    },
}

impl Endpoint {
    /// The URL, whatever the profile.
    #[must_use]
    pub const fn url(&self) -> &EndpointUrl {
        match self {
            Self::Web { url } | Self::Spiffe { url, .. } | Self::Api { url, .. } => url,
        }
    }

    /// What people call the profile.
    #[must_use]
    pub const fn profile(&self) -> &'static str {
        match self {
            Self::Web { .. } => "https_web",
            Self::Spiffe { .. } => "https_spiffe",
            Self::Api { .. } => "federation_api",
        }
    }

    /// The SPIFFE ID that the server must prove, where it is one.
    #[must_use]
    pub const fn server_spiffe_id(&self) -> Option<&SpiffeId> {
        match self {
            Self::Spiffe { endpoint_spiffe_id, .. } => Some(endpoint_spiffe_id),
            Self::Api { server: ApiServer::Spiffe(id), .. } => Some(id),
            Self::Web { .. } | Self::Api { server: ApiServer::Web, .. } => None,
        }
    }

    /// The shared secret that is needed to ask, where one is.
    #[must_use]
    pub const fn secret(&self) -> Option<&SecretName> {
        match self {
            Self::Api {
                credential: ApiCredential::ApiKey { secret } | ApiCredential::OAuth { secret, .. }, ..
            } => Some(secret),
            Self::Api { credential: ApiCredential::None | ApiCredential::MutualTls, .. }
            | Self::Web { .. }
            | Self::Spiffe { .. } => None,
        }
    }
}

/// What the server of a Federation API shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiServer {
    /// A certificate of the Web PKI for the URL's host.
    Web,
    /// An X509-SVID of exactly this ID.
    Spiffe(SpiffeId),
}

/// What we show to a Federation API. Secrets are in the state under their names, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiCredential {
    /// Nothing: the peer answers anybody.
    None,
    /// An X509-SVID of ours, in TLS.
    MutualTls,
    /// A key that the peer gave us.
    ApiKey {
        /// The name of the secret that holds it.
        secret: SecretName,
    },
    /// An access token by OAuth 2 client credentials.
    OAuth {
        /// Where tokens are to be had.
        token_url: EndpointUrl,
        /// Who we are there.
        client_id: String,
        /// What is asked for; empty when nothing is to be said.
        scope: String,
        /// For whom the token is; empty when nothing is to be said.
        audience: String,
        /// The name of the secret that holds the client secret.
        secret: SecretName,
    },
}

impl ApiCredential {
    /// What people call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MutualTls => "mutual_tls",
            Self::ApiKey { .. } => "api_key",
            Self::OAuth { .. } => "oauth",
        }
    }
}

/// What an endpoint is pinned to, beside what its profile asks for. Empty lists ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointPins {
    /// Hosts that may be connected to, redirects and discovery included: exact names, in lower case.
    pub hosts: Vec<String>,
    /// SHA-256 of subjectPublicKeyInfo, one of which the server's own certificate must have: what else a server sends along
    /// proves nothing of it.
    pub keys: Vec<[u8; 32]>,
}

/// How a relationship is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollSettings {
    /// Least time between two polls, whatever the hint says, in seconds.
    pub floor: u32,
    /// Whether redirects are followed (FED-28).
    pub follow_redirects: bool,
    /// Whether the endpoint may be at a private address when it is reached by redirect or discovery (ATK-37). Not given:
    /// as the node that fetches is configured.
    pub accept_private: Option<bool>,
}

impl Default for PollSettings {
    fn default() -> Self {
        let floor = u32::try_from(REFRESH_LEAST_SECONDS).unwrap_or(60);
        Self { floor, follow_redirects: true, accept_private: None }
    }
}

/// Who made a relationship.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationshipOrigin {
    /// An operator, by call.
    Operator,
    /// The configuration of a node.
    Configuration {
        /// Which node.
        node: NodeName,
    },
}
