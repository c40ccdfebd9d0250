//! The Federation API (`quorate.federation.v1`): our bundle for other trust domains that prove who they are, pushed to those
//! that watch it. On a listener of its own, never the admin's; for others who build it, `docs/federation-api.md`.
//!
//! ```text
//!   https      TLS with an SVID or a web certificate; client certificates are asked for, and judged per call
//!     |
//!   GET /.well-known/spiffe-federation ──► discovery: who we are, where, by what (answered to everybody)
//!   gRPC
//!     ├─ Discover ───────────────────────► the same
//!     ├─ GetBundle ────┐
//!     └─ WatchBundle ──┴► door: credential ──► decide (rules, keys, foreign bundles) ──► granted, or refused for a reason
//!                                                   |                                     both in the audit trail
//!                                                   └─► content: SPIFFE JWKS or PEM, with metadata
//!                                                       watch: the same again after each change, confirmed by the peer
//! ```
//!
//! What it never does: take a call of our own trust domain; trust what a token says of its keys; tell strangers whom we are
//! federated with; serve a bundle while the node may not sign, because it may be old (FED-23).

mod client_certificates;
mod content;
mod credential;
mod decide;
mod discovery;
mod door;
mod issuers;
pub mod key_text;
mod rate;
mod reason;
mod service;
mod view;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use quorate_proto_api::FEDERATION_DOCUMENT_PATH;
use quorate_raft_consensus::AppliedEvents;
use quorate_raft_machine::Event;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch as watched;
use tonic::service::Routes;
use tower::Service as _;

pub use reason::REASON_HEADER;

use crate::bundle_endpoint::AcmeHooks;
use crate::config::{ServerProfile, WebCertificate};
use crate::https::{
    AnswerFuture, Body, CertificateFiles, CertificateFilesError, CertificateSource, GoesOn, Handler, HttpsError,
    HttpsServer, HttpsSettings, Peer, full,
};
use crate::node::Node;
use crate::shutdown::DRAIN;

use client_certificates::AnyClient;
use service::Api;

/// How long a cache may keep the discovery document, in seconds: who is answered may change at any time.
const DOCUMENT_CACHE: &str = "public, max-age=60";

/// Where the calls are.
const GRPC_PATH: &str = "/quorate.federation.v1.Federation/";

/// The call whose answer goes on for ever.
const WATCH_PATH: &str = "/quorate.federation.v1.Federation/WatchBundle";

/// How long one answer may take, and how long a watch may be unread or silent: three times as long as ours are. Without it
/// whoever sends half a call, or reads no answer, would hold a connection for ever, and need not say who it is.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Why the listener did not start. The node does not start then either: what is configured is meant.
#[derive(Debug, thiserror::Error)]
pub enum FederationApiError {
    /// It could not be started.
    #[error("federation_api.listen")]
    Https(#[from] HttpsError),
    /// The certificate files cannot be used.
    #[error("federation_api.certificate")]
    Files(#[from] CertificateFilesError),
}

/// The Federation API of one node.
#[derive(Debug, Default)]
pub struct FederationApi {
    server: Option<HttpsServer>,
}

impl FederationApi {
    /// Starts what the configuration wants; nothing where it wants nothing. `acme` is there where the configuration says so.
    /// Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be had, or the certificate files cannot be used.
    pub async fn start(node: &Node, acme: Option<AcmeHooks>) -> Result<Self, FederationApiError> {
        let config = &node.config().federation_api;
        let Some(listen) = config.listen else { return Ok(Self::default()) };
        let (certificate, challenges) = match (config.server, &config.certificate, acme) {
            (ServerProfile::Spiffe, _, _) => (CertificateSource::Spiffe(node.endpoint_identity()), None),
            (ServerProfile::Web, Some(WebCertificate::Files { certificate, private_key }), _) => {
                (CertificateSource::Files(CertificateFiles::load(certificate, private_key)?), None)
            }
            (ServerProfile::Web, Some(WebCertificate::Acme), Some(acme)) => {
                (CertificateSource::Acme(acme.certificates), Some(acme.challenges))
            }
            // The configuration is checked for one of them; until the cluster has a certificate nothing can be shown.
            (ServerProfile::Web, Some(WebCertificate::Acme) | None, _) => {
                (CertificateSource::Acme(watched::channel(Arc::default()).1), None)
            }
        };
        let settings = HttpsSettings {
            name: "federation_api",
            certificate,
            client_certificates: Some(AnyClient::verifier()),
            challenges,
            limits: config.limits,
            answer_limit: Some(ANSWER_LIMIT),
            drain: DRAIN,
        };
        let api = Arc::new(Api::new(node, follow_changes(node)));
        let handler = ApiHandler { routes: Routes::new(service::service(&api)).prepare(), api };
        let server = HttpsServer::start(listen, settings, Arc::new(handler)).await?;
        tracing::info!(address = %server.address(), server = config.server.as_str(), "the Federation API is served");
        Ok(Self { server: Some(server) })
    }

    /// Where it is served, with the real port.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(HttpsServer::address)
    }

    /// Takes no further connections, without waiting for the open ones.
    pub fn begin_stop(&self) {
        self.server.iter().for_each(HttpsServer::begin_stop);
    }

    /// Answers when the open connections have ended, or their time is over.
    pub async fn stop(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

/// Turns with every change that a watch has to look at: one task looks at what is applied, for all watches.
fn follow_changes(node: &Node) -> watched::Receiver<u64> {
    let (changed, changes) = watched::channel(0_u64);
    let mut events = node.consensus().events();
    let mut stopping = node.stopping();
    tokio::spawn(async move {
        loop {
            let concerns = tokio::select! {
                biased;
                () = stopping.asked() => return,
                () = changed.closed() => return,
                applied = events.recv() => match applied {
                    Ok(applied) => concerns(&applied),
                    // What was missed is looked at afresh.
                    Err(RecvError::Lagged(_)) => true,
                    Err(RecvError::Closed) => return,
                },
            };
            if concerns {
                changed.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    });
    changes
}

/// Whether what was applied changes what is served, or to whom.
fn concerns(applied: &AppliedEvents) -> bool {
    applied.replaced
        || applied.events.iter().any(|event| {
            matches!(
                event,
                Event::Founded
                    | Event::BundleChanged { .. }
                    | Event::AccessChanged
                    | Event::RelationshipChanged { .. }
                    | Event::ForeignBundleChanged { .. }
            )
        })
}

/// Answers requests of the listener.
struct ApiHandler {
    api: Arc<Api>,
    routes: Routes,
}

impl Handler for ApiHandler {
    fn handle(&self, peer: &Arc<Peer>, mut request: Request<Body>) -> AnswerFuture {
        let path = request.uri().path();
        if path == FEDERATION_DOCUMENT_PATH {
            return Box::pin(std::future::ready(self.document(request.method())));
        }
        if !path.starts_with(GRPC_PATH) {
            return refuse(
                StatusCode::NOT_FOUND,
                "the Federation API is served here: gRPC, and its discovery document\n",
            );
        }
        if request.version() != Version::HTTP_2 {
            return refuse(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "the Federation API is gRPC, which is HTTP/2\n");
        }
        let goes_on = path == WATCH_PATH;
        request.extensions_mut().insert(Arc::clone(peer));
        let answer = self.routes.clone().call(request);
        Box::pin(async move {
            match answer.await {
                Ok(mut response) => {
                    if goes_on {
                        response.extensions_mut().insert(GoesOn);
                    }
                    response.map(|body| body.map_err(Into::into).boxed_unsync())
                }
                Err(never) => match never {},
            }
        })
    }
}

impl ApiHandler {
    fn document(&self, method: &Method) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n".to_owned());
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        let document = match self.api.discovered() {
            Ok(document) => discovery::json(&document),
            Err(status) => return plain(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", status.message())),
        };
        let mut response = Response::new(full(if method == Method::HEAD { String::new() } else { document }));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(DOCUMENT_CACHE));
        response
    }
}

fn refuse(status: StatusCode, words: &'static str) -> AnswerFuture {
    Box::pin(std::future::ready(plain(status, words.to_owned())))
}

fn plain(status: StatusCode, words: String) -> Response<Body> {
    let mut response = Response::new(full(words));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
