//! The client by which this node fetches what others serve over HTTPS: bundles, discovery documents, tokens, ACME.
//!
//! Its requests are caused by others: an administrator names a URL, a redirect or a name server another one. So nothing is
//! sent where the [`address`] rules do not allow it, nothing is believed that was not read in full within its limits, and
//! who answers is checked within the handshake.
//!
//! ```text
//!   URL, and who wrote it ──> host pinned? ──> look up ──> every address judged ──> dial the ones judged, no other
//!        ^                                                      (ATK-37)                      |
//!        |                                                                                    v
//!        |  redirect: at most 5, https,                     request  <── who is it? (FED-26, FED-40), within the handshake
//!        |  the same checks, never stored                      |
//!        +────────────────────────────────── answer <──────────+   200 alone, plain, at most so many bytes, so long (ATK-36)
//! ```
//!
//! What it never does: use a proxy, resume a session (a resumed one is not verified again), keep a cookie or a redirect,
//! unpack a body, try a second profile when the first fails (FED-50). TLS is 1.3 and 1.2, as bundle endpoints must speak it
//! (FED-15). Why it is our own, and what was refused, is `docs/decisions/0021-guarded-outbound-client.md`.

pub mod address;
mod check;
mod error;
mod exchange;
pub mod network;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, HOST, IF_NONE_MATCH, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use quorate_proto_identity::PrivateKey;
use quorate_proto_identity::endpoint_url::EndpointUrl;
use quorate_raft_consensus::Sources;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::OutboundConfig;

pub use self::address::{AddressFault, AddressRules, Reach, UrlTrust};
pub(crate) use self::check::hexadecimal;
pub use self::check::{Pins, ServerCheck, key_fingerprint};
pub use self::error::{CertificateRefusal, OutboundError, Phase};
pub use self::network::{NameError, Network, SystemNetwork};

/// The most redirects that are followed (ATK-36, A-35).
pub const REDIRECTS_LIMIT: usize = 5;

/// The most bytes that an answer may have, unless the caller says otherwise (ATK-36): over a thousand keys.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// How long a request may take from its first name server to its last byte, redirects included, unless the caller says
/// otherwise (ATK-36).
pub const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The most addresses of a host that are looked at. More than a handful serve nobody, and each of them is dialled.
const ADDRESSES_LIMIT: usize = 16;

/// The most addresses of a host that are dialled, one after the other.
const DIALS_LIMIT: usize = 3;

/// How long one address may keep the next one waiting: a network without version 6 often drops instead of refusing.
const DIAL_LIMIT: Duration = Duration::from_millis(2_500);

/// What we call ourselves. No version: a peer need not know which faults we may have.
const OUR_NAME: HeaderValue = HeaderValue::from_static("quorate");

/// What the client is made of.
#[derive(Debug, Clone, Default)]
pub struct OutboundSettings {
    /// Private networks that redirects and discovery may lead to.
    pub allow_private: Vec<ipnet::IpNet>,
    /// A PEM file with the certificate authorities of the web, in place of the system's.
    pub web_roots: Option<PathBuf>,
    /// Name servers, in place of the system's.
    pub dns_servers: Vec<SocketAddr>,
}

impl From<&OutboundConfig> for OutboundSettings {
    fn from(config: &OutboundConfig) -> Self {
        let OutboundConfig { allow_private, web_roots, dns_servers, .. } = config.clone();
        Self { allow_private, web_roots, dns_servers }
    }
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OutboundStartError {
    /// The file of web roots cannot be read, or holds something else.
    #[error("federation.web_roots: {} cannot be used", .path.display())]
    WebRoots {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The guarded client. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Outbound {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    network: Arc<dyn Network>,
    rules: AddressRules,
    web_roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    time: Arc<NodeTime>,
    dns_servers: Vec<SocketAddr>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The URL.
    pub url: EndpointUrl,
    /// Who wrote it.
    pub trust: UrlTrust,
    /// Whether this peer may lead to private addresses; not given, the networks of the configuration decide.
    pub accept_private: Option<bool>,
}

impl Target {
    /// A URL that an administrator wrote.
    #[must_use]
    pub fn of_operator(url: EndpointUrl) -> Self {
        Self { url, trust: UrlTrust::Operator, accept_private: None }
    }

    /// A URL that a name server or a stranger's document named.
    #[must_use]
    pub fn discovered(url: EndpointUrl) -> Self {
        Self { url, trust: UrlTrust::Discovered, accept_private: None }
    }
}

/// How much an answer may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of its body.
    pub body_bytes: usize,
    /// How long everything may take.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: BODY_LIMIT, time: TIME_LIMIT }
    }
}

/// A GET request.
#[derive(Debug, Clone)]
pub struct Get {
    /// Where to.
    pub target: Target,
    /// Who the server has to be, after each redirect too.
    pub server: ServerCheck,
    /// What this node shows of itself, where the server is to know who asks.
    pub client: Option<ClientIdentity>,
    /// Headers beside the usual ones.
    pub headers: HeaderMap,
    /// The tag of what is held already: with it, 304 is an answer too.
    pub etag: Option<HeaderValue>,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// What the answer may cost.
    pub limits: Limits,
}

impl Get {
    /// A plain request, which follows redirects.
    #[must_use]
    pub fn new(target: Target, server: ServerCheck) -> Self {
        Self {
            target,
            server,
            client: None,
            headers: HeaderMap::new(),
            etag: None,
            follow_redirects: true,
            limits: Limits::default(),
        }
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The URL that was answered, after all redirects. For the log: the next request starts at the first one (FED-30).
    pub final_url: EndpointUrl,
    /// The address that answered.
    pub address: SocketAddr,
    /// What the server proved itself by, its own certificate first.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// A connection to a server that is who it has to be.
#[derive(Debug)]
pub struct Connection {
    /// TLS, agreed on.
    pub stream: TlsStream<TcpStream>,
    /// Where to.
    pub address: SocketAddr,
    /// How far away that is.
    pub reach: Reach,
    /// What the server proved itself by, its own certificate first.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// What this node shows a server of itself: its certificate, and the key for it.
#[derive(Clone)]
pub struct ClientIdentity {
    certified: Arc<CertifiedKey>,
}

impl ClientIdentity {
    /// A certificate chain, leaf first, with the leaf's key.
    ///
    /// # Errors
    /// When they do not belong together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<Self, rustls::Error> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));
        let certified = CertifiedKey::from_der(chain, der, &aws_lc_rs::default_provider())?;
        Ok(Self { certified: Arc::new(certified) })
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

impl Outbound {
    /// A client by these settings. The certificate authorities of the web are read now: a change of them is seen after a
    /// restart.
    ///
    /// # Errors
    /// When the settings cannot be used. That the system has no certificate authorities is no error until one is needed.
    pub fn new(settings: &OutboundSettings, sources: &Sources) -> Result<Self, OutboundStartError> {
        let network = Arc::new(SystemNetwork::new(&settings.dns_servers));
        Self::over(network, settings, sources)
    }

    /// The same, over another network: for tests.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn over(
        network: Arc<dyn Network>,
        settings: &OutboundSettings,
        sources: &Sources,
    ) -> Result<Self, OutboundStartError> {
        let inner = Inner {
            network,
            rules: AddressRules::new(settings.allow_private.clone()),
            web_roots: Arc::new(read_web_roots(settings)?),
            // X25519MLKEM768 is first in it.
            provider: Arc::new(aws_lc_rs::default_provider()),
            time: Arc::new(NodeTime(sources.clone())),
            dns_servers: settings.dns_servers.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The name servers that were set; none when the system's are used.
    #[must_use]
    pub fn dns_servers(&self) -> &[SocketAddr] {
        &self.inner.dns_servers
    }

    /// Fetches a document: status 200 alone, or 304 for the tag that was given.
    ///
    /// # Errors
    /// When there is no such answer within the limits, from the server that it has to be.
    pub async fn get(&self, get: &Get) -> Result<Answer, OutboundError> {
        let clock = Clock::start(get.limits.time);
        let mut target = get.target.clone();
        let mut redirects = 0;
        loop {
            let mut request = Request::builder().method(Method::GET);
            if let Some(headers) = request.headers_mut() {
                headers.extend(get.headers.clone());
                if let Some(etag) = &get.etag {
                    headers.insert(IF_NONE_MATCH, etag.clone());
                }
            }
            let request = request.body(Bytes::new())?;
            let wanted = |status| status == StatusCode::OK;
            let bytes = get.limits.body_bytes;
            let (answer, reach) =
                self.once(&target, &get.server, get.client.as_ref(), request, bytes, clock, wanted).await?;
            let host = || target.url.host().to_owned();
            match answer.status {
                StatusCode::OK => return Ok(answer),
                StatusCode::NOT_MODIFIED if get.etag.is_some() => return Ok(answer),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let location =
                        answer.headers.get(LOCATION).ok_or_else(|| OutboundError::NoLocation { host: host() })?;
                    let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
                    let shown = || error::shown(&location);
                    if !get.follow_redirects {
                        return Err(OutboundError::RedirectsOff { host: host(), location: shown() });
                    }
                    if redirects == REDIRECTS_LIMIT {
                        return Err(OutboundError::TooManyRedirects { limit: REDIRECTS_LIMIT });
                    }
                    redirects += 1;
                    let url = target.url.join(&location);
                    let url =
                        url.map_err(|source| OutboundError::Location { host: host(), location: shown(), source })?;
                    target = Target { url, trust: followed(target.trust, reach), ..target };
                }
                status => return Err(OutboundError::Status { host: host(), status }),
            }
        }
    }

    /// Sends a request of any kind and gives back the answer, whatever its status; no redirect is followed. The URI of the
    /// request is not looked at: path and query are the target's.
    ///
    /// # Errors
    /// When there is no answer within the limits, from the server that it has to be.
    pub async fn send(
        &self,
        target: &Target,
        server: &ServerCheck,
        client: Option<&ClientIdentity>,
        request: Request<Bytes>,
        limits: Limits,
    ) -> Result<Answer, OutboundError> {
        let clock = Clock::start(limits.time);
        let (answer, _) = self.once(target, server, client, request, limits.body_bytes, clock, |_| true).await?;
        Ok(answer)
    }

    /// Opens a connection for a protocol of the caller's own; `alpn` are the protocols it speaks, the preferred one first.
    ///
    /// # Errors
    /// When there is no connection within `limit`, to the server that it has to be.
    pub async fn connect(
        &self,
        target: &Target,
        server: &ServerCheck,
        client: Option<&ClientIdentity>,
        alpn: &[&[u8]],
        limit: Duration,
    ) -> Result<Connection, OutboundError> {
        self.connect_by(target, server, client, alpn, Clock::start(limit)).await
    }

    /// One request over a connection of its own.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a request, which its two callers put together differently"
    )]
    async fn once(
        &self,
        target: &Target,
        server: &ServerCheck,
        client: Option<&ClientIdentity>,
        request: Request<Bytes>,
        body_bytes: usize,
        clock: Clock,
        reads: impl Fn(StatusCode) -> bool,
    ) -> Result<(Answer, Reach), OutboundError> {
        let Connection { stream, address, reach, certificates } =
            self.connect_by(target, server, client, &[b"http/1.1"], clock).await?;
        let request = addressed(&target.url, request)?;
        let exchanged = exchange::exchange(stream, target.url.host(), request, body_bytes, clock, reads).await?;
        let exchange::Exchanged { status, headers, body } = exchanged;
        let answer = Answer { status, headers, body, final_url: target.url.clone(), address, certificates };
        Ok((answer, reach))
    }

    async fn connect_by(
        &self,
        target: &Target,
        server: &ServerCheck,
        client: Option<&ClientIdentity>,
        alpn: &[&[u8]],
        clock: Clock,
    ) -> Result<Connection, OutboundError> {
        let host = target.url.host();
        if !server.admits_host(host) {
            return Err(OutboundError::PinnedHost { host: host.to_owned() });
        }
        // Before anything is sent: without roots, for example, nobody need be bothered.
        let config = self.tls(server, client, alpn)?;
        let addresses = self.addresses(target, clock).await?;
        let (connection, address, reach) = self.dial(target.url.port(), &addresses, clock).await?;
        let name = match target.url.ip() {
            Some(ip) => ServerName::from(ip),
            None => ServerName::try_from(host.to_owned()).map_err(|_odd| rustls::Error::UnsupportedNameType)?,
        };
        let handshake = TlsConnector::from(config).connect(name, connection);
        let stream = clock.within(Phase::Handshake, handshake).await?.map_err(|source| {
            let host = host.to_owned();
            match check::refusal_in(&source) {
                Some(refusal) => OutboundError::Certificate { host, address, source: refusal },
                None => OutboundError::Tls { host, address, source },
            }
        })?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates = certificates.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Connection { stream, address, reach, certificates })
    }

    /// The addresses of the host, each of them one that something may be sent to. One that is not condemns them all: a name
    /// server that mixes them lies, or is used for it.
    async fn addresses(&self, target: &Target, clock: Clock) -> Result<Vec<(IpAddr, Reach)>, OutboundError> {
        let host = target.url.host();
        let found = match target.url.ip() {
            Some(address) => vec![address],
            None => clock
                .within(Phase::Resolving, self.inner.network.resolve(host.to_owned()))
                .await?
                .map_err(|source| OutboundError::Name { host: host.to_owned(), source })?,
        };
        let judge = |address| {
            let judged = self.inner.rules.judge(address, target.trust, target.accept_private);
            let refused = |source| OutboundError::Address { host: host.to_owned(), address, source };
            judged.map(|reach| (address, reach)).map_err(refused)
        };
        let judged: Vec<_> = found.into_iter().take(ADDRESSES_LIMIT).map(judge).collect::<Result<_, _>>()?;
        if judged.is_empty() {
            return Err(OutboundError::NoAddress { host: host.to_owned() });
        }
        Ok(judged)
    }

    /// A connection to the first of the addresses that takes one.
    async fn dial(
        &self,
        port: u16,
        addresses: &[(IpAddr, Reach)],
        clock: Clock,
    ) -> Result<(TcpStream, SocketAddr, Reach), OutboundError> {
        let mut failed = None;
        for (ip, reach) in addresses.iter().take(DIALS_LIMIT) {
            let address = SocketAddr::new(*ip, port);
            let attempt = if addresses.len() > 1 { clock.capped(DIAL_LIMIT) } else { clock };
            match attempt.within(Phase::Connecting, self.inner.network.dial(address)).await {
                Ok(Ok(stream)) => {
                    // One request and one answer: nothing waits to be sent together with something else.
                    drop(stream.set_nodelay(true));
                    return Ok((stream, address, *reach));
                }
                Ok(Err(source)) => failed = Some(OutboundError::Connect { address, source }),
                Err(late) if clock.is_over() => return Err(late),
                Err(_late) => {
                    let source = io::Error::from(io::ErrorKind::TimedOut);
                    failed = Some(OutboundError::Connect { address, source });
                }
            }
        }
        Err(failed.unwrap_or(OutboundError::Time { phase: Phase::Connecting, limit: clock.limit }))
    }

    fn tls(
        &self,
        server: &ServerCheck,
        client: Option<&ClientIdentity>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, OutboundError> {
        let Inner { provider, web_roots, time, .. } = &*self.inner;
        let verifier = server.verifier(web_roots, provider)?;
        let time: Arc<dyn TimeProvider> = Arc::clone(time) as _;
        let builder = ClientConfig::builder_with_details(Arc::clone(provider), time)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match client {
            Some(identity) => {
                let resolver = SingleCertAndKey::from(CertifiedKey::clone(&identity.certified));
                builder.with_client_cert_resolver(Arc::new(resolver) as Arc<dyn ResolvesClientCert>)
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }
}

/// How far the next URL of a way is trusted: it leads to nothing narrower than the widest place on it.
fn followed(before: UrlTrust, reach: Reach) -> UrlTrust {
    match before {
        UrlTrust::Operator => UrlTrust::Followed { from: reach },
        UrlTrust::Followed { from } => UrlTrust::Followed { from: from.max(reach) },
        UrlTrust::Discovered => UrlTrust::Discovered,
    }
}

/// The request as it goes over the wire.
fn addressed(url: &EndpointUrl, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, http::Error> {
    let (mut head, body) = request.into_parts();
    head.uri = url.path_and_query().parse()?;
    head.headers.insert(HOST, HeaderValue::from_str(&url.authority())?);
    head.headers.insert(USER_AGENT, OUR_NAME);
    head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(Request::from_parts(head, Full::new(body)))
}

fn read_web_roots(settings: &OutboundSettings) -> Result<RootCertStore, OutboundStartError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &settings.web_roots else {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "a file of the system's certificate authorities was passed over"
            );
        }
        // One that cannot be read is left out: the others are as good as before.
        roots.add_parsable_certificates(found.certs);
        return Ok(roots);
    };
    let unusable =
        |source: Box<dyn std::error::Error + Send + Sync>| OutboundStartError::WebRoots { path: path.clone(), source };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.into()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.into()))?;
        roots.add(certificate).map_err(|error| unusable(error.into()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate in PEM".into()));
    }
    Ok(roots)
}

/// The time of day as this node has it.
struct NodeTime(Sources);

impl TimeProvider for NodeTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().seconds().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl fmt::Debug for NodeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeTime")
    }
}

/// What is left of the time for a request.
#[derive(Debug, Clone, Copy)]
struct Clock {
    deadline: Instant,
    limit: Duration,
}

impl Clock {
    fn start(limit: Duration) -> Self {
        Self { deadline: Instant::now() + limit, limit }
    }

    /// The same, but at most so long from now.
    fn capped(self, most: Duration) -> Self {
        Self { deadline: self.deadline.min(Instant::now() + most), limit: self.limit }
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.deadline
    }

    async fn within<T>(self, phase: Phase, work: impl Future<Output = T>) -> Result<T, OutboundError> {
        let limit = self.limit;
        timeout_at(self.deadline, work).await.map_err(|_elapsed| OutboundError::Time { phase, limit })
    }
}
