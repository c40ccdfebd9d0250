//! Roots and issuing certificates.
//!
//! Both are CAs with keyCertSign and cRLSign, a subject unique to the key, key identifiers, and the trust domain's
//! SPIFFE ID as their one URI name (X509-09 to X509-11). A root has no path length, so that downstream authorities can
//! be signed below it; an issuing certificate has path length 0. Serial number and validity are always the caller's:
//! the library's defaults are a hash of the key and the years 1975 to 4096.

use rcgen::string::PrintableString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyIdMethod,
    KeyUsagePurpose, SanType, SerialNumber as RcgenSerial,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::certificate::{Certificate, CertificateError};
use crate::hex;
use crate::ids::SerialNumber;
use crate::key::{KeyError, PrivateKey, PublicKey};
use crate::trust_domain::TrustDomain;
use crate::validity::{UnixSeconds, Validity, ValidityError};

/// The organisation in the subject of our authorities.
const ORGANIZATION: &str = "Quorate";

/// OID 2.5.4.5, serialNumber: an attribute of a name, not the serial number of a certificate.
const SERIAL_NUMBER_ATTRIBUTE: [u64; 4] = [2, 5, 4, 5];

/// What goes into the certificate of an authority.
#[derive(Debug, Clone, Copy)]
pub struct AuthorityTemplate<'a> {
    /// The trust domain that it speaks for.
    pub trust_domain: &'a TrustDomain,
    /// Drawn by the caller.
    pub serial: SerialNumber,
    /// When it may sign.
    pub validity: Validity,
}

/// Makes a self-signed root.
///
/// # Errors
/// When the key is of a type that authorities do not have, or signing fails.
pub fn build_root(template: &AuthorityTemplate<'_>, key: &PrivateKey) -> Result<Certificate, AuthorityError> {
    let constraints = BasicConstraints::Unconstrained;
    let parameters = parameters(template, template.validity, key.public_key(), constraints)?;
    let certificate = parameters.self_signed(key)?;
    Ok(Certificate::parse(certificate.der())?)
}

/// Makes an issuing certificate for the key of a node, signed with a root.
///
/// Its end is the earlier of the one asked for and the root's.
///
/// # Errors
/// When the key is of a type that authorities do not have, `root_key` is not the root's, the root is not a signing
/// certificate or ends before the certificate would begin, or signing fails.
pub fn build_issuing_certificate(
    template: &AuthorityTemplate<'_>,
    public_key: &PublicKey,
    root: &Certificate,
    root_key: &PrivateKey,
) -> Result<Certificate, AuthorityError> {
    if root.public_key() != root_key.public_key() {
        return Err(AuthorityError::OtherKey);
    }
    if !root.is_signing_certificate() {
        return Err(AuthorityError::NotSigning);
    }
    let validity = template.validity.ending_by(root.validity().not_after())?;
    let constraints = BasicConstraints::Constrained(0);
    let mut parameters = parameters(template, validity, public_key, constraints)?;
    parameters.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(root.der()), root_key)?;
    let certificate = Certificate::parse(parameters.signed_by(public_key, &issuer)?.der())?;
    // The library rebuilds the root's name from its parts; a name that came out otherwise would make a chain that
    // nobody can build.
    if certificate.issuer() != root.subject() {
        return Err(AuthorityError::IssuerName);
    }
    Ok(certificate)
}

/// Why a certificate of an authority is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Authorities have EC P-256, P-384 or RSA keys of 2048 or 4096 bits.
    #[error("a key of this kind cannot be an authority's: {0:?}")]
    KeyKind(crate::key::PublicKeyKind),
    /// The root is for another key than the one handed in.
    #[error("the root certificate is for another key")]
    OtherKey,
    /// The root may not sign certificates.
    #[error("the root certificate is not a signing certificate")]
    NotSigning,
    /// The root's end comes before the beginning asked for.
    #[error("nothing is left of the validity asked for")]
    Validity(#[from] ValidityError),
    /// A date has no form in X.509.
    #[error("a date of the certificate cannot be written")]
    Dates,
    /// The root's name cannot be written as it was read; it is not one of ours.
    #[error("the root's name cannot be copied into a certificate")]
    IssuerName,
    /// The certificate just made cannot be read.
    #[error("the certificate made is unusable")]
    Certificate(#[from] CertificateError),
    /// The X.509 library refused.
    #[error("the certificate could not be made")]
    Library(#[from] rcgen::Error),
    /// The key could not be used.
    #[error("the key could not be used")]
    Key(#[from] KeyError),
}

/// The subject of the authority with this key: the organisation, and the key identifier in hexadecimal as serialNumber
/// attribute.
///
/// So no two keys share a name, and a consumer that finds CRLs by their issuer's name never takes one key's for
/// another's (CRL-01).
pub(super) fn authority_name(key: &PublicKey) -> Result<DistinguishedName, rcgen::Error> {
    let id = PrintableString::try_from(hex::encode(&key.subject_key_id()))?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, ORGANIZATION);
    name.push(DnType::CustomDnType(SERIAL_NUMBER_ATTRIBUTE.to_vec()), DnValue::PrintableString(id));
    Ok(name)
}

/// Parameters that name this key's authority and nothing else; for CRLs, which need the name, the key identifier and
/// the right to sign CRLs.
pub(super) fn issuer_parameters(key: &PublicKey) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = authority_name(key)?;
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.key_identifier_method = KeyIdMethod::PreSpecified(key.subject_key_id().to_vec());
    Ok(parameters)
}

fn parameters(
    template: &AuthorityTemplate<'_>,
    validity: Validity,
    key: &PublicKey,
    constraints: BasicConstraints,
) -> Result<CertificateParams, AuthorityError> {
    if !key.key_type().is_some_and(crate::key::KeyType::is_for_authorities) {
        return Err(AuthorityError::KeyKind(key.kind()));
    }
    let mut parameters = issuer_parameters(key)?;
    let date = |instant: UnixSeconds| OffsetDateTime::from_unix_timestamp(instant.0).map_err(|_| AuthorityError::Dates);
    parameters.not_before = date(validity.not_before())?;
    parameters.not_after = date(validity.not_after())?;
    parameters.serial_number = Some(RcgenSerial::from_slice(template.serial.as_bytes()));
    let id = template.trust_domain.id();
    parameters.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    parameters.is_ca = IsCa::Ca(constraints);
    Ok(parameters)
}
