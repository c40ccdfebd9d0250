//! Where this node fetches foreign bundles: the standard's two profiles by the [guarded client](crate::outbound), the
//! Federation API by [its own](crate::federation_client).
//!
//! The relationship says which, and there is no way from one to another (FED-50).

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use quorate_actors::{BundleSource, Document, FetchError, FetchFuture, FetchRequest, Fetched, WatchFuture};
use quorate_proto_identity::bundle::BUNDLE_LIMIT;
use quorate_raft_machine::federation::{Endpoint, EndpointPins, Relationship};
use tokio::time::Instant;

use crate::federation_client::FederationClient;
use crate::outbound::{Get, Limits, Outbound, OutboundError, Pins, ServerCheck, TIME_LIMIT, Target, UrlTrust};

/// Longest tag that is kept. A longer one is done without: the document is then fetched whole each time.
const TAG_BYTES: usize = 256;

/// Fetches by whatever profile a relationship names.
#[derive(Debug, Clone)]
pub struct NodeBundleSource {
    outbound: Outbound,
    api: FederationClient,
}

impl NodeBundleSource {
    /// A source over the guarded client.
    #[must_use]
    pub fn new(outbound: Outbound) -> Arc<Self> {
        Arc::new(Self { api: FederationClient::new(outbound.clone()), outbound })
    }
}

impl BundleSource for NodeBundleSource {
    fn fetch(&self, request: FetchRequest) -> FetchFuture {
        if matches!(request.relationship.endpoint, Endpoint::Api { .. }) {
            return BundleSource::fetch(&self.api, request);
        }
        let outbound = self.outbound.clone();
        Box::pin(async move { fetch(&outbound, &request).await })
    }

    fn watch(&self, request: FetchRequest) -> WatchFuture {
        if matches!(request.relationship.endpoint, Endpoint::Api { .. }) {
            return BundleSource::watch(&self.api, request);
        }
        Box::pin(async move { Err(FetchError::refused("the standard's endpoints push nothing; they are polled")) })
    }
}

impl From<&EndpointPins> for Pins {
    fn from(pins: &EndpointPins) -> Self {
        Self { hosts: pins.hosts.clone(), keys: pins.keys.clone() }
    }
}

impl From<OutboundError> for FetchError {
    fn from(error: OutboundError) -> Self {
        if error.is_unreachable() { Self::unreachable(error.words()) } else { Self::refused(error.words()) }
    }
}

/// Asks a bundle endpoint of the standard.
async fn fetch(outbound: &Outbound, request: &FetchRequest) -> Result<Fetched, FetchError> {
    let FetchRequest { relationship, etag, deadline, .. } = request;
    let Relationship { endpoint, poll, .. } = &**relationship;
    let target = Target { url: endpoint.url().clone(), trust: UrlTrust::Operator, accept_private: poll.accept_private };
    let get = Get {
        etag: etag.as_ref().and_then(|etag| HeaderValue::from_str(etag).ok()),
        headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]),
        follow_redirects: poll.follow_redirects,
        limits: Limits { body_bytes: BUNDLE_LIMIT, time: left(*deadline) },
        ..Get::new(target, server_check(request)?)
    };
    let answer = outbound.get(&get).await?;
    let (host, address) = (answer.final_url.authority(), answer.address.to_string());
    if answer.status == StatusCode::NOT_MODIFIED {
        return Ok(Fetched::NotModified { host, address });
    }
    let etag = answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| tag.len() <= TAG_BYTES);
    Ok(Fetched::Document(Document { bytes: answer.body, etag: etag.map(str::to_owned), host, address }))
}

/// Who has to answer.
fn server_check(request: &FetchRequest) -> Result<ServerCheck, FetchError> {
    let Relationship { endpoint, pins, .. } = &*request.relationship;
    let pins = Pins::from(pins);
    match (endpoint.server_spiffe_id(), &request.verify_with) {
        (None, _) => Ok(ServerCheck::Web { roots: None, pins }),
        (Some(id), Some(bundle)) => Ok(ServerCheck::Spiffe { id: id.clone(), bundle: Arc::clone(bundle), pins }),
        // Whoever asks looks for one first; without it nobody could be told from anybody (FED-32).
        (Some(id), None) => Err(FetchError::refused(format!("no bundle is held by which {id} could be verified"))),
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).min(TIME_LIMIT)
}
