//! Texts that many entries share, each kept once and known by a number.

use std::sync::Arc;

use super::chunk::{Chunk, number_of, place_of, record};
use super::table::{Table, hash_of};

/// Texts by number, and numbers by text. A text lives as long as something uses it; then its number is given again.
/// Numbers therefore mean nothing outside of this process, and enter neither hashes nor snapshots.
#[derive(Debug, Clone, Default)]
pub(super) struct Interner {
    chunks: Vec<Arc<Chunk>>,
    /// How many uses each text has.
    uses: Vec<u32>,
    /// Numbers that are free.
    vacant: Vec<u32>,
    table: Table,
}

impl Interner {
    /// The number of a text that is in use.
    pub(super) fn number(&self, text: &str) -> Option<u32> {
        self.table.find(hash_of(text), |number| record(&self.chunks, number) == Some(text.as_bytes()))
    }

    /// The text with this number.
    pub(super) fn text(&self, number: u32) -> Option<&str> {
        text_in(&self.chunks, number)
    }

    /// How many uses a text has.
    pub(super) fn uses(&self, number: u32) -> u32 {
        usize::try_from(number).ok().and_then(|number| self.uses.get(number)).copied().unwrap_or(0)
    }

    /// The chunks, for whoever reads texts at this instant later on.
    pub(super) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// How many texts are in use.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Counts one more use of a text, and gives it a number if it has none.
    pub(super) fn acquire(&mut self, text: &str) -> u32 {
        let hash = hash_of(text);
        let number = self.known(text, hash).unwrap_or_else(|| self.add(text, hash));
        self.count(number)
    }

    /// As [`Interner::acquire`], but a text that has no number yet is taken only if it passes the check.
    pub(super) fn acquire_checked(&mut self, text: &str, is_valid: impl Fn(&str) -> bool) -> Option<u32> {
        let hash = hash_of(text);
        let number = match self.known(text, hash) {
            Some(number) => number,
            None if is_valid(text) => self.add(text, hash),
            None => return None,
        };
        Some(self.count(number))
    }

    /// Makes room for this many texts.
    pub(super) fn make_room(&mut self, count: usize) {
        self.table.make_room(count);
        self.uses.reserve(count);
    }

    fn known(&self, text: &str, hash: u64) -> Option<u32> {
        self.table.find(hash, |number| record(&self.chunks, number) == Some(text.as_bytes()))
    }

    /// Counts a use.
    fn count(&mut self, number: u32) -> u32 {
        if let Some(uses) = usize::try_from(number).ok().and_then(|number| self.uses.get_mut(number)) {
            *uses = uses.saturating_add(1);
        }
        number
    }

    /// Counts one use less; without any the text goes.
    pub(super) fn release(&mut self, number: u32) {
        let Some(uses) = usize::try_from(number).ok().and_then(|number| self.uses.get_mut(number)) else {
            return;
        };
        *uses = uses.saturating_sub(1);
        if *uses > 0 {
            return;
        }
        if let Some(hash) = text_in(&self.chunks, number).map(hash_of) {
            self.table.remove(hash, number);
            let (chunk, place) = place_of(number);
            if let Some(chunk) = self.chunks.get_mut(chunk) {
                Arc::make_mut(chunk).set(place, &[]);
            }
            self.vacant.push(number);
        }
    }

    fn add(&mut self, text: &str, hash: u64) -> u32 {
        let number = match self.vacant.pop() {
            Some(number) => {
                let (chunk, place) = place_of(number);
                if let Some(chunk) = self.chunks.get_mut(chunk) {
                    Arc::make_mut(chunk).set(place, text.as_bytes());
                }
                number
            }
            None => self.append(text),
        };
        let chunks = &self.chunks;
        self.table.insert(hash, number, |number| hash_of(text_in(chunks, number).unwrap_or_default()));
        number
    }

    fn append(&mut self, text: &str) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.is_full()) {
            self.chunks.push(Arc::default());
        }
        let last = self.chunks.len().saturating_sub(1);
        let mut place = 0;
        if let Some(chunk) = self.chunks.last_mut() {
            place = chunk.len();
            Arc::make_mut(chunk).push(text.as_bytes());
        }
        self.uses.push(0);
        number_of(last, place)
    }
}

/// The text with this number in these chunks.
pub(super) fn text_in(chunks: &[Arc<Chunk>], number: u32) -> Option<&str> {
    std::str::from_utf8(record(chunks, number)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_number_for_as_long_as_it_is_used() {
        let mut interner = Interner::default();
        let a = interner.acquire("a");
        let b = interner.acquire("b");
        assert_ne!(a, b);
        assert_eq!(interner.acquire("a"), a);
        assert_eq!(interner.uses(a), 2);
        interner.release(a);
        assert_eq!(interner.number("a"), Some(a));
        interner.release(a);
        assert_eq!(interner.number("a"), None);
        assert_eq!(interner.text(a), None);
        assert_eq!(interner.acquire("c"), a, "the number is given again");
        assert_eq!((interner.text(a), interner.text(b)), (Some("c"), Some("b")));
        assert_eq!(interner.len(), 2);
    }

    #[test]
    fn chunks_taken_earlier_still_hold_what_they_held() {
        let mut interner = Interner::default();
        let numbers: Vec<u32> = (0..1_000).map(|text| interner.acquire(&format!("text {text}"))).collect();
        let before = interner.chunks().to_vec();
        for number in &numbers {
            interner.release(*number);
        }
        for text in 0..1_000 {
            interner.acquire(&format!("other {text}"));
        }
        for (text, number) in numbers.iter().enumerate() {
            assert_eq!(text_in(&before, *number), Some(format!("text {text}").as_str()));
        }
        assert_eq!(interner.len(), 1_000);
        assert_eq!(interner.chunks().len(), 4, "vacant places are used before new ones");
    }
}
