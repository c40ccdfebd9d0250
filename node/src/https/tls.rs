//! TLS for strangers: what Mozilla's "intermediate" profile allows, and nothing else (FED-15).
//!
//! Versions 1.3 and 1.2; every suite has forward secrecy and AEAD, so CBC and RSA key exchange are not even compiled in.
//! X25519MLKEM768 comes first, for clients that have it. No tickets and no early data: a handshake a connection is what
//! pollers need, and nothing is left over that could be replayed or would have to be shared by nodes.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};

use super::Challenges;

/// The protocol of a challenge (RFC 8737 section 6.2).
pub const ACME_ALPN: &[u8] = b"acme-tls/1";

/// What is spoken, the better one first.
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What one handshake is to be made with.
pub(super) enum Chosen {
    /// Our certificate, for HTTP.
    Http(Arc<ServerConfig>),
    /// A challenge's certificate: the handshake is all there is.
    Challenge(Arc<ServerConfig>),
    /// There is nothing to show at the moment, or a challenge that nobody has set.
    Nothing,
}

/// Chooses what handshakes are made with.
pub(super) struct Acceptor {
    http: Arc<ServerConfig>,
    resolver: Arc<dyn Readable>,
    challenges: Option<Arc<dyn Challenges>>,
}

/// A resolver that says whether it has anything.
pub(super) trait Readable: ResolvesServerCert {
    /// Whether there is a certificate now.
    fn has_certificate(&self) -> bool;
}

impl Acceptor {
    pub(super) fn new<R: Readable + 'static>(
        resolver: Arc<R>,
        client_certificates: Option<Arc<dyn ClientCertVerifier>>,
        challenges: Option<Arc<dyn Challenges>>,
    ) -> Result<Self, Error> {
        let certificate: Arc<dyn ResolvesServerCert> = Arc::<R>::clone(&resolver);
        let http = config(certificate, client_certificates, &HTTP)?;
        Ok(Self { http: Arc::new(http), resolver, challenges })
    }

    /// What the handshake that begins with this is made with.
    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> Chosen {
        let is_challenge = hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_ALPN));
        if is_challenge {
            return self.challenge(hello).map_or(Chosen::Nothing, Chosen::Challenge);
        }
        if self.resolver.has_certificate() { Chosen::Http(Arc::clone(&self.http)) } else { Chosen::Nothing }
    }

    fn challenge(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let certificate = self.challenges.as_ref()?.certificate_for(hello.server_name()?)?;
        // A challenge is a handshake or two a month: its settings are made for it.
        config(Arc::new(SingleCertAndKey::from(Arc::unwrap_or_clone(certificate))), None, &[ACME_ALPN])
            .ok()
            .map(Arc::new)
    }
}

fn config(
    certificate: Arc<dyn ResolvesServerCert>,
    client_certificates: Option<Arc<dyn ClientCertVerifier>>,
    protocols: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let provider = CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    };
    let versions = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match client_certificates {
        Some(verifier) => versions.with_client_cert_verifier(verifier),
        None => versions.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Whether a certificate and a key belong together, and the key can sign.
pub(super) fn check(key: &CertifiedKey) -> Result<(), Error> {
    key.keys_match()
}
