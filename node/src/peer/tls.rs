//! TLS between nodes: version 1.3 alone, a raw public key at each end (RFC 7250), nothing resumed.
//!
//! ```text
//!   who dials     offers one protocol (ALPN), names the keys that it will speak to, and proves its own
//!   who listens   takes any key that its holder proves: whose it is, consensus asks at every call (ATK-25)
//! ```
//!
//! There is no certificate here, so none can expire (design property 7), and a workload's SVID is of no use: a
//! certificate is not even a kind of identity that this handshake knows (ATK-25). No tickets and no early data: every
//! connection proves both keys anew (ATK-24).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use quorate_actors::keys::KeyCustody;
use quorate_proto_identity::key::{PublicKey, PublicKeyKind};
use quorate_raft_consensus::transport::Protocol;
use quorate_raft_machine::members::MEMBER_KEY_LIMIT;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureAlgorithm, SignatureScheme,
};

/// Whom a client says it looks for. It is never sent, and nothing is compared with it: keys are.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Signatures that are asked for: those of the keys that a node can have.
const SCHEMES: [SignatureScheme; 3] =
    [SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384];

/// Why a node's identity key cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is of a kind that TLS 1.3 has no signature for, as we use it.
    #[error("the identity key is of a kind that nodes do not prove to each other ({kind:?}); Ed25519 is what is made")]
    KeyKind {
        /// Its kind.
        kind: PublicKeyKind,
    },
    /// The TLS library does not take the settings. It takes them in every build that passed its tests.
    #[error("TLS between nodes cannot be set up")]
    Settings(#[from] Error),
}

/// What a node's TLS connections are made with.
#[derive(Debug, Clone)]
pub struct PeerTls {
    provider: Arc<CryptoProvider>,
    identity: Arc<CertifiedKey>,
    server: Arc<ServerConfig>,
}

impl PeerTls {
    /// Prepares both sides with the identity key of a custody.
    ///
    /// # Errors
    /// When the key is of no use for it.
    pub fn new(custody: Arc<dyn KeyCustody>) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let key = IdentityKey::new(custody)?;
        let spki = CertificateDer::from(key.public.spki_der().to_vec());
        let identity = Arc::new(CertifiedKey::new(vec![spki], Arc::new(key)));
        let verifier = Arc::new(AnyKey { algorithms: provider.signature_verification_algorithms });
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&identity))));
        server.alpn_protocols = vec![Protocol::Peer.alpn().to_vec(), Protocol::Join.alpn().to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        Ok(Self { provider, identity, server: Arc::new(server) })
    }

    /// The side that listens.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// The side that dials, for a peer that proves one of `keys` (subjectPublicKeyInfo, DER).
    ///
    /// # Errors
    /// When the TLS library does not take the settings.
    pub fn client(&self, keys: Vec<Bytes>, protocol: Protocol) -> Result<Arc<ClientConfig>, Error> {
        let verifier = Arc::new(PinnedKeys { keys, algorithms: self.provider.signature_verification_algorithms });
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.identity))));
        client.alpn_protocols = vec![protocol.alpn().to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;
        client.enable_sni = false;
        Ok(Arc::new(client))
    }

    /// This node's signatures under another key than its own, for the test that they are refused.
    #[cfg(test)]
    pub(super) fn signing_as(&self, shown: CertificateDer<'static>) -> Arc<CertifiedKey> {
        Arc::new(CertifiedKey::new(vec![shown], Arc::clone(&self.identity.key)))
    }

    /// The name that a client gives its library, which wants one.
    #[must_use]
    pub fn nobody() -> ServerName<'static> {
        ServerName::from(NOBODY)
    }
}

/// Our programs speak to their like alone: the hybrid exchange first, plain X25519 for a build without it, nothing else.
fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![X25519MLKEM768, X25519], ..aws_lc_rs::default_provider() }
}

/// The protocol that a handshake agreed on, if it is one of ours.
#[must_use]
pub fn agreed(alpn: Option<&[u8]>) -> Option<Protocol> {
    [Protocol::Peer, Protocol::Join].into_iter().find(|protocol| alpn == Some(protocol.alpn()))
}

/// The identity key, as TLS signs with it. The private half stays with the custody.
struct IdentityKey {
    custody: Arc<dyn KeyCustody>,
    public: PublicKey,
    scheme: SignatureScheme,
    algorithm: SignatureAlgorithm,
}

impl IdentityKey {
    fn new(custody: Arc<dyn KeyCustody>) -> Result<Self, TlsError> {
        let public = custody.identity_public_key().clone();
        let (scheme, algorithm) = match public.kind() {
            PublicKeyKind::Ed25519 => (SignatureScheme::ED25519, SignatureAlgorithm::ED25519),
            PublicKeyKind::EcP256 => (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureAlgorithm::ECDSA),
            PublicKeyKind::EcP384 => (SignatureScheme::ECDSA_NISTP384_SHA384, SignatureAlgorithm::ECDSA),
            kind @ (PublicKeyKind::EcP521 | PublicKeyKind::Rsa { .. }) => return Err(TlsError::KeyKind { kind }),
        };
        Ok(Self { custody, public, scheme, algorithm })
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityKey").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl SigningKey for IdentityKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = HandshakeSigner { custody: Arc::clone(&self.custody), scheme: self.scheme };
        offered.contains(&self.scheme).then(|| Box::new(signer) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.public.spki_der()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

struct HandshakeSigner {
    custody: Arc<dyn KeyCustody>,
    scheme: SignatureScheme,
}

impl fmt::Debug for HandshakeSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeSigner").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl Signer for HandshakeSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.custody.sign_handshake(message).map_err(|error| Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// The server's test of a client: it has to hold the private half of some key of a kind that a node can have.
#[derive(Debug)]
struct AnyKey {
    algorithms: WebPkiSupportedAlgorithms,
}

/// The client's test of a server: it has to hold the private half of one of these keys.
#[derive(Debug)]
struct PinnedKeys {
    keys: Vec<Bytes>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What the other end shows, before any arithmetic is done with it (ATK-05): of a size and kind that nodes have.
fn check_shape(shown: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
    let bad = Error::InvalidCertificate(CertificateError::BadEncoding);
    if !others.is_empty() || shown.len() > MEMBER_KEY_LIMIT {
        return Err(bad);
    }
    match PublicKey::from_spki_der(shown).map(|key| key.kind()) {
        Ok(PublicKeyKind::Ed25519 | PublicKeyKind::EcP256 | PublicKeyKind::EcP384) => Ok(()),
        Ok(PublicKeyKind::EcP521 | PublicKeyKind::Rsa { .. }) | Err(_) => Err(bad),
    }
}

/// Versions before 1.3 are not spoken.
fn too_old() -> Error {
    Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_shape(shown, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(shown.as_ref()),
            signed,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ServerCertVerifier for PinnedKeys {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _nobody: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_shape(shown, others)?;
        if self.keys.iter().any(|key| key.as_ref() == shown.as_ref()) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(shown.as_ref()),
            signed,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
