//! The OpenID Connect discovery provider: lets those who know nothing of SPIFFE verify our JWT-SVIDs.
//!
//! ```text
//!   GET <issuer>/.well-known/openid-configuration ──> where the keys are, and what signs        (OpenID Connect Discovery 1.0)
//!   GET <issuer>/keys                             ──> the keys of the bundle, prepared ones too   (RFC 7517: use, alg, kid)
//!
//!   which issuer is asked for    Host, or behind a proxy X-Forwarded-Host; and the path in front
//!   which issuers there are      the state: the one in tokens, ones to come, ones before until their overlap ends
//! ```
//!
//! Every node serves the same. What it serves is made of the applied state: the key set is rendered once for each bundle, and
//! shared by all answers (ATK-38). A node that may not sign serves nothing: what it has applied may be old.

mod documents;
mod request;
mod server;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use quorate_raft_consensus::{Sources, StateReader};
use quorate_raft_machine::State;

use crate::https::{AnswerFuture, Body, Handler, Peer, full};
use documents::{configuration, entity_tag, key_set};
use request::{Asked, Document, Misdirected, asked};
pub use server::{OidcError, OidcServer};

/// What a client is told to wait while this node may not serve, in seconds: another node is likely to answer at once.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Says why this node may not serve now; nothing if it may.
pub type Unready = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Answers for the discovery provider.
pub struct OidcHandler {
    state: StateReader,
    sources: Sources,
    unready: Unready,
    /// Whether a proxy on this host stands in front, whose word about host and scheme counts.
    behind_proxy: bool,
    /// The key set of the newest bundle, by its sequence number.
    keys: Mutex<Option<(u64, Rendered)>>,
}

/// A document, and what tells one version of it from another.
#[derive(Debug, Clone)]
struct Rendered {
    body: Bytes,
    tag: HeaderValue,
}

impl Rendered {
    fn new(body: String) -> Self {
        let body = Bytes::from(body);
        Self { tag: entity_tag(&body), body }
    }
}

impl OidcHandler {
    /// Serves from this node's state.
    #[must_use]
    pub fn new(state: StateReader, sources: Sources, unready: Unready, behind_proxy: bool) -> Self {
        Self { state, sources, unready, behind_proxy, keys: Mutex::new(None) }
    }

    /// The answer to one request.
    fn respond<B>(&self, request: &Request<B>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut refused = told(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        if let Some(reason) = (self.unready)() {
            let mut refused = told(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n"));
            refused.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
            return refused;
        }
        let found = self.state.read(|state| self.look(state, request));
        match found {
            Ok((rendered, kind, cache_time)) => document(request.headers(), &rendered, kind, cache_time),
            Err(misdirected) => told(misdirected.status(), &format!("{misdirected}\n")),
        }
    }

    fn look<B>(&self, state: &State, request: &Request<B>) -> Result<(Rendered, HeaderValue, u32), Misdirected> {
        let provider = state.oidc();
        let Asked { issuer, document } = asked(provider, request, self.sources.now().seconds(), self.behind_proxy)?;
        // An issuer whose overlap runs is cached no longer than the one in tokens.
        let cache_time = state.jwks_cache_time();
        Ok(match document {
            Document::Configuration => (Rendered::new(configuration(&issuer)), JSON, cache_time),
            Document::Keys => (self.keys(state), JWK_SET, cache_time),
        })
    }

    fn keys(&self, state: &State) -> Rendered {
        let bundle = state.bundle();
        let mut kept = self.keys.lock();
        if let Some((sequence, rendered)) = &*kept
            && *sequence == bundle.sequence
        {
            return rendered.clone();
        }
        let trust_domain = state.cluster().map(|cluster| cluster.trust_domain.clone());
        let rendered = Rendered::new(trust_domain.map_or_else(String::new, |domain| key_set(domain, &bundle)));
        *kept = Some((bundle.sequence, rendered.clone()));
        rendered
    }
}

impl Handler for OidcHandler {
    fn handle(&self, _peer: &Arc<Peer>, request: Request<Body>) -> AnswerFuture {
        Box::pin(std::future::ready(self.respond(&request)))
    }
}

impl std::fmt::Debug for OidcHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcHandler").field("behind_proxy", &self.behind_proxy).finish_non_exhaustive()
    }
}

/// A document, or that the client has it. Anybody may read it, web pages too: there is nothing secret in it.
fn document(asked: &HeaderMap, rendered: &Rendered, kind: HeaderValue, cache_time: u32) -> Response<Body> {
    let has_it = asked.get_all(IF_NONE_MATCH).iter().any(|tags| {
        tags.to_str().is_ok_and(|tags| {
            tags.split(',').any(|tag| {
                let tag = tag.trim();
                tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == rendered.tag.as_bytes()
            })
        })
    });
    let body = if has_it { Bytes::new() } else { rendered.body.clone() };
    let mut response = Response::new(full(body));
    let headers = response.headers_mut();
    headers.insert(ETAG, rendered.tag.clone());
    if let Ok(age) = HeaderValue::from_str(&format!("public, max-age={cache_time}")) {
        headers.insert(CACHE_CONTROL, age);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if has_it {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(CONTENT_TYPE, kind);
    }
    nosniff(response)
}

/// A refusal in words. It is not to be kept: it may be over in a second.
fn told(status: StatusCode, words: &str) -> Response<Body> {
    let mut response = Response::new(full(words.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    nosniff(response)
}

fn nosniff(mut response: Response<Body>) -> Response<Body> {
    let name = HeaderName::from_static("x-content-type-options");
    response.headers_mut().insert(name, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
