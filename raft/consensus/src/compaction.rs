//! When a snapshot is taken, and how much of the log goes afterwards.
//!
//! By bytes, not by count: entries differ in size by a factor of a thousand, and what a snapshot saves (memory, disk, time
//! to replay) goes by bytes. openraft's own policies are off.

use std::{ops::Range, sync::Arc, time::Duration};

use openraft::LogIdOptionExt;
use quorate_raft_store::log::Wal;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::{
    config::SnapshotLimits,
    reader::Shared,
    space::Space,
    type_config::{LogId, Raft},
};

/// The pause after a snapshot that could not be written, or was not begun, for want of space.
const PAUSE_AFTER_GIVING_UP: Duration = Duration::from_secs(10);

/// How the snapshots of this node stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SnapshotProgress {
    /// The last entry that the newest snapshot holds.
    pub(crate) last: Option<LogId>,
    /// How many snapshots were tried, so that one given up is noticed too.
    pub(crate) tries: u64,
}

/// How the log grows since the last snapshot, and who is told when it is enough.
#[derive(Debug)]
pub(crate) struct LogGrowth {
    grown: Notify,
    pub(crate) snapshots: watch::Sender<SnapshotProgress>,
    limits: SnapshotLimits,
}

impl LogGrowth {
    pub(crate) fn new(limits: SnapshotLimits, newest: Option<LogId>) -> Arc<Self> {
        let progress = SnapshotProgress { last: newest, tries: 0 };
        Arc::new(Self { grown: Notify::new(), snapshots: watch::Sender::new(progress), limits })
    }

    /// Called after each append: wakes the compactor when enough was written since the last snapshot.
    pub(crate) fn appended(&self, wal: &Wal) {
        if wal.bytes_after(self.snapshot_index()) >= self.limits.log_bytes {
            self.grown.notify_one();
        }
    }

    /// A snapshot came to its end: a new one is there, or it was given up.
    pub(crate) fn tried(&self, newest: Option<LogId>) {
        self.snapshots.send_modify(|progress| {
            progress.last = progress.last.max(newest);
            progress.tries += 1;
        });
    }

    /// Log index of the last entry in the newest snapshot.
    pub(crate) fn snapshot_index(&self) -> Option<u64> {
        self.snapshots.borrow().last.index()
    }
}

/// Takes snapshots and purges.
pub(crate) struct Compactor {
    pub(crate) raft: Raft,
    pub(crate) wal: Wal,
    pub(crate) growth: Arc<LogGrowth>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) space: Arc<Space>,
}

impl Compactor {
    /// Works until Raft has ended.
    pub(crate) async fn run(self) {
        let mut snapshots = self.growth.snapshots.subscribe();
        self.growth.appended(&self.wal);
        loop {
            self.growth.grown.notified().await;
            if !self.is_due() {
                continue;
            }
            if !self.space.has_room_for_a_snapshot() {
                sleep(PAUSE_AFTER_GIVING_UP).await;
                // Nothing may be appended for long, and the snapshot is as due as before.
                self.growth.appended(&self.wal);
                continue;
            }
            let before = *snapshots.borrow_and_update();
            if self.raft.trigger().snapshot().await.is_err() {
                return;
            }
            let Ok(after) = snapshots.wait_for(|now| now.tries > before.tries).await.map(|now| *now) else {
                return;
            };
            if after.last <= before.last {
                sleep(PAUSE_AFTER_GIVING_UP).await;
                continue;
            }
            // Raft purges nothing that it does not know to be in a snapshot, and it learns of one a moment later.
            let mut books = self.raft.data_metrics();
            if books.wait_for(|books| books.snapshot >= after.last).await.is_err() {
                return;
            }
            if let Some(upto) = self.purge_point(after.last)
                && self.raft.trigger().purge_log(upto).await.is_err()
            {
                return;
            }
        }
    }

    /// Whether enough of the log is applied and in no snapshot.
    fn is_due(&self) -> bool {
        let waiting = self.wal.bytes_after(Some(*self.shared.index.borrow()));
        let since_snapshot = self.wal.bytes_after(self.growth.snapshot_index());
        since_snapshot.saturating_sub(waiting) >= self.growth.limits.log_bytes
    }

    /// How far the log can go, so that some bytes of it stay below the snapshot.
    fn purge_point(&self, snapshot: Option<LogId>) -> Option<u64> {
        let snapshot = snapshot.index()?;
        let held = self.wal.range();
        let tail = self.growth.limits.tail_bytes.saturating_add(self.wal.bytes_after(Some(snapshot)));
        last_where(held.start..held.end.min(snapshot.saturating_add(1)), |index| {
            self.wal.bytes_after(Some(index)) >= tail
        })
    }
}

/// The last index of a range for which something holds that holds up to some index and not after it.
fn last_where(range: Range<u64>, holds: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (range.start, range.end.max(range.start));
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low.checked_sub(1).filter(|index| range.contains(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_purge_point_is_the_last_entry_above_the_tail() {
        assert_eq!(last_where(5..20, |index| index < 12), Some(11));
        assert_eq!(last_where(5..20, |_| true), Some(19));
        assert_eq!(last_where(5..20, |_| false), None);
        assert_eq!(last_where(0..0, |_| true), None);
    }
}
