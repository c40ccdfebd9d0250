//! Stored forms: what goes into the log, into snapshots and into the state hash.
//!
//! Every form is a protobuf message whose tags never change meaning. Reading checks everything: bytes that are not what
//! this module wrote are refused with an error, and never make anything panic. Bytes that each version wrote are kept
//! in `tests/stored/` and are never edited.
//!
//! | Version | Date | What |
//! |-|-|-|
//! | 1 | 2026-11-23 | the first |

pub(crate) mod access;
pub(crate) mod authority;
pub(crate) mod canonical;
pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod entry;
pub(crate) mod federation;
pub(crate) mod foreign;
pub(crate) mod member;
pub(crate) mod membership;
mod operation;
pub(crate) mod origin;
pub(crate) mod outcome;
pub(crate) mod policy;
mod restore;
pub(crate) mod revocation;
pub(crate) mod secret;
pub(crate) mod web;

use bytes::Bytes;
use prost::Message;
use quorate_proto_identity::{
    AuthorityId, EntryId, KeyType, MemberNumber, Selector, SelectorSet, SerialNumber, SpiffeId, TrustDomain,
    UnixSeconds, Validity,
};

/// Kinds of objects, as in the state hash and in snapshots. A number is never given to another kind.
pub(crate) mod kind {
    /// What was founded.
    pub(crate) const CLUSTER: u8 = 1;
    /// The policy.
    pub(crate) const POLICY: u8 = 2;
    /// Numbers that only grow.
    pub(crate) const COUNTERS: u8 = 3;
    /// A member.
    pub(crate) const MEMBER: u8 = 4;
    /// A root.
    pub(crate) const X509_AUTHORITY: u8 = 5;
    /// A token key.
    pub(crate) const JWT_AUTHORITY: u8 = 6;
    /// A key of issuing certificates.
    pub(crate) const ISSUING_KEY: u8 = 7;
    /// An issuing certificate.
    pub(crate) const ISSUING_CERTIFICATE: u8 = 8;
    /// An origin of commands.
    pub(crate) const ORIGIN: u8 = 9;
    /// A kept outcome.
    pub(crate) const OUTCOME: u8 = 10;
    /// A registration entry.
    pub(crate) const ENTRY: u8 = 11;
    /// An invitation.
    pub(crate) const INVITATION: u8 = 12;
    /// The plan of the membership.
    pub(crate) const PLAN: u8 = 13;
    /// The recovery key.
    pub(crate) const RECOVERY_KEY: u8 = 14;
    /// A revocation.
    pub(crate) const REVOCATION: u8 = 15;
    /// A leaf in a CRL.
    pub(crate) const REVOKED_LEAF: u8 = 16;
    /// An anchor of a member's audit log.
    pub(crate) const AUDIT_ANCHOR: u8 = 17;
    /// A relationship with a foreign trust domain.
    pub(crate) const RELATIONSHIP: u8 = 18;
    /// The bundle of a foreign trust domain.
    pub(crate) const FOREIGN_BUNDLE: u8 = 19;
    /// A secret that every member may open.
    pub(crate) const SECRET: u8 = 20;
    /// An API key.
    pub(crate) const API_KEY: u8 = 80;
    /// An access rule.
    pub(crate) const ACCESS_RULE: u8 = 81;
    /// Settings of access.
    pub(crate) const ACCESS_SETTINGS: u8 = 82;
    /// The ACME settings.
    pub(crate) const ACME: u8 = 90;
    /// A domain of web certificates.
    pub(crate) const WEB_DOMAIN: u8 = 91;
    /// The OpenID Connect discovery provider.
    pub(crate) const OIDC: u8 = 92;
}

/// Why stored bytes are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// They are not a message of that form: damaged, or something else altogether.
    #[error("the stored bytes are damaged")]
    Malformed(#[from] prost::DecodeError),
    /// Something that is always written is not there.
    #[error("stored {what} is missing")]
    Missing {
        /// What is not there.
        what: &'static str,
    },
    /// A value that was never written.
    #[error("stored {what} is not valid: {reason}")]
    Value {
        /// What it should have been.
        what: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// Written by a newer version, in a form that this one cannot read. Upgrade this node.
    #[error("written in format {format}, this version reads up to {known}: upgrade this node")]
    NewerFormat {
        /// The format of the bytes.
        format: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// Only a newer version can apply this command. Upgrade this node.
    #[error("the command needs version {needed} to be applied, this is version {have}: upgrade this node")]
    NeedsVersion {
        /// The least version that can apply it.
        needed: u32,
        /// The version of this program.
        have: u32,
    },
    /// The command needs a version that the cluster has not switched on. Upgrade every node, then switch it on.
    #[error(
        "the command needs version {needed}, the cluster works by version {have}: upgrade every node, then switch that \
         version on"
    )]
    NotSwitchedOn {
        /// The least version that can apply it.
        needed: u32,
        /// The version that the cluster works by.
        have: u32,
    },
    /// There is more in it than this version understands: a newer one wrote it. Upgrade this node.
    #[error("the stored {what} holds something that this version does not know: upgrade this node")]
    NotUnderstood {
        /// What it is.
        what: &'static str,
    },
    /// More than the named limit.
    #[error("stored {what}: {length}, the most is {limit}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        length: usize,
        /// How much there may be.
        limit: usize,
    },
}

/// The canonical bytes of a message: fields in the order of their tags, nothing written that has its default.
pub(crate) fn to_bytes(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

pub(crate) fn present<T>(value: Option<T>, what: &'static str) -> Result<T, StoredError> {
    value.ok_or(StoredError::Missing { what })
}

pub(crate) fn valid<T, E: ToString>(value: Result<T, E>, what: &'static str) -> Result<T, StoredError> {
    value.map_err(|error| StoredError::Value { what, reason: error.to_string() })
}

pub(crate) fn known<T>(value: Option<T>, what: &'static str) -> Result<T, StoredError> {
    value.ok_or_else(|| StoredError::Value { what, reason: "the number stands for nothing".to_owned() })
}

pub(crate) fn at_most<T>(list: &[T], limit: usize, what: &'static str) -> Result<(), StoredError> {
    if list.len() > limit {
        return Err(StoredError::TooMuch { what, length: list.len(), limit });
    }
    Ok(())
}

pub(crate) fn trust_domain(text: &str) -> Result<TrustDomain, StoredError> {
    valid(TrustDomain::new(text), "trust domain")
}

pub(crate) fn spiffe_id(text: &str, what: &'static str) -> Result<SpiffeId, StoredError> {
    valid(SpiffeId::parse(text), what)
}

pub(crate) fn entry_id(text: &str) -> Result<EntryId, StoredError> {
    valid(EntryId::new(text), "entry ID")
}

pub(crate) fn authority_id(text: &str) -> Result<AuthorityId, StoredError> {
    valid(AuthorityId::new(text), "authority ID")
}

pub(crate) fn member_number(number: u64) -> Result<MemberNumber, StoredError> {
    known(MemberNumber::new(number), "member number")
}

pub(crate) fn key_type(text: &str) -> Result<KeyType, StoredError> {
    valid(text.parse(), "key type")
}

pub(crate) fn serial(bytes: &Bytes) -> Result<SerialNumber, StoredError> {
    let what = "serial number";
    let bytes = valid(<[u8; 16]>::try_from(bytes.as_ref()), what)?;
    valid(SerialNumber::new(bytes), what)
}

pub(crate) fn serial_bytes(serial: SerialNumber) -> Bytes {
    Bytes::copy_from_slice(serial.as_bytes())
}

pub(crate) fn validity(not_before: i64, not_after: i64) -> Result<Validity, StoredError> {
    valid(Validity::new(UnixSeconds(not_before), UnixSeconds(not_after)), "validity")
}

pub(crate) fn selectors(texts: &[String]) -> Result<SelectorSet, StoredError> {
    texts.iter().map(|text| valid(Selector::parse(text), "selector")).collect()
}

pub(crate) fn selector_texts(selectors: &SelectorSet) -> Vec<String> {
    selectors.iter().map(|selector| selector.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests;
