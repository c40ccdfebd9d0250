//! Which entries a selector leads to.
//!
//! An entry is listed under one of its selectors only, the one that fewest entries had when it was indexed. A workload
//! has all selectors of an entry or is not entitled by it, so looking under each of the workload's selectors finds every
//! entry; and what is looked at are entries that share the workload's rarest traits, not all those of `unix:uid:0`.
//! Within a selector entries are kept by parent, so that those of other hosts are never looked at.

use std::collections::BTreeSet;

/// Up to how many entries under a selector are kept as a plain sorted list.
const FEW: usize = 64;

/// Entries under each selector, the selector's number being the index.
#[derive(Debug, Clone, Default)]
pub(super) struct Postings {
    lists: Vec<Posting>,
}

/// Entries under one selector, as parent and slot, in ascending order.
#[derive(Debug, Clone)]
enum Posting {
    Few(Vec<(u32, u32)>),
    Many(BTreeSet<(u32, u32)>),
}

impl Postings {
    /// Lists of these entries, each as selector, parent, slot.
    pub(super) fn of(mut entries: Vec<(u32, u32, u32)>) -> Self {
        entries.sort_unstable();
        let mut lists = Vec::new();
        for group in entries.chunk_by(|(one, ..), (other, ..)| one == other) {
            let Some((selector, ..)) = group.first() else {
                continue;
            };
            let list = group.iter().map(|(_, parent, slot)| (*parent, *slot));
            let posting = if group.len() > FEW { Posting::Many(list.collect()) } else { Posting::Few(list.collect()) };
            lists.resize(usize::try_from(*selector).unwrap_or(usize::MAX), Posting::Few(Vec::new()));
            lists.push(posting);
        }
        Self { lists }
    }

    /// Lists an entry under a selector.
    pub(super) fn insert(&mut self, selector: u32, parent: u32, slot: u32) {
        let index = usize::try_from(selector).unwrap_or(usize::MAX);
        if self.lists.len() <= index {
            self.lists.resize(index.saturating_add(1), Posting::Few(Vec::new()));
        }
        let Some(posting) = self.lists.get_mut(index) else {
            return;
        };
        match posting {
            Posting::Few(list) if list.len() >= FEW => {
                let mut many: BTreeSet<(u32, u32)> = list.iter().copied().collect();
                many.insert((parent, slot));
                *posting = Posting::Many(many);
            }
            Posting::Few(list) => {
                if let Err(place) = list.binary_search(&(parent, slot)) {
                    list.reserve_exact(1);
                    list.insert(place, (parent, slot));
                }
            }
            Posting::Many(many) => {
                many.insert((parent, slot));
            }
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, selector: u32, parent: u32, slot: u32) {
        let index = usize::try_from(selector).unwrap_or(usize::MAX);
        let Some(posting) = self.lists.get_mut(index) else {
            return;
        };
        match posting {
            Posting::Few(list) => {
                if let Ok(place) = list.binary_search(&(parent, slot)) {
                    list.remove(place);
                    list.shrink_to_fit();
                }
            }
            Posting::Many(many) => {
                many.remove(&(parent, slot));
                if many.is_empty() {
                    *posting = Posting::Few(Vec::new());
                }
            }
        }
    }

    /// Calls `found` with the slot of each entry under a selector whose parent is among these, which are sorted. Looks
    /// at whichever is less: the entries under the selector, or the parents.
    pub(super) fn under(&self, selector: u32, parents: &[u32], mut found: impl FnMut(u32)) {
        match usize::try_from(selector).ok().and_then(|index| self.lists.get(index)) {
            None => {}
            Some(Posting::Few(list)) => {
                list.iter().filter(|(parent, _)| parents.binary_search(parent).is_ok()).for_each(|(_, slot)| {
                    found(*slot);
                });
            }
            Some(Posting::Many(many)) if many.len() < parents.len() => {
                many.iter().filter(|(parent, _)| parents.binary_search(parent).is_ok()).for_each(|(_, slot)| {
                    found(*slot);
                });
            }
            Some(Posting::Many(many)) => {
                for parent in parents {
                    many.range((*parent, 0)..=(*parent, u32::MAX)).for_each(|(_, slot)| found(*slot));
                }
            }
        }
    }

    /// Every entry under a selector.
    pub(super) fn all(&self, selector: u32, mut found: impl FnMut(u32)) {
        match usize::try_from(selector).ok().and_then(|index| self.lists.get(index)) {
            None => {}
            Some(Posting::Few(list)) => list.iter().for_each(|(_, slot)| found(*slot)),
            Some(Posting::Many(many)) => many.iter().for_each(|(_, slot)| found(*slot)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(postings: &Postings, selector: u32, parents: &[u32]) -> Vec<u32> {
        let mut slots = Vec::new();
        postings.under(selector, parents, |slot| slots.push(slot));
        slots
    }

    #[test]
    fn finds_only_what_is_under_the_given_parents_few_or_many() {
        let mut postings = Postings::default();
        for slot in 0..200 {
            postings.insert(7, slot % 10, slot);
            if slot < 10 {
                assert_eq!(slots(&postings, 7, &[3]), if slot < 3 { vec![] } else { vec![3] });
            }
        }
        assert_eq!(slots(&postings, 7, &[3, 99]).len(), 20);
        assert_eq!(slots(&postings, 8, &[3]), Vec::<u32>::new());
        let everyone: Vec<u32> = (0..1_000).collect();
        assert_eq!(slots(&postings, 7, &everyone).len(), 200);
        for slot in 0..200 {
            postings.remove(7, slot % 10, slot);
        }
        assert_eq!(slots(&postings, 7, &everyone), Vec::<u32>::new());
    }
}
