//! Registration entries in memory, and the questions asked of them.

mod filter;
mod scope;

pub use filter::{EntryFilter, MatchMode};
pub use scope::{Entitled, Entitlement, NODE_SELECTOR_TYPE, NodeScope, node_id};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_proto_identity::{EntryId, SelectorSet, SpiffeId, UnixSeconds};

use crate::entry::Entry;
use crate::hash::StateHash;
use crate::objects::Objects;

/// All entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    entries: Objects<u64, Entry>,
    by_id: BTreeMap<EntryId, u64>,
    topology: Arc<()>,
}

impl Registry {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn hash(&self) -> StateHash {
        self.entries.hash()
    }

    pub(crate) fn get(&self, id: &EntryId) -> Option<Entry> {
        self.by_id.get(id).and_then(|number| self.entries.get(number)).cloned()
    }

    pub(crate) fn contains(&self, id: &EntryId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(crate) fn found(&mut self, _domain: &quorate_proto_identity::TrustDomain) {}

    pub(crate) fn topology(&self) -> Arc<()> {
        Arc::clone(&self.topology)
    }

    pub(crate) fn insert(&mut self, entry: &Entry) {
        self.topology = Arc::default();
        self.by_id.insert(entry.id.clone(), entry.creation_number);
        self.entries.put(entry.creation_number, entry.clone());
    }

    pub(crate) fn replace(&mut self, _before: &Entry, after: &Entry) {
        self.insert(after);
    }

    pub(crate) fn remove(&mut self, id: &EntryId) -> Option<Entry> {
        let number = self.by_id.remove(id)?;
        self.topology = Arc::default();
        self.entries.remove(&number).map(|entry| entry.as_ref().clone())
    }

    pub(crate) fn similar(&self, parent: &SpiffeId, spiffe_id: &SpiffeId, selectors: &SelectorSet) -> Option<EntryId> {
        self.entries
            .values()
            .find(|e| e.parent_id == *parent && e.spiffe_id == *spiffe_id && e.selectors == *selectors)
            .map(|e| e.id.clone())
    }

    pub(crate) fn list(&self, filter: &EntryFilter, after: u64, limit: usize) -> Vec<Arc<Entry>> {
        self.entries
            .values()
            .filter(|entry| entry.creation_number > after && filter.lets_through(entry))
            .take(limit)
            .map(|entry| Arc::new(entry.clone()))
            .collect()
    }

    pub(crate) fn count(&self, filter: &EntryFilter) -> usize {
        self.entries.values().filter(|entry| filter.lets_through(entry)).count()
    }

    pub(crate) fn next_expiry(&self) -> Option<UnixSeconds> {
        self.entries.values().filter_map(|entry| entry.expires_at).min()
    }

    pub(crate) fn expired(&self, now: UnixSeconds, limit: usize) -> Vec<EntryId> {
        let mut expired: Vec<_> = self
            .entries
            .values()
            .filter_map(|entry| {
                entry.expires_at.filter(|at| *at < now).map(|at| (at, entry.creation_number, &entry.id))
            })
            .collect();
        expired.sort();
        expired.into_iter().take(limit).map(|(_, _, id)| id.clone()).collect()
    }

    fn reachable(&self, scope: &NodeScope, now: UnixSeconds) -> BTreeSet<SpiffeId> {
        let unexpired = |entry: &&Entry| entry.expires_at.is_none_or(|at| at >= now);
        let mut reach: BTreeSet<SpiffeId> = scope.parents().cloned().collect();
        for alias in self.entries.values().filter(unexpired) {
            if alias.parent_id == *scope.alias_parent() && alias.selectors.is_subset_of(scope.selectors()) {
                reach.insert(alias.spiffe_id.clone());
            }
        }
        loop {
            let before = reach.len();
            for entry in self.entries.values().filter(unexpired) {
                if reach.contains(&entry.parent_id) {
                    reach.insert(entry.spiffe_id.clone());
                }
            }
            if reach.len() == before {
                return reach;
            }
        }
    }

    pub(crate) fn in_scope(&self, scope: &NodeScope, entry: &Entry, now: UnixSeconds) -> bool {
        self.reachable(scope, now).contains(&entry.parent_id)
    }

    pub(crate) fn entitled(
        &self,
        scope: &NodeScope,
        selectors: &SelectorSet,
        now: UnixSeconds,
        limit: usize,
    ) -> Entitled {
        let reach = self.reachable(scope, now);
        let mut entitlements: Vec<Entitlement> = self
            .entries
            .values()
            .filter(|entry| entry.expires_at.is_none_or(|at| at >= now))
            .filter(|entry| reach.contains(&entry.parent_id) && entry.selectors.is_subset_of(selectors))
            .map(Entitlement::of)
            .collect();
        let left_out = entitlements.len().saturating_sub(limit);
        entitlements.truncate(limit);
        Entitled { entitlements, left_out }
    }
}
