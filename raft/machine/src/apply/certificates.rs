//! Checks of key material that commands carry, so that no member records what others would refuse.
//!
//! Everything here is a function of the bytes: signatures are verified, never made.

use std::collections::BTreeSet;

use quorate_proto_identity::x509::{Certificate, check_first_crl, parse_crl};
use quorate_proto_identity::{AuthorityId, KeyType, PublicKey, SerialNumber, TrustDomain, UnixSeconds, Validity};

use super::issuing::CheckedIssuing;
use crate::authority::{BACKDATE, CERTIFICATE_BYTES_LIMIT, FIRST_CRL_BYTES_LIMIT};
use crate::command::{NewJwtAuthority, NewX509Authority};
use crate::outcome::Refusal;
use crate::policy::Policy;

/// What the state wants to know of a root that passed.
pub(super) struct Root {
    pub(super) id: AuthorityId,
    pub(super) validity: Validity,
}

/// Checks a new root and its CRL: signed by itself, for our trust domain, of our profile (CRL-01), and no longer than
/// the policy says.
pub(super) fn check_root(new: &NewX509Authority, policy: &Policy, trust_domain: &TrustDomain) -> Result<Root, Refusal> {
    let certificate = parse("the root certificate", &new.certificate)?;
    check_authority("the root certificate", &certificate, trust_domain)?;
    if certificate.extensions().path_length.is_some() {
        return Err(Refusal::invalid(
            "the root certificate has a path length, so it could sign no downstream authority",
        ));
    }
    if certificate.issuer() != certificate.subject() || certificate.verify_signature(certificate.public_key()).is_err()
    {
        return Err(Refusal::invalid("the root certificate is not signed by its own key"));
    }
    let validity = certificate.validity();
    check_life("the root certificate", &validity, "root_lifetime", policy.root_lifetime)?;
    check_crl("the root's CRL", &new.crl, &certificate)?;
    Ok(Root { id: certificate.authority_id(), validity })
}

/// Checks a new token key.
pub(super) fn check_jwt_key(new: &NewJwtAuthority, policy: &Policy) -> Result<(), Refusal> {
    let key_type = PublicKey::from_spki_der(&new.public_key).ok().and_then(|key| key.key_type());
    if !key_type.is_some_and(KeyType::is_for_authorities) {
        return Err(Refusal::invalid(format!("the public key of JWT authority {} cannot sign tokens", new.id)));
    }
    check_life("the JWT authority", &new.validity, "jwt_key_lifetime", policy.jwt_key_lifetime)
}

/// Reads a certificate, within the limit of what the state records.
pub(super) fn parse(what: &str, der: &[u8]) -> Result<Certificate, Refusal> {
    if der.len() > CERTIFICATE_BYTES_LIMIT {
        return Err(Refusal::invalid(format!("{what} has {} bytes, the most is {CERTIFICATE_BYTES_LIMIT}", der.len())));
    }
    Certificate::parse(der).map_err(|error| Refusal::invalid(format!("{what} cannot be read: {error}")))
}

/// Checks what roots and issuing certificates have in common: CA with keyCertSign and cRLSign, the trust domain's ID as
/// the only URI name, a key of a type that signs for others, and that key's own identifier as SKI and in the subject
/// (CRL-01).
pub(super) fn check_authority(
    what: &str,
    certificate: &Certificate,
    trust_domain: &TrustDomain,
) -> Result<(), Refusal> {
    let extensions = certificate.extensions();
    let signs = extensions.key_usage.is_some_and(|usage| usage.key_cert_sign() && usage.crl_sign());
    if extensions.is_ca != Some(true) || !signs {
        return Err(Refusal::invalid(format!("{what} is no CA with keyCertSign and cRLSign")));
    }
    let trust_domain_id = trust_domain.id();
    if extensions.uri_names.len() != 1
        || extensions.uri_names.first().is_none_or(|name| *name != trust_domain_id.as_str())
    {
        return Err(Refusal::invalid(format!("{what} does not have {trust_domain_id} as its only URI name")));
    }
    if !certificate.subject_names_key() {
        return Err(Refusal::invalid(format!("{what} has a subject that is not unique to its key (CRL-01)")));
    }
    let key = certificate.public_key();
    if !key.key_type().is_some_and(KeyType::is_for_authorities) {
        return Err(Refusal::invalid(format!("{what} has a key of a type that cannot sign for others")));
    }
    if extensions.subject_key_id.as_deref() != Some(key.subject_key_id().as_slice()) {
        return Err(Refusal::invalid(format!(
            "{what} does not have its key's own identifier as subject key identifier"
        )));
    }
    Ok(())
}

/// Checks that something lives no longer than the policy says, beginning up to [`BACKDATE`] seconds in the past.
pub(super) fn check_life(what: &str, validity: &Validity, field: &str, lifetime: u32) -> Result<(), Refusal> {
    if validity.seconds() <= i64::from(lifetime).saturating_add(BACKDATE) {
        return Ok(());
    }
    Err(Refusal::invalid(format!("{what} lives for {} s, but {field} is {lifetime} s", validity.seconds())))
}

/// Checks the first CRL of a certificate's key (CRL-03), and answers until when it is current.
pub(super) fn check_crl(what: &str, crl: &[u8], certificate: &Certificate) -> Result<UnixSeconds, Refusal> {
    if crl.len() > FIRST_CRL_BYTES_LIMIT {
        return Err(Refusal::invalid(format!("{what} has {} bytes, the most is {FIRST_CRL_BYTES_LIMIT}", crl.len())));
    }
    check_first_crl(crl, certificate)
        .map(|crl| crl.next_update)
        .map_err(|error| Refusal::invalid(format!("{what} is not in order (CRL-03): {error}")))
}

/// The number of a CRL that passed its checks.
pub(super) fn crl_number(crl: &[u8]) -> u64 {
    parse_crl(crl).map_or(0, |crl| crl.number)
}

/// Checks that a further certificate of a key ends no later than the CRL that its key has (CRL-03).
pub(super) fn check_crl_lasts(
    key_id: &AuthorityId,
    crl_end: UnixSeconds,
    certificate: &Certificate,
) -> Result<(), Refusal> {
    let end = certificate.validity().not_after();
    if end <= crl_end {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "the certificate ends at {end}, after the CRL of key {key_id}, which ends at {crl_end} (CRL-03)"
    )))
}

/// The serial number of a certificate of ours: 16 bytes (CRL-01), of which DER leaves leading zeros out.
pub(super) fn serial_number(what: &str, certificate: &Certificate) -> Result<SerialNumber, Refusal> {
    let written = certificate.serial();
    let mut bytes = [0; 16];
    let refusal = || Refusal::invalid(format!("{what} has no serial number of up to 16 bytes"));
    let start = bytes.len().checked_sub(written.len()).ok_or_else(refusal)?;
    for (place, byte) in bytes.iter_mut().skip(start).zip(written) {
        *place = *byte;
    }
    SerialNumber::new(bytes).map_err(|_| refusal())
}

/// Checks that certificates recorded in one step do not repeat a serial number, or a key for two members.
pub(super) fn check_distinct(checked: &[CheckedIssuing]) -> Result<(), Refusal> {
    let mut serials = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for issuing in checked {
        if !serials.insert(issuing.certificate.serial) {
            return Err(Refusal::invalid(format!("serial number {} comes twice", issuing.certificate.serial)));
        }
        if !keys.insert(&issuing.certificate.key_id) {
            return Err(Refusal::invalid(format!("key {} comes twice", issuing.certificate.key_id)));
        }
    }
    Ok(())
}
