//! Entries in their canonical bytes, read in place.
//!
//! A snapshot of a million entries is a million messages of strings. Decoding each into an entry, and encoding it again to
//! see that its bytes are the canonical ones, took half of the time of reading it. What is read here is canonical by the
//! way it is read: fields in their order, no field with its default, numbers in as few bytes as they need, lists in order.
//! Whatever is not, or is rare, is left to [`super::entry::decode`], which says what is wrong with it.

use std::str::from_utf8;

use crate::entry::{DNS_NAMES_PER_ENTRY, SELECTORS_PER_ENTRY};
use crate::registry::EntryParts;

/// Wire types of protobuf.
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// What is left to read.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// A number in as few bytes as it needs.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for place in 0..10_u32 {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            let low = u64::from(byte & 0x7f);
            if place == 9 && low > 1 {
                return None;
            }
            number |= low << place.saturating_mul(7);
            if byte & 0x80 == 0 {
                // A last byte without any bit says nothing.
                return (*byte != 0 || place == 0).then_some(number);
            }
        }
        None
    }

    /// Whether the next field is this one; if so, its key is taken.
    fn has(&mut self, field: u64, wire: u64) -> bool {
        let key = field << 3 | wire;
        let mut ahead = Input { bytes: self.bytes };
        if ahead.number() == Some(key) {
            self.bytes = ahead.bytes;
            return true;
        }
        false
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        from_utf8(text).ok()
    }

    /// A text that is there; an empty one would not have been written.
    fn present_text(&mut self, field: u64) -> Option<&'a str> {
        if !self.has(field, BYTES) {
            return None;
        }
        self.text().filter(|text| !text.is_empty())
    }

    /// A text that may not be there.
    fn optional_text(&mut self, field: u64) -> Option<&'a str> {
        if self.has(field, BYTES) { self.text().filter(|text| !text.is_empty()) } else { Some("") }
    }

    /// Texts of a list, at most so many.
    fn texts(&mut self, field: u64, limit: usize) -> Option<Vec<&'a str>> {
        let mut texts = Vec::new();
        while self.has(field, BYTES) {
            if texts.len() >= limit {
                return None;
            }
            texts.push(self.text()?);
        }
        Some(texts)
    }

    /// A number that may not be there; 0 would not have been written.
    fn optional_number(&mut self, field: u64) -> Option<u64> {
        if self.has(field, VARINT) { self.number().filter(|number| *number != 0) } else { Some(0) }
    }

    fn seconds(&mut self, field: u64) -> Option<u32> {
        u32::try_from(self.optional_number(field)?).ok()
    }

    fn flag(&mut self, field: u64) -> Option<bool> {
        match self.optional_number(field)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// The parts of an entry in these bytes, if they are its canonical form. Texts are UTF-8 and not checked any further.
/// `None` says nothing but that they are to be read in another way.
pub(crate) fn entry_parts(bytes: &[u8]) -> Option<EntryParts<'_>> {
    let mut input = Input { bytes };
    let parts = EntryParts {
        id: input.present_text(1)?,
        spiffe_path: input.present_text(2)?,
        parent_path: input.present_text(3)?,
        selectors: input.texts(4, SELECTORS_PER_ENTRY)?,
        x509_svid_ttl: input.seconds(5)?,
        jwt_svid_ttl: input.seconds(6)?,
        // Foreign trust domains, and the attributes below, are rare: an entry that has them is read in the other way.
        federates_with: Vec::new(),
        admin: input.flag(8)?,
        downstream: input.flag(9)?,
        expires_at: if input.has(10, VARINT) { Some(input.number()?.cast_signed()) } else { None },
        dns_names: input.texts(11, DNS_NAMES_PER_ENTRY)?,
        revision_number: input.optional_number(12)?,
        store_svid: input.flag(13)?,
        hint: input.optional_text(14)?,
        created_at: input.optional_number(15)?.cast_signed(),
        additional_attributes: None,
        creation_number: input.optional_number(17)?,
        crl_per_domain: input.flag(18)?,
    };
    let in_order = parts.selectors.is_sorted_by(|one, other| one < other);
    (input.bytes.is_empty() && in_order && !parts.selectors.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use quorate_proto_identity::{EntryId, Selector, SpiffeId, TrustDomain, UnixSeconds};

    use super::*;
    use crate::entry::{Entry, EntryDraft};
    use crate::objects::Object;

    fn domain() -> TrustDomain {
        TrustDomain::new("example.org").unwrap()
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let numbers = (any::<u32>(), 0..3_u32, any::<u64>(), any::<i64>(), 1..u64::MAX);
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), proptest::option::of(any::<i64>()));
        let lists = (proptest::collection::btree_set(0..200_u16, 1..6), proptest::collection::vec("[a-z]{0,9}", 0..3));
        (numbers, flags, lists, "[a-zé]{0,200}", any::<bool>()).prop_map(
            |(
                (x509, jwt, revision, created, number),
                (admin, downstream, store, end),
                (selectors, names),
                hint,
                far,
            )| {
                let id = |path: &str| SpiffeId::from_path(&domain(), path).unwrap();
                let selectors = selectors.into_iter().map(|n| Selector::parse(&format!("unix:uid:{n}")).unwrap());
                let id_text = if far { "e".to_owned() } else { format!("{:08x}-0000-4000-8000-000000000000", x509) };
                let draft = EntryDraft::new(
                    EntryId::new(&id_text).unwrap(),
                    id("/workload"),
                    id("/spire/nodes"),
                    selectors.collect(),
                );
                let mut entry = draft.into_entry(UnixSeconds(created), number);
                entry.x509_svid_ttl = x509;
                entry.jwt_svid_ttl = jwt;
                entry.revision_number = revision;
                entry.admin = admin;
                entry.downstream = downstream;
                entry.store_svid = store;
                entry.crl_per_domain = store && admin;
                entry.expires_at = end.map(UnixSeconds);
                entry.dns_names = names;
                entry.hint = hint;
                entry
            },
        )
    }

    /// What is read in place is what is decoded, and its bytes are the canonical ones.
    fn agrees(bytes: &[u8]) -> Result<bool, TestCaseError> {
        let Some(parts) = entry_parts(bytes) else {
            return Ok(false);
        };
        // Texts are checked by who takes the parts.
        if let Ok(entry) = crate::stored::entry::decode(Bytes::copy_from_slice(bytes), &domain()) {
            prop_assert_eq!(entry.stored(), bytes);
            prop_assert_eq!(parts, EntryParts::of(&entry));
        }
        Ok(true)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_usual_entry_is_read_in_place(entry in entry()) {
            let bytes = entry.stored();
            prop_assert!(agrees(&bytes)?, "{:?}", entry);
        }

        #[test]
        fn what_was_changed_is_read_as_it_is_decoded_or_left_alone(
            entry in entry(),
            changes in proptest::collection::vec((any::<u16>(), any::<u8>(), 0..3_u8), 1..4),
        ) {
            let mut bytes = entry.stored();
            for (at, byte, kind) in changes {
                let at = usize::from(at) % bytes.len();
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            agrees(&bytes)?;
        }
    }

    #[test]
    fn what_is_not_canonical_is_left_to_the_other_reader() {
        let usual = EntryDraft::new(
            EntryId::new("e").unwrap(),
            SpiffeId::from_path(&domain(), "/w").unwrap(),
            SpiffeId::from_path(&domain(), "/p").unwrap(),
            ["a:1", "b:1"].into_iter().map(|text| Selector::parse(text).unwrap()).collect(),
        )
        .into_entry(UnixSeconds(1), 1)
        .stored();
        assert!(entry_parts(&usual).is_some());
        let first = usual.windows(3).position(|text| text == b"a:1").unwrap();
        for (selector, what) in [(b'c', "selectors out of order"), (b'b', "a selector twice")] {
            let mut changed = usual.clone();
            changed[first] = selector;
            assert!(entry_parts(&changed).is_none(), "{what}");
        }
        assert!(entry_parts(&[&usual[..], &[0x88, 0x01, 1]].concat()).is_none(), "a field twice");
        assert!(entry_parts(&[&usual[..], &[0x92, 0x01, 0]].concat()).is_none(), "a field that is not known");
        let mut long = usual.clone();
        let last = long.len() - 1;
        long[last] |= 0x80;
        long.push(0);
        assert!(entry_parts(&long).is_none(), "a number in more bytes than it needs");
        assert!(entry_parts(&usual[..last]).is_none(), "cut off");
    }
}
