//! Many entries at once, as a snapshot brings them.
//!
//! Texts and records are put where they belong as they come; what leads to them is only noted, and each index is made in
//! one go from sorted notes. Single inserts would look for a place in seven growing structures for each entry, none of
//! them in any cache: a million entries took 11.2 s of a processor that way, and take 3.3 s this way, measured one after
//! the other on a busy machine (`examples/footprint.rs`).

use quorate_proto_identity::{EntryId, Selector, SpiffeId, TrustDomain};

use super::Registry;
use super::indexes::{Indexes, Notes};
use super::packed::{self, Numbers, pack, uuid_bytes};
use super::parts::EntryParts;
use crate::hash::StateHash;

/// Most entries that room is made for before they are there: the count comes from a snapshot that is not verified yet.
const ROOM_LIMIT: usize = 1 << 22;

/// A registry that entries are loaded into, in the order of their creation.
#[derive(Debug)]
pub(crate) struct Loader {
    registry: Registry,
    trust_domain: TrustDomain,
    notes: Notes,
}

impl Loader {
    /// Begins to load about this many entries of a trust domain.
    pub(crate) fn new(trust_domain: &TrustDomain, count: usize) -> Self {
        let mut registry = Registry::default();
        registry.found(trust_domain);
        registry.paths.make_room(count.min(ROOM_LIMIT));
        Self { registry, trust_domain: trust_domain.clone(), notes: Notes::default() }
    }

    /// Adds an entry, whose share of the state hash this is. Its texts are checked as far as no entry before had them;
    /// `None` says that one is not valid.
    pub(crate) fn add(&mut self, entry: &EntryParts<'_>, hash: StateHash) -> Option<()> {
        if uuid_bytes(entry.id).is_none() {
            EntryId::new(entry.id).ok()?;
        }
        let numbers = self.numbers(entry)?;
        let record = pack(entry, &numbers);
        let slot = self.registry.slots.append(entry.creation_number, &record);
        self.notes.note(slot, &packed::Head::read(&record)?);
        self.registry.hash = self.registry.hash.plus(hash);
        Some(())
    }

    /// Makes the indexes. `None` says that two entries have the same ID.
    pub(crate) fn finish(mut self) -> Option<Registry> {
        self.registry.indexes = Indexes::of_notes(self.notes, &self.registry.slots)?;
        Some(self.registry)
    }

    /// The numbers of an entry's texts, each checked when it is new: a text that has a number is valid.
    fn numbers(&mut self, entry: &EntryParts<'_>) -> Option<Numbers> {
        let Self { registry, trust_domain, notes: _ } = self;
        let is_path = |path: &str| SpiffeId::from_path(trust_domain, path).is_ok_and(|id| !id.is_trust_domain_id());
        let is_selector = |text: &str| Selector::parse(text).is_ok();
        let mut selectors = Vec::with_capacity(entry.selectors.len());
        for selector in &entry.selectors {
            selectors.push(registry.selectors.acquire_checked(selector, is_selector)?);
        }
        Some(Numbers {
            spiffe_id: registry.paths.acquire_checked(entry.spiffe_path, is_path)?,
            parent: registry.paths.acquire_checked(entry.parent_path, is_path)?,
            selectors: registry.rarest_first(selectors),
        })
    }
}
