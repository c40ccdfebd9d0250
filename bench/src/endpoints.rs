//! Bundle endpoints of many trust domains, all on one port of this machine: what a leader polls.
//!
//! One server of the profile `https_web`, with a certificate of an authority made for this measurement; the path says which
//! trust domain is asked for. It answers and forgets: what it costs is this process's, not the leader's.

use crate::trouble::Trouble;
use quorate_proto_identity::x509::{AuthorityTemplate, build_root};
use quorate_proto_identity::{Bundle, KeyType, PrivateKey, SerialNumber, TrustDomain, UnixSeconds, Validity};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Most bytes of a request's head that are read: a GET has some hundred.
const HEAD_LIMIT: usize = 8 * 1024;

/// How long the roots in the documents live, in seconds.
const LIFE: i64 = 30 * 24 * 3_600;

/// The endpoints, served by tasks of their own that end with this.
pub(crate) struct Endpoints {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    documents: Vec<String>,
    served: AtomicU64,
}

/// What the server proves itself with, and the file of the authority that vouches for it.
pub(crate) struct WebIdentity {
    config: Arc<ServerConfig>,
    /// The authority's certificate, PEM: what a node is to take as its web roots.
    pub(crate) roots: PathBuf,
}

impl WebIdentity {
    /// An authority, and a certificate of it for 127.0.0.1.
    pub(crate) fn new(directory: &Path) -> Result<Self, Trouble> {
        let key = || KeyPair::generate().map_err(Trouble::crypto("web key"));
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, key()?).map_err(Trouble::crypto("web authority"))?;
        let own = key()?;
        let mut server = CertificateParams::default();
        server.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        let server = server.signed_by(&own, &authority).map_err(Trouble::crypto("web certificate"))?;
        let roots = directory.join("web-roots.pem");
        std::fs::write(&roots, authority.pem()).map_err(Trouble::system(roots.display().to_string()))?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![server.der().clone()], private))
            .map_err(Trouble::crypto("web server"))?;
        Ok(Self { config: Arc::new(config), roots })
    }
}

impl Endpoints {
    /// Serves so many trust domains, whose documents ask for a look every `refresh_hint` seconds.
    pub(crate) async fn serve(identity: &WebIdentity, count: usize, refresh_hint: i64) -> Result<Self, Trouble> {
        let documents = (0..count).map(|number| document(number, refresh_hint)).collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared { documents, served: AtomicU64::new(0) });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Trouble::system("bind"))?;
        let address = listener.local_addr().map_err(Trouble::system("bound address"))?;
        let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
        let mut tasks = JoinSet::new();
        let all = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&all));
                // A client that breaks off harms itself alone.
                connections.spawn(async move { drop(answer(acceptor, stream, &shared).await) });
            }
        });
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where the bundle of a trust domain is.
    pub(crate) fn url(&self, number: usize) -> String {
        format!("https://{}/{number}", self.address)
    }

    /// How many documents were served.
    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }
}

/// The name of a trust domain.
pub(crate) fn domain(number: usize) -> String {
    format!("d{number}.peers.example")
}

#[expect(clippy::disallowed_methods, reason = "a measurement is made in the world's own time")]
fn document(number: usize, refresh_hint: i64) -> Result<String, Trouble> {
    let trust_domain = TrustDomain::new(&domain(number)).map_err(Trouble::crypto("trust domain"))?;
    let key = PrivateKey::generate(KeyType::EcP256).map_err(Trouble::crypto("root key"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    let validity =
        Validity::new(UnixSeconds(now - 60), UnixSeconds(now + LIFE)).map_err(Trouble::crypto("validity"))?;
    let mut random = [0; 16];
    random[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    let template =
        AuthorityTemplate { trust_domain: &trust_domain, serial: SerialNumber::from_random(random), validity };
    let root = build_root(&template, &key).map_err(Trouble::crypto("root"))?;
    let mut bundle = Bundle::new(trust_domain);
    bundle.add_x509_authority(root);
    bundle.set_sequence(Some(1));
    bundle.set_refresh_hint(Some(refresh_hint));
    Ok(bundle.to_json())
}

/// Answers one request: the document of the path, or that it is the one that the client has.
async fn answer(acceptor: TlsAcceptor, stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_LIMIT {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&head);
    let path = text.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let found = path.parse::<usize>().ok().and_then(|number| shared.documents.get(number));
    let has = text.to_ascii_lowercase().contains("if-none-match: \"1\"");
    let reply = match found {
        None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        Some(_) if has => "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nConnection: close\r\n\r\n".to_owned(),
        Some(document) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"1\"\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{document}",
            document.len()
        ),
    };
    shared.served.fetch_add(1, Ordering::Relaxed);
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}
