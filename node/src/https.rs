//! The HTTPS server for whoever comes over the network: bundle endpoint, OIDC discovery, Federation API.
//!
//! ```text
//!   accept ──> admission    connections of all and of one address, requests a second of one address
//!                 |
//!              tls          versions 1.3 and 1.2, Mozilla's intermediate suites (FED-15), no tickets; the certificate of
//!                 |         the moment (`certificate`); a challenge of ACME (TLS-ALPN-01) is answered here and goes no further
//!              connection   HTTP/1.1 or 2: limits of heads and streams, times, graceful end
//!                 |
//!              Handler      what is served
//! ```
//!
//! Everything that a stranger could make grow has a limit, and every wait has an end: the handshake, the first request, the
//! head of a request, idleness, and, where the handler's answers are documents, the answer itself. Certificates are replaced
//! under open connections, which go on with what they began with.

mod admission;
mod certificate;
mod connection;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub use certificate::{CertificateFiles, CertificateFilesError, CertificateSource, NamedCertificates, certified_key};
pub use tls::ACME_ALPN;

use crate::config::ServerLimits;
use crate::listeners::accept::accept_loop;
use crate::metrics::CONNECTIONS_REFUSED;
use crate::shutdown::{Stop, stop_signal};

use admission::{Admission, Origin};
use certificate::Watching;
use connection::Serving;

/// Why a body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// An answer, some time later.
pub type AnswerFuture = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A body of bytes that are all there; nothing is copied.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it dials from; a proxy's address, if there is one between.
    pub address: SocketAddr,
    /// The certificates that it proved to have the key of, its own first; none where none were asked for or shown.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Put among the extensions of an answer that goes on for ever and is never silent for long: each piece of it has the time
/// that another answer has as a whole.
#[derive(Debug, Clone, Copy)]
pub struct GoesOn;

/// What is served.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request. The body of a request has no limit but what is read of it.
    fn handle(&self, peer: &Arc<Peer>, request: Request<Body>) -> AnswerFuture;
}

/// Answers challenges of an ACME server (TLS-ALPN-01, RFC 8737).
pub trait Challenges: Send + Sync + 'static {
    /// The certificate that proves control of a name at this moment; none where no such challenge is open.
    fn certificate_for(&self, server_name: &str) -> Option<Arc<CertifiedKey>>;
}

/// What a server is started with.
pub struct HttpsSettings {
    /// Which one it is, in logs and metrics.
    pub name: &'static str,
    /// What it proves itself with.
    pub certificate: CertificateSource,
    /// Asks clients for certificates and checks them; none asks for none (FED-22, FED-37).
    pub client_certificates: Option<Arc<dyn ClientCertVerifier>>,
    /// Answers challenges of ACME, where the certificate comes by it.
    pub challenges: Option<Arc<dyn Challenges>>,
    /// What clients may take.
    pub limits: ServerLimits,
    /// How long one answer may take, from the request to its last byte, and each piece of one that [`GoesOn`].
    pub answer_limit: Option<Duration>,
    /// How long answers may take after the server was asked to stop.
    pub drain: Duration,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The address cannot be had.
    #[error("cannot listen on {address}; is another process there?")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The TLS library does not take the settings. It takes them in every build that passed its tests.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// A server, from the first accept to the last answer.
#[derive(Debug)]
pub struct HttpsServer {
    name: &'static str,
    address: SocketAddr,
    stop: Stop,
    task: JoinHandle<()>,
    _watching: Option<Watching>,
}

impl HttpsServer {
    /// Listens and serves. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(
        listen: SocketAddr,
        settings: HttpsSettings,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, HttpsError> {
        let failed = |source| HttpsError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let HttpsSettings { name, certificate, client_certificates, challenges, limits, answer_limit, drain } =
            settings;
        let is_plain = matches!(certificate, CertificateSource::Plain);
        let (resolver, watching) = certificate.resolver(name);
        let tls = resolver.map(|resolver| tls::Acceptor::new(resolver, client_certificates, challenges)).transpose()?;
        let admission = Admission::new(name, limits);
        let serving = Arc::new(Serving { name, tls, handler, answer_limit });
        let (stop, stopping) = stop_signal();
        let admit = move |stream: TcpStream, stopping| {
            // One that is gone already has no address.
            let peer = stream.peer_addr().ok()?;
            // Behind a proxy all come from its address, and the limits of one are the proxy's business.
            let origin = if is_plain { Origin::Proxy } else { Origin::of(peer.ip()) };
            match admission.admit(origin) {
                Ok(place) => Some(connection::serve(stream, peer, Arc::clone(&serving), place, stopping)),
                Err(refused) => {
                    metrics::counter!(CONNECTIONS_REFUSED, "listener" => name).increment(1);
                    tracing::debug!(listener = name, %peer, %refused, "connection refused");
                    None
                }
            }
        };
        let task = tokio::spawn(accept_loop(name, listener, admit, stopping, drain));
        Ok(Self { name, address, stop, task, _watching: watching })
    }

    /// The address in use: the port is real even when 0 was configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further connections and asks the open ones to finish, without waiting.
    pub fn begin_stop(&self) {
        self.stop.ask();
    }

    /// Takes no further connections, and answers when the open ones have ended or their time is over.
    pub async fn stop(self) {
        self.stop.ask();
        if let Err(error) = self.task.await {
            tracing::error!(listener = self.name, %error, "the accept loop ended badly");
        }
    }
}

#[cfg(test)]
mod tests;
