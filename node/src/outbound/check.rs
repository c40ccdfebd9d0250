//! Who a server has to be, checked within the TLS handshake: before a byte of a request is sent.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quorate_proto_identity::x509::{Purpose, verify_x509_svid};
use quorate_proto_identity::{Bundle, SpiffeId, UnixSeconds};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use webpki::EndEntityCert;

use super::error::{CertificateRefusal, OutboundError};

/// What a server is pinned to, beside what its check asks for. Empty lists ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pins {
    /// The hosts that may be asked, redirects included.
    pub hosts: Vec<String>,
    /// SHA-256 of the public key (subjectPublicKeyInfo) of the server's own certificate. That one alone: whatever else a
    /// server sends along proves nothing of it.
    pub keys: Vec<[u8; 32]>,
}

/// Who a server has to be.
#[derive(Debug, Clone)]
pub enum ServerCheck {
    /// Whom the certificate authorities of the web say the URL's host is (FED-26).
    Web {
        /// Other authorities than those of this node's configuration.
        roots: Option<Arc<RootCertStore>>,
        /// What is pinned beside.
        pins: Pins,
    },
    /// Exactly this SPIFFE ID, by this bundle of its trust domain; the host plays no part (FED-40).
    Spiffe {
        /// The SPIFFE ID.
        id: SpiffeId,
        /// The newest bundle held of the ID's trust domain (FED-41, FED-42).
        bundle: Arc<Bundle>,
        /// What is pinned beside.
        pins: Pins,
    },
    /// Whoever holds the key of the certificate that is shown. Nothing that comes from there is believed: discovery shows
    /// an operator what there is to compare.
    Anybody,
}

impl ServerCheck {
    /// By the authorities of this node's configuration, nothing pinned.
    #[must_use]
    pub fn web() -> Self {
        Self::Web { roots: None, pins: Pins::default() }
    }

    /// Whether a URL of this host may be asked at all.
    pub(super) fn admits_host(&self, host: &str) -> bool {
        match self {
            Self::Web { pins, .. } | Self::Spiffe { pins, .. } => {
                pins.hosts.is_empty() || pins.hosts.iter().any(|pinned| pinned.eq_ignore_ascii_case(host))
            }
            Self::Anybody => true,
        }
    }

    /// The check as rustls takes it.
    pub(super) fn verifier(
        &self,
        web_roots: &Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, OutboundError> {
        let (rule, pins) = match self {
            Self::Web { roots, pins } => {
                let roots = Arc::clone(roots.as_ref().unwrap_or(web_roots));
                let web = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
                // No roots is the one way in which it fails: no revocation lists are given to it.
                (Rule::Web(web.build().map_err(|_empty| OutboundError::NoWebRoots)?), pins)
            }
            Self::Spiffe { id, bundle, pins } => (Rule::Spiffe { id: id.clone(), bundle: Arc::clone(bundle) }, pins),
            Self::Anybody => (Rule::Anybody, &Pins::default()),
        };
        Ok(Arc::new(Verifier { rule, keys: pins.keys.clone(), provider: Arc::clone(provider) }))
    }
}

#[derive(Debug)]
enum Rule {
    Web(Arc<WebPkiServerVerifier>),
    Spiffe { id: SpiffeId, bundle: Arc<Bundle> },
    Anybody,
}

#[derive(Debug)]
struct Verifier {
    rule: Rule,
    /// Pinned keys; empty when none is.
    keys: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        match &self.rule {
            Rule::Web(web) => match web.verify_server_cert(leaf, others, name, ocsp, now) {
                Ok(_) => {}
                Err(Error::InvalidCertificate(fault)) => return Err(refused(CertificateRefusal::Web(fault))),
                Err(error) => return Err(error),
            },
            Rule::Spiffe { id, bundle } => {
                let chain: Vec<&[u8]> = std::iter::once(leaf).chain(others).map(AsRef::as_ref).collect();
                let now = UnixSeconds(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
                let svid = verify_x509_svid(&chain, bundle, now, Purpose::Server)
                    .map_err(|error| refused(CertificateRefusal::Svid(error)))?;
                if svid.spiffe_id() != id {
                    let found = svid.spiffe_id().clone();
                    return Err(refused(CertificateRefusal::OtherId { wanted: id.clone(), found }));
                }
            }
            Rule::Anybody => {}
        }
        self.check_key(leaf)
    }

    fn check_key(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let found = key_fingerprint(leaf).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if self.keys.contains(&found) {
            return Ok(());
        }
        Err(refused(CertificateRefusal::PinnedKey { found: hexadecimal(&found) }))
    }
}

/// SHA-256 of a certificate's subjectPublicKeyInfo, as pins have it; nothing for what is no certificate.
#[must_use]
pub fn key_fingerprint(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let key = EndEntityCert::try_from(certificate).ok()?.subject_public_key_info();
    digest(&SHA256, key.as_ref()).as_ref().try_into().ok()
}

/// Bytes as people compare them.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refused(refusal: CertificateRefusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// The refusal that a failed handshake was ended with, if it was one of a certificate.
pub(super) fn refusal_in(error: &std::io::Error) -> Option<Arc<CertificateRefusal>> {
    let Error::InvalidCertificate(fault) = error.get_ref()?.downcast_ref::<Error>()? else { return None };
    let own =
        if let CertificateError::Other(OtherError(refusal)) = fault { refusal.downcast_ref().cloned() } else { None };
    Some(Arc::new(own.unwrap_or_else(|| CertificateRefusal::Web(fault.clone()))))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, others, name, ocsp, now).map(|()| ServerCertVerified::assertion())
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
