//! The listener of the discovery provider.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::OidcHandler;
use crate::bundle_endpoint::AcmeHooks;
use crate::config::WebCertificate;
use crate::https::{
    CertificateFiles, CertificateFilesError, CertificateSource, HttpsError, HttpsServer, HttpsSettings,
};
use crate::node::Node;
use crate::shutdown::DRAIN;

/// How long one answer may take to be sent: a few KiB over a slow line.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Why the discovery provider did not start. The node does not start then either: what is configured is meant.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The listener could not be started.
    #[error("oidc.listen")]
    Https(#[from] HttpsError),
    /// The certificate files cannot be used.
    #[error("oidc.certificate")]
    Files(#[from] CertificateFilesError),
}

/// The discovery provider of one node, if its configuration wants one.
#[derive(Debug, Default)]
pub struct OidcServer {
    server: Option<HttpsServer>,
}

impl OidcServer {
    /// Starts what the configuration wants; nothing where it wants nothing. `acme` is what the cluster has by ACME.
    ///
    /// # Errors
    /// When the address cannot be had, or the certificate files cannot be used.
    pub async fn start(node: &Node, acme: &AcmeHooks) -> Result<Self, OidcError> {
        let config = &node.config().oidc;
        let Some(listen) = config.listen else { return Ok(Self::default()) };
        let asked = node.clone();
        let unready = Box::new(move || asked.why_no_keys_are_told().map(str::to_owned));
        let handler = OidcHandler::new(node.consensus().state(), node.sources().clone(), unready, config.behind_proxy);
        let (certificate, challenges) = match &config.certificate {
            _ if config.behind_proxy => (CertificateSource::Plain, None),
            Some(WebCertificate::Files { certificate, private_key }) => {
                (CertificateSource::Files(CertificateFiles::load(certificate, private_key)?), None)
            }
            Some(WebCertificate::Acme) | None => {
                (CertificateSource::Acme(acme.certificates.clone()), Some(Arc::clone(&acme.challenges)))
            }
        };
        let settings = HttpsSettings {
            name: "oidc",
            certificate,
            client_certificates: None,
            challenges,
            limits: config.limits,
            answer_limit: Some(ANSWER_LIMIT),
            drain: DRAIN,
        };
        let server = HttpsServer::start(listen, settings, Arc::new(handler)).await?;
        tracing::info!(address = %server.address(), behind_proxy = config.behind_proxy, "OIDC discovery is served");
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
