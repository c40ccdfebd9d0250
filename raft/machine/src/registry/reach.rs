//! The parents whose entries a node serves: what lies in its scope.
//!
//! ```text
//!   own ID ------+
//!   /spire/nodes +---> parents ---> entries under them ---> their SPIFFE IDs are parents in turn
//!   aliases -----+        ^                                             |
//!                         +---------------------------------------------+   (cycles are walked once)
//! ```
//!
//! Only entries whose SPIFFE ID is somebody's parent must be walked (the inner edges of the indexes), so the walk does not
//! grow with the number of entries under a node. Its result is kept with the scope, and holds until the shape of the
//! tree changes ([`Indexes::topology`](super::indexes::Indexes)) or an entry that was on the way expires.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use quorate_proto_identity::UnixSeconds;

use super::Registry;
use super::scope::NodeScope;

/// What a walk found.
#[derive(Debug)]
pub(super) struct Reach {
    /// Numbers of SPIFFE IDs reached by way of entries: those of aliases, and of descendants that are parents.
    by_entries: BTreeSet<u32>,
    /// When the walk was made.
    from: UnixSeconds,
    /// When the first entry on the way ends, if any does.
    until: Option<UnixSeconds>,
}

/// A walk, and the shape of the tree that it was made on.
pub(super) type CachedReach = Option<(Arc<()>, Arc<Reach>)>;

impl Registry {
    /// Numbers of every parent in a scope, in ascending order.
    pub(super) fn parents_in(&self, scope: &NodeScope, now: UnixSeconds) -> Vec<u32> {
        let reach = self.reach(scope, now);
        // Own ID and built-in parent are looked up each time: that an entry hangs under one of them for the first time
        // does not change the shape of the tree.
        let mut parents: Vec<u32> = reach.by_entries.iter().copied().collect();
        parents.extend(scope.parents().filter_map(|parent| self.path_number(parent)));
        parents.sort_unstable();
        parents.dedup();
        parents
    }

    fn reach(&self, scope: &NodeScope, now: UnixSeconds) -> Arc<Reach> {
        let topology = self.indexes.topology();
        let mut cached = scope.reach().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((shape, reach)) = cached.as_ref()
            && Arc::ptr_eq(shape, topology)
            && reach.from <= now
            && reach.until.is_none_or(|until| now <= until)
        {
            return Arc::clone(reach);
        }
        let reach = Arc::new(self.walk(scope, now));
        *cached = Some((Arc::clone(topology), Arc::clone(&reach)));
        reach
    }

    fn walk(&self, scope: &NodeScope, now: UnixSeconds) -> Reach {
        let mut by_entries = BTreeSet::new();
        let mut until: Option<UnixSeconds> = None;
        let mut note_end = |end: Option<UnixSeconds>| {
            until = match (until, end) {
                (Some(until), Some(end)) => Some(until.min(end)),
                (one, other) => one.or(other),
            };
        };
        let mut open: Vec<u32> = scope.parents().filter_map(|parent| self.path_number(parent)).collect();
        if let Some(alias_parent) = self.path_number(scope.alias_parent()) {
            self.matching(&[alias_parent], scope.selectors(), now, |_, head| {
                note_end(head.expires_at());
                if by_entries.insert(head.spiffe_id) {
                    open.push(head.spiffe_id);
                }
            });
        }
        while let Some(parent) = open.pop() {
            for (id, slot) in self.indexes.inner_edges(parent) {
                let Some(head) = self.slots.head(slot).filter(|head| !head.is_expired(now)) else {
                    continue;
                };
                note_end(head.expires_at());
                if by_entries.insert(id) {
                    open.push(id);
                }
            }
        }
        Reach { by_entries, from: now, until }
    }
}
