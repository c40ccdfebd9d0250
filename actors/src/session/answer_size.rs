//! How large an answer may get, and what is left out of one that would be larger.
//!
//! Entries have texts of any length, so a limit on their number bounds no answer. What is left out is decided by the age
//! of the entries, as it is where there are too many: a new entry never takes the place of one that workloads use.

use std::sync::Arc;

use quorate_proto_identity::KeyType;
use quorate_raft_machine::entry::Entry;

/// Bytes of the identities in one answer, at most: 3.5 MiB. gRPC clients refuse messages above 4 MiB (4,194,304 bytes)
/// unless told otherwise, and then get nothing at all. The half MiB between is for what an answer carries beside the
/// identities: the bundles of the 128 trust domains that an entry may federate with, nearly 4 KiB each. What foreign bundles
/// have beyond that is taken from the identities.
pub(crate) const IDENTITIES_BYTES_LIMIT: usize = 7 * 512 * 1024;

/// Bytes of foreign bundles that take nothing from the identities: what lies between both limits but for 16 KiB, which are for
/// framing.
const FOREIGN_BYTES_FREE: usize = 512 * 1024 - 16 * 1024;

/// Tags and lengths around one identity: five fields and the identity itself, each at most 1 and 5 bytes.
const FRAMING_BYTES: usize = 36;

/// Everything in a leaf that neither its key, its signature nor its names make up: serial number, issuer, validity,
/// subject and extensions. They come to some 400 bytes; a test compares.
const LEAF_FIXED_BYTES: usize = 640;

/// Tag and length of a DNS name in a leaf.
const DNS_NAME_FRAMING_BYTES: usize = 4;

/// The room in one answer.
#[derive(Debug)]
pub(crate) struct Room {
    left: usize,
    untouched: bool,
}

impl Room {
    /// All of it.
    pub(crate) fn new() -> Self {
        Self::beside(0, 0)
    }

    /// What CRLs (CRL-05: up to 1 MiB) and foreign bundles (up to 2 MiB) of so many bytes leave of it.
    pub(crate) fn beside(crl_bytes: usize, foreign_bytes: usize) -> Self {
        let taken = crl_bytes.saturating_add(foreign_bytes.saturating_sub(FOREIGN_BYTES_FREE));
        Self { left: IDENTITIES_BYTES_LIMIT.saturating_sub(taken), untouched: true }
    }

    /// Whether there is room for an identity of so many bytes. The first one always fits: a caller that is entitled to
    /// something gets something.
    pub(crate) fn has(&self, bytes: usize) -> bool {
        self.untouched || bytes.saturating_add(FRAMING_BYTES) <= self.left
    }

    /// Takes room for an identity of so many bytes, if there is enough.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.has(bytes);
        if fits {
            self.untouched = false;
            self.left = self.left.saturating_sub(bytes.saturating_add(FRAMING_BYTES));
        }
        fits
    }
}

/// How large X509-SVIDs get, known before they are signed. It depends on nothing that chance has a part in, so the same
/// identities are left out at every renewal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SvidSize {
    /// What does not depend on the entry.
    fixed: usize,
    /// What of it is the roots'.
    roots: usize,
}

impl SvidSize {
    /// For leaves with keys of this type, signed by an issuer of that type with this certificate, beside these roots.
    pub(crate) fn new(key: KeyType, issuer: KeyType, issuing_certificate: &[u8], roots: &[u8]) -> Self {
        let leaf = LEAF_FIXED_BYTES.saturating_add(public_key_bytes(key)).saturating_add(signature_bytes(issuer));
        let rest = private_key_bytes(key).saturating_add(issuing_certificate.len()).saturating_add(roots.len());
        Self { fixed: leaf.saturating_add(rest), roots: roots.len() }
    }

    /// Bytes of this entry's identity in an answer, at most.
    pub(crate) fn of(self, entry: &Entry) -> usize {
        let names = entry.dns_names.iter().map(|name| name.len().saturating_add(DNS_NAME_FRAMING_BYTES));
        // The ID is in the leaf and beside it.
        let ids = entry.spiffe_id.as_str().len().saturating_mul(2);
        names.fold(self.fixed, usize::saturating_add).saturating_add(ids).saturating_add(entry.hint.len())
    }

    /// The same when its chain and key are there.
    pub(crate) fn of_signed(self, entry: &Entry, chain: &[u8], key: &[u8]) -> usize {
        let texts = entry.spiffe_id.as_str().len().saturating_add(entry.hint.len());
        [chain.len(), key.len(), texts].into_iter().fold(self.roots, usize::saturating_add)
    }
}

/// Entries as they were created, the first one first.
pub(crate) fn by_age(entries: &[Arc<Entry>]) -> Vec<&Arc<Entry>> {
    let mut sorted: Vec<&Arc<Entry>> = entries.iter().collect();
    sorted.sort_by_key(|entry| entry.creation_number);
    sorted
}

/// Bytes of a subjectPublicKeyInfo, DER.
fn public_key_bytes(kind: KeyType) -> usize {
    match kind {
        KeyType::EcP256 => 91,
        KeyType::EcP384 => 120,
        KeyType::Rsa2048 => 294,
        KeyType::Rsa4096 => 550,
        KeyType::Ed25519 => 44,
    }
}

/// Bytes of a private key, PKCS#8, DER, at most.
fn private_key_bytes(kind: KeyType) -> usize {
    match kind {
        KeyType::EcP256 => 140,
        KeyType::EcP384 => 190,
        KeyType::Rsa2048 => 1_224,
        KeyType::Rsa4096 => 2_380,
        KeyType::Ed25519 => 90,
    }
}

/// Bytes of a signature with its algorithm, DER, at most.
fn signature_bytes(kind: KeyType) -> usize {
    match kind {
        KeyType::EcP256 => 72 + 16,
        KeyType::EcP384 => 104 + 16,
        KeyType::Rsa2048 => 256 + 24,
        KeyType::Rsa4096 => 512 + 24,
        KeyType::Ed25519 => 64 + 16,
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{
        EntryId, PrivateKey, Selector, SelectorSet, SerialNumber, SpiffeId, TrustDomain, UnixSeconds, Validity,
        x509::{AuthorityTemplate, LeafIssuer, LeafTemplate, build_issuing_certificate, build_root},
    };
    use quorate_raft_machine::EntryDraft;

    use super::*;
    use crate::bundles::foreign::FOREIGN_BYTES_LIMIT;

    const START: UnixSeconds = UnixSeconds(1_800_000_000);

    fn entry(id: &str) -> Arc<Entry> {
        let spiffe_id = SpiffeId::parse(&format!("spiffe://example.org/{}", "a".repeat(1500))).unwrap();
        let parent = SpiffeId::parse("spiffe://example.org/spire/nodes").unwrap();
        let selectors = SelectorSet::new([Selector::parse("unix:uid:1").unwrap()]);
        let draft = EntryDraft {
            hint: "h".repeat(500),
            dns_names: (0..20).map(|number| format!("{number}.{}.example.org", "d".repeat(60))).collect(),
            ..EntryDraft::new(EntryId::new(id).unwrap(), spiffe_id, parent, selectors)
        };
        Arc::new(draft.into_entry(UnixSeconds(1), 1))
    }

    #[test]
    fn the_size_that_is_reckoned_with_is_never_less_than_what_is_signed() {
        let trust_domain = TrustDomain::new("example.org").unwrap();
        let validity = Validity::new(START, START.plus(1000)).unwrap();
        let serial = SerialNumber::from_random([0x7f; 16]);
        let template = AuthorityTemplate { trust_domain: &trust_domain, serial, validity };
        let entry = entry("a");
        for issuer_kind in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
            let root_key = PrivateKey::generate(issuer_kind).unwrap();
            let root = build_root(&template, &root_key).unwrap();
            let key = PrivateKey::generate(issuer_kind).unwrap();
            let issuing = build_issuing_certificate(&template, key.public_key(), &root, &root_key).unwrap();
            let issuer = LeafIssuer::new(issuing.der(), key).unwrap();
            for kind in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048, KeyType::Rsa4096, KeyType::Ed25519] {
                let key = PrivateKey::generate(kind).unwrap();
                let leaf = issuer.issue(&LeafTemplate {
                    spiffe_id: &entry.spiffe_id,
                    dns_names: &entry.dns_names,
                    subject: None,
                    public_key: key.public_key(),
                    serial,
                    validity,
                });
                let chain = [leaf.unwrap(), issuing.der().to_vec()].concat();
                let size = SvidSize::new(kind, issuer_kind, issuing.der(), root.der());
                let (reckoned, signed) = (size.of(&entry), size.of_signed(&entry, &chain, key.pkcs8()));
                assert!(signed <= reckoned && reckoned <= signed + 512, "{kind} {issuer_kind} {signed} {reckoned}");
            }
        }
    }

    #[test]
    fn crl_05_the_longest_set_of_crls_leaves_less_room_and_the_answer_stays_as_long_as_clients_take() {
        let crls = quorate_raft_machine::revocation::CRL_SET_BYTES_LIMIT;
        let mut room = Room::beside(crls, 0);
        assert!(room.take(IDENTITIES_BYTES_LIMIT - crls - FRAMING_BYTES) && !room.has(1));
    }

    #[test]
    fn foreign_bundles_take_from_the_identities_only_what_has_no_room_beside_them() {
        let mut room = Room::beside(0, FOREIGN_BYTES_FREE);
        assert!(room.has(0) && room.take(IDENTITIES_BYTES_LIMIT - FRAMING_BYTES) && !room.has(0));
        let crls = quorate_raft_machine::revocation::CRL_SET_BYTES_LIMIT;
        let mut room = Room::beside(crls, FOREIGN_BYTES_LIMIT);
        let left = IDENTITIES_BYTES_LIMIT - crls - (FOREIGN_BYTES_LIMIT - FOREIGN_BYTES_FREE);
        assert!(left >= 1024 * 1024 - 512 * 1024, "the most of both leaves room for some hundred identities");
        assert!(room.take(left - FRAMING_BYTES) && !room.has(0));
        // All together is what clients take.
        assert!(left + crls + FOREIGN_BYTES_LIMIT < 4 * 1024 * 1024);
    }

    #[test]
    fn room_is_taken_until_there_is_none() {
        let mut room = Room::new();
        assert!(room.take(IDENTITIES_BYTES_LIMIT - 100));
        assert!(!room.take(100));
        assert!(room.take(100 - 2 * FRAMING_BYTES));
        assert!(!room.take(0));
    }

    #[test]
    fn the_first_identity_always_has_room() {
        let mut room = Room::new();
        assert!(room.take(2 * IDENTITIES_BYTES_LIMIT));
        assert!(!room.has(1));
    }
}
