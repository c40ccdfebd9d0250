//! Stored forms of authorities, sealed keys and issuing certificates. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::{Message, Oneof};
use quorate_proto_identity::{UnixSeconds, Validity};

use super::{
    StoredError, at_most, authority_id, kind, known, member_number, present, serial, serial_bytes, to_bytes, validity,
};
use crate::authority::{
    AuthorityState, AuthorityTimes, IssuingCertificate, IssuingKey, IssuingKeyState, JwtAuthority, Recipient,
    SEALED_RECIPIENTS_LIMIT, Sealed, SealedFor, X509Authority,
};
use crate::objects::Object;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredSealed {
    #[prost(uint32, tag = "1")]
    suite: u32,
    #[prost(message, repeated, tag = "2")]
    parts: Vec<StoredPart>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPart {
    #[prost(oneof = "StoredRecipient", tags = "1, 2")]
    recipient: Option<StoredRecipient>,
    #[prost(bytes = "bytes", tag = "3")]
    encapsulated_key: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    ciphertext: Bytes,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum StoredRecipient {
    #[prost(uint64, tag = "1")]
    Member(u64),
    #[prost(string, tag = "2")]
    RecoveryKey(String),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct StoredValidity {
    #[prost(int64, tag = "1")]
    not_before: i64,
    #[prost(int64, tag = "2")]
    not_after: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredTimes {
    #[prost(int64, tag = "1")]
    prepared_at: i64,
    #[prost(int64, optional, tag = "2")]
    activated_at: Option<i64>,
    #[prost(int64, optional, tag = "3")]
    retired_at: Option<i64>,
    #[prost(int64, optional, tag = "4")]
    tainted_at: Option<i64>,
    #[prost(int64, optional, tag = "5")]
    revoked_at: Option<i64>,
    #[prost(int64, optional, tag = "6")]
    suspected_at: Option<i64>,
    #[prost(int64, optional, tag = "7")]
    replace_at: Option<i64>,
    #[prost(int64, optional, tag = "8")]
    published_at: Option<i64>,
    #[prost(int64, optional, tag = "9")]
    confirmed_at: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredX509Authority {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "bytes", tag = "2")]
    certificate: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    crl: Bytes,
    #[prost(message, optional, tag = "4")]
    validity: Option<StoredValidity>,
    #[prost(uint32, tag = "5")]
    state: u32,
    #[prost(message, optional, tag = "6")]
    times: Option<StoredTimes>,
    #[prost(message, optional, tag = "7")]
    sealed: Option<StoredSealed>,
    #[prost(int64, optional, tag = "8")]
    crl_keeps_until: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredJwtAuthority {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "bytes", tag = "2")]
    public_key: Bytes,
    #[prost(message, optional, tag = "3")]
    validity: Option<StoredValidity>,
    #[prost(uint32, tag = "4")]
    state: u32,
    #[prost(message, optional, tag = "5")]
    times: Option<StoredTimes>,
    #[prost(message, optional, tag = "6")]
    sealed: Option<StoredSealed>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredIssuingKey {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(uint64, tag = "2")]
    member: u64,
    #[prost(bytes = "bytes", tag = "3")]
    crl: Bytes,
    #[prost(int64, tag = "4")]
    crl_next_update: i64,
    #[prost(uint64, tag = "5")]
    number: u64,
    #[prost(uint64, tag = "6")]
    boot: u64,
    #[prost(uint32, tag = "7")]
    state: u32,
    #[prost(uint64, tag = "8")]
    covered: u64,
    #[prost(int64, tag = "9")]
    recorded_at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredIssuingCertificate {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes = "bytes", tag = "3")]
    serial: Bytes,
    #[prost(string, tag = "4")]
    issuer: String,
    #[prost(bytes = "bytes", tag = "5")]
    certificate: Bytes,
    #[prost(message, optional, tag = "6")]
    validity: Option<StoredValidity>,
    #[prost(int64, tag = "7")]
    recorded_at: i64,
    #[prost(int64, optional, tag = "8")]
    revoked_at: Option<i64>,
}

pub(crate) fn from_sealed(sealed: &Sealed) -> StoredSealed {
    let Sealed { suite, parts } = sealed;
    StoredSealed { suite: *suite, parts: parts.iter().map(from_part).collect() }
}

pub(super) fn from_part(part: &SealedFor) -> StoredPart {
    let SealedFor { recipient, encapsulated_key, ciphertext } = part;
    StoredPart {
        recipient: Some(match recipient {
            Recipient::Member(number) => StoredRecipient::Member(number.get()),
            Recipient::RecoveryKey(id) => StoredRecipient::RecoveryKey(id.clone()),
        }),
        encapsulated_key: encapsulated_key.clone(),
        ciphertext: ciphertext.clone(),
    }
}

pub(crate) fn to_sealed(stored: StoredSealed) -> Result<Sealed, StoredError> {
    at_most(&stored.parts, SEALED_RECIPIENTS_LIMIT, "recipients of a sealed key")?;
    let parts = stored.parts.into_iter().map(to_part).collect::<Result<_, StoredError>>()?;
    Ok(Sealed { suite: stored.suite, parts })
}

pub(super) fn to_part(part: StoredPart) -> Result<SealedFor, StoredError> {
    Ok(SealedFor {
        recipient: match present(part.recipient, "recipient of a sealed key")? {
            StoredRecipient::Member(number) => Recipient::Member(member_number(number)?),
            StoredRecipient::RecoveryKey(id) => Recipient::RecoveryKey(id),
        },
        encapsulated_key: part.encapsulated_key,
        ciphertext: part.ciphertext,
    })
}

pub(crate) const fn from_validity(validity: Validity) -> StoredValidity {
    StoredValidity { not_before: validity.not_before().0, not_after: validity.not_after().0 }
}

pub(crate) fn to_validity(stored: Option<StoredValidity>) -> Result<Validity, StoredError> {
    let stored = present(stored, "validity")?;
    validity(stored.not_before, stored.not_after)
}

fn from_times(times: &AuthorityTimes) -> StoredTimes {
    let AuthorityTimes {
        prepared_at,
        activated_at,
        retired_at,
        tainted_at,
        revoked_at,
        suspected_at,
        replace_at,
        published_at,
        confirmed_at,
    } = *times;
    let seconds = |at: Option<UnixSeconds>| at.map(|at| at.0);
    StoredTimes {
        prepared_at: prepared_at.0,
        activated_at: seconds(activated_at),
        retired_at: seconds(retired_at),
        tainted_at: seconds(tainted_at),
        revoked_at: seconds(revoked_at),
        suspected_at: seconds(suspected_at),
        replace_at: seconds(replace_at),
        published_at: seconds(published_at),
        confirmed_at: seconds(confirmed_at),
    }
}

fn to_times(stored: Option<StoredTimes>) -> Result<AuthorityTimes, StoredError> {
    let stored = present(stored, "times of an authority")?;
    Ok(AuthorityTimes {
        prepared_at: UnixSeconds(stored.prepared_at),
        activated_at: stored.activated_at.map(UnixSeconds),
        retired_at: stored.retired_at.map(UnixSeconds),
        tainted_at: stored.tainted_at.map(UnixSeconds),
        revoked_at: stored.revoked_at.map(UnixSeconds),
        suspected_at: stored.suspected_at.map(UnixSeconds),
        replace_at: stored.replace_at.map(UnixSeconds),
        published_at: stored.published_at.map(UnixSeconds),
        confirmed_at: stored.confirmed_at.map(UnixSeconds),
    })
}

fn to_state(number: u32) -> Result<AuthorityState, StoredError> {
    known(AuthorityState::from_number(number), "state of an authority")
}

impl Object for X509Authority {
    const KIND: u8 = kind::X509_AUTHORITY;

    fn stored(&self) -> Vec<u8> {
        let Self { id, certificate, crl, crl_keeps_until, validity, state, times, sealed } = self;
        to_bytes(&StoredX509Authority {
            id: id.as_str().to_owned(),
            certificate: certificate.clone(),
            crl: crl.clone(),
            validity: Some(from_validity(*validity)),
            state: *state as u32,
            times: Some(from_times(times)),
            sealed: sealed.as_ref().map(from_sealed),
            crl_keeps_until: crl_keeps_until.map(|until| until.0),
        })
    }
}

pub(crate) fn decode_x509(bytes: Bytes) -> Result<X509Authority, StoredError> {
    let stored = StoredX509Authority::decode(bytes)?;
    Ok(X509Authority {
        id: authority_id(&stored.id)?,
        certificate: stored.certificate,
        crl: stored.crl,
        validity: to_validity(stored.validity)?,
        state: to_state(stored.state)?,
        times: to_times(stored.times)?,
        sealed: stored.sealed.map(to_sealed).transpose()?,
        crl_keeps_until: stored.crl_keeps_until.map(UnixSeconds),
    })
}

impl Object for JwtAuthority {
    const KIND: u8 = kind::JWT_AUTHORITY;

    fn stored(&self) -> Vec<u8> {
        let Self { id, public_key, validity, state, times, sealed } = self;
        to_bytes(&StoredJwtAuthority {
            id: id.as_str().to_owned(),
            public_key: public_key.clone(),
            validity: Some(from_validity(*validity)),
            state: *state as u32,
            times: Some(from_times(times)),
            sealed: sealed.as_ref().map(from_sealed),
        })
    }
}

pub(crate) fn decode_jwt(bytes: Bytes) -> Result<JwtAuthority, StoredError> {
    let stored = StoredJwtAuthority::decode(bytes)?;
    Ok(JwtAuthority {
        id: authority_id(&stored.id)?,
        public_key: stored.public_key,
        validity: to_validity(stored.validity)?,
        state: to_state(stored.state)?,
        times: to_times(stored.times)?,
        sealed: stored.sealed.map(to_sealed).transpose()?,
    })
}

impl Object for IssuingKey {
    const KIND: u8 = kind::ISSUING_KEY;

    fn stored(&self) -> Vec<u8> {
        let Self { id, member, crl, crl_next_update, number, boot, state, covered, recorded_at } = self;
        to_bytes(&StoredIssuingKey {
            id: id.as_str().to_owned(),
            member: member.get(),
            crl: crl.clone(),
            crl_next_update: crl_next_update.0,
            number: *number,
            boot: *boot,
            state: *state as u32,
            covered: *covered,
            recorded_at: recorded_at.0,
        })
    }
}

pub(crate) fn decode_issuing_key(bytes: Bytes) -> Result<IssuingKey, StoredError> {
    let stored = StoredIssuingKey::decode(bytes)?;
    Ok(IssuingKey {
        id: authority_id(&stored.id)?,
        member: member_number(stored.member)?,
        crl: stored.crl,
        crl_next_update: UnixSeconds(stored.crl_next_update),
        number: stored.number,
        boot: stored.boot,
        state: known(IssuingKeyState::from_number(stored.state), "state of an issuing key")?,
        covered: stored.covered,
        recorded_at: UnixSeconds(stored.recorded_at),
    })
}

impl Object for IssuingCertificate {
    const KIND: u8 = kind::ISSUING_CERTIFICATE;

    fn stored(&self) -> Vec<u8> {
        let Self { member, key_id, serial, issuer, certificate, validity, recorded_at, revoked_at } = self;
        to_bytes(&StoredIssuingCertificate {
            member: member.get(),
            key_id: key_id.as_str().to_owned(),
            serial: serial_bytes(*serial),
            issuer: issuer.as_str().to_owned(),
            certificate: certificate.clone(),
            validity: Some(from_validity(*validity)),
            recorded_at: recorded_at.0,
            revoked_at: revoked_at.map(|at| at.0),
        })
    }
}

pub(crate) fn decode_issuing_certificate(bytes: Bytes) -> Result<IssuingCertificate, StoredError> {
    let stored = StoredIssuingCertificate::decode(bytes)?;
    Ok(IssuingCertificate {
        member: member_number(stored.member)?,
        key_id: authority_id(&stored.key_id)?,
        serial: serial(&stored.serial)?,
        issuer: authority_id(&stored.issuer)?,
        certificate: stored.certificate,
        validity: to_validity(stored.validity)?,
        recorded_at: UnixSeconds(stored.recorded_at),
        revoked_at: stored.revoked_at.map(UnixSeconds),
    })
}
