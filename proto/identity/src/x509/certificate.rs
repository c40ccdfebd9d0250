//! A certificate: its DER form and what we read in it.

use std::fmt;
use std::sync::Arc;

use super::extensions::{ExtensionFault, Extensions};
use super::instant;
use super::signed::Signed;
use crate::der::{self, Reader};
use crate::hex;
use crate::ids::AuthorityId;
use crate::key::{KeyError, PublicKey};
use crate::validity::Validity;

/// Longest certificate that is read, in bytes. One with an RSA-4096 key and signature and an ID of 2048 bytes takes
/// under 4 KiB; the rest is room for foreign extensions.
pub const CERTIFICATE_LIMIT: usize = 32 * 1024;

/// Content of OID 2.5.4.5, serialNumber: an attribute of a name, not the serial number of a certificate.
const SERIAL_NUMBER_ATTRIBUTE: &[u8] = &[0x55, 0x04, 0x05];

/// A version 3 certificate. Cloning costs a reference count; equality is that of the DER bytes.
///
/// Reading one proves its shape only: not who signed it, nor that it is in date.
#[derive(Clone)]
pub struct Certificate {
    inner: Arc<Inner>,
}

struct Inner {
    der: Box<[u8]>,
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    validity: Validity,
    public_key: PublicKey,
    extensions: Extensions,
}

impl Certificate {
    /// Reads exactly one certificate in DER.
    ///
    /// # Errors
    /// When it is longer than [`CERTIFICATE_LIMIT`], is not DER of that shape, is not of version 3 (XC-31), has an
    /// extension twice (XC-30) or bytes left over (XC-34), or holds a public key outside
    /// [`PublicKeyKind`](crate::PublicKeyKind).
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > CERTIFICATE_LIMIT {
            return Err(CertificateError::TooLong { length: der.len() });
        }
        let shape = || CertificateError::Shape;
        let signed = Signed::parse(der).ok_or_else(shape)?;
        let mut fields = signed.fields().ok_or_else(shape)?;
        match fields.read_optional(der::CONTEXT_0) {
            Some([2, 1, 2]) => {}
            _ => return Err(CertificateError::Version),
        }
        let serial = fields.read_unsigned().ok_or_else(shape)?;
        if fields.read_whole(der::SEQUENCE).ok_or_else(shape)? != signed.algorithm {
            return Err(CertificateError::AlgorithmMismatch);
        }
        let issuer = fields.read_whole(der::SEQUENCE).ok_or_else(shape)?;
        let validity = read_validity(&mut fields)?;
        let subject = fields.read_whole(der::SEQUENCE).ok_or_else(shape)?;
        let public_key = PublicKey::from_spki_der(fields.read_whole(der::SEQUENCE).ok_or_else(shape)?)?;
        let extensions = match fields.read_optional(der::CONTEXT_3) {
            None => Extensions::default(),
            Some(wrapper) => {
                let mut wrapper = Reader::new(wrapper);
                let list = wrapper.enter(der::SEQUENCE).ok_or_else(shape)?;
                if !wrapper.is_done() {
                    return Err(shape());
                }
                Extensions::parse(list)?
            }
        };
        if !fields.is_done() {
            return Err(shape());
        }
        Ok(Self {
            inner: Arc::new(Inner {
                der: der.into(),
                serial: serial.to_vec(),
                issuer: issuer.to_vec(),
                subject: subject.to_vec(),
                validity,
                public_key,
                extensions,
            }),
        })
    }

    /// Reads certificates that stand one after the other without separators, as the Workload API carries them
    /// (WAPI-19).
    ///
    /// # Errors
    /// As [`Certificate::parse`], for the first that is at fault.
    pub fn parse_concatenated(bytes: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let mut certificates = Vec::new();
        let mut reader = Reader::new(bytes);
        while !reader.is_done() {
            let der = reader.read_whole(der::SEQUENCE).ok_or(CertificateError::Shape)?;
            certificates.push(Self::parse(der)?);
        }
        Ok(certificates)
    }

    /// The DER form.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.inner.der
    }

    /// The serial number, big-endian, without leading zeros.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.inner.serial
    }

    /// The issuer's name in DER.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.inner.issuer
    }

    /// The subject's name in DER.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.inner.subject
    }

    /// When it may be used.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.inner.validity
    }

    /// The subject's public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.inner.public_key
    }

    /// What its extensions say.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.inner.extensions
    }

    /// Whether it is a signing certificate: `cA` is TRUE, and a key usage, if there is one, has keyCertSign (X509-08).
    #[must_use]
    pub fn is_signing_certificate(&self) -> bool {
        let extensions = &self.inner.extensions;
        extensions.is_ca == Some(true) && extensions.key_usage.is_none_or(super::KeyUsage::key_cert_sign)
    }

    /// Whether the subject is unique to the key: it has one serialNumber attribute, the key's identifier in hexadecimal
    /// (CRL-01). Consumers find CRLs by their issuer's name, and some take the first that fits.
    #[must_use]
    pub fn subject_names_key(&self) -> bool {
        let id = hex::encode(&self.inner.public_key.subject_key_id());
        serial_number_attributes(&self.inner.subject).is_some_and(|found| found == [id.as_bytes()])
    }

    /// The ID of the authority whose key this certificate holds: the subject key identifier in hexadecimal, or, where a
    /// foreign certificate has none of 20 bytes, the one we would give it.
    #[must_use]
    pub fn authority_id(&self) -> AuthorityId {
        let written = self.inner.extensions.subject_key_id.as_deref();
        let id = match written.and_then(|id| <[u8; 20]>::try_from(id).ok()) {
            Some(id) => id,
            None => self.inner.public_key.subject_key_id(),
        };
        AuthorityId::from_subject_key_id(&id)
    }

    /// Checks that this key signed the certificate. It says nothing about the signer's right to.
    ///
    /// # Errors
    /// When the signature does not fit, or is of an algorithm that we do not accept (SHA-1).
    pub fn verify_signature(&self, issuer: &PublicKey) -> Result<(), KeyError> {
        Signed::parse(&self.inner.der).ok_or(KeyError::Verify)?.verify(issuer)
    }
}

/// Values of the serialNumber attributes of a name in DER.
fn serial_number_attributes(name: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut names = Reader::new(name).enter(der::SEQUENCE)?;
    while !names.is_done() {
        let mut set = names.enter(der::SET)?;
        while !set.is_done() {
            let mut attribute = set.enter(der::SEQUENCE)?;
            if attribute.read(der::OBJECT_IDENTIFIER)? == SERIAL_NUMBER_ATTRIBUTE {
                found.push(attribute.read(der::PRINTABLE_STRING)?);
            }
        }
    }
    Some(found)
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.inner.der == other.inner.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Certificate")
            .field("serial", &hex::encode(&self.inner.serial))
            .field("uri_names", &self.inner.extensions.uri_names)
            .field("not_after", &self.inner.validity.not_after())
            .finish_non_exhaustive()
    }
}

/// Why bytes are not a certificate that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than [`CERTIFICATE_LIMIT`].
    #[error("the certificate has {length} bytes, the most is {CERTIFICATE_LIMIT}")]
    TooLong {
        /// How many bytes there are.
        length: usize,
    },
    /// Not DER, not the shape of a certificate, or bytes are left over.
    #[error("not a certificate in DER")]
    Shape,
    /// Not version 3; without extensions it can carry no SPIFFE ID.
    #[error("not a certificate of version 3")]
    Version,
    /// The algorithm inside the signed part is not the one outside of it.
    #[error("the certificate names two signature algorithms")]
    AlgorithmMismatch,
    /// The dates are malformed, or the end comes before the beginning.
    #[error("the certificate's validity is malformed")]
    Validity,
    /// The public key is malformed or of a kind that we do not take.
    #[error("the certificate's public key is unusable")]
    PublicKey(#[from] KeyError),
    /// An extension is malformed.
    #[error("the certificate's extension with OID content {oid} is malformed")]
    Extension {
        /// Content of its OID in hexadecimal.
        oid: String,
    },
    /// An extension is there twice.
    #[error("the certificate's extension with OID content {oid} is there twice")]
    RepeatedExtension {
        /// Content of its OID in hexadecimal.
        oid: String,
    },
}

impl From<ExtensionFault> for CertificateError {
    fn from(fault: ExtensionFault) -> Self {
        match fault {
            ExtensionFault::Shape => Self::Shape,
            ExtensionFault::Value(oid) => Self::Extension { oid },
            ExtensionFault::Repeated(oid) => Self::RepeatedExtension { oid },
        }
    }
}

fn read_validity(fields: &mut Reader<'_>) -> Result<Validity, CertificateError> {
    let mut ends = fields.enter(der::SEQUENCE).ok_or(CertificateError::Shape)?;
    let not_before = instant::read(&mut ends).ok_or(CertificateError::Validity)?;
    let not_after = instant::read(&mut ends).ok_or(CertificateError::Validity)?;
    if !ends.is_done() {
        return Err(CertificateError::Validity);
    }
    Validity::new(not_before, not_after).map_err(|_| CertificateError::Validity)
}
