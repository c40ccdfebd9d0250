//! Workloads on different nodes that speak TLS with each other: each with the newest SVID and bundle that its own stream
//! has brought, and nothing else.
//!
//! ```text
//!   stream of node A ──► party A: certificates, key, roots ──┐
//!                                                            ├── TCP, TLS 1.3, both sides prove and check, one byte
//!   stream of node B ──► party B: certificates, key, roots ──┘
//! ```
//!
//! Chains are checked by webpki, which knows nothing of this product; peers by their SPIFFE ID. Nothing is resumed, so that
//! every connection is a proof of the SVIDs of its moment.

use super::workload::Workload;
use crate::clock::now;
use crate::invariants::inv_06;
use crate::registrar::TRUST_DOMAIN;
use crate::run::{Run, lock};
use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::{Certificate, UnixSeconds};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, version};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long a handshake may take on two busy cores. One that hangs has failed.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// What is said of one that hung.
const LATE: &str = "no end after";

/// How long is waited before a stream that ended is opened again.
const PACE: Duration = Duration::from_millis(20);

/// What is sent when the handshake is over: each side has accepted the other only when this came back.
const HELLO: u8 = b'q';

/// A workload of one node.
#[derive(Debug)]
pub(crate) struct Party {
    /// The node's name.
    node: String,
    /// Its own SPIFFE ID.
    spiffe_id: String,
    held: Mutex<Option<Held>>,
}

/// What its stream brought last, ready for use.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    /// The end of its SVID.
    pub(crate) until: UnixSeconds,
    /// The second in which it was signed.
    pub(crate) signed: UnixSeconds,
    /// The root above it, by its ID.
    pub(crate) root: String,
    /// The roots that came with it, by their IDs.
    pub(crate) roots: BTreeSet<String>,
}

/// Why two workloads could not speak with each other, judged by what each of them held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The SVID of one side was past its end.
    Expired(Side),
    /// This side had not the root that the other one's SVID is under.
    UnknownRoot(Side),
    /// Each should have accepted the other.
    Other,
}

/// A side of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that called.
    Dialler,
    /// The one that was called.
    Answerer,
}

/// What was wrong with a handshake that failed at this instant, by what its sides held when it began.
pub(crate) fn cause(dialler: &Held, answerer: &Held, at: UnixSeconds) -> Cause {
    if dialler.until < at {
        Cause::Expired(Side::Dialler)
    } else if answerer.until < at {
        Cause::Expired(Side::Answerer)
    } else if !dialler.roots.contains(&answerer.root) {
        Cause::UnknownRoot(Side::Dialler)
    } else if !answerer.roots.contains(&dialler.root) {
        Cause::UnknownRoot(Side::Answerer)
    } else {
        Cause::Other
    }
}

impl Party {
    /// The workload of this node whose entry has this path.
    pub(crate) fn new(node: &str, path: &str) -> Self {
        Self { node: node.to_owned(), spiffe_id: format!("spiffe://{TRUST_DOMAIN}{path}"), held: Mutex::default() }
    }

    /// The node's name.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// What it has at this moment.
    pub(crate) fn held(&self) -> Option<Held> {
        lock(&self.held).clone()
    }

    /// Takes what a stream brought.
    fn takes(&self, answer: &X509svidResponse) -> Result<(), String> {
        let Some(svid) = answer.svids.iter().find(|svid| svid.spiffe_id == self.spiffe_id) else {
            // The first messages may come before its entry.
            return Ok(());
        };
        let chain = Certificate::parse_concatenated(&svid.x509_svid).map_err(in_words)?;
        let roots = Certificate::parse_concatenated(&svid.bundle).map_err(in_words)?;
        let [leaf, issuing] = chain.as_slice() else { return Err(format!("a chain of {} certificates", chain.len())) };
        let (until, root) = (leaf.validity().not_after(), inv_06::root_of(issuing));
        let signed = inv_06::signed_at(leaf);
        let known = roots.iter().map(|root| root.authority_id().to_string()).collect();
        let mut anchors = RootCertStore::empty();
        for root in &roots {
            anchors.add(CertificateDer::from(root.der().to_vec())).map_err(in_words)?;
        }
        let chain: Vec<CertificateDer<'static>> =
            chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
        let key = || PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.x509_svid_key.to_vec()));
        let held = Held {
            client: Arc::new(client(&anchors, chain.clone(), key())?),
            server: Arc::new(server(anchors, chain, key())?),
            until,
            signed,
            root,
            roots: known,
        };
        *lock(&self.held) = Some(held);
        Ok(())
    }

    /// Follows its node's stream until the load ends.
    pub(crate) async fn follow(&self, run: &Run, node: usize) {
        let Ok(member) = run.fleet.member(node) else { return };
        while run.goes_on() {
            // It ends with its node; what it held is held on, as any workload does.
            let Some(_ended) = run.unless_stopped(self.once(&member.place.workload_socket())).await else { break };
            run.pause(PACE).await;
        }
    }

    async fn once(&self, socket: &std::path::Path) -> Result<(), String> {
        let mut stream = Workload::new(socket).x509_svids().await.map_err(|status| status.to_string())?;
        while let Some(answer) = stream.message().await.map_err(|status| status.to_string())? {
            self.takes(&answer)?;
        }
        Ok(())
    }

    /// Answers whoever comes and can prove who it is, until the load ends.
    pub(crate) async fn serve(self: Arc<Self>, run: Arc<Run>, listener: TcpListener) {
        while let Some(Ok((connection, _))) = run.unless_stopped(listener.accept()).await {
            let Some(held) = self.held() else { continue };
            tokio::spawn(async move {
                // The one that dialled tells how it went.
                drop(timeout(HANDSHAKE_LIMIT, answer(held.server, connection)).await);
            });
        }
    }
}

/// A client that shows these certificates and believes chains under these roots.
fn client(
    roots: &RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = ChainVerifier { roots: roots.clone(), provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(in_words)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(in_words)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// A server that shows these certificates and asks for chains under these roots.
fn server(
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(in_words)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(in_words)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(in_words)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Checks a server's chain by its roots, and no name: an SVID has none that DNS knows.
#[derive(Debug)]
struct ChainVerifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

async fn answer(config: Arc<ServerConfig>, connection: TcpStream) -> io::Result<()> {
    let mut stream = TlsAcceptor::from(config).accept(connection).await?;
    let hello = stream.read_u8().await?;
    stream.write_u8(hello).await?;
    stream.shutdown().await
}

/// One connection from a party, by what it has now, to another one. The other's certificate has to be for its SPIFFE ID.
pub(crate) async fn dial(from: &Held, to: &Party, address: std::net::SocketAddr) -> Result<(), String> {
    let dialled = async {
        let connection = TcpStream::connect(address).await?;
        let name = ServerName::IpAddress(address.ip().into());
        let mut stream = TlsConnector::from(Arc::clone(&from.client)).connect(name, connection).await?;
        stream.write_u8(HELLO).await?;
        let heard = stream.read_u8().await?;
        let (_, session) = stream.get_ref();
        let leaf = session.peer_certificates().and_then(<[CertificateDer<'_>]>::first).map(|leaf| leaf.to_vec());
        Ok::<_, io::Error>((heard, leaf.unwrap_or_default()))
    };
    let (heard, leaf) = match timeout(HANDSHAKE_LIMIT, dialled).await {
        Ok(done) => done.map_err(in_words)?,
        Err(_) => return Err(format!("{LATE} {HANDSHAKE_LIMIT:?}")),
    };
    let leaf = Certificate::parse(&leaf).map_err(in_words)?;
    let ids = &leaf.extensions().uri_names;
    if heard != HELLO || *ids != [to.spiffe_id.as_str()] {
        return Err(format!("somebody else answered, as {ids:?}"));
    }
    Ok(())
}

/// Whether a handshake had failed for its time alone.
pub(crate) fn is_late(why: &str) -> bool {
    why.starts_with(LATE)
}

/// Whether what a party has is past its end: one whose node is dead cannot have better, and nothing is asked of it.
pub(crate) fn is_stale(held: &Held) -> bool {
    held.until <= now()
}

fn in_words(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
