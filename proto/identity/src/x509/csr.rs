//! Certificate signing requests (PKCS #10, RFC 2986).

use rcgen::{CertificateParams, DistinguishedName, IsCa, SanType};

use super::extensions::{ExtensionFault, Extensions};
use super::signed::Signed;
use crate::der::{self, Reader};
use crate::key::{KeyError, PrivateKey, PublicKey, PublicKeyKind};
use crate::spiffe_id::SpiffeId;

/// Longest request that is read, in bytes. One with an RSA-4096 key and an ID of 2048 bytes takes 4 KiB; the rest is
/// room for DNS names.
pub const CSR_LIMIT: usize = 16 * 1024;

/// Most bits of an RSA key that we certify. Verifying costs grow with the square of it (ATK-05).
const RSA_MOST_BITS: u16 = 4096;

/// Content of OID 1.2.840.113549.1.9.14, extensionRequest (RFC 2985 section 5.4.2).
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

/// A request whose signature has been verified: the sender holds the private key.
///
/// The names are what the sender would like. Where an entry or an attestation decides the identity they are not looked
/// at (ATK-03).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedCsr {
    /// The key to certify.
    pub public_key: PublicKey,
    /// All URI names asked for. More than one is for the caller to refuse (ATK-04).
    pub uri_names: Vec<String>,
    /// All DNS names asked for, unchecked.
    pub dns_names: Vec<String>,
    /// The subject asked for, a Name in DER.
    pub subject: Vec<u8>,
}

/// Makes a request for this key with one URI name, DNS names and an empty subject.
///
/// # Errors
/// When a DNS name is not ASCII, or signing fails.
pub fn build_csr(key: &PrivateKey, spiffe_id: &SpiffeId, dns_names: &[String]) -> Result<Vec<u8>, CsrError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.is_ca = IsCa::NoCa;
    parameters.subject_alt_names = vec![SanType::URI(spiffe_id.as_str().try_into()?)];
    for name in dns_names {
        parameters.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    Ok(parameters.serialize_request(key)?.der().to_vec())
}

/// Reads a request and verifies its signature.
///
/// Size, shape, and kind and size of the key are checked before anything is computed with the key (ATK-05).
///
/// # Errors
/// When one of these checks fails.
pub fn parse_csr(der: &[u8]) -> Result<ParsedCsr, CsrError> {
    if der.len() > CSR_LIMIT {
        return Err(CsrError::TooLong { length: der.len() });
    }
    let shape = || CsrError::Shape;
    let signed = Signed::parse(der).ok_or_else(shape)?;
    let mut fields = signed.fields().ok_or_else(shape)?;
    if fields.read(der::INTEGER) != Some(&[0]) {
        return Err(shape());
    }
    let subject = fields.read_whole(der::SEQUENCE).ok_or_else(shape)?;
    let spki = fields.read_whole(der::SEQUENCE).ok_or_else(shape)?;
    // A few programs leave out the attributes altogether, though they are not optional.
    let attributes = fields.read_optional(der::CONTEXT_0).unwrap_or_default();
    if !fields.is_done() {
        return Err(shape());
    }
    let public_key = PublicKey::from_spki_der(spki)?;
    check_kind(&public_key)?;
    let extensions = read_requested_extensions(Reader::new(attributes))?;
    signed.verify(&public_key).map_err(|_| CsrError::Signature)?;
    Ok(ParsedCsr {
        public_key,
        uri_names: extensions.uri_names,
        dns_names: extensions.dns_names,
        subject: subject.to_vec(),
    })
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Longer than [`CSR_LIMIT`].
    #[error("the request has {length} bytes, the most is {CSR_LIMIT}")]
    TooLong {
        /// How many bytes there are.
        length: usize,
    },
    /// Not DER, not the shape of a request, or bytes are left over.
    #[error("not a certificate signing request in DER")]
    Shape,
    /// The key is malformed, or of a kind or size that we do not certify.
    #[error("the request's public key is unusable")]
    Key(#[from] KeyError),
    /// An extension asked for is malformed.
    #[error("an extension of the request is malformed")]
    Extension,
    /// Extensions, or one of them, are asked for twice, so that two readers could see two requests.
    #[error("the request has extensions twice")]
    Repeated,
    /// The sender does not prove that it holds the key, or signs with a broken algorithm.
    #[error("the request's signature does not verify")]
    Signature,
    /// The X.509 library refused to make the request.
    #[error("the request could not be made")]
    Library(#[from] rcgen::Error),
}

impl From<ExtensionFault> for CsrError {
    fn from(fault: ExtensionFault) -> Self {
        match fault {
            ExtensionFault::Shape | ExtensionFault::Value(_) => Self::Extension,
            ExtensionFault::Repeated(_) => Self::Repeated,
        }
    }
}

/// The kinds of key that we certify: P-256, P-384, RSA of 2048 to 4096 bits, Ed25519.
fn check_kind(key: &PublicKey) -> Result<(), KeyError> {
    match key.kind() {
        PublicKeyKind::EcP256 | PublicKeyKind::EcP384 | PublicKeyKind::Ed25519 => Ok(()),
        PublicKeyKind::Rsa { bits } if bits <= RSA_MOST_BITS => Ok(()),
        PublicKeyKind::Rsa { bits } => Err(KeyError::RsaSize { bits: bits.into() }),
        PublicKeyKind::EcP521 => Err(KeyError::UnsupportedAlgorithm),
    }
}

fn read_requested_extensions(mut attributes: Reader<'_>) -> Result<Extensions, CsrError> {
    let mut requested = None;
    while !attributes.is_done() {
        let mut attribute = attributes.enter(der::SEQUENCE).ok_or(CsrError::Shape)?;
        let oid = attribute.read(der::OBJECT_IDENTIFIER).ok_or(CsrError::Shape)?;
        let mut values = attribute.enter(der::SET).ok_or(CsrError::Shape)?;
        if !attribute.is_done() {
            return Err(CsrError::Shape);
        }
        if oid != EXTENSION_REQUEST {
            continue;
        }
        let list = values.enter(der::SEQUENCE).ok_or(CsrError::Shape)?;
        if requested.is_some() || !values.is_done() {
            return Err(CsrError::Repeated);
        }
        requested = Some(Extensions::parse(list)?);
    }
    Ok(requested.unwrap_or_default())
}
