//! The SPIFFE bundle endpoint: our bundle for any trust domain that wants to trust ours, by the standard and therefore
//! anonymous (FED-14, FED-22, FED-37).
//!
//! ```text
//!   https_spiffe   shows the node's endpoint certificate (X509-SVID, `spiffe://<trust domain>/spire/server`)
//!   https_web      shows a certificate of a public authority: files, read again when they change, or ACME
//!        |
//!     answer   GET and HEAD at one path; ETag, 304; 404 and 405 for all else; 403 where anonymous serving is switched off
//!        |     503 while this node may not sign, or has been cut off: what it has may be old (FED-23)
//!     document   rendered once for each bundle, whoever asks
//! ```
//!
//! Every node that is told to serves it, and all of them the same bytes: the sequence is one counter in the replicated
//! state. A node that is behind cannot serve an old bundle as a new one for long: it answers only while it may sign, and
//! while it may, no authority is activated that it has not published (design section 3, the gate), unless by force. One
//! that the cluster cannot reach does not hear of force, nor of what was revoked: it answers for as long as a peer may lag.

mod answer;
mod document;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use quorate_raft_consensus::StateReader;
use tokio::sync::watch;

pub use answer::{Served, answer};
pub use document::{Document, Documents, bundle};

use crate::config::{ServerLimits, WebCertificate};
use crate::https::{
    AnswerFuture, Body, CertificateFiles, CertificateFilesError, CertificateSource, Challenges, Handler, HttpsError,
    HttpsServer, HttpsSettings, NamedCertificates, Peer,
};
use crate::node::Node;
use crate::shutdown::DRAIN;

/// How long one answer may take to be sent: the largest bundle over a slow line, and no longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Whether and why this node may not answer; none when it may.
type NotNow = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Answers requests for the bundle.
pub struct BundleHandler {
    path: String,
    state: StateReader,
    documents: Arc<Documents>,
    not_now: NotNow,
}

impl BundleHandler {
    /// Serves the bundle of a state at a path, whenever `not_now` has nothing against it.
    #[must_use]
    pub fn new(
        path: String,
        state: StateReader,
        documents: Arc<Documents>,
        not_now: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { path, state, documents, not_now: Box::new(not_now) })
    }

    fn served(&self) -> Served {
        if let Some(reason) = (self.not_now)() {
            return Served::NotNow(reason);
        }
        self.state.read(|state| match self.documents.current(state) {
            Some(_) if !state.access_settings().anonymous_endpoint => Served::NotAnonymous,
            Some(document) => Served::Document(document),
            None => Served::NotNow("no authority is founded on it".to_owned()),
        })
    }
}

impl Handler for BundleHandler {
    fn handle(&self, _anybody: &Arc<Peer>, request: Request<Body>) -> AnswerFuture {
        Box::pin(std::future::ready(answer(&request, &self.path, || self.served())))
    }
}

/// Why the endpoint did not start. The node does not start then either: what is configured is meant.
#[derive(Debug, thiserror::Error)]
pub enum BundleEndpointError {
    /// A listener could not be started.
    #[error("{option}")]
    Https {
        /// The option that says where.
        option: &'static str,
        /// What is wrong.
        #[source]
        source: HttpsError,
    },
    /// The certificate files cannot be used.
    #[error("bundle_endpoint.certificate")]
    Files(#[from] CertificateFilesError),
}

/// What comes by ACME: certificates, and challenges that are open.
#[derive(Clone)]
pub struct AcmeHooks {
    /// The certificates at each moment.
    pub certificates: watch::Receiver<Arc<NamedCertificates>>,
    /// Answers challenges.
    pub challenges: Arc<dyn Challenges>,
}

/// The endpoint of one node, serving in the profiles that its configuration wants.
#[derive(Debug, Default)]
pub struct BundleEndpoint {
    spiffe: Option<HttpsServer>,
    web: Option<HttpsServer>,
}

impl BundleEndpoint {
    /// Starts what the configuration wants; nothing where it wants nothing. `acme` is there where the configuration says so.
    ///
    /// # Errors
    /// When an address cannot be had, or the certificate files cannot be used.
    pub async fn start(node: &Node, acme: Option<AcmeHooks>) -> Result<Self, BundleEndpointError> {
        let config = &node.config().bundle_endpoint;
        if config.spiffe_listen.is_none() && config.web_listen.is_none() {
            return Ok(Self::default());
        }
        let asked = node.clone();
        let not_now = move || asked.why_no_keys_are_told().map(str::to_owned);
        let handler = BundleHandler::new(config.path.clone(), node.consensus().state(), Arc::default(), not_now);
        let mut endpoint = Self::default();
        if let Some(address) = config.spiffe_listen {
            let certificate = CertificateSource::Spiffe(node.endpoint_identity());
            let settings = settings("bundle_spiffe", certificate, None, config.limits);
            let started = start(address, "bundle_endpoint.spiffe_listen", settings, &handler).await?;
            tracing::info!(address = %started.address(), "the bundle endpoint is served (https_spiffe)");
            endpoint.spiffe = Some(started);
        }
        if let Some(address) = config.web_listen {
            let (certificate, challenges) = match (&config.certificate, acme) {
                (Some(WebCertificate::Files { certificate, private_key }), _) => {
                    (CertificateSource::Files(CertificateFiles::load(certificate, private_key)?), None)
                }
                (Some(WebCertificate::Acme), Some(acme)) => {
                    (CertificateSource::Acme(acme.certificates), Some(acme.challenges))
                }
                // The configuration is checked for one of them; until the cluster has a certificate nothing can be shown.
                (Some(WebCertificate::Acme) | None, _) => {
                    (CertificateSource::Acme(watch::channel(Arc::default()).1), None)
                }
            };
            let settings = settings("bundle_web", certificate, challenges, config.limits);
            let started = start(address, "bundle_endpoint.web_listen", settings, &handler).await?;
            tracing::info!(address = %started.address(), "the bundle endpoint is served (https_web)");
            endpoint.web = Some(started);
        }
        Ok(endpoint)
    }

    /// Where `https_spiffe` is served, with the real port.
    #[must_use]
    pub fn spiffe_address(&self) -> Option<SocketAddr> {
        self.spiffe.as_ref().map(HttpsServer::address)
    }

    /// Where `https_web` is served, with the real port.
    #[must_use]
    pub fn web_address(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(HttpsServer::address)
    }

    /// Takes no further connections, without waiting for the open ones.
    pub fn begin_stop(&self) {
        self.spiffe.iter().chain(&self.web).for_each(HttpsServer::begin_stop);
    }

    /// Answers when the open connections have ended, or their time is over.
    pub async fn stop(self) {
        for server in self.spiffe.into_iter().chain(self.web) {
            server.stop().await;
        }
    }
}

fn settings(
    name: &'static str,
    certificate: CertificateSource,
    challenges: Option<Arc<dyn Challenges>>,
    limits: ServerLimits,
) -> HttpsSettings {
    HttpsSettings {
        name,
        certificate,
        client_certificates: None,
        challenges,
        limits,
        answer_limit: Some(ANSWER_LIMIT),
        drain: DRAIN,
    }
}

async fn start(
    address: SocketAddr,
    option: &'static str,
    settings: HttpsSettings,
    handler: &Arc<BundleHandler>,
) -> Result<HttpsServer, BundleEndpointError> {
    let handler: Arc<dyn Handler> = Arc::<BundleHandler>::clone(handler);
    HttpsServer::start(address, settings, handler).await.map_err(|source| BundleEndpointError::Https { option, source })
}

#[cfg(test)]
mod tests;
