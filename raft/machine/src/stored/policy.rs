//! Stored form of the policy. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::Message;

use super::{StoredError, key_type, kind, known, present, to_bytes};
use crate::objects::Object;
use crate::policy::{AuditIssuance, CrlMode, NetworkProfile, Policy, Publication};
use crate::state::PolicyRecord;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredPolicy {
    #[prost(uint32, tag = "1")]
    root_lifetime: u32,
    #[prost(uint32, tag = "2")]
    issuing_lifetime: u32,
    #[prost(uint32, tag = "3")]
    x509_svid_lifetime: u32,
    #[prost(uint32, tag = "4")]
    jwt_key_lifetime: u32,
    #[prost(uint32, tag = "5")]
    jwt_svid_lifetime: u32,
    #[prost(uint32, tag = "6")]
    refresh_hint: u32,
    #[prost(string, tag = "7")]
    root_key_type: String,
    #[prost(string, tag = "8")]
    issuing_key_type: String,
    #[prost(string, tag = "9")]
    x509_svid_key_type: String,
    #[prost(string, tag = "10")]
    jwt_key_type: String,
    #[prost(uint32, tag = "11")]
    network: u32,
    #[prost(uint32, tag = "12")]
    crl_mode: u32,
    #[prost(uint32, tag = "13")]
    crl_settle: u32,
    #[prost(uint32, tag = "14")]
    publication_time: u32,
    #[prost(uint32, tag = "15")]
    audit_issuance: u32,
    #[prost(uint32, tag = "16")]
    publication: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPolicyRecord {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    policy: Option<StoredPolicy>,
}

pub(crate) fn from_policy(policy: &Policy) -> StoredPolicy {
    let Policy {
        root_lifetime,
        issuing_lifetime,
        x509_svid_lifetime,
        jwt_key_lifetime,
        jwt_svid_lifetime,
        refresh_hint,
        root_key_type,
        issuing_key_type,
        x509_svid_key_type,
        jwt_key_type,
        network,
        crl_mode,
        crl_settle,
        publication_time,
        audit_issuance,
        publication,
    } = *policy;
    StoredPolicy {
        root_lifetime,
        issuing_lifetime,
        x509_svid_lifetime,
        jwt_key_lifetime,
        jwt_svid_lifetime,
        refresh_hint,
        root_key_type: root_key_type.as_str().to_owned(),
        issuing_key_type: issuing_key_type.as_str().to_owned(),
        x509_svid_key_type: x509_svid_key_type.as_str().to_owned(),
        jwt_key_type: jwt_key_type.as_str().to_owned(),
        network: network as u32,
        crl_mode: crl_mode as u32,
        crl_settle,
        publication_time,
        audit_issuance: audit_issuance as u32,
        publication: publication as u32,
    }
}

pub(crate) fn to_policy(stored: &StoredPolicy) -> Result<Policy, StoredError> {
    Ok(Policy {
        root_lifetime: stored.root_lifetime,
        issuing_lifetime: stored.issuing_lifetime,
        x509_svid_lifetime: stored.x509_svid_lifetime,
        jwt_key_lifetime: stored.jwt_key_lifetime,
        jwt_svid_lifetime: stored.jwt_svid_lifetime,
        refresh_hint: stored.refresh_hint,
        root_key_type: key_type(&stored.root_key_type)?,
        issuing_key_type: key_type(&stored.issuing_key_type)?,
        x509_svid_key_type: key_type(&stored.x509_svid_key_type)?,
        jwt_key_type: key_type(&stored.jwt_key_type)?,
        network: known(NetworkProfile::from_number(stored.network), "network profile")?,
        crl_mode: known(CrlMode::from_number(stored.crl_mode), "mode of CRLs")?,
        crl_settle: stored.crl_settle,
        publication_time: stored.publication_time,
        audit_issuance: known(AuditIssuance::from_number(stored.audit_issuance), "audit of issuance")?,
        publication: known(Publication::from_number(stored.publication), "way of publication")?,
    })
}

impl Object for PolicyRecord {
    const KIND: u8 = kind::POLICY;

    fn stored(&self) -> Vec<u8> {
        let Self { revision, policy } = self;
        to_bytes(&StoredPolicyRecord { revision: *revision, policy: Some(from_policy(policy)) })
    }
}

pub(crate) fn decode(bytes: Bytes) -> Result<PolicyRecord, StoredError> {
    let stored = StoredPolicyRecord::decode(bytes)?;
    Ok(PolicyRecord { revision: stored.revision, policy: to_policy(&present(stored.policy, "policy")?)? })
}
