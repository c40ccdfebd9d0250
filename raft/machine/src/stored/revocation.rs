//! Stored forms of revocations, revoked leaves, CRLs, and anchors of audit logs. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::{Message, Oneof};
use quorate_proto_identity::{AuthorityId, MemberNumber, UnixSeconds};

use super::{
    StoredError, at_most, authority_id, entry_id, kind, known, member_number, present, serial, serial_bytes, spiffe_id,
    to_bytes, valid,
};
use crate::audit::{AUDIT_HASH_BYTES, AuditAnchor};
use crate::command::Operation;
use crate::objects::Object;
use crate::revocation::{
    KEYS_PER_REVOCATION, NewCrl, NewRevocation, REVOKED_LEAVES_LIMIT, Revocation, RevocationReason, RevocationTarget,
    RevokedLeaf,
};
use crate::state::RevokedRecord;

#[derive(Clone, PartialEq, Message)]
struct StoredTarget {
    #[prost(oneof = "Target", tags = "1, 2, 3, 4, 5")]
    target: Option<Target>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Target {
    #[prost(bytes = "bytes", tag = "1")]
    Serial(Bytes),
    #[prost(string, tag = "2")]
    SpiffeId(String),
    #[prost(string, tag = "3")]
    Entry(String),
    #[prost(uint64, tag = "4")]
    Node(u64),
    #[prost(message, tag = "5")]
    Jti(StoredJti),
}

#[derive(Clone, PartialEq, Message)]
struct StoredJti {
    #[prost(string, tag = "1")]
    jti: String,
    #[prost(int64, tag = "2")]
    expires_at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredNewRevocation {
    #[prost(message, optional, tag = "1")]
    target: Option<StoredTarget>,
    #[prost(uint32, tag = "2")]
    reason: u32,
    #[prost(bool, tag = "3")]
    ban: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRevocation {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(message, optional, tag = "2")]
    target: Option<StoredTarget>,
    #[prost(string, optional, tag = "3")]
    subject: Option<String>,
    #[prost(uint32, tag = "4")]
    reason: u32,
    #[prost(bool, tag = "5")]
    ban: bool,
    #[prost(bool, tag = "6")]
    token_rule: bool,
    #[prost(int64, tag = "7")]
    created_at: i64,
    #[prost(int64, tag = "8")]
    up_to: i64,
    #[prost(int64, tag = "9")]
    expires_at: i64,
    #[prost(int64, optional, tag = "10")]
    certificates_end: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredLeaf {
    #[prost(bytes = "bytes", tag = "1")]
    serial: Bytes,
    #[prost(string, tag = "2")]
    spiffe_id: String,
    #[prost(int64, tag = "3")]
    not_after: i64,
    #[prost(uint64, tag = "4")]
    revocation: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRevokedRecord {
    #[prost(string, tag = "1")]
    issuer: String,
    #[prost(message, optional, tag = "2")]
    leaf: Option<StoredLeaf>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredNewCrl {
    #[prost(string, tag = "1")]
    issuer: String,
    #[prost(bytes = "bytes", tag = "2")]
    crl: Bytes,
    #[prost(uint64, tag = "3")]
    covers: u64,
    #[prost(message, repeated, tag = "4")]
    revoked: Vec<StoredLeaf>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRevokeKeys {
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
    #[prost(uint32, tag = "2")]
    reason: u32,
    #[prost(message, repeated, tag = "3")]
    root_crls: Vec<StoredNewCrl>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredDeletion {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(uint32, tag = "2")]
    pub(super) reason: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredMark {
    #[prost(uint32, tag = "1")]
    pub(super) kind: u32,
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(bool, tag = "3")]
    pub(super) compromised: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredNewAnchor {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(uint64, tag = "2")]
    records: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    hash: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct StoredAnchor {
    #[prost(message, optional, tag = "1")]
    anchor: Option<StoredNewAnchor>,
    #[prost(int64, tag = "2")]
    recorded_at: i64,
}

/// The reason of a stored code.
pub(super) fn reason(code: u32) -> Result<RevocationReason, StoredError> {
    known(u8::try_from(code).ok().and_then(RevocationReason::from_code), "reason of a revocation")
}

fn from_target(target: &RevocationTarget) -> StoredTarget {
    let target = match target {
        RevocationTarget::Serial { serial } => Target::Serial(serial_bytes(*serial)),
        RevocationTarget::SpiffeId(id) => Target::SpiffeId(id.as_str().to_owned()),
        RevocationTarget::Entry(id) => Target::Entry(id.as_str().to_owned()),
        RevocationTarget::Node(member) => Target::Node(member.get()),
        RevocationTarget::Jti { jti, expires_at } => {
            Target::Jti(StoredJti { jti: jti.clone(), expires_at: expires_at.0 })
        }
    };
    StoredTarget { target: Some(target) }
}

fn to_target(stored: Option<StoredTarget>) -> Result<RevocationTarget, StoredError> {
    let what = "target of a revocation";
    Ok(match present(present(stored, what)?.target, what)? {
        Target::Serial(bytes) => RevocationTarget::Serial { serial: serial(&bytes)? },
        Target::SpiffeId(id) => RevocationTarget::SpiffeId(spiffe_id(&id, what)?),
        Target::Entry(id) => RevocationTarget::Entry(entry_id(&id)?),
        Target::Node(number) => RevocationTarget::Node(member_number(number)?),
        Target::Jti(StoredJti { jti, expires_at }) => {
            RevocationTarget::Jti { jti, expires_at: UnixSeconds(expires_at) }
        }
    })
}

pub(super) fn from_new_revocation(new: &NewRevocation) -> StoredNewRevocation {
    let NewRevocation { target, reason, ban } = new;
    StoredNewRevocation { target: Some(from_target(target)), reason: u32::from(reason.code()), ban: *ban }
}

pub(super) fn to_new_revocation(stored: StoredNewRevocation) -> Result<NewRevocation, StoredError> {
    let StoredNewRevocation { target, reason: code, ban } = stored;
    Ok(NewRevocation { target: to_target(target)?, reason: reason(code)?, ban })
}

impl Object for Revocation {
    const KIND: u8 = kind::REVOCATION;

    fn stored(&self) -> Vec<u8> {
        let Self { number, target, subject, reason, ban, token_rule, created_at, up_to, expires_at, certificates_end } =
            self;
        to_bytes(&StoredRevocation {
            number: *number,
            target: Some(from_target(target)),
            subject: subject.as_ref().map(|id| id.as_str().to_owned()),
            reason: u32::from(reason.code()),
            ban: *ban,
            token_rule: *token_rule,
            created_at: created_at.0,
            up_to: up_to.0,
            expires_at: expires_at.0,
            certificates_end: certificates_end.map(|end| end.0),
        })
    }
}

pub(crate) fn decode_revocation(bytes: Bytes) -> Result<Revocation, StoredError> {
    let stored = StoredRevocation::decode(bytes)?;
    Ok(Revocation {
        number: stored.number,
        target: to_target(stored.target)?,
        subject: stored.subject.map(|id| spiffe_id(&id, "subject of a revocation")).transpose()?,
        reason: reason(stored.reason)?,
        ban: stored.ban,
        token_rule: stored.token_rule,
        created_at: UnixSeconds(stored.created_at),
        up_to: UnixSeconds(stored.up_to),
        expires_at: UnixSeconds(stored.expires_at),
        certificates_end: stored.certificates_end.map(UnixSeconds),
    })
}

fn from_leaf(leaf: &RevokedLeaf) -> StoredLeaf {
    let RevokedLeaf { serial, spiffe_id, not_after, revocation } = leaf;
    StoredLeaf {
        serial: serial_bytes(*serial),
        spiffe_id: spiffe_id.as_str().to_owned(),
        not_after: not_after.0,
        revocation: *revocation,
    }
}

fn to_leaf(stored: &StoredLeaf) -> Result<RevokedLeaf, StoredError> {
    Ok(RevokedLeaf {
        serial: serial(&stored.serial)?,
        spiffe_id: spiffe_id(&stored.spiffe_id, "SPIFFE ID of a revoked leaf")?,
        not_after: UnixSeconds(stored.not_after),
        revocation: stored.revocation,
    })
}

impl Object for RevokedRecord {
    const KIND: u8 = kind::REVOKED_LEAF;

    fn stored(&self) -> Vec<u8> {
        let Self { issuer, leaf } = self;
        to_bytes(&StoredRevokedRecord { issuer: issuer.as_str().to_owned(), leaf: Some(from_leaf(leaf)) })
    }
}

pub(crate) fn decode_leaf(bytes: Bytes) -> Result<RevokedRecord, StoredError> {
    let StoredRevokedRecord { issuer, leaf } = StoredRevokedRecord::decode(bytes)?;
    Ok(RevokedRecord { issuer: authority_id(&issuer)?, leaf: to_leaf(&present(leaf, "revoked leaf")?)? })
}

pub(super) fn from_new_crl(new: &NewCrl) -> StoredNewCrl {
    let NewCrl { issuer, crl, covers, revoked } = new;
    StoredNewCrl {
        issuer: issuer.as_str().to_owned(),
        crl: crl.clone(),
        covers: *covers,
        revoked: revoked.iter().map(from_leaf).collect(),
    }
}

pub(super) fn to_new_crl(stored: StoredNewCrl) -> Result<NewCrl, StoredError> {
    let StoredNewCrl { issuer, crl, covers, revoked } = stored;
    at_most(&revoked, REVOKED_LEAVES_LIMIT, "revoked leaves")?;
    let revoked = revoked.iter().map(to_leaf).collect::<Result<_, StoredError>>()?;
    Ok(NewCrl { issuer: authority_id(&issuer)?, crl, covers, revoked })
}

pub(super) fn from_revoke_keys(
    keys: &[AuthorityId],
    reason: RevocationReason,
    root_crls: &[NewCrl],
) -> StoredRevokeKeys {
    StoredRevokeKeys {
        keys: keys.iter().map(|key| key.as_str().to_owned()).collect(),
        reason: u32::from(reason.code()),
        root_crls: root_crls.iter().map(from_new_crl).collect(),
    }
}

pub(super) fn to_revoke_keys(stored: StoredRevokeKeys) -> Result<Operation, StoredError> {
    let StoredRevokeKeys { keys, reason: code, root_crls } = stored;
    at_most(&keys, KEYS_PER_REVOCATION, "issuing keys of a revocation")?;
    at_most(&root_crls, crate::authority::AUTHORITIES_LIMIT, "CRLs of roots")?;
    Ok(Operation::RevokeIssuingKeys {
        keys: keys.iter().map(|key| authority_id(key)).collect::<Result<_, StoredError>>()?,
        reason: reason(code)?,
        root_crls: root_crls.into_iter().map(to_new_crl).collect::<Result<_, StoredError>>()?,
    })
}

pub(super) fn from_new_anchor(
    member: MemberNumber,
    records: u64,
    index: u64,
    hash: &[u8; AUDIT_HASH_BYTES],
) -> StoredNewAnchor {
    StoredNewAnchor { member: member.get(), records, index, hash: Bytes::copy_from_slice(hash) }
}

pub(super) fn to_new_anchor(stored: &StoredNewAnchor) -> Result<Operation, StoredError> {
    let AuditAnchor { member, records, index, hash, recorded_at: _ } = to_anchor(stored, 0)?;
    Ok(Operation::AnchorAudit { member, records, index, hash })
}

fn to_anchor(stored: &StoredNewAnchor, recorded_at: i64) -> Result<AuditAnchor, StoredError> {
    Ok(AuditAnchor {
        member: member_number(stored.member)?,
        records: stored.records,
        index: stored.index,
        hash: valid(<[u8; AUDIT_HASH_BYTES]>::try_from(stored.hash.as_ref()), "hash of an audit record")?,
        recorded_at: UnixSeconds(recorded_at),
    })
}

impl Object for AuditAnchor {
    const KIND: u8 = kind::AUDIT_ANCHOR;

    fn stored(&self) -> Vec<u8> {
        let Self { member, records, index, hash, recorded_at } = self;
        let anchor = from_new_anchor(*member, *records, *index, hash);
        to_bytes(&StoredAnchor { anchor: Some(anchor), recorded_at: recorded_at.0 })
    }
}

pub(crate) fn decode_anchor(bytes: Bytes) -> Result<AuditAnchor, StoredError> {
    let StoredAnchor { anchor, recorded_at } = StoredAnchor::decode(bytes)?;
    to_anchor(&present(anchor, "anchor of an audit log")?, recorded_at)
}
