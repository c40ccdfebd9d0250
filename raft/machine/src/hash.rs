//! The state hash: one number that members compare.
//!
//! Every object of the state (an entry, a member, a root, a kept outcome, ...) has canonical stored bytes. The state
//! hash is the sum, modulo 2^256, of the SHA-256 of each one's kind and bytes. A sum can be brought up to date by
//! subtracting what an object was and adding what it is, and does not depend on the order or the place of objects.
//!
//! It finds members that have drifted apart. It is no proof against somebody who chooses objects so that sums collide;
//! against that, snapshots carry a digest of their whole content.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

/// How many bytes a state hash has.
pub const STATE_HASH_BYTES: usize = 32;

/// A hash over the whole state, or over part of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StateHash {
    /// High and low half of the sum.
    high: u128,
    low: u128,
}

impl StateHash {
    /// The hash of one object: of its kind and its canonical stored bytes.
    pub(crate) fn of(kind: u8, stored: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[kind]);
        context.update(stored);
        let digest = context.finish();
        let mut halves = digest.as_ref().chunks_exact(16).map(|half| half.try_into().map_or(0, u128::from_be_bytes));
        Self { high: halves.next().unwrap_or(0), low: halves.next().unwrap_or(0) }
    }

    /// The sum of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        let (low, carry) = self.low.overflowing_add(other.low);
        Self { high: self.high.wrapping_add(other.high).wrapping_add(carry as u128), low }
    }

    /// What must be added to `other` to get this.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        Self { high: self.high.wrapping_sub(other.high).wrapping_sub(borrow as u128), low }
    }

    /// The hash as bytes, the most significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; STATE_HASH_BYTES] {
        let mut bytes = [0; STATE_HASH_BYTES];
        for (place, byte) in bytes.iter_mut().zip(self.high.to_be_bytes().into_iter().chain(self.low.to_be_bytes())) {
            *place = byte;
        }
        bytes
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}{:032x}", self.high, self.low)
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StateHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_can_be_taken_away_in_any_order() {
        let (a, b, c) = (StateHash::of(1, b"a"), StateHash::of(1, b"b"), StateHash::of(2, b"a"));
        assert_ne!(a, c, "the kind is part of what is hashed");
        let sum = a.plus(b).plus(c);
        assert_eq!(sum, c.plus(a).plus(b));
        assert_eq!(sum.minus(b).minus(c), a);
        assert_eq!(sum.minus(a).minus(b).minus(c), StateHash::default());
    }

    #[test]
    fn carries_go_from_the_low_half_to_the_high_one() {
        let one = StateHash { high: 0, low: 1 };
        let all = StateHash { high: 0, low: u128::MAX };
        assert_eq!(all.plus(one), StateHash { high: 1, low: 0 });
        assert_eq!(all.plus(one).minus(one), all);
    }

    #[test]
    fn bytes_and_text_say_the_same() {
        let hash = StateHash::of(7, b"entry");
        let hex: String = hash.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash.to_string(), hex);
    }
}
