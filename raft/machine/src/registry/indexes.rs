//! What leads to an entry: its ID, its SPIFFE ID, its parent, its likeness, its selectors, its end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::packed::{Head, IdKey, Numbers};
use super::postings::Postings;
use super::slots::Slots;
use super::table::{Table, hash_of};

/// All indexes, of slots. They follow from the records alone, and are made anew when a snapshot is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Indexes {
    by_id: Table,
    /// By parent, SPIFFE ID and set of selectors. An update can make entries alike, so several may be found.
    by_likeness: Table,
    /// Number of the SPIFFE ID, slot.
    by_spiffe_id: BTreeSet<(u32, u32)>,
    /// Number of the parent, slot.
    by_parent: BTreeSet<(u32, u32)>,
    /// End, creation number, slot, of those entries that have an end.
    by_end: BTreeSet<(i64, u64, u32)>,
    postings: Postings,
    /// Parent, SPIFFE ID, slot of every entry whose SPIFFE ID is the parent of another entry: the inner part of the
    /// tree. It is small where entries hang under nodes, however many they are, and it is all that must be walked to
    /// find the descendants of a node.
    inner: BTreeSet<(u32, u32, u32)>,
    /// Stands for the shape of that tree and for the aliases: whenever one of them changes, this becomes another
    /// allocation. What was computed from the shape holds as long as the allocation that it was computed under is
    /// this one; holding on to it keeps its address from being given again.
    topology: Arc<()>,
}

/// What indexes of many entries are made of.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Hash of the ID, slot.
    ids: Vec<(u64, u32)>,
    /// Hash of the likeness, slot.
    likenesses: Vec<(u64, u32)>,
    /// As in [`Indexes::by_spiffe_id`].
    spiffe_ids: Vec<(u32, u32)>,
    /// As in [`Indexes::by_parent`].
    parents: Vec<(u32, u32)>,
    /// As in [`Indexes::by_end`].
    ends: Vec<(i64, u64, u32)>,
    /// Selector, parent, slot.
    listed: Vec<(u32, u32, u32)>,
}

impl Notes {
    /// Notes an entry.
    pub(super) fn note(&mut self, slot: u32, head: &Head<'_>) {
        let Numbers { spiffe_id, parent, selectors } = head.numbers();
        if let Some(id) = head.entry_id() {
            self.ids.push((hash_of(id), slot));
        }
        self.likenesses.push((likeness(parent, spiffe_id, &selectors), slot));
        self.spiffe_ids.push((spiffe_id, slot));
        self.parents.push((parent, slot));
        if let Some(end) = head.expires_at() {
            self.ends.push((end.0, head.creation_number, slot));
        }
        if let Some(listed) = selectors.first() {
            self.listed.push((*listed, parent, slot));
        }
    }
}

impl Indexes {
    /// The indexes of the entries in these slots, all of which are noted. `None` says that two have the same ID.
    pub(super) fn of_notes(notes: Notes, slots: &Slots) -> Option<Self> {
        let Notes { ids, likenesses, spiffe_ids, mut parents, ends, listed } = notes;
        let id = |slot| slots.head(slot).and_then(|head| head.entry_id());
        let by_id = Table::of(ids, |one, other| id(one) == id(other), |slot| id_hash(slots, slot))?;
        let by_likeness = Table::of(likenesses, |_, _| false, |slot| likeness_hash(slots, slot))?;
        parents.sort_unstable();
        let is_parent = |id: u32| parents.binary_search_by_key(&id, |(parent, _)| *parent).is_ok();
        let inner = spiffe_ids
            .iter()
            .filter(|(spiffe_id, _)| is_parent(*spiffe_id))
            .filter_map(|(spiffe_id, slot)| Some((slots.head(*slot)?.parent, *spiffe_id, *slot)))
            .collect();
        Some(Self {
            by_id,
            by_likeness,
            inner,
            by_spiffe_id: spiffe_ids.into_iter().collect(),
            by_parent: parents.into_iter().collect(),
            by_end: ends.into_iter().collect(),
            postings: Postings::of(listed),
            topology: Arc::new(()),
        })
    }

    /// Puts an entry into every index. Its record is in its slot already.
    pub(super) fn insert(&mut self, slot: u32, head: &Head<'_>, is_alias: bool, slots: &Slots) {
        let Numbers { spiffe_id, parent, selectors } = head.numbers();
        if let Some(id) = head.entry_id() {
            self.by_id.insert(hash_of(id), slot, |slot| id_hash(slots, slot));
        }
        self.by_likeness.insert(likeness(parent, spiffe_id, &selectors), slot, |slot| likeness_hash(slots, slot));
        self.by_spiffe_id.insert((spiffe_id, slot));
        if let Some(listed) = selectors.first() {
            self.postings.insert(*listed, parent, slot);
        }
        if let Some(end) = head.expires_at() {
            self.by_end.insert((end.0, head.creation_number, slot));
        }
        let is_first_child = !self.has_children(parent);
        self.by_parent.insert((parent, slot));
        let mut reshaped = is_alias;
        if is_first_child {
            for parent_slot in self.with_spiffe_id(parent).collect::<Vec<_>>() {
                let grandparent = slots.head(parent_slot).map_or(u32::MAX, |head| head.parent);
                reshaped |= self.inner.insert((grandparent, parent, parent_slot));
            }
        }
        if self.has_children(spiffe_id) {
            reshaped |= self.inner.insert((parent, spiffe_id, slot));
        }
        if reshaped {
            self.topology = Arc::new(());
        }
    }

    /// Takes an entry out of every index. Its record is still in its slot.
    pub(super) fn remove(&mut self, slot: u32, head: &Head<'_>, is_alias: bool, slots: &Slots) {
        let Numbers { spiffe_id, parent, selectors } = head.numbers();
        if let Some(id) = head.entry_id() {
            self.by_id.remove(hash_of(id), slot);
        }
        self.by_likeness.remove(likeness(parent, spiffe_id, &selectors), slot);
        if let Some(listed) = selectors.first() {
            self.postings.remove(*listed, parent, slot);
        }
        if let Some(end) = head.expires_at() {
            self.by_end.remove(&(end.0, head.creation_number, slot));
        }
        self.by_parent.remove(&(parent, slot));
        let mut reshaped = is_alias;
        reshaped |= self.inner.remove(&(parent, spiffe_id, slot));
        if !self.has_children(parent) {
            for parent_slot in self.with_spiffe_id(parent).collect::<Vec<_>>() {
                let grandparent = slots.head(parent_slot).map_or(u32::MAX, |head| head.parent);
                reshaped |= self.inner.remove(&(grandparent, parent, parent_slot));
            }
        }
        self.by_spiffe_id.remove(&(spiffe_id, slot));
        if reshaped {
            self.topology = Arc::new(());
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many entries each index holds: by ID, likeness, SPIFFE ID, parent, end, and the inner edges.
    pub(super) fn sizes(&self) -> [usize; 6] {
        [
            self.by_id.len(),
            self.by_likeness.len(),
            self.by_spiffe_id.len(),
            self.by_parent.len(),
            self.by_end.len(),
            self.inner.len(),
        ]
    }

    /// The slot of the entry with this ID.
    pub(super) fn slot_of(&self, id: IdKey<'_>, slots: &Slots) -> Option<u32> {
        self.by_id.find(hash_of(id), |slot| slots.head(slot).and_then(|head| head.entry_id()) == Some(id))
    }

    /// The entry with this parent, SPIFFE ID and set of selectors that was created first.
    pub(super) fn alike(&self, wanted: &Numbers, slots: &Slots) -> Option<u32> {
        let wanted_selectors = sorted(&wanted.selectors);
        let candidates = self.by_likeness.candidates(likeness(wanted.parent, wanted.spiffe_id, &wanted.selectors));
        candidates
            .filter_map(|slot| {
                let head = slots.head(slot)?;
                let is_alike = head.parent == wanted.parent
                    && head.spiffe_id == wanted.spiffe_id
                    && sorted(&head.numbers().selectors) == wanted_selectors;
                is_alike.then_some((head.creation_number, slot))
            })
            .min()
            .map(|(_, slot)| slot)
    }

    /// Slots of the entries with this SPIFFE ID.
    pub(super) fn with_spiffe_id(&self, spiffe_id: u32) -> impl Iterator<Item = u32> {
        self.by_spiffe_id.range((spiffe_id, 0)..=(spiffe_id, u32::MAX)).map(|(_, slot)| *slot)
    }

    /// Slots of the entries with this parent.
    pub(super) fn with_parent(&self, parent: u32) -> impl Iterator<Item = u32> {
        self.by_parent.range((parent, 0)..=(parent, u32::MAX)).map(|(_, slot)| *slot)
    }

    /// Ends and slots of the entries that have an end, the earliest first.
    pub(super) fn ends(&self) -> impl Iterator<Item = (i64, u32)> {
        self.by_end.iter().map(|(end, _, slot)| (*end, *slot))
    }

    /// The inner edges that lead away from this parent: SPIFFE ID and slot.
    pub(super) fn inner_edges(&self, parent: u32) -> impl Iterator<Item = (u32, u32)> {
        self.inner.range((parent, 0, 0)..=(parent, u32::MAX, u32::MAX)).map(|(_, id, slot)| (*id, *slot))
    }

    /// Entries under each selector.
    pub(super) const fn postings(&self) -> &Postings {
        &self.postings
    }

    /// What stands for the present shape of the tree of parents.
    pub(super) const fn topology(&self) -> &Arc<()> {
        &self.topology
    }

    /// Says that the shape is the one that this stands for after all: entries were moved, and none has changed.
    pub(super) fn keep_topology(&mut self, topology: Arc<()>) {
        self.topology = topology;
    }

    fn has_children(&self, id: u32) -> bool {
        self.with_parent(id).next().is_some()
    }
}

fn sorted(numbers: &[u32]) -> Vec<u32> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers
}

/// The hash of what makes entries alike. Selectors are summed up, so that their order does not matter.
fn likeness(parent: u32, spiffe_id: u32, selectors: &[u32]) -> u64 {
    let sum = selectors.iter().fold(0_u64, |sum, selector| sum.wrapping_add(hash_of(selector)));
    hash_of((parent, spiffe_id, sum))
}

fn likeness_hash(slots: &Slots, slot: u32) -> u64 {
    slots.head(slot).map_or(0, |head| likeness(head.parent, head.spiffe_id, &head.numbers().selectors))
}

fn id_hash(slots: &Slots, slot: u32) -> u64 {
    slots.head(slot).and_then(|head| head.entry_id()).map_or(0, hash_of)
}
