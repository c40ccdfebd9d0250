//! What must hold through every run, a file each; the list with their words is that of the design's fault model.
//!
//! ```text
//!   load, observer ──► saw a status, a bundle, an SVID, an answer ──► the invariants ──► violations, by name
//! ```
//!
//! An invariant looks at what came out of public interfaces and at nothing else. What it needs to know of the faults (a
//! node that stands still fails its callers, and that is no violation) comes from [`Condition`](crate::condition).

pub(crate) mod inv_01;
pub(crate) mod inv_02;
pub(crate) mod inv_03;
pub(crate) mod inv_04;
pub(crate) mod inv_05;
pub(crate) mod inv_06;
pub(crate) mod inv_07;
pub(crate) mod inv_08;
pub(crate) mod inv_09;
pub(crate) mod inv_13;
pub(crate) mod inv_14;
pub(crate) mod inv_16;

use crate::clock::Clock;
use crate::progress;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::trouble::Trouble;

/// How many violations of each invariant are told in full: the first is what matters, and a broken promise is broken by
/// every call. Of each, so that a hundred calls that failed do not hide the one SVID that nobody verifies.
const TOLD: u64 = 20;

/// An invariant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(u8);

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "INV-{:02}", self.0)
    }
}

/// All violations of a run.
#[derive(Clone, Debug)]
pub(crate) struct Violations {
    clock: Clock,
    found: Arc<Mutex<Found>>,
}

#[derive(Debug, Default)]
struct Found {
    counts: BTreeMap<Name, u64>,
    first: Option<String>,
}

impl Violations {
    /// None so far.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, found: Arc::default() }
    }

    /// An invariant does not hold.
    pub(crate) fn add(&self, name: Name, what: impl fmt::Display) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let count = found.counts.entry(name).or_default();
        *count += 1;
        let text = format!("{name}: {what}");
        if *count <= TOLD {
            progress(&format!("  {:>8.3} s VIOLATION of {text}", self.clock.elapsed().as_secs_f64()));
        }
        found.first.get_or_insert(text);
    }

    /// An invariant was asked; what it found against itself is added.
    pub(crate) fn expect<E: fmt::Display>(&self, name: Name, result: Result<(), E>) {
        if let Err(what) = result {
            self.add(name, what);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).counts.values().sum()
    }

    /// Ends a run in failure if there are any.
    pub(crate) fn none(&self, kept: &Path) -> Result<(), Trouble> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match &found.first {
            None => Ok(()),
            Some(first) => {
                for (name, count) in &found.counts {
                    progress(&format!("  {count} violations of {name}"));
                }
                let count = found.counts.values().sum();
                Err(Trouble::Violated { count, first: first.clone(), kept: kept.to_path_buf() })
            }
        }
    }
}
