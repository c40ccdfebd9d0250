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
