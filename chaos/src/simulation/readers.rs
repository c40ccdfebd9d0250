//! Who looks at a real clock while a simulation runs (SIM-02, SIM-08).
//!
//! A clock that goes too fast shows a reader only where the trace depends on it, in seeds that happen to be run so. This
//! names every reader: the stack of each look is compared with the few that are known to change nothing that a node does.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Functions that may look, or be in the midst of it.
const KNOWN: [&str; 6] = [
    // How long the runtime was busy, which nobody asks.
    "tokio::runtime::metrics::batch::",
    // Paused clocks begin at the real time, and only differences to that count.
    "tokio::runtime::driver::create_clock",
    // A header of answers, in whole seconds and of one length.
    "hyper::common::date::",
    // How long ago a stream was reset. A client's connection is told to remember for ever (SIM-01). A server's cannot be
    // told, and so is not in this list: its streams are not to be reset.
    "enqueue_reset_expiration",
    "clear_expired_reset_streams<hyper::proto::h2::SendBuf<bytes::bytes::Bytes>, h2::client::Peer>",
    // The time of day that the simulated network says it begins at, which nobody asks.
    "turmoil::config::",
];

/// Functions of a stack that are told of: enough to know who it was.
const TOLD: usize = 16;

/// Whether looks are noted.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// The stacks of the others.
static UNKNOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

thread_local! {
    /// Whether this thread is looking at a stack: that may take the time, too.
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

/// From here on every look at a clock is noted, which makes a run a few times as long.
pub(crate) fn watch() {
    IS_ON.store(true, Ordering::SeqCst);
}

/// Somebody looks at a clock.
pub(crate) fn note() {
    if !IS_ON.load(Ordering::Relaxed) || IS_BUSY.replace(true) {
        return;
    }
    let stack = Backtrace::force_capture().to_string();
    if !KNOWN.iter().any(|known| stack.contains(known)) {
        UNKNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(innermost(&stack));
    }
    IS_BUSY.set(false);
}

/// The first functions of a stack, a line each, without their files.
fn innermost(stack: &str) -> String {
    let functions = stack.lines().filter_map(|line| line.trim_start().split_once(": "));
    let functions = functions.filter(|(number, _)| number.parse::<u32>().is_ok()).map(|(_, function)| function);
    let readers = functions.filter(|function| !function.contains("readers::note") && *function != "clock_gettime");
    readers.take(TOLD).map(|function| format!("  {function}\n")).collect()
}

/// The stacks of those who should not have looked.
pub(crate) fn unknown() -> Vec<String> {
    IS_ON.store(false, Ordering::SeqCst);
    UNKNOWN.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sim_08_whoever_looks_at_a_clock_is_named() {
        watch();
        note();
        let named = unknown();
        assert!(named.iter().any(|stack| stack.contains("sim_08_whoever_looks")), "{named:?}");
    }
}
