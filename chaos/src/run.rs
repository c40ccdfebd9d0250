//! What all parts of a run share: the cluster, the clock, what was seen and counted, and the word to stop.

use crate::clock::{Clock, now};
use crate::fleet::Fleet;
use crate::history::{History, Kind, Line, Op};
use crate::invariants::Violations;
use crate::invariants::inv_03::Hashes;
use crate::invariants::inv_04::Leaders;
use crate::invariants::inv_05::Bundles;
use crate::invariants::inv_06::Signers;
use crate::invariants::inv_09::Uniques;
use crate::invariants::inv_14;
use crate::oracle::Oracle;
use crate::starvation::Starvation;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Code, Status};

/// A run against real processes.
#[derive(Debug)]
pub(crate) struct Run {
    /// When what happened.
    pub(crate) clock: Clock,
    /// The cluster.
    pub(crate) fleet: Fleet,
    /// What did not hold.
    pub(crate) violations: Violations,
    /// Operations on registers.
    pub(crate) recorder: Recorder,
    /// Writes that must be there.
    pub(crate) oracle: Mutex<Oracle>,
    /// What members told.
    pub(crate) seen: Mutex<Seen>,
    /// How much was done.
    pub(crate) tally: Tally,
    /// Whether the machine let the nodes run.
    pub(crate) starvation: Starvation,
    stop: watch::Sender<bool>,
}

/// What members told, by the invariant that it concerns.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// INV-03
    pub(crate) hashes: Hashes,
    /// INV-04
    pub(crate) leaders: Leaders,
    /// INV-05
    pub(crate) bundles: Bundles,
    /// INV-06
    pub(crate) signers: Signers,
    /// INV-09
    pub(crate) uniques: Uniques,
    /// A token that some node handed out, and its audience.
    pub(crate) token: Option<(String, String)>,
}

/// How much was done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Writes that were acknowledged.
    pub(crate) writes: Count,
    /// Writes whose outcome nobody knows.
    pub(crate) unanswered: Count,
    /// Workload API calls that were answered by healthy nodes.
    pub(crate) calls: Count,
    /// Those of them that were answered while another node was dead or stood still.
    pub(crate) calls_during_faults: Count,
    /// Calls that a fault to their own node may have touched; nothing is asked of them.
    pub(crate) calls_disturbed: Count,
    /// Calls that failed because this machine kept the nodes from renewing what they sign with.
    pub(crate) calls_starved: Count,
    /// SVIDs that were verified with the bundles of all live members.
    pub(crate) svids: Count,
    /// Requests after an acknowledged delete.
    pub(crate) deletes: Count,
}

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// As it is.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Run {
    /// A run begins.
    pub(crate) fn new(fleet: Fleet) -> Self {
        let clock = Clock::start();
        Self {
            clock,
            fleet,
            violations: Violations::new(clock),
            recorder: Recorder::new(clock),
            oracle: Mutex::default(),
            seen: Mutex::default(),
            tally: Tally::default(),
            starvation: Starvation::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// Whether the load goes on.
    pub(crate) fn goes_on(&self) -> bool {
        !*self.stop.borrow()
    }

    /// A further load may begin, after one was told to end.
    pub(crate) fn resume_load(&self) {
        self.stop.send_replace(false);
    }

    /// Has the load end.
    pub(crate) fn stop_load(&self) {
        self.stop.send_replace(true);
    }

    /// Does this unless the load has to end meanwhile.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            done = work => Some(done),
        }
    }

    /// Waits, and tells whether the load goes on.
    pub(crate) async fn pause(&self, length: Duration) -> bool {
        let mut stop = self.stop.subscribe();
        timeout(length, stop.wait_for(|stop| *stop)).await.is_err()
    }

    /// A call, or a stream, failed on a node that was healthy all the time. That is a violation of INV-14, unless the
    /// node did what it must when it has no quorum (property 4) and this machine was what it had none for: the certificate
    /// that the log has for it had ended, and the kernel says that a quorum was kept from running.
    pub(crate) fn call_failed(&self, member: &str, call: &str, status: &Status) {
        let ended = lock(&self.seen).bundles.live_until(member).is_some_and(|until| until <= now());
        let starved = self.starvation.breaks_quorum(self.fleet.members().len());
        if status.code() == Code::Unavailable && ended && starved {
            self.tally.calls_starved.add();
        } else {
            self.violations.add(inv_14::NAME, inv_14::violation(member, call, status));
        }
    }

    /// Whether some node is dead or stands still.
    pub(crate) fn faulted(&self) -> bool {
        self.fleet.members().iter().any(|member| member.condition.spell().is_none())
    }
}

/// What it holds, whatever happened to whoever held it last.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the history of the registers.
#[derive(Debug)]
pub(crate) struct Recorder {
    clock: Clock,
    history: Mutex<History>,
    processes: AtomicU64,
}

impl Recorder {
    fn new(clock: Clock) -> Self {
        Self { clock, history: Mutex::default(), processes: AtomicU64::new(1) }
    }

    /// A number that no process had before.
    pub(crate) fn process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes a line at this instant.
    pub(crate) fn note(&self, process: u64, kind: Kind, (op, key): (Op, &str), value: Option<i64>, refused: bool) {
        let mut history = lock(&self.history);
        // The clock is read within the lock, so that lines stand in the order of their times.
        let time_ns = self.clock.nanos();
        history.push(Line { process, kind, op, key: key.to_owned(), value, refused, time_ns });
    }

    /// All of it.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }
}
