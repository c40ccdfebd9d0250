//! Leaves: the certificate of a workload, assembled by hand.
//!
//! ```text
//!  Certificate
//!   +- TBSCertificate
//!   |   +- version 3                            constant
//!   |   +- serial number                        of the leaf
//!   |   +- signature algorithm, issuer          computed once per issuer
//!   |   +- validity, subject, public key        of the leaf
//!   |   +- extensions
//!   |       +- authority key identifier         computed once per issuer
//!   |       +- subject alternative name         of the leaf: SPIFFE ID, then DNS names
//!   |       +- key usage, extended key usage    constant, one of two
//!   |       +- subject key identifier           of the leaf
//!   |       +- basic constraints                constant
//!   +- signature algorithm                      computed once per issuer
//!   +- signature                                of the leaf
//! ```
//!
//! A general encoder takes a third of the time that keys and signature take; this one takes next to none. A test
//! compares the signed part with what rcgen makes of the same contents, byte for byte, for all kinds of keys.

use super::certificate::{Certificate, CertificateError};
use super::extensions::{
    AUTHORITY_KEY_IDENTIFIER, DNS_NAME, SUBJECT_ALTERNATIVE_NAME, SUBJECT_KEY_IDENTIFIER, URI_NAME,
};
use super::instant;
use crate::der;
use crate::dns_name::{DnsNameError, check_dns_name};
use crate::ids::SerialNumber;
use crate::key::{KeyError, PrivateKey, PublicKey, PublicKeyKind};
use crate::spiffe_id::{SpiffeId, SpiffeIdError};
use crate::trust_domain::TrustDomain;
use crate::validity::{UnixSeconds, Validity};

/// `[0] { INTEGER 2 }`: version 3.
const VERSION_3: &[u8] = &[0xa0, 3, 2, 1, 2];

/// Key usage critical digitalSignature, then extended key usage serverAuth and clientAuth (X509-19, X509-22, X509-27).
const USAGES: &[u8] = &[
    0x30, 14, 6, 3, 0x55, 0x1d, 0x0f, 1, 1, 0xff, 4, 4, 3, 2, 7, 0x80, //
    0x30, 29, 6, 3, 0x55, 0x1d, 0x25, 4, 22, 0x30, 20, //
    6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2,
];

/// The same with keyEncipherment, which only RSA keys can use (X509-23).
const USAGES_RSA: &[u8] = &[
    0x30, 14, 6, 3, 0x55, 0x1d, 0x0f, 1, 1, 0xff, 4, 4, 3, 2, 5, 0xa0, //
    0x30, 29, 6, 3, 0x55, 0x1d, 0x25, 4, 22, 0x30, 20, //
    6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2,
];

/// Basic constraints, critical, an empty SEQUENCE: not a CA (X509-16).
const NOT_A_CA: &[u8] = &[0x30, 12, 6, 3, 0x55, 0x1d, 0x13, 1, 1, 0xff, 4, 2, 0x30, 0];

/// The name without any attribute.
const EMPTY_NAME: &[u8] = &[0x30, 0];

/// Content of OID 2.5.4.3, the common name.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// Tag of a UTF8String.
const UTF8_STRING: u8 = 0x0c;

/// Longest common name, in bytes (RFC 5280 appendix A.1, ub-common-name).
const COMMON_NAME_LIMIT: usize = 64;

/// Longest subject taken from a request, in bytes.
const SUBJECT_LIMIT: usize = 4096;

/// What goes into one leaf.
#[derive(Debug, Clone, Copy)]
pub struct LeafTemplate<'a> {
    /// Whose SVID it is: with a path, in the issuer's trust domain (X509-06, ID-27).
    pub spiffe_id: &'a SpiffeId,
    /// DNS names, in this order after the SPIFFE ID.
    pub dns_names: &'a [String],
    /// The subject's name in DER, where a caller asked for one. Without it the subject is the first DNS name as common
    /// name, if it fits, else empty.
    pub subject: Option<&'a [u8]>,
    /// The workload's public key.
    pub public_key: &'a PublicKey,
    /// Drawn by the caller.
    pub serial: SerialNumber,
    /// Not past the issuer's own end.
    pub validity: Validity,
}

/// Signs leaves with one issuing certificate.
pub struct LeafIssuer {
    certificate: Certificate,
    key: PrivateKey,
    trust_domain: TrustDomain,
    /// Signature algorithm and issuer's name, as they stand next to each other.
    algorithm_and_issuer: Vec<u8>,
    /// The whole extension.
    authority_key_identifier: Vec<u8>,
}

impl LeafIssuer {
    /// Takes an issuing certificate in DER and its key, and computes what all leaves share.
    ///
    /// # Errors
    /// When the certificate is not a signing certificate whose one URI name is a trust domain's SPIFFE ID (X509-10), or
    /// is not for this key.
    pub fn new(certificate: &[u8], key: PrivateKey) -> Result<Self, LeafError> {
        let certificate = Certificate::parse(certificate)?;
        if certificate.public_key() != key.public_key() {
            return Err(LeafError::OtherKey);
        }
        if !certificate.is_signing_certificate() {
            return Err(LeafError::NotSigning);
        }
        let id = match certificate.extensions().uri_names.as_slice() {
            [id] => SpiffeId::parse(id)?,
            _ => return Err(LeafError::NoTrustDomain),
        };
        if !id.is_trust_domain_id() {
            return Err(LeafError::NoTrustDomain);
        }
        let key_id = match &certificate.extensions().subject_key_id {
            Some(id) => id.clone(),
            None => key.public_key().subject_key_id().to_vec(),
        };
        let value = der::element(der::SEQUENCE, &der::element(0x80, &key_id));
        let algorithm = key.signature_algorithm().identifier();
        Ok(Self {
            algorithm_and_issuer: [algorithm, certificate.subject()].concat(),
            authority_key_identifier: extension(AUTHORITY_KEY_IDENTIFIER, false, &value),
            trust_domain: id.trust_domain(),
            certificate,
            key,
        })
    }

    /// The issuing certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The trust domain that it signs for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The key, for the CRL of the same issuer.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Assembles and signs a leaf, and answers its DER form.
    ///
    /// # Errors
    /// When the template asks for what a leaf must not be: an ID without a path or in another trust domain, a malformed
    /// DNS name or subject, an end past the issuer's; or when signing fails.
    pub fn issue(&self, template: &LeafTemplate<'_>) -> Result<Vec<u8>, LeafError> {
        self.check(template)?;
        let body = self.signed_part(template)?;
        let signature = self.key.sign(&body)?;
        let algorithm = self.key.signature_algorithm().identifier();
        let bit_string = signature.len().saturating_add(1);
        let length = body
            .len()
            .saturating_add(algorithm.len())
            .saturating_add(der::header_length(bit_string))
            .saturating_add(bit_string);
        let mut out = Vec::with_capacity(der::header_length(length).saturating_add(length));
        der::write_header(&mut out, der::SEQUENCE, length);
        out.extend_from_slice(&body);
        out.extend_from_slice(algorithm);
        der::write_header(&mut out, der::BIT_STRING, bit_string);
        out.push(0);
        out.extend_from_slice(&signature);
        Ok(out)
    }

    fn check(&self, template: &LeafTemplate<'_>) -> Result<(), LeafError> {
        if template.spiffe_id.is_trust_domain_id() {
            return Err(LeafError::NoPath);
        }
        if !template.spiffe_id.is_member_of(&self.trust_domain) {
            return Err(LeafError::OtherTrustDomain {
                id: template.spiffe_id.clone(),
                trust_domain: self.trust_domain.clone(),
            });
        }
        for name in template.dns_names {
            check_dns_name(name)?;
        }
        let issuer_end = self.certificate.validity().not_after();
        if template.validity.not_after() > issuer_end {
            return Err(LeafError::OutlivesIssuer { not_after: template.validity.not_after(), issuer_end });
        }
        match template.subject {
            Some(subject) => check_name(subject),
            None => Ok(()),
        }
    }

    /// The TBSCertificate.
    fn signed_part(&self, template: &LeafTemplate<'_>) -> Result<Vec<u8>, LeafError> {
        let common_name;
        let subject = match template.subject {
            Some(subject) => subject,
            None => {
                common_name = default_subject(template.dns_names);
                &common_name
            }
        };
        let extensions = self.extensions(template, subject == EMPTY_NAME);
        let spki = template.public_key.spki_der();

        // Everything but version, serial and validity, which take under 64 bytes.
        let length = [&self.algorithm_and_issuer, subject, spki, &extensions]
            .iter()
            .fold(64usize, |sum, part| sum.saturating_add(part.len()));
        let mut fields = Vec::with_capacity(length);
        fields.extend_from_slice(VERSION_3);
        der::write_unsigned(&mut fields, template.serial.as_bytes());
        fields.extend_from_slice(&self.algorithm_and_issuer);
        let mut ends = Vec::with_capacity(34);
        instant::write(&mut ends, template.validity.not_before()).ok_or(LeafError::Dates)?;
        instant::write(&mut ends, template.validity.not_after()).ok_or(LeafError::Dates)?;
        der::write(&mut fields, der::SEQUENCE, &ends);
        fields.extend_from_slice(subject);
        fields.extend_from_slice(spki);
        fields.extend_from_slice(&extensions);
        Ok(der::element(der::SEQUENCE, &fields))
    }

    /// `[3] { SEQUENCE OF Extension }`.
    fn extensions(&self, template: &LeafTemplate<'_>, subject_is_empty: bool) -> Vec<u8> {
        let id = template.spiffe_id.as_str().as_bytes();
        let mut names = Vec::with_capacity(id.len().saturating_add(64));
        der::write(&mut names, URI_NAME, id);
        for name in template.dns_names {
            der::write(&mut names, DNS_NAME, name.as_bytes());
        }
        let names = der::element(der::SEQUENCE, &names);
        // Critical just when it is the only name that the certificate has (X509-07).
        let names = extension(SUBJECT_ALTERNATIVE_NAME, subject_is_empty, &names);
        let usages = match template.public_key.kind() {
            PublicKeyKind::Rsa { .. } => USAGES_RSA,
            PublicKeyKind::EcP256 | PublicKeyKind::EcP384 | PublicKeyKind::EcP521 | PublicKeyKind::Ed25519 => USAGES,
        };
        let key_id = der::element(der::OCTET_STRING, &template.public_key.subject_key_id());
        let key_id = extension(SUBJECT_KEY_IDENTIFIER, false, &key_id);
        let list = der::nested(der::SEQUENCE, &[&self.authority_key_identifier, &names, usages, &key_id, NOT_A_CA]);
        der::element(der::CONTEXT_3, &list)
    }
}

impl std::fmt::Debug for LeafIssuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LeafIssuer").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why a leaf is not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The issuing certificate cannot be read.
    #[error("the issuing certificate is unusable")]
    Certificate(#[from] CertificateError),
    /// The issuing certificate's URI name is not a SPIFFE ID.
    #[error("the issuing certificate's URI name is not a SPIFFE ID")]
    IssuerId(#[from] SpiffeIdError),
    /// The issuing certificate names no trust domain, or names a workload (X509-10).
    #[error("the issuing certificate does not name exactly its trust domain")]
    NoTrustDomain,
    /// The issuing certificate is for another key.
    #[error("the issuing certificate is for another key")]
    OtherKey,
    /// The issuing certificate may not sign certificates.
    #[error("the issuing certificate is not a signing certificate")]
    NotSigning,
    /// The ID of a trust domain is no workload's (X509-06).
    #[error("the SPIFFE ID of a leaf needs a path")]
    NoPath,
    /// The issuer speaks for another trust domain (ID-27).
    #[error("{id} is not in the trust domain {trust_domain}")]
    OtherTrustDomain {
        /// The ID that was asked for.
        id: SpiffeId,
        /// The issuer's trust domain.
        trust_domain: TrustDomain,
    },
    /// A DNS name is malformed.
    #[error("a DNS name is malformed")]
    DnsName(#[from] DnsNameError),
    /// The subject handed in is not a Name in DER, or too long.
    #[error("the subject is not a distinguished name in DER")]
    Subject,
    /// The leaf would outlive its issuer; the caller caps the end, so that it knows it.
    #[error("not after {not_after} is past the issuer's end {issuer_end}")]
    OutlivesIssuer {
        /// The end that was asked for.
        not_after: UnixSeconds,
        /// The issuer's own end.
        issuer_end: UnixSeconds,
    },
    /// A date has no form in X.509.
    #[error("a date of the leaf cannot be written")]
    Dates,
    /// Signing failed.
    #[error("signing the leaf failed")]
    Key(#[from] KeyError),
}

/// One extension, whole.
fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let oid = der::element(der::OBJECT_IDENTIFIER, oid);
    let value = der::element(der::OCTET_STRING, value);
    let flag: &[u8] = if critical { &[der::BOOLEAN, 1, 0xff] } else { &[] };
    der::nested(der::SEQUENCE, &[&oid, flag, &value])
}

/// The subject of a leaf for which nobody asked for another: the first DNS name, or nothing.
///
/// A fixed organisation would give all workloads one and the same name, which programs that authorise by subject would
/// take for one and the same peer.
fn default_subject(dns_names: &[String]) -> Vec<u8> {
    match dns_names.first() {
        Some(name) if name.len() <= COMMON_NAME_LIMIT => {
            let oid = der::element(der::OBJECT_IDENTIFIER, COMMON_NAME);
            let value = der::element(UTF8_STRING, name.as_bytes());
            let attribute = der::nested(der::SEQUENCE, &[&oid, &value]);
            der::element(der::SEQUENCE, &der::element(der::SET, &attribute))
        }
        _ => EMPTY_NAME.to_vec(),
    }
}

/// Checks that bytes are one Name: a SEQUENCE of SETs of attributes.
fn check_name(name: &[u8]) -> Result<(), LeafError> {
    if name.len() <= SUBJECT_LIMIT && is_name(name).is_some() {
        return Ok(());
    }
    Err(LeafError::Subject)
}

fn is_name(name: &[u8]) -> Option<()> {
    let mut outer = der::Reader::new(name);
    let mut relative_names = outer.enter(der::SEQUENCE)?;
    while !relative_names.is_done() {
        let mut attributes = relative_names.enter(der::SET)?;
        while !attributes.is_done() {
            let mut attribute = attributes.enter(der::SEQUENCE)?;
            attribute.read(der::OBJECT_IDENTIFIER)?;
            attribute.next_element()?;
            if !attribute.is_done() {
                return None;
            }
        }
    }
    outer.is_done().then_some(())
}
