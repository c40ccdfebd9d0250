//! Stored form of an operation. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::{Message, Oneof};
use quorate_proto_identity::{AuthorityId, UnixMillis};

use super::access::{
    StoredNewApiKey, StoredRotation, StoredSetRule, from_new_key, from_rotation, from_set_rule, to_delete_key,
    to_new_key, to_rotation, to_set_rule,
};
use super::authority::{StoredSealed, StoredValidity, from_sealed, from_validity, to_sealed, to_validity};
use super::cluster::cluster_id;
use super::entry::{StoredChange, StoredDraft, from_change, from_draft, to_change, to_draft};
use super::federation::{
    StoredNewRelationship, StoredUpdateRelationship, from_new_relationship, from_update_relationship,
    to_new_relationship, to_update_relationship,
};
use super::foreign::{
    StoredDeleteForeign, StoredNewForeign, from_delete_foreign, from_new_foreign, to_delete_foreign, to_new_foreign,
};
use super::member::{StoredMemberRecord, from_record, from_services, to_record, to_services};
use super::membership::{
    StoredAdmission, StoredAnnouncement, StoredNewInvitation, StoredPlan, StoredRemoval, StoredSeals,
    StoredSetRecoveryKey, StoredSetRole, from_admission, from_invitation, from_plan, from_role, from_seals, node_name,
    to_admission, to_invitation, to_plan, to_role, to_seals,
};
use super::policy::{StoredPolicy, from_policy, to_policy};
use super::restore::{StoredRestore, from_restore, to_restore};
use super::revocation::{
    StoredDeletion, StoredMark, StoredNewAnchor, StoredNewCrl, StoredNewRevocation, StoredRevokeKeys, from_new_anchor,
    from_new_crl, from_new_revocation, from_revoke_keys, reason, to_new_anchor, to_new_crl, to_new_revocation,
    to_revoke_keys,
};
use super::secret::{
    StoredPutSecret, StoredSealSecret, from_put_secret, from_seal_secret, secret_name, to_put_secret, to_seal_secret,
};
use super::web::{
    StoredBeginWebOrder, StoredFailWebOrder, StoredNewWebCertificate, StoredSetAcme, StoredSetOidc,
    StoredSetWebChallenge, from_begin_web_order, from_fail_web_order, from_new_web_certificate, from_set_acme,
    from_set_oidc, from_set_web_challenge, to_begin_web_order, to_fail_web_order, to_new_web_certificate, to_set_acme,
    to_set_oidc, to_set_web_challenge,
};
use super::{
    StoredError, at_most, authority_id, entry_id, known, member_number, present, serial, serial_bytes, trust_domain,
};
use crate::authority::{AuthorityKind, ISSUING_CERTIFICATES_LIMIT};
use crate::command::{Found, NewIssuingCertificate, NewJwtAuthority, NewX509Authority, Operation};
use crate::members::ADDRESSES_PER_MEMBER;

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredOperation {
    #[prost(
        oneof = "Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 80, 81, 82, 83, 84, 90, 91, 92, 93, 94, 95, 96"
    )]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Found(Box<StoredFound>),
    #[prost(message, tag = "2")]
    CreateEntry(Box<StoredDraft>),
    #[prost(message, tag = "3")]
    UpdateEntry(Box<StoredUpdate>),
    #[prost(string, tag = "4")]
    DeleteEntry(String),
    #[prost(message, tag = "5")]
    PruneExpiredEntries(StoredNothing),
    #[prost(message, tag = "6")]
    SetPolicy(StoredSetPolicy),
    #[prost(message, tag = "7")]
    PrepareX509Authority(StoredNewX509),
    #[prost(message, tag = "8")]
    ActivateX509Authority(StoredActivateX509),
    #[prost(message, tag = "9")]
    PrepareJwtAuthority(StoredNewJwt),
    #[prost(string, tag = "10")]
    ActivateJwtAuthority(String),
    #[prost(string, tag = "11")]
    TaintX509Authority(String),
    #[prost(string, tag = "12")]
    TaintJwtAuthority(String),
    #[prost(string, tag = "13")]
    RevokeX509Authority(String),
    #[prost(string, tag = "14")]
    RevokeJwtAuthority(String),
    #[prost(message, tag = "15")]
    PruneAuthorities(StoredNothing),
    #[prost(message, tag = "16")]
    RecordIssuingCertificate(StoredNewIssuing),
    #[prost(message, tag = "17")]
    RevokeIssuingCertificate(StoredRevokeIssuing),
    #[prost(message, tag = "18")]
    SetMember(Box<StoredSetMember>),
    #[prost(message, tag = "19")]
    CreateInvitation(Box<StoredNewInvitation>),
    #[prost(string, tag = "20")]
    DeleteInvitation(String),
    #[prost(message, tag = "21")]
    AdmitMember(Box<StoredAdmission>),
    #[prost(message, tag = "22")]
    AnnounceMember(StoredAnnouncement),
    #[prost(message, tag = "23")]
    SetMemberRole(StoredSetRole),
    #[prost(message, tag = "24")]
    RemoveMember(StoredRemoval),
    #[prost(uint64, tag = "25")]
    CompleteRemoval(u64),
    #[prost(message, tag = "26")]
    SealX509Authority(StoredSeals),
    #[prost(message, tag = "27")]
    SealJwtAuthority(StoredSeals),
    #[prost(uint64, tag = "28")]
    StripSeals(u64),
    #[prost(message, tag = "29")]
    SetRecoveryKey(StoredSetRecoveryKey),
    #[prost(message, tag = "30")]
    SetPlan(StoredPlan),
    #[prost(message, tag = "31")]
    RaiseEpoch(StoredNothing),
    #[prost(uint32, tag = "32")]
    RaiseVersion(u32),
    #[prost(int64, tag = "33")]
    ResetTime(i64),
    #[prost(message, tag = "34")]
    Revoke(StoredNewRevocation),
    #[prost(uint64, tag = "35")]
    RemoveRevocation(u64),
    #[prost(message, tag = "36")]
    RecordCrl(StoredNewCrl),
    #[prost(string, tag = "37")]
    ActivateIssuingKey(String),
    #[prost(message, tag = "38")]
    RevokeIssuingKeys(StoredRevokeKeys),
    #[prost(message, tag = "39")]
    PruneRevocations(StoredNothing),
    #[prost(message, tag = "40")]
    MarkAuthority(StoredMark),
    #[prost(message, tag = "41")]
    AnchorAudit(StoredNewAnchor),
    /// A deletion that revokes what was issued; one that does not is of the kind of tag 4.
    #[prost(message, tag = "42")]
    DeleteEntryAndRevoke(StoredDeletion),
    #[prost(message, tag = "43")]
    Restore(Box<StoredRestore>),
    #[prost(message, tag = "44")]
    CreateRelationship(Box<StoredNewRelationship>),
    #[prost(message, tag = "45")]
    UpdateRelationship(Box<StoredUpdateRelationship>),
    #[prost(string, tag = "46")]
    DeleteRelationship(String),
    #[prost(message, tag = "47")]
    SetForeignBundle(Box<StoredNewForeign>),
    #[prost(message, tag = "48")]
    DeleteForeignBundle(StoredDeleteForeign),
    #[prost(message, tag = "49")]
    PutSecret(StoredPutSecret),
    #[prost(string, tag = "50")]
    DeleteSecret(String),
    #[prost(message, tag = "51")]
    SealSecret(StoredSealSecret),
    #[prost(message, tag = "52")]
    MarkPublished(StoredPublished),
    #[prost(message, tag = "80")]
    CreateApiKey(Box<StoredNewApiKey>),
    #[prost(message, tag = "81")]
    RotateApiKey(Box<StoredRotation>),
    #[prost(string, tag = "82")]
    DeleteApiKey(String),
    #[prost(message, tag = "83")]
    SetAccessRule(Box<StoredSetRule>),
    #[prost(bool, tag = "84")]
    SetAccessSettings(bool),
    #[prost(message, tag = "90")]
    SetAcme(StoredSetAcme),
    #[prost(string, tag = "91")]
    RequestWebCertificate(String),
    #[prost(message, tag = "92")]
    BeginWebOrder(StoredBeginWebOrder),
    #[prost(message, tag = "93")]
    SetWebChallenge(StoredSetWebChallenge),
    #[prost(message, tag = "94")]
    RecordWebCertificate(StoredNewWebCertificate),
    #[prost(message, tag = "95")]
    FailWebOrder(StoredFailWebOrder),
    #[prost(message, tag = "96")]
    SetOidc(StoredSetOidc),
}

#[derive(Clone, PartialEq, Message)]
struct StoredPublished {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(bool, tag = "3")]
    confirmed: bool,
}

/// For operations that need no further word.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredNothing {}

#[derive(Clone, PartialEq, Message)]
struct StoredFound {
    #[prost(bytes = "bytes", tag = "1")]
    cluster_id: Bytes,
    #[prost(string, tag = "2")]
    trust_domain: String,
    #[prost(message, optional, tag = "3")]
    policy: Option<StoredPolicy>,
    #[prost(message, optional, tag = "4")]
    member: Option<StoredMemberRecord>,
    #[prost(message, optional, tag = "5")]
    x509_authority: Option<StoredNewX509>,
    #[prost(message, optional, tag = "6")]
    jwt_authority: Option<StoredNewJwt>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredUpdate {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    change: Option<StoredChange>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSetPolicy {
    #[prost(message, optional, tag = "1")]
    policy: Option<StoredPolicy>,
    #[prost(uint64, tag = "2")]
    expected_revision: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredNewX509 {
    #[prost(bytes = "bytes", tag = "1")]
    certificate: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    crl: Bytes,
    #[prost(message, optional, tag = "3")]
    sealed: Option<StoredSealed>,
    #[prost(string, optional, tag = "4")]
    succeeds: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredNewJwt {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "bytes", tag = "2")]
    public_key: Bytes,
    #[prost(message, optional, tag = "3")]
    validity: Option<StoredValidity>,
    #[prost(message, optional, tag = "4")]
    sealed: Option<StoredSealed>,
    #[prost(string, optional, tag = "5")]
    succeeds: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredActivateX509 {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, repeated, tag = "2")]
    issuing_certificates: Vec<StoredNewIssuing>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredNewIssuing {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(bytes = "bytes", tag = "2")]
    certificate: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    crl: Bytes,
    #[prost(uint64, tag = "4")]
    boot: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRevokeIssuing {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    serial: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSetMember {
    #[prost(uint64, optional, tag = "1")]
    number: Option<u64>,
    #[prost(message, optional, tag = "2")]
    member: Option<StoredMemberRecord>,
}

pub(super) fn from_operation(operation: &Operation) -> StoredOperation {
    let text = |id: &AuthorityId| id.as_str().to_owned();
    let kind = match operation {
        Operation::Found(found) => Kind::Found(Box::new(from_found(found))),
        Operation::CreateEntry(draft) => Kind::CreateEntry(Box::new(from_draft(draft))),
        Operation::UpdateEntry { id, change } => {
            Kind::UpdateEntry(Box::new(StoredUpdate { id: id.as_str().to_owned(), change: Some(from_change(change)) }))
        }
        Operation::DeleteEntry { id, revoke: None } => Kind::DeleteEntry(id.as_str().to_owned()),
        Operation::DeleteEntry { id, revoke: Some(reason) } => {
            Kind::DeleteEntryAndRevoke(StoredDeletion { id: id.as_str().to_owned(), reason: u32::from(reason.code()) })
        }
        Operation::PruneExpiredEntries => Kind::PruneExpiredEntries(StoredNothing {}),
        Operation::SetPolicy { policy, expected_revision } => Kind::SetPolicy(StoredSetPolicy {
            policy: Some(from_policy(policy)),
            expected_revision: *expected_revision,
        }),
        Operation::PrepareX509Authority(new) => Kind::PrepareX509Authority(from_new_x509(new)),
        Operation::ActivateX509Authority { id, issuing_certificates } => {
            Kind::ActivateX509Authority(StoredActivateX509 {
                id: text(id),
                issuing_certificates: issuing_certificates.iter().map(from_new_issuing).collect(),
            })
        }
        Operation::PrepareJwtAuthority(new) => Kind::PrepareJwtAuthority(from_new_jwt(new)),
        Operation::ActivateJwtAuthority { id } => Kind::ActivateJwtAuthority(text(id)),
        Operation::TaintX509Authority { id } => Kind::TaintX509Authority(text(id)),
        Operation::TaintJwtAuthority { id } => Kind::TaintJwtAuthority(text(id)),
        Operation::RevokeX509Authority { id } => Kind::RevokeX509Authority(text(id)),
        Operation::RevokeJwtAuthority { id } => Kind::RevokeJwtAuthority(text(id)),
        Operation::PruneAuthorities => Kind::PruneAuthorities(StoredNothing {}),
        Operation::RecordIssuingCertificate(new) => Kind::RecordIssuingCertificate(from_new_issuing(new)),
        Operation::RevokeIssuingCertificate { member, serial } => Kind::RevokeIssuingCertificate(StoredRevokeIssuing {
            member: member.get(),
            serial: serial.map(serial_bytes),
        }),
        Operation::SetMember { number, member } => Kind::SetMember(Box::new(StoredSetMember {
            number: number.map(quorate_proto_identity::MemberNumber::get),
            member: Some(from_record(member)),
        })),
        Operation::CreateInvitation(new) => Kind::CreateInvitation(Box::new(from_invitation(new))),
        Operation::DeleteInvitation { name } => Kind::DeleteInvitation(name.as_str().to_owned()),
        Operation::AdmitMember(admission) => Kind::AdmitMember(Box::new(from_admission(admission))),
        Operation::AnnounceMember { number, addresses, version, build, serves } => {
            Kind::AnnounceMember(StoredAnnouncement {
                number: number.get(),
                addresses: addresses.clone(),
                version: *version,
                build: build.clone(),
                serves: from_services(serves),
            })
        }
        Operation::SetMemberRole { number, role, pinned } => {
            Kind::SetMemberRole(from_role(number.get(), *role, *pinned))
        }
        Operation::RemoveMember { number, compromised } => {
            Kind::RemoveMember(StoredRemoval { number: number.get(), compromised: *compromised })
        }
        Operation::CompleteRemoval { number } => Kind::CompleteRemoval(number.get()),
        Operation::SealX509Authority { id, parts } => Kind::SealX509Authority(from_seals(id, parts)),
        Operation::SealJwtAuthority { id, parts } => Kind::SealJwtAuthority(from_seals(id, parts)),
        Operation::StripSeals { number } => Kind::StripSeals(number.get()),
        Operation::SetRecoveryKey { public_key } => {
            Kind::SetRecoveryKey(StoredSetRecoveryKey { public_key: public_key.clone() })
        }
        Operation::SetPlan(plan) => Kind::SetPlan(from_plan(*plan)),
        Operation::RaiseEpoch => Kind::RaiseEpoch(StoredNothing {}),
        Operation::RaiseVersion { version } => Kind::RaiseVersion(*version),
        Operation::ResetTime { time } => Kind::ResetTime(time.0),
        Operation::Revoke(new) => Kind::Revoke(from_new_revocation(new)),
        Operation::RemoveRevocation { number } => Kind::RemoveRevocation(*number),
        Operation::RecordCrl(new) => Kind::RecordCrl(from_new_crl(new)),
        Operation::ActivateIssuingKey { key } => Kind::ActivateIssuingKey(text(key)),
        Operation::RevokeIssuingKeys { keys, reason, root_crls } => {
            Kind::RevokeIssuingKeys(from_revoke_keys(keys, *reason, root_crls))
        }
        Operation::PruneRevocations => Kind::PruneRevocations(StoredNothing {}),
        Operation::MarkAuthority { kind, id, compromised } => {
            Kind::MarkAuthority(StoredMark { kind: *kind as u32, id: text(id), compromised: *compromised })
        }
        Operation::AnchorAudit { member, records, index, hash } => {
            Kind::AnchorAudit(from_new_anchor(*member, *records, *index, hash))
        }
        Operation::Restore(restore) => Kind::Restore(Box::new(from_restore(restore))),
        Operation::CreateRelationship(new) => Kind::CreateRelationship(Box::new(from_new_relationship(new))),
        Operation::UpdateRelationship { trust_domain, change, expected_revision } => {
            Kind::UpdateRelationship(Box::new(from_update_relationship(trust_domain, change, *expected_revision)))
        }
        Operation::DeleteRelationship { trust_domain } => Kind::DeleteRelationship(trust_domain.as_str().to_owned()),
        Operation::SetForeignBundle(new) => Kind::SetForeignBundle(Box::new(from_new_foreign(new))),
        Operation::DeleteForeignBundle { trust_domain, mode } => {
            Kind::DeleteForeignBundle(from_delete_foreign(trust_domain, *mode))
        }
        Operation::PutSecret { name, sealed } => Kind::PutSecret(from_put_secret(name, sealed)),
        Operation::DeleteSecret { name } => Kind::DeleteSecret(name.as_str().to_owned()),
        Operation::MarkPublished { kind, id, confirmed } => {
            Kind::MarkPublished(StoredPublished { kind: *kind as u32, id: text(id), confirmed: *confirmed })
        }
        Operation::SealSecret { name, revision, parts } => Kind::SealSecret(from_seal_secret(name, *revision, parts)),
        Operation::SetAcme { settings, expected_revision } => {
            Kind::SetAcme(from_set_acme(settings.as_deref(), *expected_revision))
        }
        Operation::RequestWebCertificate { domain } => Kind::RequestWebCertificate(domain.clone()),
        Operation::BeginWebOrder { domain, url, directory, key } => {
            Kind::BeginWebOrder(from_begin_web_order(domain, url, directory, key))
        }
        Operation::SetWebChallenge { domain, order, challenge } => {
            Kind::SetWebChallenge(from_set_web_challenge(domain, order, challenge))
        }
        Operation::RecordWebCertificate(new) => Kind::RecordWebCertificate(from_new_web_certificate(new)),
        Operation::FailWebOrder { domain, order, reason } => {
            Kind::FailWebOrder(from_fail_web_order(domain, order.as_deref(), reason))
        }
        Operation::SetOidc { settings, expected_revision } => {
            Kind::SetOidc(from_set_oidc(settings.as_deref(), *expected_revision))
        }
        Operation::CreateApiKey(new) => Kind::CreateApiKey(Box::new(from_new_key(new))),
        Operation::RotateApiKey(rotation) => Kind::RotateApiKey(Box::new(from_rotation(rotation))),
        Operation::DeleteApiKey { id } => Kind::DeleteApiKey(id.as_str().to_owned()),
        Operation::SetAccessRule { peer, rule, expected_revision } => {
            Kind::SetAccessRule(Box::new(from_set_rule(peer.as_ref(), rule.as_deref(), *expected_revision)))
        }
        Operation::SetAccessSettings { anonymous_endpoint } => Kind::SetAccessSettings(*anonymous_endpoint),
    };
    StoredOperation { kind: Some(kind) }
}

pub(super) fn to_operation(stored: StoredOperation) -> Result<Operation, StoredError> {
    Ok(match present(stored.kind, "kind of an operation")? {
        Kind::Found(found) => Operation::Found(Box::new(to_found(*found)?)),
        Kind::CreateEntry(draft) => Operation::CreateEntry(Box::new(to_draft(*draft)?)),
        Kind::UpdateEntry(update) => Operation::UpdateEntry {
            id: entry_id(&update.id)?,
            change: Box::new(to_change(present(update.change, "change of an entry")?)?),
        },
        Kind::DeleteEntry(id) => Operation::DeleteEntry { id: entry_id(&id)?, revoke: None },
        Kind::DeleteEntryAndRevoke(StoredDeletion { id, reason: code }) => {
            Operation::DeleteEntry { id: entry_id(&id)?, revoke: Some(reason(code)?) }
        }
        Kind::PruneExpiredEntries(StoredNothing {}) => Operation::PruneExpiredEntries,
        Kind::SetPolicy(StoredSetPolicy { policy, expected_revision }) => {
            Operation::SetPolicy { policy: to_policy(&present(policy, "policy")?)?, expected_revision }
        }
        Kind::PrepareX509Authority(new) => Operation::PrepareX509Authority(Box::new(to_new_x509(new)?)),
        Kind::ActivateX509Authority(StoredActivateX509 { id, issuing_certificates }) => {
            at_most(&issuing_certificates, ISSUING_CERTIFICATES_LIMIT, "issuing certificates of an activation")?;
            Operation::ActivateX509Authority {
                id: authority_id(&id)?,
                issuing_certificates: issuing_certificates
                    .into_iter()
                    .map(to_new_issuing)
                    .collect::<Result<_, StoredError>>()?,
            }
        }
        Kind::PrepareJwtAuthority(new) => Operation::PrepareJwtAuthority(Box::new(to_new_jwt(new)?)),
        Kind::ActivateJwtAuthority(id) => Operation::ActivateJwtAuthority { id: authority_id(&id)? },
        Kind::TaintX509Authority(id) => Operation::TaintX509Authority { id: authority_id(&id)? },
        Kind::TaintJwtAuthority(id) => Operation::TaintJwtAuthority { id: authority_id(&id)? },
        Kind::RevokeX509Authority(id) => Operation::RevokeX509Authority { id: authority_id(&id)? },
        Kind::RevokeJwtAuthority(id) => Operation::RevokeJwtAuthority { id: authority_id(&id)? },
        Kind::PruneAuthorities(StoredNothing {}) => Operation::PruneAuthorities,
        Kind::RecordIssuingCertificate(new) => Operation::RecordIssuingCertificate(Box::new(to_new_issuing(new)?)),
        Kind::RevokeIssuingCertificate(StoredRevokeIssuing { member, serial: bytes }) => {
            Operation::RevokeIssuingCertificate {
                member: member_number(member)?,
                serial: bytes.as_ref().map(serial).transpose()?,
            }
        }
        Kind::SetMember(stored) => Operation::SetMember {
            number: stored.number.map(member_number).transpose()?,
            member: Box::new(to_record(present(stored.member, "member record")?)?),
        },
        Kind::CreateInvitation(new) => Operation::CreateInvitation(Box::new(to_invitation(*new)?)),
        Kind::DeleteInvitation(name) => Operation::DeleteInvitation { name: node_name(&name)? },
        Kind::AdmitMember(admission) => Operation::AdmitMember(Box::new(to_admission(*admission)?)),
        Kind::AnnounceMember(StoredAnnouncement { number, addresses, version, build, serves }) => {
            at_most(&addresses, ADDRESSES_PER_MEMBER, "addresses of a member")?;
            let (number, serves) = (member_number(number)?, to_services(serves));
            Operation::AnnounceMember { number, addresses, version, build, serves }
        }
        Kind::SetMemberRole(role) => to_role(role)?,
        Kind::RemoveMember(StoredRemoval { number, compromised }) => {
            Operation::RemoveMember { number: member_number(number)?, compromised }
        }
        Kind::CompleteRemoval(number) => Operation::CompleteRemoval { number: member_number(number)? },
        Kind::SealX509Authority(seals) => {
            let (id, parts) = to_seals(seals)?;
            Operation::SealX509Authority { id, parts }
        }
        Kind::SealJwtAuthority(seals) => {
            let (id, parts) = to_seals(seals)?;
            Operation::SealJwtAuthority { id, parts }
        }
        Kind::StripSeals(number) => Operation::StripSeals { number: member_number(number)? },
        Kind::SetRecoveryKey(StoredSetRecoveryKey { public_key }) => Operation::SetRecoveryKey { public_key },
        Kind::SetPlan(plan) => Operation::SetPlan(to_plan(plan)),
        Kind::RaiseEpoch(StoredNothing {}) => Operation::RaiseEpoch,
        Kind::RaiseVersion(version) => Operation::RaiseVersion { version },
        Kind::ResetTime(time) => Operation::ResetTime { time: UnixMillis(time) },
        Kind::Revoke(new) => Operation::Revoke(Box::new(to_new_revocation(new)?)),
        Kind::RemoveRevocation(number) => Operation::RemoveRevocation { number },
        Kind::RecordCrl(new) => Operation::RecordCrl(Box::new(to_new_crl(new)?)),
        Kind::ActivateIssuingKey(key) => Operation::ActivateIssuingKey { key: authority_id(&key)? },
        Kind::RevokeIssuingKeys(stored) => to_revoke_keys(stored)?,
        Kind::PruneRevocations(StoredNothing {}) => Operation::PruneRevocations,
        Kind::MarkAuthority(StoredMark { kind, id, compromised }) => Operation::MarkAuthority {
            kind: known(AuthorityKind::from_number(kind), "kind of an authority")?,
            id: authority_id(&id)?,
            compromised,
        },
        Kind::AnchorAudit(stored) => to_new_anchor(&stored)?,
        Kind::Restore(restore) => Operation::Restore(Box::new(to_restore(*restore)?)),
        Kind::CreateRelationship(new) => to_new_relationship(*new)?,
        Kind::UpdateRelationship(update) => to_update_relationship(*update)?,
        Kind::DeleteRelationship(name) => Operation::DeleteRelationship { trust_domain: trust_domain(&name)? },
        Kind::SetForeignBundle(new) => to_new_foreign(*new)?,
        Kind::DeleteForeignBundle(stored) => to_delete_foreign(&stored)?,
        Kind::PutSecret(stored) => to_put_secret(stored)?,
        Kind::DeleteSecret(name) => Operation::DeleteSecret { name: secret_name(&name)? },
        Kind::MarkPublished(StoredPublished { kind, id, confirmed }) => Operation::MarkPublished {
            kind: known(AuthorityKind::from_number(kind), "kind of an authority")?,
            id: authority_id(&id)?,
            confirmed,
        },
        Kind::SealSecret(stored) => to_seal_secret(stored)?,
        Kind::SetAcme(stored) => to_set_acme(stored)?,
        Kind::RequestWebCertificate(domain) => Operation::RequestWebCertificate { domain },
        Kind::BeginWebOrder(stored) => to_begin_web_order(stored)?,
        Kind::SetWebChallenge(stored) => to_set_web_challenge(stored)?,
        Kind::RecordWebCertificate(stored) => to_new_web_certificate(stored)?,
        Kind::FailWebOrder(stored) => to_fail_web_order(stored),
        Kind::SetOidc(stored) => to_set_oidc(stored)?,
        Kind::CreateApiKey(new) => Operation::CreateApiKey(Box::new(to_new_key(*new)?)),
        Kind::RotateApiKey(rotation) => Operation::RotateApiKey(Box::new(to_rotation(*rotation)?)),
        Kind::DeleteApiKey(id) => to_delete_key(&id)?,
        Kind::SetAccessRule(rule) => to_set_rule(*rule)?,
        Kind::SetAccessSettings(anonymous_endpoint) => Operation::SetAccessSettings { anonymous_endpoint },
    })
}

fn from_found(found: &Found) -> StoredFound {
    let Found { cluster_id, trust_domain, policy, member, x509_authority, jwt_authority } = found;
    StoredFound {
        cluster_id: Bytes::copy_from_slice(cluster_id.as_bytes()),
        trust_domain: trust_domain.as_str().to_owned(),
        policy: Some(from_policy(policy)),
        member: Some(from_record(member)),
        x509_authority: Some(from_new_x509(x509_authority)),
        jwt_authority: Some(from_new_jwt(jwt_authority)),
    }
}

fn to_found(stored: StoredFound) -> Result<Found, StoredError> {
    Ok(Found {
        cluster_id: cluster_id(&stored.cluster_id)?,
        trust_domain: trust_domain(&stored.trust_domain)?,
        policy: to_policy(&present(stored.policy, "policy")?)?,
        member: to_record(present(stored.member, "member record")?)?,
        x509_authority: to_new_x509(present(stored.x509_authority, "X.509 authority")?)?,
        jwt_authority: to_new_jwt(present(stored.jwt_authority, "JWT authority")?)?,
    })
}

fn from_new_x509(new: &NewX509Authority) -> StoredNewX509 {
    let NewX509Authority { certificate, crl, sealed, succeeds } = new;
    StoredNewX509 {
        certificate: certificate.clone(),
        crl: crl.clone(),
        sealed: Some(from_sealed(sealed)),
        succeeds: from_succeeds(succeeds.as_ref()),
    }
}

fn to_new_x509(stored: StoredNewX509) -> Result<NewX509Authority, StoredError> {
    let sealed = to_sealed(present(stored.sealed, "sealed key")?)?;
    let succeeds = to_succeeds(stored.succeeds.as_deref())?;
    Ok(NewX509Authority { certificate: stored.certificate, crl: stored.crl, sealed, succeeds })
}

fn from_succeeds(succeeds: Option<&AuthorityId>) -> Option<String> {
    succeeds.map(|id| id.as_str().to_owned())
}

fn to_succeeds(stored: Option<&str>) -> Result<Option<AuthorityId>, StoredError> {
    stored.map(authority_id).transpose()
}

fn from_new_jwt(new: &NewJwtAuthority) -> StoredNewJwt {
    let NewJwtAuthority { id, public_key, validity, sealed, succeeds } = new;
    StoredNewJwt {
        id: id.as_str().to_owned(),
        public_key: public_key.clone(),
        validity: Some(from_validity(*validity)),
        sealed: Some(from_sealed(sealed)),
        succeeds: from_succeeds(succeeds.as_ref()),
    }
}

fn to_new_jwt(stored: StoredNewJwt) -> Result<NewJwtAuthority, StoredError> {
    Ok(NewJwtAuthority {
        id: authority_id(&stored.id)?,
        public_key: stored.public_key,
        validity: to_validity(stored.validity)?,
        sealed: to_sealed(present(stored.sealed, "sealed key")?)?,
        succeeds: to_succeeds(stored.succeeds.as_deref())?,
    })
}

fn from_new_issuing(new: &NewIssuingCertificate) -> StoredNewIssuing {
    let NewIssuingCertificate { member, certificate, crl, boot } = new;
    StoredNewIssuing { member: member.get(), certificate: certificate.clone(), crl: crl.clone(), boot: *boot }
}

fn to_new_issuing(stored: StoredNewIssuing) -> Result<NewIssuingCertificate, StoredError> {
    let StoredNewIssuing { member, certificate, crl, boot } = stored;
    Ok(NewIssuingCertificate { member: member_number(member)?, certificate, crl, boot })
}
