//! Certificates in words.

use quorate_proto_identity::Validity;
use quorate_proto_identity::x509::{Certificate, CertificateError};

pub(super) use crate::pem::pem;

/// A validity in words.
pub(super) fn validity(validity: Validity) -> String {
    format!("{} to {}", validity.not_before(), validity.not_after())
}

/// A certificate's serial number in hexadecimal.
pub(super) fn serial(certificate: &Certificate) -> String {
    certificate.serial().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes concatenated DER apart.
///
/// # Errors
///
/// When the bytes are not one certificate after the other.
pub(super) fn split(concatenated: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
    Certificate::parse_concatenated(concatenated)
}
