//! Registration entries in memory, and the questions asked of them.
//!
//! ```text
//!   paths of SPIFFE IDs, selectors: interned --numbers--> records of entries, in chunks, in the order of creation
//!                                                              ^                         |
//!             indexes: ID, SPIFFE ID, parent, likeness, end, --+                         +--> snapshot, state hash
//!             rarest selector and parent, inner tree (slots)
//! ```
//!
//! Made for a million entries in memory: an entry of the usual shape takes about 200 bytes with all indexes. Chunks and
//! texts are behind `Arc`, so that a view for a snapshot copies pointers only, and a write copies the one chunk that it
//! changes. Slots, numbers and indexes are made anew when a snapshot is read; none of them is seen outside.

mod audit;
mod chunk;
mod entitle;
mod filter;
mod indexes;
mod interner;
mod listing;
mod load;
mod packed;
mod parts;
mod postings;
mod reach;
mod scope;
mod slots;
mod table;
mod view;

pub use filter::{EntryFilter, MatchMode};
pub(crate) use load::Loader;
pub(crate) use parts::EntryParts;
pub use scope::{Entitled, Entitlement, NODE_SELECTOR_TYPE, NodeScope, node_id};
pub(crate) use view::RegistryView;

use std::sync::Arc;

use quorate_proto_identity::{EntryId, SelectorSet, SpiffeId, TrustDomain, UnixSeconds};

use crate::entry::{ALIAS_PARENT_PATH, Entry};
use crate::hash::StateHash;
use crate::objects::Object;
use indexes::Indexes;
use interner::Interner;
use packed::{IdKey, Numbers, Texts, pack, unpack};
use slots::Slots;

/// All entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    /// The trust domain that every ID of every entry lies in; none before the founding, when there are no entries.
    trust_domain: Option<TrustDomain>,
    paths: Interner,
    selectors: Interner,
    slots: Slots,
    indexes: Indexes,
    hash: StateHash,
}

impl Registry {
    /// Says which trust domain entries are of.
    pub(crate) fn found(&mut self, trust_domain: &TrustDomain) {
        self.trust_domain = Some(trust_domain.clone());
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.indexes.len()
    }

    /// The sum over all entries.
    pub(crate) const fn hash(&self) -> StateHash {
        self.hash
    }

    /// What stands for the shape of the tree of parents and for the aliases: another one, when they have changed.
    pub(crate) fn topology(&self) -> Arc<()> {
        Arc::clone(self.indexes.topology())
    }

    /// The entry with this ID.
    pub(crate) fn get(&self, id: &EntryId) -> Option<Entry> {
        self.entry_in(self.slot_of(id)?)
    }

    /// Whether there is an entry with this ID.
    pub(crate) fn contains(&self, id: &EntryId) -> bool {
        self.slot_of(id).is_some()
    }

    /// The first created entry with this parent, SPIFFE ID and set of selectors.
    pub(crate) fn similar(&self, parent: &SpiffeId, spiffe_id: &SpiffeId, selectors: &SelectorSet) -> Option<EntryId> {
        let numbers = Numbers {
            spiffe_id: self.path_number(spiffe_id)?,
            parent: self.path_number(parent)?,
            selectors: selectors
                .iter()
                .map(|selector| self.selectors.number(selector.as_str()))
                .collect::<Option<_>>()?,
        };
        self.slots.head(self.indexes.alike(&numbers, &self.slots)?)?.entry_id()?.to_id()
    }

    /// Puts a new entry in. Its ID is not taken, and its creation number is higher than all others'.
    pub(crate) fn insert(&mut self, entry: &Entry) {
        let parts = EntryParts::of(entry);
        let numbers = self.acquire(&parts);
        let record = pack(&parts, &numbers);
        let slot = self.slots.append(entry.creation_number, &record);
        self.index(slot, &record);
        self.hash = self.hash.plus(entry.object_hash());
    }

    /// Puts the changed form of an entry in place of what it was.
    pub(crate) fn replace(&mut self, before: &Entry, after: &Entry) {
        let Some(slot) = self.slot_of(&before.id) else {
            return;
        };
        self.hash = self.hash.minus(before.object_hash()).plus(after.object_hash());
        let Some((old, former)) = self.slots.get(slot).and_then(|record| Some((record.to_vec(), numbers_of(record)?)))
        else {
            return;
        };
        let same_place = before.spiffe_id == after.spiffe_id
            && before.parent_id == after.parent_id
            && before.selectors == after.selectors
            && before.expires_at == after.expires_at;
        if same_place {
            self.slots.replace(slot, &pack(&EntryParts::of(after), &former));
            return;
        }
        self.unindex(slot, &old);
        let parts = EntryParts::of(after);
        let numbers = self.acquire(&parts);
        let record = pack(&parts, &numbers);
        self.slots.replace(slot, &record);
        self.release(&former);
        self.index(slot, &record);
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, id: &EntryId) -> Option<Entry> {
        let slot = self.slot_of(id)?;
        let entry = self.entry_in(slot)?;
        let record = self.slots.get(slot)?.to_vec();
        let numbers = numbers_of(&record)?;
        self.hash = self.hash.minus(entry.object_hash());
        self.unindex(slot, &record);
        self.slots.remove(slot);
        self.release(&numbers);
        if let Some((left, right)) = self.slots.sparse_pair(slot) {
            self.merge(left, right);
        }
        Some(entry)
    }

    /// When the next entry ends, if any ever does.
    pub(crate) fn next_expiry(&self) -> Option<UnixSeconds> {
        self.indexes.ends().next().map(|(end, _)| UnixSeconds(end))
    }

    /// IDs of entries that have ended, those first that ended first.
    pub(crate) fn expired(&self, now: UnixSeconds, limit: usize) -> Vec<EntryId> {
        self.indexes
            .ends()
            .take_while(|(end, _)| *end < now.0)
            .take(limit)
            .filter_map(|(_, slot)| self.slots.head(slot)?.entry_id()?.to_id())
            .collect()
    }

    /// The entries as they are at this instant, for reading later.
    pub(crate) fn view(&self) -> RegistryView {
        RegistryView::new(
            self.trust_domain.clone(),
            self.slots.chunks_in_order(),
            self.paths.chunks().to_vec(),
            self.selectors.chunks().to_vec(),
            self.len(),
        )
    }

    fn texts(&self) -> Option<Texts<'_>> {
        let trust_domain = self.trust_domain.as_ref()?;
        Some(Texts { trust_domain, paths: self.paths.chunks(), selectors: self.selectors.chunks() })
    }

    fn entry_in(&self, slot: u32) -> Option<Entry> {
        unpack(self.slots.get(slot)?, self.texts()?)
    }

    fn slot_of(&self, id: &EntryId) -> Option<u32> {
        self.indexes.slot_of(IdKey::of(id.as_str()), &self.slots)
    }

    /// The number of the path of an ID of our trust domain, if an entry has it as its own or its parent's.
    fn path_number(&self, id: &SpiffeId) -> Option<u32> {
        let ours = self.trust_domain.as_ref().is_some_and(|trust_domain| id.is_member_of(trust_domain));
        self.paths.number(id.path()).filter(|_| ours)
    }

    /// Counts a use of each text of an entry, and puts the selector first that the fewest entries have.
    fn acquire(&mut self, entry: &EntryParts<'_>) -> Numbers {
        let selectors = entry.selectors.iter().map(|selector| self.selectors.acquire(selector)).collect();
        Numbers {
            spiffe_id: self.paths.acquire(entry.spiffe_path),
            parent: self.paths.acquire(entry.parent_path),
            selectors: self.rarest_first(selectors),
        }
    }

    /// Selectors with the one first that the fewest entries have, of which the use by this entry is counted already.
    fn rarest_first(&self, mut selectors: Vec<u32>) -> Vec<u32> {
        let rarest = (0..selectors.len())
            .min_by_key(|place| selectors.get(*place).map_or(u32::MAX, |number| self.selectors.uses(*number)));
        if let Some(rarest) = rarest {
            selectors.swap(0, rarest);
        }
        selectors
    }

    fn release(&mut self, numbers: &Numbers) {
        self.paths.release(numbers.spiffe_id);
        self.paths.release(numbers.parent);
        for selector in &numbers.selectors {
            self.selectors.release(*selector);
        }
    }

    fn index(&mut self, slot: u32, record: &[u8]) {
        if let Some(head) = packed::Head::read(record) {
            let is_alias = self.paths.text(head.parent) == Some(ALIAS_PARENT_PATH);
            self.indexes.insert(slot, &head, is_alias, &self.slots);
        }
    }

    fn unindex(&mut self, slot: u32, record: &[u8]) {
        if let Some(head) = packed::Head::read(record) {
            let is_alias = self.paths.text(head.parent) == Some(ALIAS_PARENT_PATH);
            self.indexes.remove(slot, &head, is_alias, &self.slots);
        }
    }

    /// Makes two sparse chunks one. Their entries get other slots, and are otherwise what they were.
    fn merge(&mut self, left: usize, right: usize) {
        let topology = self.topology();
        let mut moved = self.slots.records_of(left);
        moved.extend(self.slots.records_of(right));
        for (slot, record) in &moved {
            self.unindex(*slot, record);
        }
        let records: Vec<Vec<u8>> = moved.into_iter().map(|(_, record)| record).collect();
        let slots = self.slots.merge(left, right, &records);
        for (slot, record) in slots.into_iter().zip(&records) {
            self.index(slot, record);
        }
        self.indexes.keep_topology(topology);
    }
}

fn numbers_of(record: &[u8]) -> Option<Numbers> {
    packed::Head::read(record).map(|head| head.numbers())
}
