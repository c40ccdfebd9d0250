//! A call between workloads of two trust domains: mutual TLS, where each side proves itself with its X509-SVID and is verified
//! with the bundle of its own trust domain, and with no other (FED-51).
//!
//! Both sides are this program, each with nothing but what its own cluster's Workload API gave it.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::x509::{Purpose, verify_x509_svid};
use quorate_proto_identity::{Bundle, Certificate, SpiffeId, TrustDomain, UnixSeconds};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, ServerConfig,
    SignatureScheme,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What the caller says, and the other one says back.
const HELLO: &[u8; 5] = b"hello";

/// Why two workloads could not speak with each other.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The Workload API's answer has no SVID of this ID.
    #[error("the answer holds no X509-SVID of {0}")]
    NoSvid(SpiffeId),
    /// A part of the answer cannot be read.
    #[error("the {what} that the node sent cannot be read: {cause}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// TLS refused the certificate or the key.
    #[error("TLS cannot be set up")]
    Tls(#[from] Error),
    /// The handshake failed, or the connection.
    #[error("the call from {from} to {to} failed: {cause}")]
    Failed {
        /// Who called.
        from: SpiffeId,
        /// Who was called.
        to: SpiffeId,
        /// What was said.
        cause: io::Error,
    },
    /// It took too long.
    #[error("the call from {from} to {to} took more than {} s", LIMIT.as_secs())]
    Late {
        /// Who called.
        from: SpiffeId,
        /// Who was called.
        to: SpiffeId,
    },
}

/// A workload, as its Workload API made it.
#[derive(Debug)]
pub(super) struct Workload {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    bundles: Arc<BTreeMap<TrustDomain, Bundle>>,
}

impl Workload {
    /// The workload of this ID.
    pub(super) fn new(answer: &X509svidResponse, id: &SpiffeId) -> Result<Self, CallError> {
        let svid = answer.svids.iter().find(|svid| svid.spiffe_id == id.as_str());
        let svid = svid.ok_or_else(|| CallError::NoSvid(id.clone()))?;
        let chain = Certificate::parse_concatenated(&svid.x509_svid).map_err(malformed("certificate chain"))?;
        let own = id.trust_domain();
        let mut bundles = BTreeMap::from([(own.clone(), bundle(&own, &svid.bundle)?)]);
        for (foreign, roots) in &answer.federated_bundles {
            let name = foreign.strip_prefix("spiffe://").unwrap_or(foreign);
            let domain = TrustDomain::new(name).map_err(malformed("name of a foreign trust domain"))?;
            bundles.insert(domain.clone(), bundle(&domain, roots)?);
        }
        Ok(Self {
            id: id.clone(),
            chain: chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.x509_svid_key.to_vec())),
            bundles: Arc::new(bundles),
        })
    }

    /// Whether it can verify the workloads of this trust domain.
    pub(super) fn knows(&self, domain: &str) -> bool {
        self.bundles.keys().any(|known| known.as_str() == domain)
    }

    fn verifier(&self, peer: &SpiffeId) -> Arc<PeerVerifier> {
        Arc::new(PeerVerifier {
            peer: peer.clone(),
            bundles: Arc::clone(&self.bundles),
            provider: Arc::new(aws_lc_rs::default_provider()),
        })
    }

    fn client(&self, server: &SpiffeId) -> Result<ClientConfig, Error> {
        let verifier = self.verifier(server);
        ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
    }

    fn server(&self, client: &SpiffeId) -> Result<ServerConfig, Error> {
        let verifier = self.verifier(client);
        ServerConfig::builder_with_provider(Arc::clone(&verifier.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
    }
}

fn bundle(domain: &TrustDomain, roots: &[u8]) -> Result<Bundle, CallError> {
    let mut bundle = Bundle::new(domain.clone());
    for root in Certificate::parse_concatenated(roots).map_err(malformed("bundle"))? {
        bundle.add_x509_authority(root);
    }
    Ok(bundle)
}

fn malformed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> CallError {
    move |cause| CallError::Malformed { what, cause: cause.to_string() }
}

/// One workload calls another: a connection over TCP, TLS 1.3, a word each way.
pub(super) async fn call(from: &Workload, to: &Workload) -> Result<(), CallError> {
    let connector = TlsConnector::from(Arc::new(from.client(&to.id)?));
    let acceptor = TlsAcceptor::from(Arc::new(to.server(&from.id)?));
    let failed = |cause| CallError::Failed { from: from.id.clone(), to: to.id.clone(), cause };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let answering = async {
        let (connection, _) = listener.accept().await?;
        let mut stream = acceptor.accept(connection).await?;
        let mut heard = [0; HELLO.len()];
        stream.read_exact(&mut heard).await?;
        stream.write_all(&heard).await?;
        stream.shutdown().await
    };
    let calling = async {
        let connection = TcpStream::connect(address).await?;
        // An SVID has no name that DNS knows; the verifier looks at its SPIFFE ID alone.
        let mut stream = connector.connect(ServerName::IpAddress(address.ip().into()), connection).await?;
        stream.write_all(HELLO).await?;
        let mut heard = [0; HELLO.len()];
        stream.read_exact(&mut heard).await?;
        if &heard == HELLO { Ok(()) } else { Err(io::Error::other("something else came back")) }
    };
    let both = async { tokio::try_join!(calling, answering) };
    match timeout(LIMIT, both).await {
        Ok(spoken) => spoken.map(drop).map_err(failed),
        Err(_elapsed) => Err(CallError::Late { from: from.id.clone(), to: to.id.clone() }),
    }
}

/// Who the other side has to be, and the bundles to prove it by.
#[derive(Debug)]
struct PeerVerifier {
    peer: SpiffeId,
    bundles: Arc<BTreeMap<TrustDomain, Bundle>>,
    provider: Arc<CryptoProvider>,
}

/// The other side is somebody else.
#[derive(Debug, thiserror::Error)]
#[error("the other side is {0}")]
struct SomebodyElse(SpiffeId);

impl PeerVerifier {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), Error> {
        let chain: Vec<&[u8]> = std::iter::once(leaf).chain(others).map(AsRef::as_ref).collect();
        let now = UnixSeconds(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let verified = verify_x509_svid(&chain, &self.bundles, now, purpose).map_err(refused)?;
        if *verified.spiffe_id() == self.peer {
            Ok(())
        } else {
            Err(refused(SomebodyElse(verified.spiffe_id().clone())))
        }
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, others, now, Purpose::Server).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, others, now, Purpose::Client).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_proto_api::workload::X509svid;
    use quorate_proto_identity::x509::{AuthorityTemplate, LeafIssuer, LeafTemplate, build_root};
    use quorate_proto_identity::{KeyType, PrivateKey, SerialNumber, Validity};

    use super::*;

    /// A trust domain's root, and its workload's answer without foreign bundles.
    fn domain(name: &str) -> (Bytes, SpiffeId, X509svidResponse) {
        let trust_domain = TrustDomain::new(name).unwrap();
        let now = UnixSeconds(i64::try_from(UnixTime::now().as_secs()).unwrap());
        let validity = Validity::new(now.minus(30), now.plus(600)).unwrap();
        let serial = |number: u128| SerialNumber::from_random((number << 100).to_be_bytes());
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let root = build_root(&AuthorityTemplate { trust_domain: &trust_domain, serial: serial(1), validity }, &key);
        let root = root.unwrap();
        let id = SpiffeId::from_segments(&trust_domain, &["w"]).unwrap();
        let leaf_key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let leaf = LeafTemplate {
            spiffe_id: &id,
            dns_names: &[],
            subject: None,
            public_key: leaf_key.public_key(),
            serial: serial(2),
            validity,
        };
        let chain = LeafIssuer::new(root.der(), key).unwrap().issue(&leaf).unwrap();
        let bundle = Bytes::copy_from_slice(root.der());
        let svid = X509svid {
            spiffe_id: id.to_string(),
            x509_svid: chain.into(),
            x509_svid_key: leaf_key.pkcs8().to_vec().into(),
            bundle: bundle.clone(),
            ..X509svid::default()
        };
        (bundle, id, X509svidResponse { svids: vec![svid], ..X509svidResponse::default() })
    }

    /// Accepts: FED-51, FED-17. Refuses: FED-51, FED-11
    #[tokio::test]
    async fn fed_51_each_side_is_verified_with_its_own_domains_bundle_and_with_no_other() {
        let (root_a, id_a, mut answer_a) = domain("a.test");
        let (root_b, id_b, mut answer_b) = domain("b.test");
        let strangers = (Workload::new(&answer_a, &id_a).unwrap(), Workload::new(&answer_b, &id_b).unwrap());
        assert!(matches!(call(&strangers.0, &strangers.1).await, Err(CallError::Failed { .. })));

        answer_a.federated_bundles.insert("spiffe://b.test".into(), root_b.clone());
        answer_b.federated_bundles.insert("spiffe://a.test".into(), root_a.clone());
        let (a, b) = (Workload::new(&answer_a, &id_a).unwrap(), Workload::new(&answer_b, &id_b).unwrap());
        call(&a, &b).await.unwrap();
        call(&b, &a).await.unwrap();
        assert!(a.knows("b.test") && !a.knows("c.test"));

        // The right root under a wrong name proves nothing.
        answer_a.federated_bundles = [("spiffe://c.test".to_owned(), root_b)].into();
        answer_a.federated_bundles.insert("spiffe://b.test".into(), root_a);
        let confused = Workload::new(&answer_a, &id_a).unwrap();
        assert!(matches!(call(&confused, &b).await, Err(CallError::Failed { .. })));
    }
}
