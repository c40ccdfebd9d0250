//! Certificates in words, and PEM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_proto_identity::Validity;
use quorate_proto_identity::x509::{Certificate, CertificateError};

/// Longest line of base64 in a PEM file (RFC 7468 section 2).
const PEM_LINE: usize = 64;

/// A DER document as a PEM block.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (position, character) in encoded.chars().enumerate() {
        if position > 0 && position.checked_rem(PEM_LINE) == Some(0) {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_64_characters_and_none_that_is_empty() {
        let text = pem("X", &[0; 48]);
        assert_eq!(text, format!("-----BEGIN X-----\n{}\n-----END X-----\n", "A".repeat(64)));
        let text = pem("X", &[0; 49]);
        assert_eq!(text.lines().nth(2), Some("AA=="));
    }
}
