//! The form in which the registry keeps an entry: one short record.
//!
//! ```text
//!   creation  flags  [expires at]  ID number  parent number  selectors: count, numbers   <- what lookups read
//!   entry ID  created at  revision  [TTLs]  [hint]  [DNS names]  [federates with]        <- the rest
//! ```
//!
//! Numbers are those of interned texts, in as few bytes as they need. Of the selectors the first is the one under which
//! the entry is listed; the others follow in no order. This form never leaves the process: the stored form of an entry
//! is made from the entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_proto_identity::{EntryId, Selector, SelectorSet, SpiffeId, TrustDomain, UnixSeconds};

use super::chunk::Chunk;
use super::interner::text_in;
use super::parts::EntryParts;
use crate::entry::{AdditionalAttributes, Entry};

const ADMIN: u64 = 1;
const DOWNSTREAM: u64 = 1 << 1;
const STORE_SVID: u64 = 1 << 2;
const X509_SVID_TTL: u64 = 1 << 3;
const JWT_SVID_TTL: u64 = 1 << 4;
const EXPIRES: u64 = 1 << 5;
const HINT: u64 = 1 << 6;
const DNS_NAMES: u64 = 1 << 7;
const FEDERATES_WITH: u64 = 1 << 8;
const ATTRIBUTES: u64 = 1 << 9;
const DISABLE_PREFETCH: u64 = 1 << 10;
const INCLUDE_JTI: u64 = 1 << 11;
const CRL_PER_DOMAIN: u64 = 1 << 12;

/// The texts that records refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts<'a> {
    /// The trust domain of every ID.
    pub(super) trust_domain: &'a TrustDomain,
    /// Paths of SPIFFE IDs.
    pub(super) paths: &'a [Arc<Chunk>],
    /// Selectors.
    pub(super) selectors: &'a [Arc<Chunk>],
}

/// The numbers of an entry's interned texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Of the path of its SPIFFE ID.
    pub(super) spiffe_id: u32,
    /// Of the path of its parent.
    pub(super) parent: u32,
    /// Of its selectors, the one first under which it is listed.
    pub(super) selectors: Vec<u32>,
}

/// What lookups read of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    /// Place in listings.
    pub(super) creation_number: u64,
    /// Number of the path of the SPIFFE ID.
    pub(super) spiffe_id: u32,
    /// Number of the path of the parent.
    pub(super) parent: u32,
    flags: u64,
    expires_at: i64,
    selector_count: u64,
    rest: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads the head of a record.
    pub(super) fn read(mut record: &'a [u8]) -> Option<Self> {
        let bytes = &mut record;
        let creation_number = take_number(bytes)?;
        let flags = take_number(bytes)?;
        let expires_at = if flags & EXPIRES != 0 { take_signed(bytes)? } else { 0 };
        let spiffe_id = take_u32(bytes)?;
        let parent = take_u32(bytes)?;
        let selector_count = take_number(bytes)?;
        Some(Self { creation_number, spiffe_id, parent, flags, expires_at, selector_count, rest: record })
    }

    /// When the entry ends, if ever.
    pub(super) fn expires_at(&self) -> Option<UnixSeconds> {
        (self.flags & EXPIRES != 0).then_some(UnixSeconds(self.expires_at))
    }

    /// Whether the entry has ended.
    pub(super) fn is_expired(&self, now: UnixSeconds) -> bool {
        self.expires_at().is_some_and(|end| end < now)
    }

    /// Whether the entry is for a downstream authority.
    pub(super) const fn is_downstream(&self) -> bool {
        self.flags & DOWNSTREAM != 0
    }

    /// Whether the entry federates with anybody.
    pub(super) const fn is_federated(&self) -> bool {
        self.flags & FEDERATES_WITH != 0
    }

    /// The hint, empty if the entry has none.
    pub(super) fn hint(&self) -> Option<&'a str> {
        if self.flags & HINT == 0 {
            return Some("");
        }
        let mut body = self.body()?;
        let bytes = &mut body;
        take_id(bytes)?;
        take_signed(bytes)?;
        take_number(bytes)?;
        for ttl in [X509_SVID_TTL, JWT_SVID_TTL] {
            if self.flags & ttl != 0 {
                take_number(bytes)?;
            }
        }
        take_text(bytes)
    }

    /// How many selectors the entry has.
    pub(super) fn selector_count(&self) -> usize {
        usize::try_from(self.selector_count).unwrap_or(usize::MAX)
    }

    /// The numbers of its selectors, the one first under which it is listed.
    pub(super) fn selectors(&self) -> impl Iterator<Item = u32> + 'a {
        let mut rest = self.rest;
        (0..self.selector_count).map_while(move |_| take_u32(&mut rest))
    }

    /// The numbers of all its interned texts.
    pub(super) fn numbers(&self) -> Numbers {
        Numbers { spiffe_id: self.spiffe_id, parent: self.parent, selectors: self.selectors().collect() }
    }

    /// What comes after the head.
    fn body(&self) -> Option<&'a [u8]> {
        let mut rest = self.rest;
        for _ in 0..self.selector_count {
            take_number(&mut rest)?;
        }
        Some(rest)
    }

    /// The ID of the entry, in the form in which it is hashed and compared.
    pub(super) fn entry_id(&self) -> Option<IdKey<'a>> {
        take_id(&mut self.body()?)
    }
}

/// An entry ID: 16 bytes if it is a UUID in its usual form, else its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum IdKey<'a> {
    /// Of a UUID in lower case with hyphens.
    Uuid([u8; 16]),
    /// Anything else.
    Text(&'a str),
}

impl<'a> IdKey<'a> {
    /// The key of an ID.
    pub(super) fn of(text: &'a str) -> Self {
        uuid_bytes(text).map_or(Self::Text(text), Self::Uuid)
    }

    /// The ID again.
    pub(super) fn to_id(self) -> Option<EntryId> {
        match self {
            Self::Uuid(bytes) => EntryId::new(&uuid_text(bytes)).ok(),
            Self::Text(text) => EntryId::new(text).ok(),
        }
    }
}

/// Makes the record of an entry.
pub(super) fn pack(entry: &EntryParts<'_>, numbers: &Numbers) -> Vec<u8> {
    let mut record = Vec::with_capacity(64);
    let record_ref = &mut record;
    let flags = flags_of(entry);
    put_number(record_ref, entry.creation_number);
    put_number(record_ref, flags);
    if let Some(end) = entry.expires_at {
        put_signed(record_ref, end);
    }
    put_number(record_ref, u64::from(numbers.spiffe_id));
    put_number(record_ref, u64::from(numbers.parent));
    put_length(record_ref, numbers.selectors.len());
    for selector in &numbers.selectors {
        put_number(record_ref, u64::from(*selector));
    }
    put_id(record_ref, IdKey::of(entry.id));
    put_signed(record_ref, entry.created_at);
    put_number(record_ref, entry.revision_number);
    if entry.x509_svid_ttl != 0 {
        put_number(record_ref, u64::from(entry.x509_svid_ttl));
    }
    if entry.jwt_svid_ttl != 0 {
        put_number(record_ref, u64::from(entry.jwt_svid_ttl));
    }
    if !entry.hint.is_empty() {
        put_text(record_ref, entry.hint);
    }
    if !entry.dns_names.is_empty() {
        put_length(record_ref, entry.dns_names.len());
        entry.dns_names.iter().for_each(|name| put_text(record_ref, name));
    }
    if !entry.federates_with.is_empty() {
        put_length(record_ref, entry.federates_with.len());
        entry.federates_with.iter().for_each(|domain| put_text(record_ref, domain));
    }
    record
}

/// Makes the entry of a record again.
pub(super) fn unpack(record: &[u8], texts: Texts<'_>) -> Option<Entry> {
    let head = Head::read(record)?;
    let path = |number| SpiffeId::from_path(texts.trust_domain, text_in(texts.paths, number)?).ok();
    let mut selectors = Vec::with_capacity(head.selector_count());
    for number in head.selectors() {
        selectors.push(Selector::parse(text_in(texts.selectors, number)?).ok()?);
    }
    let has = |flag| head.flags & flag != 0;
    let mut body = head.body()?;
    let bytes = &mut body;
    Some(Entry {
        creation_number: head.creation_number,
        expires_at: head.expires_at(),
        spiffe_id: path(head.spiffe_id)?,
        parent_id: path(head.parent)?,
        selectors: SelectorSet::new(selectors),
        id: take_id(bytes)?.to_id()?,
        created_at: UnixSeconds(take_signed(bytes)?),
        revision_number: take_number(bytes)?,
        x509_svid_ttl: if has(X509_SVID_TTL) { take_u32(bytes)? } else { 0 },
        jwt_svid_ttl: if has(JWT_SVID_TTL) { take_u32(bytes)? } else { 0 },
        hint: if has(HINT) { take_text(bytes)?.to_owned() } else { String::new() },
        dns_names: if has(DNS_NAMES) { take_texts(bytes)?.map(str::to_owned).collect() } else { Vec::new() },
        federates_with: if has(FEDERATES_WITH) {
            take_texts(bytes)?.map(|name| TrustDomain::new(name).ok()).collect::<Option<BTreeSet<_>>>()?
        } else {
            BTreeSet::new()
        },
        admin: has(ADMIN),
        downstream: has(DOWNSTREAM),
        store_svid: has(STORE_SVID),
        crl_per_domain: has(CRL_PER_DOMAIN),
        additional_attributes: has(ATTRIBUTES).then_some(AdditionalAttributes {
            disable_x509_svid_prefetch: has(DISABLE_PREFETCH),
            jwt_svid_include_jti: has(INCLUDE_JTI),
        }),
    })
}

/// What a session must know of an entry, without making the whole of it: ID, creation time, revision number.
pub(super) fn brief(head: &Head<'_>) -> Option<(EntryId, UnixSeconds, u64)> {
    let mut body = head.body()?;
    let id = take_id(&mut body)?.to_id()?;
    Some((id, UnixSeconds(take_signed(&mut body)?), take_number(&mut body)?))
}

fn flags_of(entry: &EntryParts<'_>) -> u64 {
    let attributes = entry.additional_attributes.unwrap_or_default();
    [
        (entry.admin, ADMIN),
        (entry.downstream, DOWNSTREAM),
        (entry.store_svid, STORE_SVID),
        (entry.x509_svid_ttl != 0, X509_SVID_TTL),
        (entry.jwt_svid_ttl != 0, JWT_SVID_TTL),
        (entry.expires_at.is_some(), EXPIRES),
        (!entry.hint.is_empty(), HINT),
        (!entry.dns_names.is_empty(), DNS_NAMES),
        (!entry.federates_with.is_empty(), FEDERATES_WITH),
        (entry.additional_attributes.is_some(), ATTRIBUTES),
        (attributes.disable_x509_svid_prefetch, DISABLE_PREFETCH),
        (attributes.jwt_svid_include_jti, INCLUDE_JTI),
        (entry.crl_per_domain, CRL_PER_DOMAIN),
    ]
    .into_iter()
    .filter(|(is_set, _)| *is_set)
    .fold(0, |flags, (_, flag)| flags | flag)
}

fn put_number(record: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        record.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    record.push(number.to_le_bytes()[0]);
}

/// Signed numbers, small ones of either sign in few bytes.
fn put_signed(record: &mut Vec<u8>, number: i64) {
    put_number(record, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn put_length(record: &mut Vec<u8>, length: usize) {
    put_number(record, u64::try_from(length).unwrap_or(u64::MAX));
}

fn put_text(record: &mut Vec<u8>, text: &str) {
    put_length(record, text.len());
    record.extend_from_slice(text.as_bytes());
}

/// A text of length 0 stands for a UUID: no entry ID is empty.
fn put_id(record: &mut Vec<u8>, id: IdKey<'_>) {
    match id {
        IdKey::Uuid(bytes) => {
            put_length(record, 0);
            record.extend_from_slice(&bytes);
        }
        IdKey::Text(text) => put_text(record, text),
    }
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_number(bytes)?).ok()
}

fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let number = take_number(bytes)?;
    Some((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

fn take_texts<'a>(bytes: &mut &'a [u8]) -> Option<std::vec::IntoIter<&'a str>> {
    let count = take_number(bytes)?;
    let texts: Option<Vec<&str>> = (0..count).map(|_| take_text(bytes)).collect();
    texts.map(Vec::into_iter)
}

fn take_id<'a>(bytes: &mut &'a [u8]) -> Option<IdKey<'a>> {
    let text = take_text(bytes)?;
    if !text.is_empty() {
        return Some(IdKey::Text(text));
    }
    let (uuid, rest) = bytes.split_first_chunk::<16>()?;
    *bytes = rest;
    Some(IdKey::Uuid(*uuid))
}

/// Where a UUID's text has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The bytes of a UUID in lower case with hyphens.
pub(super) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0_usize;
    for (place, digit) in text.bytes().enumerate() {
        if HYPHENS.contains(&place) {
            if digit != b'-' {
                return None;
            }
            continue;
        }
        let value = match digit {
            b'0'..=b'9' => digit.wrapping_sub(b'0'),
            b'a'..=b'f' => digit.wrapping_sub(b'a').wrapping_add(10),
            _ => return None,
        };
        let byte = bytes.get_mut(digits / 2)?;
        *byte = (*byte << 4) | value;
        digits = digits.saturating_add(1);
    }
    Some(bytes)
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            if HYPHENS.contains(&text.len()) {
                text.push('-');
            }
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_was_whether_it_is_a_uuid_or_only_looks_like_one() {
        let uuid = "01234567-89ab-4def-8123-456789abcdef";
        assert!(matches!(IdKey::of(uuid), IdKey::Uuid(_)));
        for text in [
            uuid,
            "01234567-89AB-4DEF-8123-456789ABCDEF",
            "01234567-89ab-4def-8123-456789abcdeg",
            "0123456-789ab-4def-8123-456789abcdef",
            "0123456789ab4def8123456789abcdef----",
            "a",
            "_.-",
        ] {
            let key = IdKey::of(text);
            assert_eq!(key.to_id().map(|id| id.as_str().to_owned()).as_deref(), Some(text));
            let mut record = Vec::new();
            put_id(&mut record, key);
            let mut rest: &[u8] = &record;
            assert_eq!(take_id(&mut rest), Some(key));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn numbers_of_either_sign_come_back_at_the_ends_of_their_ranges() {
        for number in [0, 1, -1, 63, 64, -64, -65, 1_700_000_000, i64::MAX, i64::MIN] {
            let mut record = Vec::new();
            put_signed(&mut record, number);
            assert_eq!(take_signed(&mut record.as_slice()), Some(number));
        }
        for number in [0, 127, 128, u64::from(u32::MAX), u64::MAX] {
            let mut record = Vec::new();
            put_number(&mut record, number);
            assert_eq!(take_number(&mut record.as_slice()), Some(number));
        }
        assert_eq!(take_number(&mut [0xff; 9].as_slice()), None, "cut off");
        assert_eq!(take_number(&mut [0xff; 11].as_slice()), None, "too long");
    }
}
