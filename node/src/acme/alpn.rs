//! TLS-ALPN-01 (RFC 8737): the handshake by which an authority sees that a name is ours.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quorate_raft_consensus::StateReader;
use quorate_raft_machine::State;
use quorate_raft_machine::web::AcmeChallenge;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::https::Challenges;

/// Answers challenges from the state: whatever this node has applied.
#[derive(Debug, Clone)]
pub struct AlpnChallenges {
    state: StateReader,
}

impl AlpnChallenges {
    /// From this node's state.
    #[must_use]
    pub fn new(state: StateReader) -> Self {
        Self { state }
    }
}

impl Challenges for AlpnChallenges {
    /// The certificate for the handshake of an authority. For a name without a challenge there is none: it is refused, as
    /// RFC 8737 section 3 wants it.
    fn certificate_for(&self, server_name: &str) -> Option<Arc<CertifiedKey>> {
        let authorization = self.state.read(|state| authorization(state, server_name))?;
        match certificate(server_name, &authorization) {
            Ok(certificate) => Some(Arc::new(certificate)),
            Err(error) => {
                tracing::warn!(domain = server_name, %error, "the certificate of a challenge could not be made");
                None
            }
        }
    }
}

fn authorization(state: &State, domain: &str) -> Option<String> {
    let challenge = state.web_domain(domain)?.order.as_ref()?.challenge.as_ref()?;
    (challenge.kind == AcmeChallenge::TlsAlpn01).then(|| challenge.key_authorization.clone())
}

/// A self-signed certificate for the name, with the digest of the key authorization in the extension of RFC 8737. Its key is
/// made for this one handshake.
fn certificate(domain: &str, authorization: &str) -> Result<CertifiedKey, ChallengeError> {
    let mut params = CertificateParams::new(vec![domain.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let digest = digest(&SHA256, authorization.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Not by the constructor that compares key and certificate: it refuses a critical extension that it does not know.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], any_supported_type(&private)?))
}

/// The certificate of a challenge could not be made; a fault of the program.
#[derive(Debug, thiserror::Error)]
enum ChallengeError {
    #[error(transparent)]
    Make(#[from] rcgen::Error),
    #[error(transparent)]
    Use(#[from] rustls::Error),
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    /// RFC 8737 section 3: the extension is critical, and holds the digest as an OCTET STRING.
    #[test]
    fn the_certificate_of_a_challenge_holds_the_digest_for_its_name() {
        let made = certificate("bundle.example.org", "token.thumb").unwrap();
        let (_, parsed) = X509Certificate::from_der(&made.cert[0]).unwrap();
        let extension = parsed.extensions().iter().find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(extension.critical);
        let expected = digest(&SHA256, b"token.thumb");
        assert_eq!(extension.value[..2], [4, 32]);
        assert_eq!(&extension.value[2..], expected.as_ref());
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
    }
}
