//! Maps of small objects, each map with a running hash over what it holds.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::hash::StateHash;

/// Something the state holds one or many of, with a stored form of its own.
pub(crate) trait Object {
    /// Tells its kind from others in the state hash and in snapshots; never changes meaning.
    const KIND: u8;

    /// Its canonical stored bytes: equal objects give equal bytes, different objects different ones.
    fn stored(&self) -> Vec<u8>;

    /// What of it enters the state hash: all of its stored bytes, but for words that versions of this program may put
    /// differently.
    fn hashed(&self) -> Vec<u8> {
        self.stored()
    }

    /// Its share of the state hash.
    fn object_hash(&self) -> StateHash {
        StateHash::of(Self::KIND, &self.hashed())
    }
}

/// Objects by key. Every change goes through [`Objects::put`] and [`Objects::remove`], which keep the hash.
#[derive(Debug, Clone)]
pub(crate) struct Objects<K, V> {
    map: BTreeMap<K, Arc<V>>,
    hash: StateHash,
}

impl<K, V> Default for Objects<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), hash: StateHash::default() }
    }
}

impl<K: Ord, V: Object> Objects<K, V> {
    /// The object under this key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key).map(Arc::as_ref)
    }

    /// The object under this key, to be kept by whoever reads it.
    pub(crate) fn shared(&self, key: &K) -> Option<&Arc<V>> {
        self.map.get(key)
    }

    /// Puts an object in, in place of the one under the same key.
    pub(crate) fn put(&mut self, key: K, value: V) {
        self.hash = self.hash.plus(value.object_hash());
        if let Some(former) = self.map.insert(key, Arc::new(value)) {
            self.hash = self.hash.minus(former.object_hash());
        }
    }

    /// Takes an object out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        let removed = self.map.remove(key)?;
        self.hash = self.hash.minus(removed.object_hash());
        Some(removed)
    }

    /// The lowest key.
    pub(crate) fn first_key(&self) -> Option<&K> {
        self.map.first_key_value().map(|(key, _)| key)
    }

    /// Keys and objects of a range of keys, in their order.
    pub(crate) fn range(&self, keys: RangeInclusive<K>) -> impl Iterator<Item = (&K, &V)> + use<'_, K, V> {
        self.map.range(keys).map(|(key, value)| (key, value.as_ref()))
    }

    /// Every object, in the order of the keys.
    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.map.values().map(Arc::as_ref)
    }

    /// Every object, in the order of the keys, to be kept by whoever reads it.
    pub(crate) fn shared_values(&self) -> impl DoubleEndedIterator<Item = &Arc<V>> {
        self.map.values()
    }

    /// Every key and object, in the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter().map(|(key, value)| (key, value.as_ref()))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// The sum over all objects.
    pub(crate) const fn hash(&self) -> StateHash {
        self.hash
    }
}
