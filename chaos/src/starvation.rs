//! Whether this machine let the processes of a run have a processor when they could have used one.
//!
//! ```text
//!   /proc/PID/task/*/schedstat ── every 250 ms ──► longest wait of any thread of a node ──► spells of starvation
//! ```
//!
//! Members answer each other within 100 ms, or count as silent. When the machine itself keeps several of them from that,
//! there is no leader for a while, and nobody renews what ends meanwhile: nodes fail closed, as they should (design section
//! 2, property 4). That is no fault of the product, and no proof of anything either: the run ends as one that proves nothing.
//! The kernel's account is the evidence, and calls are excused by it alone. What must hold on the slowest machine too (no
//! SVID that a live member does not know) is never excused.

use crate::run::{Run, lock};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often the account is read.
const PACE: Duration = Duration::from_millis(250);

/// How long a thread must have waited within one look at it, all its waits together: as long as members wait for an answer.
const LONG: Duration = Duration::from_millis(100);

/// How far back a failure may have its cause: an issuing certificate of 20 s is renewed 10 s before its end.
const OF_LATE: Duration = Duration::from_secs(10);

/// In how many hundredths of the looks nodes must have been kept waiting for that to be the cause.
const OFTEN: usize = 50;

/// How long a look is remembered.
const KEPT: Duration = Duration::from_secs(120);

/// Nodes that waited long, look by look.
#[derive(Debug, Default)]
pub(crate) struct Starvation(Mutex<VecDeque<Look>>);

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    /// Nodes of which a thread waited for [`LONG`] since the look before.
    starved: usize,
}

impl Starvation {
    fn add(&self, look: Look) {
        let mut looks = lock(&self.0);
        looks.push_back(look);
        while looks.front().is_some_and(|first| first.at.elapsed() > KEPT) {
            looks.pop_front();
        }
    }

    /// Whether of late the machine kept so many nodes waiting so often that the others were no quorum. Never while nobody
    /// looks.
    pub(crate) fn breaks_quorum(&self, members: usize) -> bool {
        self.hundredths(OF_LATE, members.div_ceil(2)) >= OFTEN
    }

    /// In how many hundredths of the looks of the last `span` so many nodes at least were kept waiting. 0 when nobody looked.
    pub(crate) fn hundredths(&self, span: Duration, nodes: usize) -> usize {
        let looks = lock(&self.0);
        let recent = || looks.iter().filter(|look| look.at.elapsed() <= span);
        let starved = recent().filter(|look| look.starved >= nodes).count();
        (starved * 100).checked_div(recent().count()).unwrap_or_default()
    }
}

/// Reads the account until the load ends.
pub(crate) async fn watch(run: &Run) {
    let mut before: BTreeMap<(i32, String), Duration> = BTreeMap::new();
    while run.pause(PACE).await {
        let mut now = BTreeMap::new();
        let mut starved = 0;
        for member in run.fleet.members() {
            let Some(process) = member.process_id().await else { continue };
            let mut longest = Duration::ZERO;
            for (thread, waited) in waits(process) {
                let key = (process, thread);
                if let Some(earlier) = before.get(&key) {
                    longest = longest.max(waited.saturating_sub(*earlier));
                }
                now.insert(key, waited);
            }
            starved += usize::from(longest >= LONG);
        }
        before = now;
        run.starvation.add(Look { at: Instant::now(), starved });
    }
}

/// How long each thread of a process has waited for a processor so far, by the kernel's account. One that ends meanwhile is
/// left out.
fn waits(process: i32) -> Vec<(String, Duration)> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let wait = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let waited = text.split_whitespace().nth(1)?.parse().ok()?;
        Some((thread.file_name().to_string_lossy().into_owned(), Duration::from_nanos(waited)))
    };
    threads.flatten().filter_map(wait).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_so_many_nodes_in_so_many_looks_and_without_a_look_nothing_is_excused() {
        let starvation = Starvation::default();
        assert_eq!(starvation.hundredths(KEPT, 0), 0);
        assert!(!starvation.breaks_quorum(3));
        for starved in [0, 1, 2, 3] {
            starvation.add(Look { at: Instant::now(), starved });
        }
        assert_eq!(starvation.hundredths(KEPT, 2), 50);
        assert_eq!(starvation.hundredths(KEPT, 3), 25);
        assert!(starvation.breaks_quorum(3) && !starvation.breaks_quorum(5), "two of three, and three of five");
        assert_eq!(starvation.hundredths(Duration::ZERO, 1), 0);
    }

    #[test]
    fn the_kernel_keeps_account_of_this_process() {
        assert!(!waits(i32::try_from(std::process::id()).unwrap()).is_empty());
    }
}
