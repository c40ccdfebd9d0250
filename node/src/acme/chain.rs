//! The chain that an authority hands out, read and checked.

use bytes::Bytes;
use quorate_actors::acme::IssuedWebCertificate;
use quorate_proto_identity::{PrivateKey, UnixSeconds, Validity};
use quorate_raft_machine::web::{WEB_CERTIFICATE_BYTES_LIMIT, WEB_CHAIN_LIMIT};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Why a chain is not taken. The order counts as failed: an authority that gives something else is asked again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChainFault {
    /// It is not PEM, or has nothing in it.
    #[error("the authority's chain holds no certificate")]
    Empty,
    /// It is longer than any chain is.
    #[error(
        "the authority's chain has more than {WEB_CHAIN_LIMIT} certificates, or one of more than {WEB_CERTIFICATE_BYTES_LIMIT} bytes"
    )]
    TooLong,
    /// Its leaf cannot be read.
    #[error("the authority's certificate cannot be read")]
    Malformed,
    /// It is for another key than the one that was asked for.
    #[error("the authority's certificate is for another key than was asked for")]
    OtherKey,
    /// It is for another name.
    #[error("the authority's certificate is not for {domain}")]
    OtherName {
        /// The name that was asked for.
        domain: String,
    },
    /// It ends before it begins.
    #[error("the authority's certificate is never valid")]
    Validity,
}

/// Reads a chain, and checks that its leaf is for the key and the name that were asked for.
pub(super) fn read(pem: &str, domain: &str, key: &PrivateKey) -> Result<IssuedWebCertificate, ChainFault> {
    let chain: Vec<Bytes> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(WEB_CHAIN_LIMIT + 1)
        .map(|der| der.map(|der| Bytes::copy_from_slice(&der)))
        .collect::<Result<_, _>>()
        .map_err(|_| ChainFault::Malformed)?;
    let leaf = chain.first().ok_or(ChainFault::Empty)?;
    if chain.len() > WEB_CHAIN_LIMIT || chain.iter().any(|der| der.len() > WEB_CERTIFICATE_BYTES_LIMIT) {
        return Err(ChainFault::TooLong);
    }
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| ChainFault::Malformed)?;
    if parsed.public_key().raw != key.public_key().spki_der() {
        return Err(ChainFault::OtherKey);
    }
    let names = parsed.subject_alternative_name().ok().flatten();
    let is_name =
        |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(name) if name.eq_ignore_ascii_case(domain));
    if !names.is_some_and(|names| names.value.general_names.iter().any(is_name)) {
        return Err(ChainFault::OtherName { domain: domain.to_owned() });
    }
    let (begins, ends) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let validity = Validity::new(UnixSeconds(begins), UnixSeconds(ends)).map_err(|_| ChainFault::Validity)?;
    Ok(IssuedWebCertificate { chain, validity })
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::KeyType;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;

    fn key() -> PrivateKey {
        PrivateKey::generate(KeyType::EcP256).unwrap()
    }

    fn certificate(name: &str, key: &PrivateKey) -> String {
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.pkcs8().to_vec())).unwrap();
        CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&pair).unwrap().pem()
    }

    #[test]
    fn a_chain_is_taken_for_the_key_and_the_name_that_were_asked_for_alone() {
        let (ours, other) = (key(), key());
        let leaf = certificate("bundle.example.org", &ours);
        let issuer = certificate("ca.example", &other);
        let read_for = |pem: &str| read(pem, "bundle.example.org", &ours);
        assert_eq!(read_for(&format!("{leaf}{issuer}")).unwrap().chain.len(), 2);
        assert_eq!(read_for(&certificate("bundle.example.org", &other)), Err(ChainFault::OtherKey));
        let other_name = certificate("evil.example.org", &ours);
        assert_eq!(read_for(&other_name), Err(ChainFault::OtherName { domain: "bundle.example.org".to_owned() }));
        assert_eq!(read_for(""), Err(ChainFault::Empty));
        assert_eq!(read_for("<html>"), Err(ChainFault::Empty));
        assert_eq!(read_for(&leaf.repeat(WEB_CHAIN_LIMIT + 1)), Err(ChainFault::TooLong));
        let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(read_for(garbled), Err(ChainFault::Malformed));
    }
}
