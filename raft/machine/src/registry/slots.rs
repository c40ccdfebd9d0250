//! Records of entries in the order of creation.
//!
//! Creation numbers only grow, so a new record always goes to the end of the last chunk, and the chunks in order are
//! the listing: no index is needed for it. A deleted record leaves a vacant place; when two chunks side by side are
//! together at most half full, they are made one, so that deletions never leave more than three quarters of the places
//! vacant.

use std::sync::Arc;

use super::chunk::{Chunk, RECORDS_PER_CHUNK, number_of, place_of};
use super::packed::Head;

/// Records by slot: a number that stays the same until its chunk is made one with another.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    chunks: Vec<Held>,
    /// Numbers of the chunks in use, in the order of creation of what they hold.
    order: Vec<usize>,
    /// Numbers of chunks that are not in use.
    vacant: Vec<usize>,
}

#[derive(Debug, Clone, Default)]
struct Held {
    /// Creation number of the first record that it ever held.
    first: u64,
    /// How many records it holds.
    live: usize,
    records: Arc<Chunk>,
}

impl Slots {
    /// The record in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&[u8]> {
        let (chunk, place) = place_of(slot);
        self.chunks.get(chunk)?.records.get(place)
    }

    /// The head of the record in a slot.
    pub(super) fn head(&self, slot: u32) -> Option<Head<'_>> {
        Head::read(self.get(slot)?)
    }

    /// Adds the record of an entry created after all others, and answers its slot.
    pub(super) fn append(&mut self, creation_number: u64, record: &[u8]) -> u32 {
        let open = self.order.last().copied().filter(|last| {
            self.chunks.get(*last).is_some_and(|held| !held.records.is_full() && held.first <= creation_number)
        });
        let chunk = open.unwrap_or_else(|| {
            let fresh = self.fresh(creation_number);
            self.order.push(fresh);
            fresh
        });
        self.push(chunk, record)
    }

    /// Puts another record into a slot.
    pub(super) fn replace(&mut self, slot: u32, record: &[u8]) {
        let (chunk, place) = place_of(slot);
        if let Some(held) = self.chunks.get_mut(chunk) {
            Arc::make_mut(&mut held.records).set(place, record);
        }
    }

    /// Takes the record out of a slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let (chunk, place) = place_of(slot);
        let Some(held) = self.chunks.get_mut(chunk) else {
            return;
        };
        Arc::make_mut(&mut held.records).set(place, &[]);
        held.live = held.live.saturating_sub(1);
        if held.live == 0 {
            self.drop_chunk(chunk);
        }
    }

    /// Two chunks side by side, one of them that of the slot, that are together at most half full.
    pub(super) fn sparse_pair(&self, slot: u32) -> Option<(usize, usize)> {
        let (chunk, _) = place_of(slot);
        let position = self.position(chunk)?;
        let before = position.checked_sub(1).and_then(|before| self.order.get(before)).copied();
        let after = self.order.get(position.saturating_add(1)).copied();
        let live = |chunk: usize| self.chunks.get(chunk).map_or(0, |held| held.live);
        let fits = |left: usize, right: usize| live(left).saturating_add(live(right)) <= RECORDS_PER_CHUNK / 2;
        match (before, after) {
            (Some(before), _) if fits(before, chunk) => Some((before, chunk)),
            (_, Some(after)) if fits(chunk, after) => Some((chunk, after)),
            _ => None,
        }
    }

    /// Slots and records of a chunk.
    pub(super) fn records_of(&self, chunk: usize) -> Vec<(u32, Vec<u8>)> {
        let Some(held) = self.chunks.get(chunk) else {
            return Vec::new();
        };
        held.records.iter().map(|(place, record)| (number_of(chunk, place), record.to_vec())).collect()
    }

    /// Makes two chunks side by side one that holds these records, and answers their new slots.
    pub(super) fn merge(&mut self, left: usize, right: usize, records: &[Vec<u8>]) -> Vec<u32> {
        let Some(position) = self.position(left) else {
            return Vec::new();
        };
        let first = self.chunks.get(left).map_or(0, |held| held.first);
        let merged = self.fresh(first);
        if let Some(place) = self.order.get_mut(position) {
            *place = merged;
        }
        self.release(left);
        self.drop_chunk(right);
        records.iter().map(|record| self.push(merged, record)).collect()
    }

    /// Every slot and record of entries created after this number, in the order of creation.
    pub(super) fn after(&self, creation_number: u64) -> impl Iterator<Item = (u32, Head<'_>)> {
        let later = self
            .order
            .partition_point(|chunk| self.chunks.get(*chunk).is_some_and(|held| held.first <= creation_number));
        let chunks = self.order.get(later.saturating_sub(1)..).unwrap_or_default();
        chunks
            .iter()
            .filter_map(|chunk| Some((*chunk, self.chunks.get(*chunk)?)))
            .flat_map(|(chunk, held)| {
                held.records
                    .iter()
                    .filter_map(move |(place, record)| Some((number_of(chunk, place), Head::read(record)?)))
            })
            .filter(move |(_, head)| head.creation_number > creation_number)
    }

    /// The chunks in the order of creation, for whoever reads them at this instant later on.
    pub(super) fn chunks_in_order(&self) -> Vec<Arc<Chunk>> {
        self.order.iter().filter_map(|chunk| Some(Arc::clone(&self.chunks.get(*chunk)?.records))).collect()
    }

    fn push(&mut self, chunk: usize, record: &[u8]) -> u32 {
        let mut place = 0;
        if let Some(held) = self.chunks.get_mut(chunk) {
            place = held.records.len();
            Arc::make_mut(&mut held.records).push(record);
            held.live = held.live.saturating_add(1);
        }
        number_of(chunk, place)
    }

    /// A chunk that is not in the order yet.
    fn fresh(&mut self, first: u64) -> usize {
        let held = Held { first, live: 0, records: Arc::default() };
        match self.vacant.pop() {
            Some(chunk) => {
                if let Some(place) = self.chunks.get_mut(chunk) {
                    *place = held;
                }
                chunk
            }
            None => {
                self.chunks.push(held);
                self.chunks.len().saturating_sub(1)
            }
        }
    }

    fn drop_chunk(&mut self, chunk: usize) {
        if let Some(position) = self.position(chunk) {
            self.order.remove(position);
            self.release(chunk);
        }
    }

    fn release(&mut self, chunk: usize) {
        if let Some(held) = self.chunks.get_mut(chunk) {
            *held = Held::default();
            self.vacant.push(chunk);
        }
    }

    /// Where a chunk stands in the order.
    fn position(&self, chunk: usize) -> Option<usize> {
        let first = self.chunks.get(chunk)?.first;
        let position = self
            .order
            .binary_search_by_key(&first, |other| self.chunks.get(*other).map_or(0, |held| held.first))
            .ok()?;
        (self.order.get(position) == Some(&chunk)).then_some(position)
    }
}
