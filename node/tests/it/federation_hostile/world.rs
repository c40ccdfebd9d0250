//! Endpoints that lie, stall and mislead: real TLS servers on loopback, under names and addresses of a network that the test
//! makes up.

use std::collections::BTreeMap;
use std::fs;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use quorate_actors::sources::system_sources;
use quorate_actors::{BundleSource as _, Document, FetchError, FetchErrorKind, FetchRequest, Fetched};
use quorate_node::bundle_source::NodeBundleSource;
use quorate_node::outbound::network::NetworkFuture;
use quorate_node::outbound::{NameError, Network, Outbound, OutboundSettings};
use quorate_proto_identity::x509::{AuthorityTemplate, LeafIssuer, LeafTemplate, build_root};
use quorate_proto_identity::{
    Bundle, Certificate, EndpointUrl, KeyType, PrivateKey, SerialNumber, SpiffeId, TrustDomain, UnixSeconds, Validity,
};
use quorate_raft_machine::federation::{Endpoint, EndpointPins, PollSettings, Relationship, RelationshipOrigin};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The host of most tests, and the public address that its name leads to.
pub(super) const HOST: &str = "bundles.other.example";
pub(super) const PUBLIC: &str = "198.51.100.7";

/// What an endpoint does with a request.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// Writes this, and closes.
    Says(Vec<u8>),
    /// Writes this, and then more and more.
    Floods(Vec<u8>),
    /// Writes this, and then a byte now and then.
    Trickles(Vec<u8>),
    /// Says nothing.
    Hangs,
}

/// An answer with a body.
pub(super) fn says(status: &str, headers: &str, body: &[u8]) -> Deed {
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Deed::Says(bytes)
}

pub(super) fn ok(body: &[u8]) -> Deed {
    says("200 OK", "content-type: application/json\r\n", body)
}

pub(super) fn redirect(status: &str, location: &str) -> Deed {
    says(status, &format!("location: {location}\r\n"), b"")
}

/// A bundle document that is as good as any.
pub(super) const GOOD: &[u8] = b"{\"keys\":[],\"spiffe_sequence\":7,\"spiffe_refresh_hint\":300}";

/// The certificates of a server, with its key.
#[derive(Clone)]
pub(super) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

/// The certificate authority of the web, as the test's machine trusts it.
pub(super) struct Web {
    ca: Issuer<'static, KeyPair>,
    pem: String,
}

impl Web {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "An authority of the web");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { ca: Issuer::new(params, key), pem }
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// Asks clients for a certificate of this authority, and lets in nobody without one.
    pub(super) fn clients(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
    }

    /// A certificate for these hosts.
    pub(super) fn certificate(&self, hosts: &[&str]) -> Shown {
        self.certificate_until(hosts, 3_600)
    }

    /// One that ends so many seconds from now.
    pub(super) fn certificate_until(&self, hosts: &[&str], seconds: i64) -> Shown {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.not_before = (UNIX_EPOCH + Duration::from_secs(now() - 7_200)).into();
        let end = i64::try_from(now()).unwrap() + seconds;
        params.not_after = (UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap())).into();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        Shown::new(vec![certificate.der().to_vec()], key.serialize_der())
    }
}

/// One that nobody else signed.
pub(super) fn self_signed(host: &str) -> Shown {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap();
    Shown::new(vec![certificate.der().to_vec()], key.serialize_der())
}

/// Seconds since 1970.
fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

impl Shown {
    fn new(chain: Vec<Vec<u8>>, key: Vec<u8>) -> Self {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Self { chain, key: Arc::new(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key))) }
    }

    /// The certificate that comes first.
    pub(super) fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }
}

/// A foreign SPIFFE authority.
pub(super) struct Authority {
    pub(super) domain: TrustDomain,
    root: Certificate,
    key: PrivateKey,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let domain = TrustDomain::new(name).unwrap();
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let template =
            AuthorityTemplate { trust_domain: &domain, serial: serial(1), validity: validity(-7_200, 7_200) };
        let root = build_root(&template, &key).unwrap();
        Self { domain, root, key }
    }

    pub(super) fn bundle(&self) -> Bundle {
        let mut bundle = Bundle::new(self.domain.clone());
        bundle.add_x509_authority(self.root.clone());
        bundle.set_sequence(Some(1));
        bundle
    }

    pub(super) fn id(&self, path: &str) -> SpiffeId {
        SpiffeId::from_path(&self.domain, path).unwrap()
    }

    pub(super) fn svid(&self, path: &str) -> Shown {
        self.svid_until(path, 3_600)
    }

    pub(super) fn svid_until(&self, path: &str, seconds: i64) -> Shown {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let id = self.id(path);
        let leaf = LeafTemplate {
            spiffe_id: &id,
            dns_names: &[],
            subject: None,
            public_key: key.public_key(),
            serial: serial(2),
            validity: validity(-3_600, seconds),
        };
        let leaf = LeafIssuer::new(self.root.der(), self.key.clone()).unwrap().issue(&leaf).unwrap();
        Shown::new(vec![leaf], key.pkcs8().to_vec())
    }
}

fn serial(last: u8) -> SerialNumber {
    let mut bytes = [7; 16];
    bytes[15] = last;
    SerialNumber::from_random(bytes)
}

fn validity(from: i64, to: i64) -> Validity {
    let now = i64::try_from(now()).unwrap();
    Validity::new(UnixSeconds(now + from), UnixSeconds(now + to)).unwrap()
}

/// An endpoint, as it stands on this machine.
pub(super) struct Server {
    pub(super) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves TLS with this certificate; what it does is told by the path.
    pub(super) async fn start(shown: &Shown, deed: impl Fn(&str) -> Deed + Send + Sync + 'static) -> Self {
        Self::checking(shown, Arc::new(NoClientAuth), deed).await
    }

    /// The same by one that has this to do with certificates of clients.
    pub(super) async fn checking(
        shown: &Shown,
        clients: Arc<dyn ClientCertVerifier>,
        deed: impl Fn(&str) -> Deed + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(shown.chain.clone(), shown.key.clone_key())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (listener, port) = listener().await;
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (deed, noted) = (Arc::new(deed), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, deed, noted) = (acceptor.clone(), Arc::clone(&deed), Arc::clone(&noted));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let Some(head) = read_head(&mut stream).await else { return };
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    noted.lock().unwrap().push(head);
                    // A client that goes away in the middle is what is tested.
                    drop(act(stream, deed(&path)).await);
                });
            }
        });
        Self { port, asked }
    }

    /// One that takes connections and never says a word, not even in TLS.
    pub(super) async fn mute() -> Self {
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        Self { port, asked: Arc::default() }
    }

    /// The heads of the requests that came.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until so many requests came.
    pub(super) async fn until_asked(&self, count: usize) {
        let waiting = async {
            while self.asked().len() < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(crate::node::PATIENCE, waiting).await.expect("the endpoint is asked");
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn read_head(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn act(mut stream: TlsStream<TcpStream>, deed: Deed) -> io::Result<()> {
    match deed {
        Deed::Says(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        Deed::Floods(bytes) => {
            stream.write_all(&bytes).await?;
            loop {
                stream.write_all(&[b' '; 16 * 1024]).await?;
            }
        }
        Deed::Trickles(bytes) => {
            stream.write_all(&bytes).await?;
            loop {
                stream.write_all(b" ").await?;
                stream.flush().await?;
                sleep(Duration::from_millis(50)).await;
            }
        }
        Deed::Hangs => pending().await,
    }
}

/// A network of the test's making: names, with an answer for each time that they are looked up, and addresses that all lead to
/// this machine.
#[derive(Debug, Default)]
pub(super) struct Lies {
    names: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    looked_up: Mutex<Vec<String>>,
    dialled: Mutex<Vec<SocketAddr>>,
    dead: Mutex<Vec<IpAddr>>,
}

impl Lies {
    /// What a name leads to at each look; the last answer stays.
    pub(super) fn name(&self, name: &str, answers: &[&[&str]]) {
        let parsed = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        self.names.lock().unwrap().insert(name.to_owned(), answers.iter().map(parsed).collect());
    }

    /// Nobody is at this address.
    pub(super) fn nobody_at(&self, address: &str) {
        self.dead.lock().unwrap().push(address.parse().unwrap());
    }

    pub(super) fn dialled(&self) -> Vec<SocketAddr> {
        self.dialled.lock().unwrap().clone()
    }

    pub(super) fn looked_up(&self) -> usize {
        self.looked_up.lock().unwrap().len()
    }
}

impl Network for Lies {
    fn resolve(&self, host: String) -> NetworkFuture<Result<Vec<IpAddr>, NameError>> {
        self.looked_up.lock().unwrap().push(host.clone());
        let mut names = self.names.lock().unwrap();
        let answer = match names.get_mut(&host) {
            Some(answers) if answers.len() > 1 => Ok(answers.remove(0)),
            Some(answers) => Ok(answers[0].clone()),
            None => Err(NameError::Words("there is no such name".into())),
        };
        Box::pin(async move { answer })
    }

    fn dial(&self, address: SocketAddr) -> NetworkFuture<io::Result<TcpStream>> {
        self.dialled.lock().unwrap().push(address);
        if self.dead.lock().unwrap().contains(&address.ip()) {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        Box::pin(TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())))
    }
}

/// A node's client, and what it is tested with.
pub(super) struct World {
    pub(super) web: Web,
    pub(super) network: Arc<Lies>,
    source: Arc<NodeBundleSource>,
    _directory: TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        Self::allowing(&[])
    }

    /// One whose operator allows these private networks.
    pub(super) fn allowing(networks: &[&str]) -> Self {
        let (web, network, directory) = (Web::new(), Arc::new(Lies::default()), tempfile::tempdir().unwrap());
        network.name(HOST, &[&[PUBLIC]]);
        let roots: PathBuf = directory.path().join("roots.pem");
        fs::write(&roots, web.pem()).unwrap();
        let settings = OutboundSettings {
            allow_private: networks.iter().map(|network| network.parse().unwrap()).collect(),
            web_roots: Some(roots),
            dns_servers: Vec::new(),
        };
        let lies: Arc<dyn Network> = Arc::clone(&network) as _;
        let outbound = Outbound::over(lies, &settings, &system_sources(Handle::current())).unwrap();
        Self { web, network, source: NodeBundleSource::new(outbound), _directory: directory }
    }

    /// A web server under the usual name.
    pub(super) async fn server(&self, deed: impl Fn(&str) -> Deed + Send + Sync + 'static) -> Server {
        Server::start(&self.web.certificate(&[HOST]), deed).await
    }

    pub(super) async fn fetch(&self, asked: Asked) -> Result<Document, FetchError> {
        match self.fetch_any(asked).await? {
            Fetched::Document(document) => Ok(document),
            Fetched::NotModified { .. } => panic!("there is no document"),
        }
    }

    pub(super) async fn fetch_any(&self, asked: Asked) -> Result<Fetched, FetchError> {
        let Asked { endpoint, pins, poll, verify_with, etag, limit } = asked;
        let relationship = Relationship {
            trust_domain: TrustDomain::new("other.example").unwrap(),
            endpoint,
            pins,
            poll,
            origin: RelationshipOrigin::Operator,
            revision: 1,
            created_at: UnixSeconds(0),
            changed_at: UnixSeconds(0),
        };
        let request = FetchRequest {
            relationship: Arc::new(relationship),
            verify_with: verify_with.map(Arc::new),
            etag,
            secret: None,
            identity: None,
            deadline: Instant::now() + limit,
        };
        let began = Instant::now();
        let fetched = self.source.fetch(request).await;
        assert!(began.elapsed() < limit + Duration::from_secs(3), "it took {:?}", began.elapsed());
        fetched
    }

    /// What is said of a retrieval that is refused, not of one that does not come about.
    pub(super) async fn refused(&self, asked: Asked) -> String {
        let error = self.fetch(asked).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Refused, "{error}");
        error.words
    }
}

/// A retrieval.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) endpoint: Endpoint,
    pub(super) pins: EndpointPins,
    pub(super) poll: PollSettings,
    pub(super) verify_with: Option<Bundle>,
    pub(super) etag: Option<String>,
    pub(super) limit: Duration,
}

pub(super) fn url(host: &str, port: u16, path: &str) -> EndpointUrl {
    EndpointUrl::parse(&format!("https://{host}:{port}{path}")).unwrap()
}

/// By `https_web`.
pub(super) fn web(host: &str, server: &Server, path: &str) -> Asked {
    Asked {
        endpoint: Endpoint::Web { url: url(host, server.port, path) },
        pins: EndpointPins::default(),
        poll: PollSettings::default(),
        verify_with: None,
        etag: None,
        limit: Duration::from_secs(10),
    }
}

/// By `https_spiffe`, from a server of this ID.
pub(super) fn spiffe(host: &str, server: &Server, path: &str, authority: &Authority, id: SpiffeId) -> Asked {
    let endpoint = Endpoint::Spiffe { url: url(host, server.port, path), endpoint_spiffe_id: id };
    Asked { endpoint, verify_with: Some(authority.bundle()), ..web(host, server, path) }
}
