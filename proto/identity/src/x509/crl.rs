//! Certificate revocation lists (RFC 5280 section 5), by the project's rules CRL-01 to CRL-04.
//!
//! A CRL belongs to an issuing key, not to a certificate of it: the name and the key identifier in it follow from the
//! key alone, so a node can sign its key's first list before it has a certificate for that key (CRL-02, CRL-03).
//!
//! ```text
//!   key ── first list, empty ──> next list ──> next list ...     number + 1, thisUpdate + 1 s at least, never in the future;
//!          check_first_crl       check_next_crl                  what is unexpired stays in
//! ```

mod check;
mod reason;
mod set;
mod timing;

pub use check::{CrlFault, FirstCrlError, NextCrlError, check_crl, check_first_crl, check_next_crl};
pub use reason::{RevocationReason, UnknownReason};
pub use set::{CrlSet, CrlSetError, CrlSource};
pub use timing::{CRL_BACKDATE, ThisUpdate, this_update};

use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, RevokedCertParams, SerialNumber as RcgenSerial};
use time::OffsetDateTime;

use super::authority::issuer_parameters;
use super::extensions::{AUTHORITY_KEY_IDENTIFIER, Extension, list_extensions, read_authority_key_id};
use super::instant;
use super::signed::Signed;
use crate::der::{self, Reader};
use crate::ids::SerialNumber;
use crate::key::{KeyError, PrivateKey};
use crate::validity::UnixSeconds;

/// Longest list that is read, in bytes: what all lists of a trust domain together may take (CRL-05).
pub const CRL_LIMIT: usize = 1024 * 1024;

/// Content of OID 2.5.29.20, the CRL number.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
/// Content of OID 2.5.29.21, the reason code of an entry.
const REASON_CODE: &[u8] = &[0x55, 0x1d, 0x15];

/// A certificate in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Its serial number.
    pub serial: SerialNumber,
    /// When it was revoked.
    pub revoked_at: UnixSeconds,
    /// Why. `Unspecified` is written as no reason at all (RFC 5280 section 5.3.1).
    pub reason: RevocationReason,
}

/// What goes into a list.
#[derive(Debug, Clone, Copy)]
pub struct CrlTemplate<'a> {
    /// When it was made; grows by at least a second from one list of a key to the next (CRL-04).
    pub this_update: UnixSeconds,
    /// Until when it may be used; at or past the end of every certificate of the key.
    pub next_update: UnixSeconds,
    /// Grows from one list of a key to the next.
    pub number: u64,
    /// The certificates revoked.
    pub revoked: &'a [RevokedCertificate],
}

/// Makes the list of an issuing key or root key of ours.
///
/// # Errors
/// When a date cannot be written, `next_update` is not after `this_update`, or signing fails.
pub fn build_crl(template: &CrlTemplate<'_>, key: &PrivateKey) -> Result<Vec<u8>, CrlError> {
    let date = |instant: UnixSeconds| OffsetDateTime::from_unix_timestamp(instant.0).map_err(|_| CrlError::Dates);
    let revoked_certs = template
        .revoked
        .iter()
        .map(|revoked| {
            Ok(RevokedCertParams {
                serial_number: RcgenSerial::from_slice(revoked.serial.as_bytes()),
                revocation_time: date(revoked.revoked_at)?,
                reason_code: revoked.reason.in_rcgen(),
                invalidity_date: None,
            })
        })
        .collect::<Result<Vec<_>, CrlError>>()?;
    let key_id = key.public_key().subject_key_id().to_vec();
    let parameters = CertificateRevocationListParams {
        this_update: date(template.this_update)?,
        next_update: date(template.next_update)?,
        crl_number: RcgenSerial::from_slice(&template.number.to_be_bytes()),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::PreSpecified(key_id),
    };
    let issuer = Issuer::new(issuer_parameters(key.public_key())?, key);
    Ok(parameters.signed_by(&issuer)?.der().to_vec())
}

/// A list, read and not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedCrl {
    /// The issuer's name in DER.
    pub issuer: Vec<u8>,
    /// When it was made.
    pub this_update: UnixSeconds,
    /// Until when it may be used.
    pub next_update: UnixSeconds,
    /// The certificates revoked, in order.
    pub revoked: Vec<RevokedCertificate>,
    /// The key identifier of the authority key identifier.
    pub authority_key_id: Vec<u8>,
    /// The CRL number.
    pub number: u64,
}

/// Reads a list of the shape that CRL-02 gives ours: version 2, with nextUpdate, an authority key identifier and a CRL
/// number, and no further extension: no issuing distribution point, no delta. Serial numbers are of at most 16 bytes
/// (CRL-01), CRL numbers of at most 8, and an entry has no extension but a reason.
///
/// # Errors
/// When it is longer than [`CRL_LIMIT`] or not of that shape.
pub fn parse_crl(der: &[u8]) -> Result<ParsedCrl, CrlError> {
    if der.len() > CRL_LIMIT {
        return Err(CrlError::TooLong { length: der.len() });
    }
    let signed = Signed::parse(der).ok_or(CrlError::Shape)?;
    read_body(&signed).ok_or(CrlError::Shape)
}

/// Why a list is not made or not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Longer than [`CRL_LIMIT`].
    #[error("the CRL has {length} bytes, the most is {CRL_LIMIT}")]
    TooLong {
        /// How many bytes there are.
        length: usize,
    },
    /// Not a CRL in DER of the shape of CRL-02.
    #[error("not a CRL of the expected shape")]
    Shape,
    /// A date has no form in X.509.
    #[error("a date of the CRL cannot be written")]
    Dates,
    /// The X.509 library refused to make the list.
    #[error("the CRL could not be made")]
    Library(#[from] rcgen::Error),
    /// The key could not be used.
    #[error("the key could not be used")]
    Key(#[from] KeyError),
}

fn read_body(signed: &Signed<'_>) -> Option<ParsedCrl> {
    let mut fields = signed.fields()?;
    if fields.read(der::INTEGER)? != [1] || fields.read_whole(der::SEQUENCE)? != signed.algorithm {
        return None;
    }
    let issuer = fields.read_whole(der::SEQUENCE)?.to_vec();
    let this_update = instant::read(&mut fields)?;
    let next_update = instant::read(&mut fields)?;
    let mut revoked = Vec::new();
    if let Some(entries) = fields.read_optional(der::SEQUENCE) {
        let mut entries = Reader::new(entries);
        while !entries.is_done() {
            revoked.push(read_entry(entries.enter(der::SEQUENCE)?)?);
        }
    }
    let mut wrapper = fields.enter(der::CONTEXT_0)?;
    let (authority_key_id, number) = read_extensions(wrapper.enter(der::SEQUENCE)?)?;
    let done = fields.is_done() && wrapper.is_done();
    done.then_some(ParsedCrl { issuer, this_update, next_update, revoked, authority_key_id, number })
}

fn read_entry(mut entry: Reader<'_>) -> Option<RevokedCertificate> {
    let serial = SerialNumber::from_big_endian(entry.read_unsigned()?)?;
    let revoked_at = instant::read(&mut entry)?;
    let mut reason = RevocationReason::Unspecified;
    if let Some(extensions) = entry.read_optional(der::SEQUENCE) {
        for Extension { oid, value, .. } in list_extensions(Reader::new(extensions)).ok()? {
            let mut value = Reader::new(value);
            let [code] = *value.read(der::ENUMERATED).filter(|_| oid == REASON_CODE)? else { return None };
            reason = RevocationReason::from_code(code).filter(|_| value.is_done())?;
        }
    }
    entry.is_done().then_some(RevokedCertificate { serial, revoked_at, reason })
}

/// The authority key identifier and the CRL number, if these two are all there is.
fn read_extensions(list: Reader<'_>) -> Option<(Vec<u8>, u64)> {
    let mut key_id = None;
    let mut number = None;
    for Extension { oid, value, .. } in list_extensions(list).ok()? {
        let mut reader = Reader::new(value);
        match oid {
            AUTHORITY_KEY_IDENTIFIER => key_id = read_authority_key_id(&mut reader)?,
            CRL_NUMBER => number = Some(unsigned(reader.read_unsigned()?)?),
            _ => return None,
        }
        if !reader.is_done() {
            return None;
        }
    }
    Some((key_id?.to_vec(), number?))
}

/// A number of at most 8 bytes.
fn unsigned(digits: &[u8]) -> Option<u64> {
    (digits.len() <= 8).then(|| digits.iter().fold(0, |number, digit| (number << 8) | u64::from(*digit)))
}
