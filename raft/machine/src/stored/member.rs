//! Stored form of a member. Version 1, 2026-11-23.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use quorate_proto_identity::NodeName;

use super::membership::secret_hash;
use super::{StoredError, kind, known, member_number, present, to_bytes, valid};
use crate::members::{Incarnation, Member, MemberDraft, MemberRole, MemberServices, MemberStatus};
use crate::objects::Object;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredMemberRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    identity_key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    sealing_key: Bytes,
    #[prost(string, tag = "4")]
    region: String,
    #[prost(string, tag = "5")]
    zone: String,
    #[prost(btree_map = "string, string", tag = "6")]
    labels: BTreeMap<String, String>,
    #[prost(string, repeated, tag = "7")]
    addresses: Vec<String>,
    #[prost(uint32, tag = "8")]
    version: u32,
    #[prost(string, tag = "9")]
    build: String,
    #[prost(uint32, tag = "10")]
    role: u32,
    #[prost(uint32, tag = "11")]
    status: u32,
    #[prost(bytes = "bytes", tag = "12")]
    incarnation: Bytes,
    #[prost(bool, tag = "13")]
    role_pinned: bool,
    /// Not there when it serves nothing.
    #[prost(message, optional, tag = "14")]
    serves: Option<StoredServices>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredServices {
    #[prost(string, optional, tag = "1")]
    bundle_endpoint: Option<String>,
    #[prost(string, optional, tag = "2")]
    federation_api: Option<String>,
    #[prost(string, optional, tag = "3")]
    oidc: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMember {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(message, optional, tag = "3")]
    record: Option<StoredMemberRecord>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    invitation: Option<Bytes>,
}

/// A data directory; empty bytes stand for none.
pub(super) fn incarnation_bytes(incarnation: Option<Incarnation>) -> Bytes {
    incarnation.map(|incarnation| Bytes::copy_from_slice(&incarnation)).unwrap_or_default()
}

pub(super) fn incarnation(bytes: &Bytes) -> Result<Option<Incarnation>, StoredError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    valid(Incarnation::try_from(bytes.as_ref()), "incarnation of a member").map(Some)
}

/// Services; none of them are stored as nothing.
pub(super) fn from_services(serves: &MemberServices) -> Option<StoredServices> {
    let MemberServices { bundle_endpoint, federation_api, oidc } = serves.clone();
    (*serves != MemberServices::default()).then_some(StoredServices { bundle_endpoint, federation_api, oidc })
}

pub(super) fn to_services(stored: Option<StoredServices>) -> MemberServices {
    let StoredServices { bundle_endpoint, federation_api, oidc } = stored.unwrap_or_default();
    MemberServices { bundle_endpoint, federation_api, oidc }
}

pub(crate) fn from_record(record: &MemberDraft) -> StoredMemberRecord {
    let MemberDraft {
        name,
        identity_key,
        sealing_key,
        incarnation,
        region,
        zone,
        labels,
        addresses,
        version,
        build,
        role,
        role_pinned,
        status,
        serves,
    } = record.clone();
    StoredMemberRecord {
        name: name.as_str().to_owned(),
        identity_key,
        sealing_key,
        region,
        zone,
        labels,
        addresses,
        version,
        build,
        role: role as u32,
        status: status as u32,
        incarnation: incarnation_bytes(incarnation),
        role_pinned,
        serves: from_services(&serves),
    }
}

pub(crate) fn to_record(stored: StoredMemberRecord) -> Result<MemberDraft, StoredError> {
    Ok(MemberDraft {
        name: valid(NodeName::new(&stored.name), "node name")?,
        identity_key: stored.identity_key,
        sealing_key: stored.sealing_key,
        region: stored.region,
        zone: stored.zone,
        labels: stored.labels,
        addresses: stored.addresses,
        version: stored.version,
        build: stored.build,
        role: known(MemberRole::from_number(stored.role), "member role")?,
        status: known(MemberStatus::from_number(stored.status), "member status")?,
        incarnation: incarnation(&stored.incarnation)?,
        role_pinned: stored.role_pinned,
        serves: to_services(stored.serves),
    })
}

impl Object for Member {
    const KIND: u8 = kind::MEMBER;

    fn stored(&self) -> Vec<u8> {
        let Self { number, revision, record, invitation } = self;
        to_bytes(&StoredMember {
            number: number.get(),
            revision: *revision,
            record: Some(from_record(record)),
            invitation: invitation.map(|hash| Bytes::copy_from_slice(&hash)),
        })
    }
}

pub(crate) fn decode(bytes: Bytes) -> Result<Member, StoredError> {
    let stored = StoredMember::decode(bytes)?;
    Ok(Member {
        number: member_number(stored.number)?,
        revision: stored.revision,
        record: to_record(present(stored.record, "member record")?)?,
        invitation: stored.invitation.as_ref().map(secret_hash).transpose()?,
    })
}
