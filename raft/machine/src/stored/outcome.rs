//! Stored form of an outcome. Version 1, 2026-11-23.
//!
//! Of a refusal the code is stored here; its message is kept beside, because only the code is the same on members of
//! every version.

use std::slice::Iter;

use bytes::Bytes;
use prost::{Message, Oneof};
use quorate_proto_identity::{TrustDomain, UnixMillis, UnixSeconds};

use super::access::done_id;
use super::membership::node_name;
use super::restore::StoredRestored;
use super::secret::secret_name;
use super::{
    StoredError, at_most, authority_id, entry_id, known, member_number, present, serial, serial_bytes, to_bytes,
    trust_domain,
};
use crate::authority::{AuthorityKind, AuthorityState};
use crate::command::OPERATIONS_PER_COMMAND;
use crate::outcome::{Done, OperationResult, Outcome, REFUSAL_MESSAGE_LIMIT, Refusal, RefusalCode};

#[derive(Clone, PartialEq, Message)]
struct StoredOutcome {
    #[prost(message, repeated, tag = "1")]
    results: Vec<StoredResult>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredResult {
    #[prost(
        oneof = "Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
                27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 80, 81, 82, 90, 91, 92"
    )]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(uint32, tag = "1")]
    Refused(u32),
    #[prost(uint64, tag = "2")]
    Founded(u64),
    #[prost(message, tag = "3")]
    EntryCreated(StoredCreated),
    #[prost(string, tag = "4")]
    EntryExists(String),
    #[prost(message, tag = "5")]
    EntryUpdated(StoredUpdated),
    #[prost(string, tag = "6")]
    EntryDeleted(String),
    #[prost(message, tag = "7")]
    EntriesPruned(StoredPruned),
    #[prost(uint64, tag = "8")]
    PolicySet(u64),
    #[prost(message, tag = "9")]
    AuthorityMoved(StoredMove),
    #[prost(message, tag = "10")]
    AuthoritiesPruned(StoredAuthoritiesPruned),
    #[prost(message, tag = "11")]
    IssuingCertificateRecorded(StoredIssuing),
    #[prost(message, tag = "12")]
    IssuingCertificatesRevoked(StoredRevoked),
    #[prost(uint64, tag = "13")]
    MemberSet(u64),
    #[prost(uint64, tag = "14")]
    MemberAdmitted(u64),
    #[prost(string, tag = "15")]
    InvitationCreated(String),
    #[prost(string, tag = "16")]
    InvitationDeleted(String),
    #[prost(message, tag = "17")]
    MemberLeaving(StoredRevoked),
    #[prost(uint64, tag = "18")]
    MemberGone(u64),
    #[prost(message, tag = "19")]
    AuthoritySealed(StoredSealing),
    #[prost(message, tag = "20")]
    SealsStripped(StoredRevoked),
    #[prost(message, tag = "21")]
    RecoveryKeySet(StoredRecoverySet),
    #[prost(message, tag = "22")]
    PlanSet(StoredNothing),
    #[prost(uint64, tag = "23")]
    EpochRaised(u64),
    #[prost(uint32, tag = "24")]
    VersionRaised(u32),
    #[prost(message, tag = "25")]
    TimeReset(StoredTimes),
    #[prost(uint64, tag = "26")]
    Revoked(u64),
    #[prost(uint64, tag = "27")]
    RevocationRemoved(u64),
    #[prost(string, tag = "28")]
    CrlRecorded(String),
    #[prost(string, tag = "29")]
    IssuingKeyActivated(String),
    #[prost(uint64, tag = "30")]
    IssuingKeysRevoked(u64),
    #[prost(message, tag = "31")]
    RevocationsPruned(StoredRevocationsPruned),
    #[prost(message, tag = "32")]
    AuthorityMarked(StoredMarked),
    #[prost(message, tag = "33")]
    AuditAnchored(StoredRevoked),
    /// A deletion that revoked what was issued; one that did not is of the kind of tag 6.
    #[prost(message, tag = "34")]
    EntryDeletedAndRevoked(StoredDeletion),
    #[prost(message, tag = "35")]
    Restored(StoredRestored),
    #[prost(message, tag = "36")]
    RelationshipSet(StoredForeignResult),
    #[prost(message, tag = "37")]
    RelationshipDeleted(StoredForeignResult),
    #[prost(message, tag = "38")]
    ForeignBundleSet(StoredForeignResult),
    #[prost(message, tag = "39")]
    ForeignBundleDeleted(StoredForeignResult),
    #[prost(message, tag = "40")]
    SecretPut(StoredSecretResult),
    #[prost(string, tag = "41")]
    SecretDeleted(String),
    #[prost(message, tag = "42")]
    SecretSealed(StoredSecretResult),
    #[prost(message, tag = "43")]
    AuthorityPublished(StoredPublished),
    #[prost(uint64, tag = "90")]
    AcmeSet(u64),
    #[prost(string, tag = "91")]
    WebDomainChanged(String),
    #[prost(uint64, tag = "92")]
    OidcSet(u64),
    #[prost(message, tag = "80")]
    ApiKeySet(StoredApiKeyDone),
    #[prost(string, tag = "81")]
    ApiKeyDeleted(String),
    #[prost(uint64, tag = "82")]
    AccessSet(u64),
}

/// What came of a relationship or foreign bundle: a number and a word, by the kind of outcome.
#[derive(Clone, PartialEq, Message)]
struct StoredForeignResult {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(bool, tag = "3")]
    flag: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredApiKeyDone {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int64, tag = "2")]
    expires_at: i64,
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

#[derive(Clone, PartialEq, Message)]
struct StoredSecretResult {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    number: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredRevocationsPruned {
    #[prost(uint64, tag = "1")]
    revocations: u64,
    #[prost(uint64, tag = "2")]
    leaves: u64,
    #[prost(bool, tag = "3")]
    more: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMarked {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredDeletion {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(uint64, tag = "2")]
    revocation: u64,
}

/// For what needs no further word.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredNothing {}

#[derive(Clone, PartialEq, Message)]
struct StoredSealing {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(uint64, tag = "3")]
    added: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRecoverySet {
    #[prost(string, optional, tag = "1")]
    id: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredTimes {
    #[prost(int64, tag = "1")]
    before: i64,
    #[prost(int64, tag = "2")]
    after: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredCreated {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(uint64, tag = "2")]
    creation_number: u64,
    #[prost(int64, tag = "3")]
    created_at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredUpdated {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(uint64, tag = "2")]
    revision_number: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredPruned {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(bool, tag = "2")]
    more: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMove {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(uint32, tag = "3")]
    state: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredAuthoritiesPruned {
    #[prost(uint64, tag = "1")]
    x509: u64,
    #[prost(uint64, tag = "2")]
    jwt: u64,
    #[prost(uint64, tag = "3")]
    issuing: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredIssuing {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes = "bytes", tag = "3")]
    serial: Bytes,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredRevoked {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(uint64, tag = "2")]
    count: u64,
}

/// The stored bytes of an outcome, and the messages of its refusals in order.
pub(crate) fn encode(outcome: &Outcome) -> (Vec<u8>, Vec<String>) {
    let bytes = to_bytes(&StoredOutcome { results: outcome.results.iter().map(from_result).collect() });
    let messages = outcome.results.iter().filter_map(|result| result.as_ref().err());
    (bytes, messages.map(|refusal| refusal.message.clone()).collect())
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8], messages: &[String]) -> Result<Outcome, StoredError> {
    let stored = StoredOutcome::decode(bytes)?;
    at_most(&stored.results, OPERATIONS_PER_COMMAND, "results of a command")?;
    let mut messages = messages.iter();
    let mut results = Vec::with_capacity(stored.results.len());
    for result in stored.results {
        results.push(to_result(result, &mut messages)?);
    }
    at_most(messages.as_slice(), 0, "messages of refusals")?;
    Ok(Outcome { results })
}

impl Outcome {
    /// The stored form, in which it also travels to the member that took the command, and the messages of its refusals in
    /// their order, which are no part of what members agree on.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Vec<String>) {
        encode(self)
    }

    /// Reads what [`encode`](Self::encode) gave.
    ///
    /// # Errors
    /// When the bytes are no outcome that this version knows, or the messages do not belong to them.
    pub fn decode(bytes: &[u8], messages: &[String]) -> Result<Self, StoredError> {
        decode(bytes, messages)
    }
}

fn from_result(result: &OperationResult) -> StoredResult {
    let kind = match result {
        Err(Refusal { code, message: _ }) => Kind::Refused(code.number()),
        Ok(done) => from_done(done),
    };
    StoredResult { kind: Some(kind) }
}

fn from_done(done: &Done) -> Kind {
    match done {
        Done::Founded { member } => Kind::Founded(member.get()),
        Done::EntryCreated { id, creation_number, created_at } => Kind::EntryCreated(StoredCreated {
            id: id.as_str().to_owned(),
            creation_number: *creation_number,
            created_at: created_at.0,
        }),
        Done::EntryExists { id } => Kind::EntryExists(id.as_str().to_owned()),
        Done::EntryUpdated { id, revision_number } => {
            Kind::EntryUpdated(StoredUpdated { id: id.as_str().to_owned(), revision_number: *revision_number })
        }
        Done::EntryDeleted { id, revocation: None } => Kind::EntryDeleted(id.as_str().to_owned()),
        Done::EntryDeleted { id, revocation: Some(number) } => {
            Kind::EntryDeletedAndRevoked(StoredDeletion { id: id.as_str().to_owned(), revocation: *number })
        }
        Done::EntriesPruned { count, more } => Kind::EntriesPruned(StoredPruned { count: *count, more: *more }),
        Done::PolicySet { revision } => Kind::PolicySet(*revision),
        Done::AuthorityMoved { kind, id, state } => {
            Kind::AuthorityMoved(StoredMove { kind: *kind as u32, id: id.as_str().to_owned(), state: *state as u32 })
        }
        Done::AuthoritiesPruned { x509, jwt, issuing } => {
            Kind::AuthoritiesPruned(StoredAuthoritiesPruned { x509: *x509, jwt: *jwt, issuing: *issuing })
        }
        Done::IssuingCertificateRecorded { member, key_id, serial } => {
            Kind::IssuingCertificateRecorded(StoredIssuing {
                member: member.get(),
                key_id: key_id.as_str().to_owned(),
                serial: serial_bytes(*serial),
            })
        }
        Done::IssuingCertificatesRevoked { member, count } => {
            Kind::IssuingCertificatesRevoked(StoredRevoked { member: member.get(), count: *count })
        }
        Done::MemberSet { number } => Kind::MemberSet(number.get()),
        Done::MemberAdmitted { number } => Kind::MemberAdmitted(number.get()),
        Done::InvitationCreated { name } => Kind::InvitationCreated(name.as_str().to_owned()),
        Done::InvitationDeleted { name } => Kind::InvitationDeleted(name.as_str().to_owned()),
        Done::MemberLeaving { number, revoked } => {
            Kind::MemberLeaving(StoredRevoked { member: number.get(), count: *revoked })
        }
        Done::MemberGone { number } => Kind::MemberGone(number.get()),
        Done::AuthoritySealed { kind, id, added } => {
            Kind::AuthoritySealed(StoredSealing { kind: *kind as u32, id: id.as_str().to_owned(), added: *added })
        }
        Done::SealsStripped { number, count } => {
            Kind::SealsStripped(StoredRevoked { member: number.get(), count: *count })
        }
        Done::RecoveryKeySet { id } => Kind::RecoveryKeySet(StoredRecoverySet { id: id.clone() }),
        Done::PlanSet => Kind::PlanSet(StoredNothing {}),
        Done::EpochRaised { epoch } => Kind::EpochRaised(*epoch),
        Done::VersionRaised { version } => Kind::VersionRaised(*version),
        Done::TimeReset { before, after } => Kind::TimeReset(StoredTimes { before: before.0, after: after.0 }),
        Done::Revoked { number } => Kind::Revoked(*number),
        Done::RevocationRemoved { number } => Kind::RevocationRemoved(*number),
        Done::CrlRecorded { issuer } => Kind::CrlRecorded(issuer.as_str().to_owned()),
        Done::IssuingKeyActivated { key } => Kind::IssuingKeyActivated(key.as_str().to_owned()),
        Done::IssuingKeysRevoked { certificates } => Kind::IssuingKeysRevoked(*certificates),
        Done::RevocationsPruned { revocations, leaves, more } => {
            Kind::RevocationsPruned(StoredRevocationsPruned { revocations: *revocations, leaves: *leaves, more: *more })
        }
        Done::AuthorityMarked { kind, id } => {
            Kind::AuthorityMarked(StoredMarked { kind: *kind as u32, id: id.as_str().to_owned() })
        }
        Done::AuthorityPublished { kind, id, confirmed } => Kind::AuthorityPublished(StoredPublished {
            kind: *kind as u32,
            id: id.as_str().to_owned(),
            confirmed: *confirmed,
        }),
        Done::AuditAnchored { member, index } => {
            Kind::AuditAnchored(StoredRevoked { member: member.get(), count: *index })
        }
        Done::Restored { member, sequence, revoked } => {
            Kind::Restored(StoredRestored { member: member.get(), sequence: *sequence, revoked: *revoked })
        }
        Done::RelationshipSet { trust_domain, revision } => {
            Kind::RelationshipSet(foreign(trust_domain, *revision, false))
        }
        Done::RelationshipDeleted { trust_domain, bundle } => {
            Kind::RelationshipDeleted(foreign(trust_domain, 0, *bundle))
        }
        Done::ForeignBundleSet { trust_domain, version, changed } => {
            Kind::ForeignBundleSet(foreign(trust_domain, *version, *changed))
        }
        Done::ForeignBundleDeleted { trust_domain, entries, more } => {
            Kind::ForeignBundleDeleted(foreign(trust_domain, *entries, *more))
        }
        Done::SecretPut { name, revision } => {
            Kind::SecretPut(StoredSecretResult { name: name.as_str().to_owned(), number: *revision })
        }
        Done::SecretDeleted { name } => Kind::SecretDeleted(name.as_str().to_owned()),
        Done::AcmeSet { revision } => Kind::AcmeSet(*revision),
        Done::WebDomainChanged { domain } => Kind::WebDomainChanged(domain.clone()),
        Done::OidcSet { revision } => Kind::OidcSet(*revision),
        Done::ApiKeySet { id, expires_at } => {
            Kind::ApiKeySet(StoredApiKeyDone { id: id.as_str().to_owned(), expires_at: expires_at.0 })
        }
        Done::ApiKeyDeleted { id } => Kind::ApiKeyDeleted(id.as_str().to_owned()),
        Done::AccessSet { revision } => Kind::AccessSet(*revision),
        Done::SecretSealed { name, added } => {
            Kind::SecretSealed(StoredSecretResult { name: name.as_str().to_owned(), number: *added })
        }
    }
}

fn foreign(of: &TrustDomain, number: u64, flag: bool) -> StoredForeignResult {
    StoredForeignResult { trust_domain: of.as_str().to_owned(), number, flag }
}

fn to_result(stored: StoredResult, messages: &mut Iter<'_, String>) -> Result<OperationResult, StoredError> {
    let done = match present(stored.kind, "result of an operation")? {
        Kind::Refused(code) => {
            let code = known(RefusalCode::from_number(code), "code of a refusal")?;
            let message = present(messages.next(), "message of a refusal")?;
            at_most(message.as_bytes(), REFUSAL_MESSAGE_LIMIT, "bytes of a refusal's message")?;
            return Ok(Err(Refusal { code, message: message.clone() }));
        }
        Kind::Founded(member) => Done::Founded { member: member_number(member)? },
        Kind::EntryCreated(StoredCreated { id, creation_number, created_at }) => {
            Done::EntryCreated { id: entry_id(&id)?, creation_number, created_at: UnixSeconds(created_at) }
        }
        Kind::EntryExists(id) => Done::EntryExists { id: entry_id(&id)? },
        Kind::EntryUpdated(StoredUpdated { id, revision_number }) => {
            Done::EntryUpdated { id: entry_id(&id)?, revision_number }
        }
        Kind::EntryDeleted(id) => Done::EntryDeleted { id: entry_id(&id)?, revocation: None },
        Kind::EntryDeletedAndRevoked(StoredDeletion { id, revocation }) => {
            Done::EntryDeleted { id: entry_id(&id)?, revocation: Some(revocation) }
        }
        Kind::EntriesPruned(StoredPruned { count, more }) => Done::EntriesPruned { count, more },
        Kind::PolicySet(revision) => Done::PolicySet { revision },
        Kind::AuthorityMoved(StoredMove { kind, id, state }) => Done::AuthorityMoved {
            kind: known(AuthorityKind::from_number(kind), "kind of an authority")?,
            id: authority_id(&id)?,
            state: known(AuthorityState::from_number(state), "state of an authority")?,
        },
        Kind::AuthoritiesPruned(StoredAuthoritiesPruned { x509, jwt, issuing }) => {
            Done::AuthoritiesPruned { x509, jwt, issuing }
        }
        Kind::IssuingCertificateRecorded(StoredIssuing { member, key_id, serial: bytes }) => {
            Done::IssuingCertificateRecorded {
                member: member_number(member)?,
                key_id: authority_id(&key_id)?,
                serial: serial(&bytes)?,
            }
        }
        Kind::IssuingCertificatesRevoked(StoredRevoked { member, count }) => {
            Done::IssuingCertificatesRevoked { member: member_number(member)?, count }
        }
        Kind::MemberSet(number) => Done::MemberSet { number: member_number(number)? },
        Kind::MemberAdmitted(number) => Done::MemberAdmitted { number: member_number(number)? },
        Kind::InvitationCreated(name) => Done::InvitationCreated { name: node_name(&name)? },
        Kind::InvitationDeleted(name) => Done::InvitationDeleted { name: node_name(&name)? },
        Kind::MemberLeaving(StoredRevoked { member, count }) => {
            Done::MemberLeaving { number: member_number(member)?, revoked: count }
        }
        Kind::MemberGone(number) => Done::MemberGone { number: member_number(number)? },
        Kind::AuthoritySealed(StoredSealing { kind, id, added }) => Done::AuthoritySealed {
            kind: known(AuthorityKind::from_number(kind), "kind of an authority")?,
            id: authority_id(&id)?,
            added,
        },
        Kind::SealsStripped(StoredRevoked { member, count }) => {
            Done::SealsStripped { number: member_number(member)?, count }
        }
        Kind::RecoveryKeySet(StoredRecoverySet { id }) => Done::RecoveryKeySet { id },
        Kind::PlanSet(StoredNothing {}) => Done::PlanSet,
        Kind::EpochRaised(epoch) => Done::EpochRaised { epoch },
        Kind::VersionRaised(version) => Done::VersionRaised { version },
        Kind::TimeReset(StoredTimes { before, after }) => {
            Done::TimeReset { before: UnixMillis(before), after: UnixMillis(after) }
        }
        Kind::Revoked(number) => Done::Revoked { number },
        Kind::RevocationRemoved(number) => Done::RevocationRemoved { number },
        Kind::CrlRecorded(issuer) => Done::CrlRecorded { issuer: authority_id(&issuer)? },
        Kind::IssuingKeyActivated(key) => Done::IssuingKeyActivated { key: authority_id(&key)? },
        Kind::IssuingKeysRevoked(certificates) => Done::IssuingKeysRevoked { certificates },
        Kind::RevocationsPruned(StoredRevocationsPruned { revocations, leaves, more }) => {
            Done::RevocationsPruned { revocations, leaves, more }
        }
        Kind::AuthorityMarked(StoredMarked { kind, id }) => Done::AuthorityMarked {
            kind: known(AuthorityKind::from_number(kind), "kind of an authority")?,
            id: authority_id(&id)?,
        },
        Kind::AuthorityPublished(StoredPublished { kind, id, confirmed }) => Done::AuthorityPublished {
            kind: known(AuthorityKind::from_number(kind), "kind of an authority")?,
            id: authority_id(&id)?,
            confirmed,
        },
        Kind::AuditAnchored(StoredRevoked { member, count }) => {
            Done::AuditAnchored { member: member_number(member)?, index: count }
        }
        Kind::Restored(StoredRestored { member, sequence, revoked }) => {
            Done::Restored { member: member_number(member)?, sequence, revoked }
        }
        Kind::RelationshipSet(StoredForeignResult { trust_domain: name, number, flag: _ }) => {
            Done::RelationshipSet { trust_domain: trust_domain(&name)?, revision: number }
        }
        Kind::RelationshipDeleted(StoredForeignResult { trust_domain: name, number: _, flag }) => {
            Done::RelationshipDeleted { trust_domain: trust_domain(&name)?, bundle: flag }
        }
        Kind::ForeignBundleSet(StoredForeignResult { trust_domain: name, number, flag }) => {
            Done::ForeignBundleSet { trust_domain: trust_domain(&name)?, version: number, changed: flag }
        }
        Kind::ForeignBundleDeleted(StoredForeignResult { trust_domain: name, number, flag }) => {
            Done::ForeignBundleDeleted { trust_domain: trust_domain(&name)?, entries: number, more: flag }
        }
        Kind::SecretPut(StoredSecretResult { name, number }) => {
            Done::SecretPut { name: secret_name(&name)?, revision: number }
        }
        Kind::SecretDeleted(name) => Done::SecretDeleted { name: secret_name(&name)? },
        Kind::AcmeSet(revision) => Done::AcmeSet { revision },
        Kind::WebDomainChanged(domain) => Done::WebDomainChanged { domain },
        Kind::OidcSet(revision) => Done::OidcSet { revision },
        Kind::ApiKeySet(StoredApiKeyDone { id, expires_at }) => {
            Done::ApiKeySet { id: done_id(&id)?, expires_at: UnixSeconds(expires_at) }
        }
        Kind::ApiKeyDeleted(id) => Done::ApiKeyDeleted { id: done_id(&id)? },
        Kind::AccessSet(revision) => Done::AccessSet { revision },
        Kind::SecretSealed(StoredSecretResult { name, number }) => {
            Done::SecretSealed { name: secret_name(&name)?, added: number }
        }
    };
    Ok(Ok(done))
}
