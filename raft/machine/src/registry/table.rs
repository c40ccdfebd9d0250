//! A hash table of numbers that grows a part at a time.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

/// How many parts a table has. A table that doubles must hash all it holds again, which for a million entries would hold
/// up one command for a tenth of a second; each part does so by itself.
const SHARDS: usize = 64;

/// Numbers, found by the hash of what they stand for. Five bytes for each place, and never iterated: what a lookup
/// finds does not depend on the order of what is in it.
#[derive(Debug, Clone)]
pub(super) struct Table {
    shards: Vec<HashTable<u32>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { shards: std::iter::repeat_with(HashTable::new).take(SHARDS).collect() }
    }
}

/// The hash of a key. The seed is fixed: who can choose keys (an administrator) can make tables slow, and has shorter
/// ways to do so.
pub(super) fn hash_of(key: impl Hash) -> u64 {
    FixedState::with_seed(0).hash_one(key)
}

impl Table {
    /// The number with this hash that `is_wanted` picks.
    pub(super) fn find(&self, hash: u64, mut is_wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        self.shard(hash)?.find(hash, |number| is_wanted(*number)).copied()
    }

    /// Every number with this hash, and perhaps some with others, in no order.
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        self.shard(hash).into_iter().flat_map(move |shard| shard.iter_hash(hash).copied())
    }

    /// Puts a number in. `rehash` is asked for the hashes of others when the part must grow.
    pub(super) fn insert(&mut self, hash: u64, number: u32, rehash: impl Fn(u32) -> u64) {
        if let Some(shard) = self.shards.get_mut(shard_of(hash)) {
            shard.insert_unique(hash, number, |number| rehash(*number));
        }
    }

    /// A table of these numbers, each with its hash. `is_same` is asked of numbers with the same hash; `None` says that
    /// it picked two. `rehash` is asked for nothing, since no part has to grow.
    pub(super) fn of(
        mut numbers: Vec<(u64, u32)>,
        is_same: impl Fn(u32, u32) -> bool,
        rehash: impl Fn(u32) -> u64,
    ) -> Option<Self> {
        // Part by part, so that what is written lies close together.
        numbers.sort_unstable_by_key(|(hash, number)| (shard_of(*hash), *hash, *number));
        let same_hash = numbers.chunk_by(|(one, _), (other, _)| one == other).filter(|group| group.len() > 1);
        for group in same_hash {
            let repeats = |(place, (_, one)): (usize, &(u64, u32))| {
                group.iter().skip(place.saturating_add(1)).any(|(_, other)| is_same(*one, *other))
            };
            if group.iter().enumerate().any(repeats) {
                return None;
            }
        }
        let mut table = Self::default();
        for part in numbers.chunk_by(|(one, _), (other, _)| shard_of(*one) == shard_of(*other)) {
            let shard = part.first().and_then(|(hash, _)| table.shards.get_mut(shard_of(*hash)));
            if let Some(shard) = shard {
                shard.reserve(part.len(), |number| rehash(*number));
                for (hash, number) in part {
                    shard.insert_unique(*hash, *number, |number| rehash(*number));
                }
            }
        }
        Some(table)
    }

    /// Makes room for this many numbers in an empty table.
    pub(super) fn make_room(&mut self, count: usize) {
        for shard in self.shards.iter_mut().filter(|shard| shard.is_empty()) {
            // Hashes spread numbers evenly, but not to the last one: a sixteenth more keeps parts from growing.
            let share = count / SHARDS;
            shard.reserve(share.saturating_add(share / 16), |_| 0);
        }
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let shard = self.shards.get_mut(shard_of(hash));
        if let Some(Ok(found)) = shard.map(|shard| shard.find_entry(hash, |held| *held == number)) {
            found.remove();
        }
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }

    fn shard(&self, hash: u64) -> Option<&HashTable<u32>> {
        self.shards.get(shard_of(hash))
    }
}

/// The part that a hash belongs to: bits that the parts themselves use neither for places (the lowest) nor for tags (the
/// highest seven).
fn shard_of(hash: u64) -> usize {
    usize::try_from((hash >> 48) % 64).unwrap_or(0) % SHARDS
}
