//! The document that a Federation API serves at `/.well-known/spiffe-federation`: where the bundle is to be had, and who is
//! answered.
//!
//! It came over a connection that was checked, or was not; either way it is a stranger's word. A place that it names is
//! judged as one from DNS is, and nothing in it lowers what an endpoint has to prove.

use quorate_proto_identity::{EndpointUrl, EndpointUrlError, SpiffeId, SpiffeIdError, TrustDomain};
use serde::Deserialize;

use super::find::{Found, FoundBy};
use super::text::Kind;

/// Largest document: a handful of URLs.
pub const DOCUMENT_BYTES_LIMIT: usize = 64 * 1024;

/// Most places that are taken from a document.
pub const PLACES_LIMIT: usize = 16;

/// Most OAuth issuers that are shown.
const ISSUERS_LIMIT: usize = 16;

/// Whom a Federation API answers, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// X509-SVIDs of trust domains that it is federated with.
    pub mutual_tls: bool,
    /// API keys.
    pub api_keys: bool,
    /// Tokens of these issuers.
    pub oauth: Vec<Issuer>,
    /// Everybody.
    pub anonymous: bool,
    /// A watch can be kept.
    pub watch: bool,
}

/// Whose tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Issuer {
    /// `iss`.
    pub issuer: String,
    /// What `aud` has to name.
    pub audience: String,
    /// What `scope` has to contain.
    pub scope: String,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The places that it names.
    pub found: Vec<Found>,
    /// Whom its Federation API answers.
    pub policy: Policy,
    /// What was passed over and why, a sentence each.
    pub remarks: Vec<String>,
}

/// Why a document is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON of this form.
    #[error("it is no document of a Federation API: {0}")]
    Form(#[from] serde_json::Error),
    /// It speaks of another trust domain.
    #[error("it is the document of {found:?}, and not of {wanted}")]
    OtherDomain {
        /// Of which it speaks.
        found: String,
        /// Which was looked for.
        wanted: TrustDomain,
    },
}

#[derive(Deserialize)]
struct Written {
    trust_domain: String,
    #[serde(default)]
    bundle_endpoints: Vec<WrittenBundle>,
    #[serde(default)]
    api_endpoints: Vec<WrittenApi>,
    #[serde(default)]
    policy: Policy,
}

#[derive(Deserialize)]
struct WrittenBundle {
    url: String,
    profile: String,
    #[serde(default)]
    spiffe_id: String,
    #[serde(default = "yes")]
    anonymous: bool,
}

#[derive(Deserialize)]
struct WrittenApi {
    url: String,
    server: String,
    #[serde(default)]
    spiffe_id: String,
}

const fn yes() -> bool {
    true
}

/// Why a place in a document leads nowhere.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Url(#[from] EndpointUrlError),
    #[error("its SPIFFE ID is none: {0}")]
    Id(#[from] SpiffeIdError),
    #[error("its profile {0:?} is not known")]
    Profile(String),
    #[error("it answers nobody: the Federation API is to be used")]
    Closed,
}

impl Document {
    /// Reads a document that was served at `source`.
    ///
    /// # Errors
    /// When it is none, or one of another trust domain. A place in it that cannot be used is passed over.
    pub fn parse(domain: &TrustDomain, source: &str, bytes: &[u8]) -> Result<Self, DocumentError> {
        let Written { trust_domain, bundle_endpoints, api_endpoints, mut policy } = serde_json::from_slice(bytes)?;
        if trust_domain != domain.as_str() {
            let found = trust_domain.chars().take(255).collect();
            return Err(DocumentError::OtherDomain { found, wanted: domain.clone() });
        }
        policy.oauth.truncate(ISSUERS_LIMIT);
        let mut document = Self { found: Vec::new(), policy, remarks: Vec::new() };
        // The Federation API first: it can push, and knows who asks.
        let apis = api_endpoints.into_iter().map(|api| (api.url.clone(), api.place()));
        let bundles = bundle_endpoints.into_iter().map(|bundle| (bundle.url.clone(), bundle.place()));
        for (url, place) in apis.chain(bundles).take(PLACES_LIMIT) {
            match place {
                Ok((url, kind)) => {
                    let by = FoundBy::Document(source.to_owned());
                    document.found.push(Found { by, url, kind: Some(kind), vouched: false });
                }
                Err(fault) => {
                    let url: String = url.chars().take(255).collect();
                    document.remarks.push(format!("the endpoint {url:?} of the document: {fault}"));
                }
            }
        }
        Ok(document)
    }
}

impl WrittenBundle {
    fn place(self) -> Result<(EndpointUrl, Kind), Fault> {
        let Self { url, profile, spiffe_id, anonymous } = self;
        if !anonymous {
            return Err(Fault::Closed);
        }
        let url = EndpointUrl::parse(&url)?;
        let path = url.path_and_query();
        match profile.as_str() {
            "https_web" => Ok((url, Kind::Web { path })),
            "https_spiffe" => Ok((url, Kind::Spiffe { path, id: SpiffeId::parse(&spiffe_id)? })),
            _ => Err(Fault::Profile(profile)),
        }
    }
}

impl WrittenApi {
    fn place(self) -> Result<(EndpointUrl, Kind), Fault> {
        let Self { url, server, spiffe_id } = self;
        let url = EndpointUrl::parse(&url)?;
        match server.as_str() {
            "https_web" => Ok((url, Kind::Api { id: None })),
            "https_spiffe" => Ok((url, Kind::Api { id: Some(SpiffeId::parse(&spiffe_id)?) })),
            _ => Err(Fault::Profile(server)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{
        "version": 1, "trust_domain": "a.example", "refresh_hint": 300, "later": {},
        "bundle_endpoints": [
            {"url": "https://a.example/b", "profile": "https_web", "anonymous": true},
            {"url": "https://a.example:8443/", "profile": "https_spiffe", "spiffe_id": "spiffe://a.example/s", "anonymous": false}
        ],
        "api_endpoints": [{"url": "https://a.example:8444", "server": "https_spiffe", "spiffe_id": "spiffe://a.example/s"}],
        "policy": {"mutual_tls": true, "oauth": [{"issuer": "https://id.example", "audience": "a"}], "watch": true}
    }"#;

    fn domain() -> TrustDomain {
        TrustDomain::new("a.example").unwrap()
    }

    fn parse(text: &str) -> Result<Document, DocumentError> {
        Document::parse(&domain(), "https://a.example/.well-known/spiffe-federation", text.as_bytes())
    }

    #[test]
    fn places_are_read_the_api_first_and_what_answers_nobody_is_passed_over() {
        let document = parse(GOOD).unwrap();
        let id = SpiffeId::parse("spiffe://a.example/s").unwrap();
        let kinds: Vec<_> = document.found.iter().map(|found| (found.url.as_str(), found.kind.clone())).collect();
        assert_eq!(
            kinds,
            [
                ("https://a.example:8444/", Some(Kind::Api { id: Some(id) })),
                ("https://a.example/b", Some(Kind::Web { path: "/b".to_owned() })),
            ]
        );
        assert!(document.found.iter().all(|found| !found.vouched), "whoever served it vouches for nothing");
        assert!(document.remarks[0].contains("answers nobody"), "{:?}", document.remarks);
        assert!(document.policy.mutual_tls && document.policy.watch && !document.policy.anonymous);
        assert_eq!(document.policy.oauth[0].audience, "a");
    }

    /// Refuses: FED-16, FED-50
    #[test]
    fn a_document_of_another_trust_domain_says_nothing() {
        let error = parse(&GOOD.replace("\"a.example\"", "\"b.example\"")).unwrap_err();
        assert_eq!(error.to_string(), "it is the document of \"b.example\", and not of a.example");
        for bad in ["", "[]", "{}", "<html>"] {
            assert!(matches!(parse(bad), Err(DocumentError::Form(_))), "{bad}");
        }
    }

    /// Refuses: FED-18, FED-32
    #[test]
    fn places_that_break_the_rules_of_endpoints_are_passed_over_with_a_reason() {
        for (from, to, said) in [
            ("https://a.example/b", "http://a.example/b", "https://"),
            ("https://a.example/b", "https://user@a.example/b", "user"),
            ("https_web", "https_magic", "not known"),
            ("\"spiffe_id\": \"spiffe://a.example/s\"}],", "\"spiffe_id\": \"\"}],", "SPIFFE ID"),
        ] {
            let document = parse(&GOOD.replace(from, to)).unwrap();
            assert_eq!(document.found.len(), 1, "{to}");
            assert!(document.remarks.iter().any(|remark| remark.contains(said)), "{:?}", document.remarks);
        }
    }
}
