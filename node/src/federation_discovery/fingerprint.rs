//! What a server showed, as people compare it: names, issuer, and the fingerprint of the key.

use quorate_proto_identity::{Bundle, Certificate};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::outbound::key_fingerprint;

/// Most certificates of a chain that are shown; web servers send two or three.
const CHAIN_LIMIT: usize = 8;

/// Most names of a certificate that are shown.
const NAMES_LIMIT: usize = 32;

/// Most authorities of a bundle that are shown.
const AUTHORITIES_LIMIT: usize = 64;

/// Longest text that is taken from a certificate.
const TEXT_LIMIT: usize = 255;

/// A certificate as it was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCertificate {
    /// Who it is for.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Its SPIFFE ID, or whatever URI it has.
    pub uri: String,
    /// Its DNS names and addresses.
    pub names: Vec<String>,
    /// The end of its validity, in Unix seconds.
    pub not_after: i64,
    /// SHA-256 of its subjectPublicKeyInfo.
    pub key_fingerprint: [u8; 32],
}

impl SeenCertificate {
    /// Reads a certificate that was shown; nothing for what is none.
    #[must_use]
    pub fn of_der(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut seen = Self {
            subject: text(&certificate.subject().to_string()),
            issuer: text(&certificate.issuer().to_string()),
            uri: String::new(),
            names: Vec::new(),
            not_after: certificate.validity().not_after.timestamp(),
            key_fingerprint: key_fingerprint(der)?,
        };
        for extension in certificate.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                names.general_names.iter().take(NAMES_LIMIT).for_each(|name| seen.add(name));
            }
        }
        Some(seen)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        if let GeneralName::URI(uri) = name {
            self.uri = text(uri);
        } else if let GeneralName::DNSName(name) = name {
            self.names.push(text(name));
        } else if let GeneralName::IPAddress(bytes) = name {
            let four = <[u8; 4]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
            let six = <[u8; 16]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
            self.names.extend(four.or(six).ok());
        }
    }
}

/// A chain as it was shown, the server's own certificate first.
#[must_use]
pub fn seen_chain(chain: &[CertificateDer<'_>]) -> Vec<SeenCertificate> {
    chain.iter().take(CHAIN_LIMIT).filter_map(SeenCertificate::of_der).collect()
}

/// The X.509 authorities of a bundle.
#[must_use]
pub fn seen_authorities(bundle: &Bundle) -> Vec<SeenCertificate> {
    let authorities = bundle.x509_authorities().iter().take(AUTHORITIES_LIMIT);
    authorities
        .filter_map(|authority| SeenCertificate::of_der(&CertificateDer::from(authority.der().to_vec())))
        .collect()
}

/// The fingerprint of one authority.
#[must_use]
pub fn authority_fingerprint(authority: &Certificate) -> Option<[u8; 32]> {
    key_fingerprint(&CertificateDer::from(authority.der().to_vec()))
}

/// A stranger's text, short.
fn text(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TEXT_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_shown_with_its_names_issuer_and_fingerprint() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters =
            rcgen::CertificateParams::new(vec!["a.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let uri = rcgen::string::Ia5String::try_from("spiffe://a.example/s").unwrap();
        parameters.subject_alt_names.push(rcgen::SanType::URI(uri));
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "who\u{1b}[2J");
        let certificate = parameters.self_signed(&key).unwrap();
        let seen = SeenCertificate::of_der(certificate.der()).unwrap();
        assert_eq!(seen.names, ["a.example", "127.0.0.1"]);
        assert_eq!(seen.uri, "spiffe://a.example/s");
        assert!(!seen.subject.contains('\u{1b}') && seen.subject.contains("who"), "{}", seen.subject);
        let expected =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &rcgen::PublicKeyData::subject_public_key_info(&key));
        assert_eq!(seen.key_fingerprint.as_slice(), expected.as_ref());
    }

    #[test]
    fn what_is_no_certificate_is_not_shown() {
        assert_eq!(seen_chain(&[CertificateDer::from(vec![0x30, 0x00]), CertificateDer::from(vec![])]), []);
    }
}
