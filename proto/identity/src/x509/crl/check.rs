//! Lists checked against a certificate of their key, and against the list before (CRL-02 to CRL-04).

use std::collections::BTreeSet;

use super::{CrlError, ParsedCrl, RevokedCertificate, parse_crl};
use crate::ids::SerialNumber;
use crate::validity::UnixSeconds;
use crate::x509::KeyUsage;
use crate::x509::certificate::Certificate;
use crate::x509::signed::Signed;

/// Checks that a list is one of the key of this certificate: name, key identifier, cRLSign, signature (CRL-02).
///
/// # Errors
/// The first rule that is broken.
pub fn check_crl(der: &[u8], certificate: &Certificate) -> Result<ParsedCrl, CrlFault> {
    let crl = parse_crl(der)?;
    if crl.issuer != certificate.subject() {
        return Err(CrlFault::OtherIssuer);
    }
    if certificate.extensions().subject_key_id.as_deref() != Some(crl.authority_key_id.as_slice()) {
        return Err(CrlFault::OtherKeyId);
    }
    if !certificate.extensions().key_usage.is_some_and(KeyUsage::crl_sign) {
        return Err(CrlFault::NotCrlSigner);
    }
    Signed::parse(der).ok_or(CrlError::Shape)?.verify(certificate.public_key()).map_err(|_| CrlFault::Signature)?;
    Ok(crl)
}

/// Checks the first list of an issuing key against a certificate of that key, as the command that records the
/// certificate does (CRL-03).
///
/// # Errors
/// The first rule that is broken: those of [`check_crl`], no entries, and an end at or past the certificate's.
pub fn check_first_crl(der: &[u8], certificate: &Certificate) -> Result<ParsedCrl, FirstCrlError> {
    let crl = check_crl(der, certificate)?;
    if !crl.revoked.is_empty() {
        return Err(FirstCrlError::NotEmpty);
    }
    let certificate_end = certificate.validity().not_after();
    if crl.next_update < certificate_end {
        return Err(FirstCrlError::TooShort { next_update: crl.next_update, certificate_end });
    }
    Ok(crl)
}

/// Checks that a list may follow the key's last one, as the command that records it does: it is of the key, its number
/// grows, its thisUpdate grows by at least a second and is not after `now`, its end is no earlier, and what the last one
/// had is still in it, but for what `has_ended` says of (CRL-04, CRL-08).
///
/// # Errors
/// The first rule that is broken.
pub fn check_next_crl(
    der: &[u8],
    certificate: &Certificate,
    last: &ParsedCrl,
    now: UnixSeconds,
    has_ended: impl Fn(&RevokedCertificate) -> bool,
) -> Result<ParsedCrl, NextCrlError> {
    let crl = check_crl(der, certificate)?;
    if crl.number <= last.number {
        return Err(NextCrlError::Number { number: crl.number, last: last.number });
    }
    if crl.this_update <= last.this_update {
        return Err(NextCrlError::ThisUpdate { this_update: crl.this_update, last: last.this_update });
    }
    if crl.this_update > now {
        return Err(NextCrlError::Future { this_update: crl.this_update, now });
    }
    if crl.next_update < last.next_update {
        return Err(NextCrlError::NextUpdate { next_update: crl.next_update, last: last.next_update });
    }
    let listed: BTreeSet<SerialNumber> = crl.revoked.iter().map(|revoked| revoked.serial).collect();
    if listed.len() != crl.revoked.len() {
        return Err(NextCrlError::Repeated);
    }
    match last.revoked.iter().find(|revoked| !listed.contains(&revoked.serial) && !has_ended(revoked)) {
        Some(missing) => Err(NextCrlError::Missing { serial: missing.serial }),
        None => Ok(crl),
    }
}

/// Why a list is not one of a certificate's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlFault {
    /// It cannot be read.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// Its issuer's name is not the certificate's subject.
    #[error("the CRL names another issuer")]
    OtherIssuer,
    /// Its authority key identifier is not the certificate's subject key identifier.
    #[error("the CRL names another key")]
    OtherKeyId,
    /// The certificate may not sign CRLs.
    #[error("the certificate has no cRLSign")]
    NotCrlSigner,
    /// Its signature is not by the certificate's key.
    #[error("the CRL's signature does not verify")]
    Signature,
}

/// Why a list is not the first one of a certificate's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirstCrlError {
    /// It is not one of the key.
    #[error(transparent)]
    Fault(#[from] CrlFault),
    /// It revokes something already.
    #[error("the first CRL of a key must be empty")]
    NotEmpty,
    /// It ends before the certificate does.
    #[error("the CRL ends at {next_update}, before the certificate at {certificate_end}")]
    TooShort {
        /// Its nextUpdate.
        next_update: UnixSeconds,
        /// The certificate's notAfter.
        certificate_end: UnixSeconds,
    },
}

/// Why a list does not follow the last one of its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NextCrlError {
    /// It is not one of the key.
    #[error(transparent)]
    Fault(#[from] CrlFault),
    /// Its number does not grow.
    #[error("the CRL has number {number}, the last one has {last}")]
    Number {
        /// Its number.
        number: u64,
        /// The last one's.
        last: u64,
    },
    /// Its thisUpdate does not grow: whoever has both could take the older one.
    #[error("the CRL is of {this_update}, the last one of {last}")]
    ThisUpdate {
        /// Its thisUpdate.
        this_update: UnixSeconds,
        /// The last one's.
        last: UnixSeconds,
    },
    /// Its thisUpdate lies in the future: most would refuse it.
    #[error("the CRL is of {this_update}, and it is {now}")]
    Future {
        /// Its thisUpdate.
        this_update: UnixSeconds,
        /// What time it is.
        now: UnixSeconds,
    },
    /// It ends earlier than the last one, and so perhaps before a certificate.
    #[error("the CRL ends at {next_update}, the last one at {last}")]
    NextUpdate {
        /// Its nextUpdate.
        next_update: UnixSeconds,
        /// The last one's.
        last: UnixSeconds,
    },
    /// It lists a certificate twice.
    #[error("the CRL lists a certificate twice")]
    Repeated,
    /// A certificate that was revoked and has not ended is not in it.
    #[error("certificate {serial} was revoked and is not in the CRL")]
    Missing {
        /// Its serial number.
        serial: SerialNumber,
    },
}
