//! Listings and counts.

use std::sync::Arc;

use quorate_proto_identity::{SelectorSet, SpiffeId};

use super::Registry;
use super::filter::{EntryFilter, MatchMode};
use super::packed::Head;
use crate::entry::Entry;

/// An index is followed when it leads to at most this part of all entries; else they are read in order, which is faster
/// for each and needs no sorting.
const INDEX_PART: usize = 16;

/// A filter in terms of numbers: what can be decided without making the entry. To count by hint among a million of them
/// takes some 30 ms so, and took 2.5 s when each was made.
struct Numbered<'a> {
    spiffe_id: Option<u32>,
    parent: Option<u32>,
    selectors: Option<(Vec<u32>, MatchMode)>,
    downstream: Option<bool>,
    hint: Option<&'a str>,
    is_federated: bool,
}

impl Registry {
    /// Entries that the filter lets through, in the order of creation.
    pub(crate) fn list(&self, filter: &EntryFilter, after: u64, limit: usize) -> Vec<Arc<Entry>> {
        let mut entries = Vec::new();
        self.visit(filter, after, |_, entry| {
            if entries.len() < limit {
                entries.extend(entry().map(Arc::new));
            }
            entries.len() < limit
        });
        entries
    }

    /// How many entries the filter lets through.
    pub(crate) fn count(&self, filter: &EntryFilter) -> usize {
        if *filter == EntryFilter::default() {
            return self.len();
        }
        let mut count = 0_usize;
        self.visit(filter, 0, |_, _| {
            count = count.saturating_add(1);
            true
        });
        count
    }

    /// Calls `each` with every entry that the filter lets through, until it answers `false`. The entry itself is made
    /// only when asked for.
    fn visit(
        &self,
        filter: &EntryFilter,
        after: u64,
        mut each: impl FnMut(&Head<'_>, &dyn Fn() -> Option<Entry>) -> bool,
    ) {
        let Some(numbered) = self.numbered(filter) else {
            return;
        };
        let mut visit_one = |slot: u32, head: &Head<'_>| {
            if !numbered.lets_through(head) {
                return true;
            }
            let entry = || self.entry_in(slot);
            if numbered.is_federated && !entry().is_some_and(|entry| filter.lets_through(&entry)) {
                return true;
            }
            each(head, &entry)
        };
        match self.narrow(&numbered) {
            Some(slots) => {
                let mut found: Vec<(u64, u32)> = slots
                    .into_iter()
                    .filter_map(|slot| Some((self.slots.head(slot)?.creation_number, slot)))
                    .filter(|(creation_number, _)| *creation_number > after)
                    .collect();
                found.sort_unstable();
                for (_, slot) in found {
                    if self.slots.head(slot).is_some_and(|head| !visit_one(slot, &head)) {
                        return;
                    }
                }
            }
            None => {
                for (slot, head) in self.slots.after(after) {
                    if !visit_one(slot, &head) {
                        return;
                    }
                }
            }
        }
    }

    /// The filter in numbers; `None` when it asks for a text that no entry has, so that nothing can pass.
    fn numbered<'a>(&self, filter: &'a EntryFilter) -> Option<Numbered<'a>> {
        let path = |id: &Option<SpiffeId>| match id {
            Some(id) => self.path_number(id).map(Some),
            None => Some(None),
        };
        let selectors = match &filter.selectors {
            Some((given, mode)) => Some((self.selector_numbers(given, *mode)?, *mode)),
            None => None,
        };
        Some(Numbered {
            spiffe_id: path(&filter.spiffe_id)?,
            parent: path(&filter.parent_id)?,
            selectors,
            downstream: filter.downstream,
            hint: filter.hint.as_deref(),
            is_federated: filter.federates_with.is_some(),
        })
    }

    /// Numbers of the given selectors, in ascending order. One that no entry has decides `Exact` and `Superset`, and
    /// does not matter to the others.
    fn selector_numbers(&self, given: &SelectorSet, mode: MatchMode) -> Option<Vec<u32>> {
        let mut numbers = Vec::with_capacity(given.len());
        for selector in given {
            match (self.selectors.number(selector.as_str()), mode) {
                (Some(number), _) => numbers.push(number),
                (None, MatchMode::Exact | MatchMode::Superset) => return None,
                (None, MatchMode::Subset | MatchMode::Any) => {}
            }
        }
        numbers.sort_unstable();
        (!numbers.is_empty()).then_some(numbers)
    }

    /// Slots among which everything is that the filter lets through, if an index leads to few enough of them.
    fn narrow(&self, filter: &Numbered<'_>) -> Option<Vec<u32>> {
        let most = self.len() / INDEX_PART;
        let mut narrowest: Option<Vec<u32>> = None;
        let mut offer = |slots: Vec<u32>| {
            let narrower = slots.len() <= most && narrowest.as_ref().is_none_or(|known| slots.len() < known.len());
            if narrower {
                narrowest = Some(slots);
            }
        };
        let enough = most.saturating_add(1);
        if let Some(spiffe_id) = filter.spiffe_id {
            offer(self.indexes.with_spiffe_id(spiffe_id).take(enough).collect());
        }
        if let Some(parent) = filter.parent {
            offer(self.indexes.with_parent(parent).take(enough).collect());
        }
        if let Some((given, MatchMode::Exact | MatchMode::Subset)) = &filter.selectors {
            // Each entry that matches is listed under one of the given selectors.
            let mut slots = Vec::new();
            for selector in given {
                self.indexes.postings().all(*selector, |slot| slots.push(slot));
            }
            offer(slots);
        }
        narrowest
    }
}

impl Numbered<'_> {
    fn lets_through(&self, head: &Head<'_>) -> bool {
        self.spiffe_id.is_none_or(|wanted| wanted == head.spiffe_id)
            && self.parent.is_none_or(|wanted| wanted == head.parent)
            && self.downstream.is_none_or(|wanted| wanted == head.is_downstream())
            && (!self.is_federated || head.is_federated())
            && self.hint.is_none_or(|wanted| head.hint() == Some(wanted))
            && self.selectors.as_ref().is_none_or(|(given, mode)| mode.holds_for(head, given))
    }
}

impl MatchMode {
    /// Whether an entry's selectors and the given ones, which are sorted and of which there are some, stand in this
    /// relation.
    fn holds_for(self, head: &Head<'_>, given: &[u32]) -> bool {
        let common = head.selectors().filter(|selector| given.binary_search(selector).is_ok()).count();
        let of_entry = head.selector_count();
        match self {
            Self::Exact => common == of_entry && common == given.len(),
            Self::Subset => common == of_entry,
            Self::Superset => common == given.len(),
            Self::Any => common > 0,
        }
    }
}
