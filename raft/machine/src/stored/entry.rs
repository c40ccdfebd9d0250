//! Stored forms of entries, drafts and changes. Version 1, 2026-11-23.
//!
//! An entry keeps the paths of its SPIFFE IDs only: they lie in the trust domain of the state. A draft or change keeps
//! them whole, because refusing a foreign one is for `apply`.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use quorate_proto_identity::{Selector, SelectorSet, SpiffeId, TrustDomain, UnixSeconds};

use super::{StoredError, at_most, entry_id, kind, present, selector_texts, selectors, spiffe_id, trust_domain, valid};
use crate::entry::{AdditionalAttributes, DNS_NAMES_PER_ENTRY, Entry, EntryChange, EntryDraft, SELECTORS_PER_ENTRY};
use crate::objects::Object;

/// What is read; texts stay where they are in the bytes. [`Entry::stored`] writes it.
#[derive(Clone, PartialEq, Message)]
struct StoredEntry {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    spiffe_path: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    parent_path: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    selectors: Vec<Bytes>,
    #[prost(uint32, tag = "5")]
    x509_svid_ttl: u32,
    #[prost(uint32, tag = "6")]
    jwt_svid_ttl: u32,
    #[prost(string, repeated, tag = "7")]
    federates_with: Vec<String>,
    #[prost(bool, tag = "8")]
    admin: bool,
    #[prost(bool, tag = "9")]
    downstream: bool,
    #[prost(int64, optional, tag = "10")]
    expires_at: Option<i64>,
    #[prost(string, repeated, tag = "11")]
    dns_names: Vec<String>,
    #[prost(uint64, tag = "12")]
    revision_number: u64,
    #[prost(bool, tag = "13")]
    store_svid: bool,
    #[prost(string, tag = "14")]
    hint: String,
    #[prost(int64, tag = "15")]
    created_at: i64,
    #[prost(message, optional, tag = "16")]
    additional_attributes: Option<StoredAttributes>,
    #[prost(uint64, tag = "17")]
    creation_number: u64,
    #[prost(bool, tag = "18")]
    crl_per_domain: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredAttributes {
    #[prost(bool, tag = "1")]
    disable_x509_svid_prefetch: bool,
    #[prost(bool, tag = "2")]
    jwt_svid_include_jti: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredDraft {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    spiffe_id: String,
    #[prost(string, tag = "3")]
    parent_id: String,
    #[prost(string, repeated, tag = "4")]
    selectors: Vec<String>,
    #[prost(uint32, tag = "5")]
    x509_svid_ttl: u32,
    #[prost(uint32, tag = "6")]
    jwt_svid_ttl: u32,
    #[prost(string, repeated, tag = "7")]
    federates_with: Vec<String>,
    #[prost(bool, tag = "8")]
    admin: bool,
    #[prost(bool, tag = "9")]
    downstream: bool,
    #[prost(int64, optional, tag = "10")]
    expires_at: Option<i64>,
    #[prost(string, repeated, tag = "11")]
    dns_names: Vec<String>,
    #[prost(bool, tag = "12")]
    store_svid: bool,
    #[prost(string, tag = "13")]
    hint: String,
    #[prost(message, optional, tag = "14")]
    additional_attributes: Option<StoredAttributes>,
    #[prost(bool, tag = "15")]
    crl_per_domain: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredChange {
    #[prost(string, optional, tag = "1")]
    spiffe_id: Option<String>,
    #[prost(string, optional, tag = "2")]
    parent_id: Option<String>,
    #[prost(message, optional, tag = "3")]
    selectors: Option<StoredTexts>,
    #[prost(uint32, optional, tag = "4")]
    x509_svid_ttl: Option<u32>,
    #[prost(uint32, optional, tag = "5")]
    jwt_svid_ttl: Option<u32>,
    #[prost(message, optional, tag = "6")]
    federates_with: Option<StoredTexts>,
    #[prost(bool, optional, tag = "7")]
    admin: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    downstream: Option<bool>,
    #[prost(message, optional, tag = "9")]
    expires_at: Option<StoredExpiry>,
    #[prost(message, optional, tag = "10")]
    dns_names: Option<StoredTexts>,
    #[prost(bool, optional, tag = "11")]
    store_svid: Option<bool>,
    #[prost(string, optional, tag = "12")]
    hint: Option<String>,
    #[prost(message, optional, tag = "13")]
    additional_attributes: Option<StoredAttributesChange>,
    #[prost(bool, optional, tag = "14")]
    crl_per_domain: Option<bool>,
}

/// A list that is given, even if it is empty.
#[derive(Clone, PartialEq, Message)]
struct StoredTexts {
    #[prost(string, repeated, tag = "1")]
    texts: Vec<String>,
}

/// A time that is given, even if it is never.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredExpiry {
    #[prost(int64, optional, tag = "1")]
    at: Option<i64>,
}

/// Attributes that are given, even if there are none.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredAttributesChange {
    #[prost(message, optional, tag = "1")]
    attributes: Option<StoredAttributes>,
}

impl Object for Entry {
    const KIND: u8 = kind::ENTRY;

    fn stored(&self) -> Vec<u8> {
        let Self {
            id,
            spiffe_id,
            parent_id,
            selectors,
            x509_svid_ttl,
            jwt_svid_ttl,
            federates_with,
            admin,
            downstream,
            expires_at,
            dns_names,
            revision_number,
            store_svid,
            hint,
            created_at,
            additional_attributes,
            creation_number,
            crl_per_domain,
        } = self;
        // Written by hand, as prost would write a message of strings: this is on the way of every write, and of every
        // entry of a snapshot, and copying ten texts into a message first took longer than the rest.
        let mut bytes = Vec::with_capacity(256);
        put_text(&mut bytes, 1, id.as_str());
        put_text(&mut bytes, 2, spiffe_id.path());
        put_text(&mut bytes, 3, parent_id.path());
        selectors.iter().for_each(|selector| put_bytes(&mut bytes, 4, selector.as_str().as_bytes()));
        put_number(&mut bytes, 5, u64::from(*x509_svid_ttl));
        put_number(&mut bytes, 6, u64::from(*jwt_svid_ttl));
        federates_with.iter().for_each(|domain| put_bytes(&mut bytes, 7, domain.as_str().as_bytes()));
        put_number(&mut bytes, 8, u64::from(*admin));
        put_number(&mut bytes, 9, u64::from(*downstream));
        if let Some(end) = expires_at {
            prost::encoding::int64::encode(10, &end.0, &mut bytes);
        }
        dns_names.iter().for_each(|name| put_bytes(&mut bytes, 11, name.as_bytes()));
        put_number(&mut bytes, 12, *revision_number);
        put_number(&mut bytes, 13, u64::from(*store_svid));
        put_text(&mut bytes, 14, hint);
        put_number(&mut bytes, 15, created_at.0.cast_unsigned());
        if let Some(attributes) = additional_attributes {
            prost::encoding::message::encode(16, &from_attributes(*attributes), &mut bytes);
        }
        put_number(&mut bytes, 17, *creation_number);
        put_number(&mut bytes, 18, u64::from(*crl_per_domain));
        bytes
    }
}

/// A text, unless it is empty.
fn put_text(bytes: &mut Vec<u8>, tag: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(bytes, tag, text.as_bytes());
    }
}

/// A text that is written even if it is empty: one of a list.
fn put_bytes(bytes: &mut Vec<u8>, tag: u32, text: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, bytes);
    encode_varint(u64::try_from(text.len()).unwrap_or(u64::MAX), bytes);
    bytes.extend_from_slice(text);
}

/// A number, unless it is 0.
fn put_number(bytes: &mut Vec<u8>, tag: u32, number: u64) {
    if number != 0 {
        encode_key(tag, WireType::Varint, bytes);
        encode_varint(number, bytes);
    }
}

/// Reads an entry of the state of this trust domain.
pub(crate) fn decode(bytes: Bytes, domain: &TrustDomain) -> Result<Entry, StoredError> {
    let stored = StoredEntry::decode(bytes)?;
    let path = |path: &Bytes, what| valid(SpiffeId::from_path(domain, text(path)?), what);
    Ok(Entry {
        id: entry_id(text(&stored.id)?)?,
        spiffe_id: path(&stored.spiffe_path, "path of an entry's SPIFFE ID")?,
        parent_id: path(&stored.parent_path, "path of an entry's parent")?,
        selectors: entry_selectors(&stored.selectors)?,
        x509_svid_ttl: stored.x509_svid_ttl,
        jwt_svid_ttl: stored.jwt_svid_ttl,
        federates_with: domains(&stored.federates_with)?,
        admin: stored.admin,
        downstream: stored.downstream,
        expires_at: stored.expires_at.map(UnixSeconds),
        dns_names: names(stored.dns_names)?,
        revision_number: stored.revision_number,
        store_svid: stored.store_svid,
        hint: stored.hint,
        created_at: UnixSeconds(stored.created_at),
        additional_attributes: stored.additional_attributes.map(to_attributes),
        creation_number: stored.creation_number,
        crl_per_domain: stored.crl_per_domain,
    })
}

fn text(bytes: &Bytes) -> Result<&str, StoredError> {
    valid(std::str::from_utf8(bytes), "text of an entry")
}

pub(super) fn from_draft(draft: &EntryDraft) -> StoredDraft {
    let EntryDraft {
        id,
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl,
        jwt_svid_ttl,
        federates_with,
        admin,
        downstream,
        expires_at,
        dns_names,
        store_svid,
        hint,
        additional_attributes,
        crl_per_domain,
    } = draft;
    StoredDraft {
        id: id.as_str().to_owned(),
        spiffe_id: spiffe_id.as_str().to_owned(),
        parent_id: parent_id.as_str().to_owned(),
        selectors: selector_texts(selectors),
        x509_svid_ttl: *x509_svid_ttl,
        jwt_svid_ttl: *jwt_svid_ttl,
        federates_with: domain_texts(federates_with),
        admin: *admin,
        downstream: *downstream,
        expires_at: expires_at.map(|at| at.0),
        dns_names: dns_names.clone(),
        store_svid: *store_svid,
        hint: hint.clone(),
        additional_attributes: additional_attributes.map(from_attributes),
        crl_per_domain: *crl_per_domain,
    }
}

pub(super) fn to_draft(stored: StoredDraft) -> Result<EntryDraft, StoredError> {
    Ok(EntryDraft {
        id: entry_id(&stored.id)?,
        spiffe_id: spiffe_id(&stored.spiffe_id, "SPIFFE ID of an entry")?,
        parent_id: spiffe_id(&stored.parent_id, "parent of an entry")?,
        selectors: selectors(&stored.selectors)?,
        x509_svid_ttl: stored.x509_svid_ttl,
        jwt_svid_ttl: stored.jwt_svid_ttl,
        federates_with: domains(&stored.federates_with)?,
        admin: stored.admin,
        downstream: stored.downstream,
        expires_at: stored.expires_at.map(UnixSeconds),
        dns_names: stored.dns_names,
        store_svid: stored.store_svid,
        hint: stored.hint,
        additional_attributes: stored.additional_attributes.map(to_attributes),
        crl_per_domain: stored.crl_per_domain,
    })
}

pub(super) fn from_change(change: &EntryChange) -> StoredChange {
    let EntryChange {
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl,
        jwt_svid_ttl,
        federates_with,
        admin,
        downstream,
        expires_at,
        dns_names,
        store_svid,
        hint,
        additional_attributes,
        crl_per_domain,
    } = change;
    let text = |id: &SpiffeId| id.as_str().to_owned();
    StoredChange {
        spiffe_id: spiffe_id.as_ref().map(text),
        parent_id: parent_id.as_ref().map(text),
        selectors: selectors.as_ref().map(|selectors| StoredTexts { texts: selector_texts(selectors) }),
        x509_svid_ttl: *x509_svid_ttl,
        jwt_svid_ttl: *jwt_svid_ttl,
        federates_with: federates_with.as_ref().map(|domains| StoredTexts { texts: domain_texts(domains) }),
        admin: *admin,
        downstream: *downstream,
        expires_at: expires_at.map(|at| StoredExpiry { at: at.map(|at| at.0) }),
        dns_names: dns_names.as_ref().map(|names| StoredTexts { texts: names.clone() }),
        store_svid: *store_svid,
        hint: hint.clone(),
        additional_attributes: additional_attributes
            .map(|attributes| StoredAttributesChange { attributes: attributes.map(from_attributes) }),
        crl_per_domain: *crl_per_domain,
    }
}

pub(super) fn to_change(stored: StoredChange) -> Result<EntryChange, StoredError> {
    let id = |text: Option<String>, what| text.map(|text| spiffe_id(&text, what)).transpose();
    Ok(EntryChange {
        spiffe_id: id(stored.spiffe_id, "SPIFFE ID of an entry")?,
        parent_id: id(stored.parent_id, "parent of an entry")?,
        selectors: stored.selectors.map(|list| selectors(&list.texts)).transpose()?,
        x509_svid_ttl: stored.x509_svid_ttl,
        jwt_svid_ttl: stored.jwt_svid_ttl,
        federates_with: stored.federates_with.map(|list| domains(&list.texts)).transpose()?,
        admin: stored.admin,
        downstream: stored.downstream,
        expires_at: stored.expires_at.map(|expiry| expiry.at.map(UnixSeconds)),
        dns_names: stored.dns_names.map(|list| list.texts),
        store_svid: stored.store_svid,
        hint: stored.hint,
        additional_attributes: stored.additional_attributes.map(|change| change.attributes.map(to_attributes)),
        crl_per_domain: stored.crl_per_domain,
    })
}

const fn from_attributes(attributes: AdditionalAttributes) -> StoredAttributes {
    let AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti } = attributes;
    StoredAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti }
}

const fn to_attributes(stored: StoredAttributes) -> AdditionalAttributes {
    let StoredAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti } = stored;
    AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti }
}

fn domain_texts(domains: &BTreeSet<TrustDomain>) -> Vec<String> {
    domains.iter().map(|domain| domain.as_str().to_owned()).collect()
}

fn domains(texts: &[String]) -> Result<BTreeSet<TrustDomain>, StoredError> {
    texts.iter().map(|text| trust_domain(text)).collect()
}

/// Selectors of an entry in the state, which `apply` has let through.
fn entry_selectors(stored: &[Bytes]) -> Result<SelectorSet, StoredError> {
    at_most(stored, SELECTORS_PER_ENTRY, "selectors of an entry")?;
    let set: SelectorSet =
        stored.iter().map(|selector| valid(Selector::parse(text(selector)?), "selector")).collect::<Result<_, _>>()?;
    present((!set.is_empty()).then_some(set), "selector of an entry")
}

fn names(names: Vec<String>) -> Result<Vec<String>, StoredError> {
    at_most(&names, DNS_NAMES_PER_ENTRY, "DNS names of an entry")?;
    Ok(names)
}
