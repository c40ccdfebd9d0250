//! Filters of listings (spire-api.md section 7).

use std::collections::BTreeSet;

use quorate_proto_identity::{SelectorSet, SpiffeId, TrustDomain};

use crate::entry::Entry;

/// Which entries a listing is about. Every given condition must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryFilter {
    /// The entry gives this SPIFFE ID.
    pub spiffe_id: Option<SpiffeId>,
    /// The entry has this parent.
    pub parent_id: Option<SpiffeId>,
    /// The entry's selectors match this set. An empty set is for the caller to refuse; here no entry matches it.
    pub selectors: Option<(SelectorSet, MatchMode)>,
    /// The trust domains that the entry federates with match this set; an empty one as above.
    pub federates_with: Option<(BTreeSet<TrustDomain>, MatchMode)>,
    /// The entry has just this hint.
    pub hint: Option<String>,
    /// The entry is (or is not) for a downstream authority.
    pub downstream: Option<bool>,
}

/// How an entry's set E is compared with the given set G.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchMode {
    /// E = G.
    Exact,
    /// E is a part of G, and not empty.
    Subset,
    /// G is a part of E.
    Superset,
    /// E and G have something in common.
    Any,
}

impl EntryFilter {
    /// Whether an entry meets every condition.
    #[must_use]
    pub fn lets_through(&self, entry: &Entry) -> bool {
        let Self { spiffe_id, parent_id, selectors, federates_with, hint, downstream } = self;
        spiffe_id.as_ref().is_none_or(|wanted| *wanted == entry.spiffe_id)
            && parent_id.as_ref().is_none_or(|wanted| *wanted == entry.parent_id)
            && hint.as_ref().is_none_or(|wanted| *wanted == entry.hint)
            && downstream.is_none_or(|wanted| wanted == entry.downstream)
            && selectors.as_ref().is_none_or(|(given, mode)| {
                let of_entry: BTreeSet<_> = entry.selectors.iter().collect();
                mode.holds(&of_entry, &given.iter().collect())
            })
            && federates_with.as_ref().is_none_or(|(given, mode)| mode.holds(&entry.federates_with, given))
    }
}

impl MatchMode {
    /// Whether the entry's set and the given one stand in this relation.
    pub(crate) fn holds<T: Ord>(self, of_entry: &BTreeSet<T>, given: &BTreeSet<T>) -> bool {
        if of_entry.is_empty() || given.is_empty() {
            return false;
        }
        match self {
            Self::Exact => of_entry == given,
            Self::Subset => of_entry.is_subset(given),
            Self::Superset => of_entry.is_superset(given),
            Self::Any => !of_entry.is_disjoint(given),
        }
    }
}
