//! Which proposals of this boot are still open, and below which number all are answered.
//!
//! The origin of a command (node, boot, sequence) makes it safe to repeat: the state keeps the outcome of each sequence
//! above the acknowledged floor and gives it back instead of doing the deed twice (design, section 4, "The envelope").
//! The floor may only pass a sequence when nobody can ask for its outcome any more, so an open sequence is held by an
//! [`OpenSequence`], which closes it when dropped.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;

use crate::limits::OPEN_SEQUENCES_MAX;

/// Gives out sequences and knows the floor.
#[derive(Debug, Clone)]
pub(crate) struct Sequences {
    shared: Arc<Mutex<Open>>,
}

#[derive(Debug)]
struct Open {
    next: u64,
    open: BTreeSet<u64>,
}

/// A sequence whose outcome may still be asked for.
#[derive(Debug)]
pub(crate) struct OpenSequence {
    sequence: u64,
    shared: Arc<Mutex<Open>>,
}

impl Sequences {
    /// Starts at sequence 1, with nothing open.
    pub(crate) fn new() -> Self {
        Self { shared: Arc::new(Mutex::new(Open { next: 1, open: BTreeSet::new() })) }
    }

    /// The next sequence, open until the answer is dropped.
    ///
    /// When as many are open as the state keeps outcomes, the oldest is closed: the state is about to forget its
    /// outcome anyway. A command still on its way is not harmed by that, because sequences enter the log in order, and
    /// the floor travels with later ones only.
    pub(crate) fn open(&self) -> OpenSequence {
        let mut shared = self.shared.lock();
        if shared.open.len() >= OPEN_SEQUENCES_MAX {
            shared.open.pop_first();
        }
        let sequence = shared.next;
        shared.next += 1;
        shared.open.insert(sequence);
        OpenSequence { sequence, shared: Arc::clone(&self.shared) }
    }

    /// The floor: every sequence up to and with this one is answered, or given up.
    pub(crate) fn acknowledged(&self) -> u64 {
        let shared = self.shared.lock();
        shared.open.first().copied().unwrap_or(shared.next) - 1
    }
}

impl OpenSequence {
    /// Its number.
    pub(crate) fn number(&self) -> u64 {
        self.sequence
    }
}

impl Drop for OpenSequence {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_stays_below_the_oldest_open_sequence() {
        let sequences = Sequences::new();
        assert_eq!(sequences.acknowledged(), 0);
        let first = sequences.open();
        let second = sequences.open();
        assert_eq!((first.number(), second.number()), (1, 2));
        drop(second);
        assert_eq!(sequences.acknowledged(), 0);
        drop(first);
        assert_eq!(sequences.acknowledged(), 2);
    }

    #[test]
    fn the_oldest_open_sequence_gives_way_when_the_state_would_forget_it() {
        let sequences = Sequences::new();
        let open: Vec<_> = (0..OPEN_SEQUENCES_MAX).map(|_| sequences.open()).collect();
        assert_eq!(sequences.acknowledged(), 0);
        let one_more = sequences.open();
        assert_eq!(sequences.acknowledged(), 1);
        drop(open);
        assert_eq!(sequences.acknowledged(), one_more.number() - 1);
    }
}
