//! Chunks: up to 256 small records in one allocation, shared with snapshots and copied when written.

use std::sync::Arc;

/// Most records of a chunk. A write while a snapshot holds the chunk copies it whole, about 15 KB of entries, so that a
/// batch of 512 writes all over a million entries copies some 8 MB; and a view of a million entries copies about 4,000
/// pointers.
pub(super) const RECORDS_PER_CHUNK: usize = 256;

/// Records of any length, one after the other. An empty record is a vacant place.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    /// Where each record ends; it begins where the one before ends.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Chunk {
    /// How many places there are, vacant ones too.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no further record fits.
    pub(super) fn is_full(&self) -> bool {
        self.ends.len() >= RECORDS_PER_CHUNK
    }

    /// The record at this place; `None` if there is none.
    pub(super) fn get(&self, place: usize) -> Option<&[u8]> {
        let record = self.bytes.get(self.range(place)?)?;
        (!record.is_empty()).then_some(record)
    }

    /// Adds a record at the end.
    pub(super) fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        // A chunk holds at most 256 records of at most 128 KiB of texts each.
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        if self.is_full() {
            self.bytes.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
    }

    /// Puts another record in place of one; an empty one makes the place vacant.
    pub(super) fn set(&mut self, place: usize, record: &[u8]) {
        let Some(range) = self.range(place) else {
            return;
        };
        let (old, new) = (range.len(), record.len());
        self.bytes.reserve_exact(new.saturating_sub(old));
        self.bytes.splice(range, record.iter().copied());
        for end in self.ends.iter_mut().skip(place) {
            let moved = usize::try_from(*end).unwrap_or(usize::MAX).saturating_add(new).saturating_sub(old);
            *end = u32::try_from(moved).unwrap_or(u32::MAX);
        }
    }

    /// Every place and record that is not vacant, in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &[u8])> {
        (0..self.ends.len()).filter_map(|place| Some((place, self.get(place)?)))
    }

    fn range(&self, place: usize) -> Option<std::ops::Range<usize>> {
        let end = usize::try_from(*self.ends.get(place)?).ok()?;
        let start = match place.checked_sub(1) {
            Some(before) => usize::try_from(*self.ends.get(before)?).ok()?,
            None => 0,
        };
        Some(start..end)
    }
}

/// A number made of the number of a chunk and a place in it.
pub(super) fn number_of(chunk: usize, place: usize) -> u32 {
    let number = chunk.saturating_mul(RECORDS_PER_CHUNK).saturating_add(place);
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The number of a chunk and the place in it that such a number is made of.
pub(super) fn place_of(number: u32) -> (usize, usize) {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    (number / RECORDS_PER_CHUNK, number % RECORDS_PER_CHUNK)
}

/// The record under a number, in chunks that are counted through.
pub(super) fn record(chunks: &[Arc<Chunk>], number: u32) -> Option<&[u8]> {
    let (chunk, place) = place_of(number);
    chunks.get(chunk)?.get(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_places_when_others_grow_shrink_and_vanish() {
        let mut chunk = Chunk::default();
        for record in [&b"one"[..], b"two", b"three"] {
            chunk.push(record);
        }
        chunk.set(1, b"a longer one");
        assert_eq!(chunk.get(0), Some(&b"one"[..]));
        assert_eq!(chunk.get(1), Some(&b"a longer one"[..]));
        assert_eq!(chunk.get(2), Some(&b"three"[..]));
        chunk.set(1, b"");
        assert_eq!(chunk.get(1), None);
        assert_eq!(chunk.iter().map(|(place, _)| place).collect::<Vec<_>>(), [0, 2]);
        chunk.set(0, b"");
        chunk.set(1, b"x");
        assert_eq!(chunk.get(1), Some(&b"x"[..]));
        assert_eq!(chunk.get(2), Some(&b"three"[..]));
        assert_eq!(chunk.get(3), None);
        assert_eq!(chunk.len(), 3);
    }

    #[test]
    fn a_number_is_taken_apart_as_it_was_made() {
        for (chunk, place) in [(0, 0), (0, 255), (1, 0), (70_000, 17)] {
            assert_eq!(place_of(number_of(chunk, place)), (chunk, place));
        }
    }
}
