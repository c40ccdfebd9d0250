//! How others can ask for our bundle: told to everybody, by the call `Discover` and as JSON at a well-known path.

use quorate_proto_api::federation::{
    ApiEndpoint, BundleEndpoint, BundleFormat, DiscoverResponse, EndpointProfile, OAuthIssuer, Policy,
};
use quorate_raft_machine::State;
use quorate_raft_machine::access::{AccessRule, MutualTls};
use serde_json::{Value, json};
use url::Url;

use super::content::server_id;
use crate::config::{Config, ServerProfile};

/// The version of the document.
const VERSION: u32 = 1;

/// Where this node serves, as its configuration says.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    spiffe_endpoint: Option<String>,
    web_endpoint: Option<String>,
    api: Option<(String, ServerProfile)>,
}

impl Places {
    /// The public URLs, and the addresses listened on where none is given and they are addresses of one host.
    pub(super) fn of(config: &Config) -> Self {
        let bundle = &config.bundle_endpoint;
        let api = &config.federation_api;
        let place = |listen: Option<std::net::SocketAddr>, url: Option<&Url>, path: &str| {
            let listen = listen?;
            match url {
                Some(url) => Some(url.to_string()),
                None => (!listen.ip().is_unspecified()).then(|| format!("https://{listen}{path}")),
            }
        };
        Self {
            spiffe_endpoint: place(bundle.spiffe_listen, bundle.spiffe_url.as_ref(), &bundle.path),
            web_endpoint: place(bundle.web_listen, bundle.web_url.as_ref(), &bundle.path),
            api: place(api.listen, api.url.as_ref(), "/").map(|url| (url, api.server)),
        }
    }
}

const fn profile(server: ServerProfile) -> EndpointProfile {
    match server {
        ServerProfile::Spiffe => EndpointProfile::HttpsSpiffe,
        ServerProfile::Web => EndpointProfile::HttpsWeb,
    }
}

/// What is told; none before the founding.
pub(super) fn document(state: &State, places: &Places) -> Option<DiscoverResponse> {
    let trust_domain = &state.cluster()?.trust_domain;
    let id = server_id(trust_domain);
    let id_of = |profile| if profile == EndpointProfile::HttpsSpiffe { id.clone() } else { String::new() };
    let anonymous = state.access_settings().anonymous_endpoint;
    let endpoint = |url: &Option<String>, profile: EndpointProfile| {
        let url = url.clone()?;
        Some(BundleEndpoint { url, profile: profile.into(), spiffe_id: id_of(profile), anonymous })
    };
    let endpoints = [
        endpoint(&places.spiffe_endpoint, EndpointProfile::HttpsSpiffe),
        endpoint(&places.web_endpoint, EndpointProfile::HttpsWeb),
    ];
    let api = places.api.iter().map(|(url, server)| {
        let server = profile(*server);
        ApiEndpoint { url: url.clone(), server: server.into(), spiffe_id: id_of(server) }
    });
    Some(DiscoverResponse {
        version: VERSION,
        trust_domain: trust_domain.to_string(),
        refresh_hint: state.bundle().refresh_hint,
        bundle_endpoints: endpoints.into_iter().flatten().collect(),
        api_endpoints: api.collect(),
        formats: vec![BundleFormat::Spiffe.into(), BundleFormat::X509Pem.into()],
        policy: Some(policy(&state.access_for(None))),
    })
}

/// The rule for everybody. Whom single peers trust is nobody else's business.
fn policy(rule: &AccessRule) -> Policy {
    let AccessRule { mutual_tls, api_keys, oauth, anonymous } = rule;
    let issuers = oauth.iter().map(|rule| OAuthIssuer {
        issuer: rule.issuer.clone(),
        audience: rule.audience.clone(),
        scope: rule.scope.clone(),
    });
    Policy {
        mutual_tls: *mutual_tls != MutualTls::Off,
        api_keys: *api_keys,
        oauth: issuers.collect(),
        anonymous: *anonymous,
        watch: true,
    }
}

/// The same as JSON, with the names of the messages' fields and words in place of numbers.
pub(super) fn json(document: &DiscoverResponse) -> String {
    let DiscoverResponse { version, trust_domain, refresh_hint, bundle_endpoints, api_endpoints, formats: _, policy } =
        document;
    let bundle_endpoints: Vec<Value> = bundle_endpoints
        .iter()
        .map(|endpoint| {
            let mut value = json!({
                "url": endpoint.url,
                "profile": word(endpoint.profile()),
                "anonymous": endpoint.anonymous,
            });
            with_id(&mut value, &endpoint.spiffe_id);
            value
        })
        .collect();
    let api_endpoints: Vec<Value> = api_endpoints
        .iter()
        .map(|endpoint| {
            let mut value = json!({ "url": endpoint.url, "server": word(endpoint.server()), "protocol": "grpc" });
            with_id(&mut value, &endpoint.spiffe_id);
            value
        })
        .collect();
    let formats: Vec<&str> = document.formats().map(format_word).collect();
    let policy = policy.clone().unwrap_or_default();
    let oauth: Vec<Value> = policy
        .oauth
        .iter()
        .map(|rule| json!({ "issuer": rule.issuer, "audience": rule.audience, "scope": rule.scope }))
        .collect();
    json!({
        "version": version,
        "trust_domain": trust_domain,
        "refresh_hint": refresh_hint,
        "bundle_endpoints": bundle_endpoints,
        "api_endpoints": api_endpoints,
        "formats": formats,
        "policy": {
            "mutual_tls": policy.mutual_tls,
            "api_keys": policy.api_keys,
            "oauth": oauth,
            "anonymous": policy.anonymous,
            "watch": policy.watch,
        },
    })
    .to_string()
}

fn with_id(value: &mut Value, id: &str) {
    if let (Some(members), false) = (value.as_object_mut(), id.is_empty()) {
        members.insert("spiffe_id".to_owned(), json!(id));
    }
}

const fn word(profile: EndpointProfile) -> &'static str {
    match profile {
        EndpointProfile::Unspecified => "unspecified",
        EndpointProfile::HttpsWeb => "https_web",
        EndpointProfile::HttpsSpiffe => "https_spiffe",
    }
}

const fn format_word(format: BundleFormat) -> &'static str {
    match format {
        BundleFormat::Unspecified => "unspecified",
        BundleFormat::Spiffe => "spiffe",
        BundleFormat::X509Pem => "x509_pem",
    }
}
