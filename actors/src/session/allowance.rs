//! How many lines of the log callers may bring about.
//!
//! Who has no identity can ask again and again, from one program after the other, and each of these lines is worth having;
//! a log that is full of them is not (ATK-20). So there are so many in a while, and the next one says how many are missing.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines in one [`WHILE`]. Ten refusals a second are what a service in a restart loop on a large host brings about.
const LINES: u32 = 100;

/// The while that they are counted in.
const WHILE: Duration = Duration::from_secs(10);

/// What may still be told.
#[derive(Debug)]
pub(crate) struct Allowance {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    began: Option<Instant>,
    told: u32,
    left_out: u64,
}

impl Allowance {
    /// All of it.
    pub(crate) const fn new() -> Self {
        Self { counts: Mutex::new(Counts { began: None, told: 0, left_out: 0 }) }
    }

    /// Asks to tell one thing. If it may be told, gives how many were left out before it.
    pub(crate) fn ask(&self, now: Instant) -> Option<u64> {
        let mut counts = self.counts.lock();
        if counts.began.is_none_or(|began| now.saturating_duration_since(began) >= WHILE) {
            counts.began = Some(now);
            counts.told = 0;
        }
        if counts.told >= LINES {
            counts.left_out = counts.left_out.saturating_add(1);
            return None;
        }
        counts.told = counts.told.saturating_add(1);
        Some(std::mem::take(&mut counts.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atk_20_lines_are_limited_in_a_while_and_what_is_missing_is_counted() {
        let (allowance, start) = (Allowance::new(), Instant::now());
        for _ in 0..LINES {
            assert_eq!(allowance.ask(start), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(allowance.ask(start + WHILE / 2), None);
        }
        assert_eq!(allowance.ask(start + WHILE), Some(7));
        assert_eq!(allowance.ask(start + WHILE), Some(0));
    }
}
