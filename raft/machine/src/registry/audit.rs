//! Whether every index says what the records say: for tests and for chaos runs.

use std::collections::BTreeMap;

use super::Registry;
use super::packed::Numbers;

impl Registry {
    /// The first thing on which an index or a count of uses disagrees with the records, in words.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let mut path_uses: BTreeMap<u32, u32> = BTreeMap::new();
        let mut selector_uses: BTreeMap<u32, u32> = BTreeMap::new();
        let mut count = 0_usize;
        let mut ends = 0_usize;
        let mut inner = 0_usize;
        let mut listed_count = 0_usize;
        for (slot, head) in self.slots.after(0) {
            count = count.saturating_add(1);
            let Numbers { spiffe_id, parent, selectors } = head.numbers();
            let what = || format!("entry with creation number {}", head.creation_number);
            for path in [spiffe_id, parent] {
                let uses = path_uses.entry(path).or_default();
                *uses = uses.saturating_add(1);
            }
            for selector in &selectors {
                let uses = selector_uses.entry(*selector).or_default();
                *uses = uses.saturating_add(1);
            }
            let Some(id) = head.entry_id() else {
                return Some(format!("{} has no ID", what()));
            };
            if self.indexes.slot_of(id, &self.slots) != Some(slot) {
                return Some(format!("{} is not found by its ID", what()));
            }
            if !self.indexes.with_spiffe_id(spiffe_id).any(|found| found == slot) {
                return Some(format!("{} is not found by its SPIFFE ID", what()));
            }
            if !self.indexes.with_parent(parent).any(|found| found == slot) {
                return Some(format!("{} is not found by its parent", what()));
            }
            if self.indexes.alike(&head.numbers(), &self.slots).is_none() {
                return Some(format!("{} is not found by its likeness", what()));
            }
            let mut is_listed = false;
            if let Some(listed) = selectors.first() {
                self.indexes.postings().under(*listed, &[parent], |found| is_listed |= found == slot);
            }
            if !is_listed {
                return Some(format!("{} is not listed under its first selector", what()));
            }
            if head.expires_at().is_some() {
                ends = ends.saturating_add(1);
            }
            let is_inner = self.indexes.with_parent(spiffe_id).next().is_some();
            let has_edge = self.indexes.inner_edges(parent).any(|edge| edge == (spiffe_id, slot));
            if is_inner != has_edge {
                return Some(format!("{} is a parent: {is_inner}, has an inner edge: {has_edge}", what()));
            }
            if is_inner {
                inner = inner.saturating_add(1);
            }
        }
        for selector in selector_uses.keys() {
            self.indexes.postings().all(*selector, |_| listed_count = listed_count.saturating_add(1));
        }
        let sizes = self.indexes.sizes();
        if sizes != [count, count, count, count, ends, inner] || listed_count != count {
            return Some(format!(
                "{count} entries, {ends} with an end, {inner} of them parents, but the indexes hold {sizes:?} and \
                 {listed_count}"
            ));
        }
        let interned = [self.paths.len(), self.selectors.len()];
        if interned != [path_uses.len(), selector_uses.len()] {
            return Some(format!(
                "{interned:?} texts are interned, {} and {} used",
                path_uses.len(),
                selector_uses.len()
            ));
        }
        let miscounted = path_uses
            .iter()
            .find(|(number, uses)| self.paths.uses(**number) != **uses)
            .or_else(|| selector_uses.iter().find(|(number, uses)| self.selectors.uses(**number) != **uses))?;
        Some(format!("text {} has {} uses", miscounted.0, miscounted.1))
    }
}
