//! Stored forms of what concerns the membership: invitations, admissions, the plan, the recovery key, and the operations
//! that need more than a number. Version 1, 2026-11-23.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use quorate_proto_identity::{NodeName, UnixSeconds};

use super::authority::{StoredPart, from_part, to_part};
use super::member::{StoredServices, incarnation, incarnation_bytes};
use super::{StoredError, at_most, authority_id, kind, known, member_number, present, to_bytes, valid};
use crate::authority::SEALED_RECIPIENTS_LIMIT;
use crate::command::Operation;
use crate::invitation::{Admission, Invitation, NewInvitation, SecretHash};
use crate::members::MemberRole;
use crate::objects::Object;
use crate::plan::MembershipPlan;
use crate::recovery::RecoveryKey;

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredNewInvitation {
    #[prost(bytes = "bytes", tag = "1")]
    secret_hash: Bytes,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, optional, tag = "3")]
    role: Option<u32>,
    #[prost(string, tag = "4")]
    region: String,
    #[prost(string, tag = "5")]
    zone: String,
    #[prost(btree_map = "string, string", tag = "6")]
    labels: BTreeMap<String, String>,
    #[prost(int64, tag = "7")]
    expires_at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredInvitation {
    #[prost(message, optional, tag = "1")]
    invitation: Option<StoredNewInvitation>,
    #[prost(int64, tag = "2")]
    created_at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredAdmission {
    #[prost(bytes = "bytes", optional, tag = "1")]
    secret_hash: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "2")]
    incarnation: Bytes,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bytes = "bytes", tag = "4")]
    identity_key: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    sealing_key: Bytes,
    #[prost(string, repeated, tag = "6")]
    addresses: Vec<String>,
    #[prost(uint32, tag = "7")]
    version: u32,
    #[prost(string, tag = "8")]
    build: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredAnnouncement {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(string, repeated, tag = "2")]
    pub(super) addresses: Vec<String>,
    #[prost(uint32, tag = "3")]
    pub(super) version: u32,
    #[prost(string, tag = "4")]
    pub(super) build: String,
    #[prost(message, optional, tag = "5")]
    pub(super) serves: Option<StoredServices>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StoredSetRole {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint32, tag = "2")]
    role: u32,
    #[prost(bool, tag = "3")]
    pinned: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StoredRemoval {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(bool, tag = "2")]
    pub(super) compromised: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSeals {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, repeated, tag = "2")]
    parts: Vec<StoredPart>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSetRecoveryKey {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) public_key: Option<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StoredPlan {
    #[prost(uint32, tag = "1")]
    voters: u32,
    #[prost(uint32, tag = "2")]
    dead_voter_grace: u32,
    #[prost(bool, tag = "3")]
    automatic: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRecoveryKey {
    #[prost(bytes = "bytes", tag = "1")]
    public_key: Bytes,
    #[prost(int64, tag = "2")]
    set_at: i64,
}

pub(super) fn node_name(text: &str) -> Result<NodeName, StoredError> {
    valid(NodeName::new(text), "node name")
}

pub(super) fn role(number: u32) -> Result<MemberRole, StoredError> {
    known(MemberRole::from_number(number), "member role")
}

pub(super) fn secret_hash(bytes: &Bytes) -> Result<SecretHash, StoredError> {
    valid(SecretHash::try_from(bytes.as_ref()), "hash of a secret")
}

pub(super) fn from_invitation(new: &NewInvitation) -> StoredNewInvitation {
    let NewInvitation { secret_hash, name, role, region, zone, labels, expires_at } = new.clone();
    StoredNewInvitation {
        secret_hash: Bytes::copy_from_slice(&secret_hash),
        name: name.as_str().to_owned(),
        role: role.map(|role| role as u32),
        region,
        zone,
        labels,
        expires_at: expires_at.0,
    }
}

pub(super) fn to_invitation(stored: StoredNewInvitation) -> Result<NewInvitation, StoredError> {
    Ok(NewInvitation {
        secret_hash: secret_hash(&stored.secret_hash)?,
        name: node_name(&stored.name)?,
        role: stored.role.map(role).transpose()?,
        region: stored.region,
        zone: stored.zone,
        labels: stored.labels,
        expires_at: UnixSeconds(stored.expires_at),
    })
}

impl Object for Invitation {
    const KIND: u8 = kind::INVITATION;

    fn stored(&self) -> Vec<u8> {
        let Self { invitation, created_at } = self;
        to_bytes(&StoredInvitation { invitation: Some(from_invitation(invitation)), created_at: created_at.0 })
    }
}

pub(crate) fn decode_invitation(bytes: Bytes) -> Result<Invitation, StoredError> {
    let stored = StoredInvitation::decode(bytes)?;
    Ok(Invitation {
        invitation: to_invitation(present(stored.invitation, "invitation")?)?,
        created_at: UnixSeconds(stored.created_at),
    })
}

pub(super) fn from_admission(admission: &Admission) -> StoredAdmission {
    let Admission { secret_hash, incarnation, name, identity_key, sealing_key, addresses, version, build } =
        admission.clone();
    StoredAdmission {
        secret_hash: secret_hash.map(|hash| Bytes::copy_from_slice(&hash)),
        incarnation: incarnation_bytes(Some(incarnation)),
        name: name.as_str().to_owned(),
        identity_key,
        sealing_key,
        addresses,
        version,
        build,
    }
}

pub(super) fn to_admission(stored: StoredAdmission) -> Result<Admission, StoredError> {
    Ok(Admission {
        secret_hash: stored.secret_hash.as_ref().map(secret_hash).transpose()?,
        incarnation: present(incarnation(&stored.incarnation)?, "incarnation of a newcomer")?,
        name: node_name(&stored.name)?,
        identity_key: stored.identity_key,
        sealing_key: stored.sealing_key,
        addresses: stored.addresses,
        version: stored.version,
        build: stored.build,
    })
}

pub(super) const fn from_role(number: u64, role: MemberRole, pinned: bool) -> StoredSetRole {
    StoredSetRole { number, role: role as u32, pinned }
}

pub(super) fn to_role(stored: StoredSetRole) -> Result<Operation, StoredError> {
    let StoredSetRole { number, role: to, pinned } = stored;
    Ok(Operation::SetMemberRole { number: member_number(number)?, role: role(to)?, pinned })
}

pub(super) fn from_seals(
    id: &quorate_proto_identity::AuthorityId,
    parts: &[crate::authority::SealedFor],
) -> StoredSeals {
    StoredSeals { id: id.as_str().to_owned(), parts: parts.iter().map(from_part).collect() }
}

/// The authority, and the parts to add to its seals.
pub(super) fn to_seals(
    stored: StoredSeals,
) -> Result<(quorate_proto_identity::AuthorityId, Vec<crate::authority::SealedFor>), StoredError> {
    at_most(&stored.parts, SEALED_RECIPIENTS_LIMIT, "recipients of a sealed key")?;
    let parts = stored.parts.into_iter().map(to_part).collect::<Result<_, StoredError>>()?;
    Ok((authority_id(&stored.id)?, parts))
}

pub(super) const fn from_plan(plan: MembershipPlan) -> StoredPlan {
    let MembershipPlan { voters, dead_voter_grace, automatic } = plan;
    StoredPlan { voters, dead_voter_grace, automatic }
}

pub(super) const fn to_plan(stored: StoredPlan) -> MembershipPlan {
    let StoredPlan { voters, dead_voter_grace, automatic } = stored;
    MembershipPlan { voters, dead_voter_grace, automatic }
}

impl Object for MembershipPlan {
    const KIND: u8 = kind::PLAN;

    fn stored(&self) -> Vec<u8> {
        to_bytes(&from_plan(*self))
    }
}

pub(crate) fn decode_plan(bytes: Bytes) -> Result<MembershipPlan, StoredError> {
    Ok(to_plan(StoredPlan::decode(bytes)?))
}

impl Object for RecoveryKey {
    const KIND: u8 = kind::RECOVERY_KEY;

    fn stored(&self) -> Vec<u8> {
        // The ID follows from the key.
        let Self { id: _, public_key, set_at } = self;
        to_bytes(&StoredRecoveryKey { public_key: public_key.clone(), set_at: set_at.0 })
    }
}

pub(crate) fn decode_recovery_key(bytes: Bytes) -> Result<RecoveryKey, StoredError> {
    let StoredRecoveryKey { public_key, set_at } = StoredRecoveryKey::decode(bytes)?;
    Ok(RecoveryKey::new(public_key, UnixSeconds(set_at)))
}
