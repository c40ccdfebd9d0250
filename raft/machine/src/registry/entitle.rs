//! Which entries entitle a workload (design section 5).

use quorate_proto_identity::{SelectorSet, UnixSeconds};

use super::Registry;
use super::packed::{Head, brief};
use super::scope::{Entitled, Entitlement, NodeScope};
use crate::entry::Entry;

impl Registry {
    /// The entries that entitle a workload with these selectors on a node with this scope.
    pub(crate) fn entitled(
        &self,
        scope: &NodeScope,
        selectors: &SelectorSet,
        now: UnixSeconds,
        limit: usize,
    ) -> Entitled {
        let mut found = Vec::new();
        self.matching(&self.parents_in(scope, now), selectors, now, |slot, head| {
            found.push((head.creation_number, slot));
        });
        found.sort_unstable();
        let left_out = found.len().saturating_sub(limit);
        let entitlements = found
            .into_iter()
            .take(limit)
            .filter_map(|(_, slot)| {
                let head = self.slots.head(slot)?;
                let (entry_id, created_at, revision_number) = brief(&head)?;
                Some(Entitlement {
                    entry_id,
                    revision_number,
                    created_at,
                    creation_number: head.creation_number,
                    expires_at: head.expires_at(),
                })
            })
            .collect();
        Entitled { entitlements, left_out }
    }

    /// Whether the parent of an entry is in a node's scope.
    pub(crate) fn in_scope(&self, scope: &NodeScope, entry: &Entry, now: UnixSeconds) -> bool {
        scope.parents().any(|parent| *parent == entry.parent_id)
            || self
                .path_number(&entry.parent_id)
                .is_some_and(|parent| self.parents_in(scope, now).binary_search(&parent).is_ok())
    }

    /// Calls `found` with every unexpired entry that has one of these parents, which are sorted, and whose selectors
    /// are all among these.
    pub(super) fn matching(
        &self,
        parents: &[u32],
        selectors: &SelectorSet,
        now: UnixSeconds,
        mut found: impl FnMut(u32, &Head<'_>),
    ) {
        let mut held: Vec<u32> =
            selectors.iter().filter_map(|selector| self.selectors.number(selector.as_str())).collect();
        held.sort_unstable();
        for listed in &held {
            self.indexes.postings().under(*listed, parents, |slot| {
                let entitling = self.slots.head(slot).filter(|head| {
                    !head.is_expired(now)
                        && head.selector_count() <= held.len()
                        && head.selectors().all(|selector| held.binary_search(&selector).is_ok())
                });
                if let Some(head) = entitling {
                    found(slot, &head);
                }
            });
        }
    }
}
