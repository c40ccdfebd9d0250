//! What this leader has appended and not synced yet: its disk works while the followers' disks do.
//!
//! ```text
//!   append ──► log in memory ──► Raft told "done" ──► AppendEntries ──► follower: synced ──► answer ─┐
//!                   └──► fdatasync here ──────────────────────────────────────────────────► synced ──┴─► Raft counts it
//! ```
//!
//! openraft 0.9 sends an entry to the followers only after the leader's own sync, so that a write costs two syncs, one
//! after the other. Here the leader's sync is reported at once and waited for later: **no answer of a follower reaches
//! Raft before this node has synced everything that the answer is about**. A quorum of more than this node alone needs
//! such an answer, so nothing is committed that is not synced here (design property 1; Raft's own rule is weaker).
//!
//! Where that argument does not hold, the sync is waited for as ever: when this node is a quorum by itself, or does not
//! know that it is not; for changes of the membership; for entries that another leader sent. As a follower, this node
//! says of nothing that it has it before it is synced, what it had appended as a leader included. And a leader whose
//! disk does not answer falls silent, as one does that waits for it (`elections.md`: it moves within 0.6 s).

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::watch, time::Instant};

/// Appends that are on their way to the disk, oldest first.
#[derive(Debug)]
pub(crate) struct Unsynced {
    appends: watch::Sender<Appends>,
}

#[derive(Debug, Default)]
struct Appends {
    /// The first index of each, and since when.
    open: VecDeque<(u64, Instant)>,
    failed: bool,
}

impl Default for Unsynced {
    fn default() -> Self {
        Self { appends: watch::Sender::new(Appends::default()) }
    }
}

impl Unsynced {
    /// An append from this index on goes to the disk.
    pub(crate) fn begin(&self, first: u64) {
        self.appends.send_modify(|appends| appends.open.push_back((first, Instant::now())));
    }

    /// The oldest append is durable, or failed: then it never will be, nor any after it (WAL-09).
    pub(crate) fn end(&self, durable: bool) {
        self.appends.send_modify(|appends| {
            if durable {
                appends.open.pop_front();
            } else {
                appends.failed = true;
            }
        });
    }

    /// Waits until everything up to this index is durable. For ever, when the disk has failed.
    pub(crate) async fn durable(&self, index: u64) {
        if self.appends.borrow().is_durable(index) {
            return;
        }
        // The sender lives as long as `self`.
        drop(self.appends.subscribe().wait_for(|appends| appends.is_durable(index)).await);
    }

    /// Waits until the disk has failed.
    pub(crate) async fn failed(&self) {
        drop(self.appends.subscribe().wait_for(|appends| appends.failed).await);
    }

    /// Waits until no append has been on its way for longer than `limit`.
    pub(crate) async fn not_stalled(&self, limit: Duration) {
        if self.appends.borrow().is_within(limit) {
            return;
        }
        drop(self.appends.subscribe().wait_for(|appends| appends.is_within(limit)).await);
    }
}

impl Appends {
    /// Whether the oldest is younger than `limit`.
    fn is_within(&self, limit: Duration) -> bool {
        self.open.front().is_none_or(|(_, since)| since.elapsed() <= limit)
    }

    /// Entries may have been cut off and appended anew, so that a later append can begin at a lower index.
    fn is_durable(&self, index: u64) -> bool {
        self.open.iter().all(|(first, _)| *first > index)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    /// Whether a future is ready at its first look.
    fn is_ready(future: impl Future<Output = ()>) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn an_index_is_durable_when_every_append_at_or_below_it_is() {
        let unsynced = Unsynced::default();
        assert!(is_ready(unsynced.durable(u64::MAX)), "nothing is on its way");
        unsynced.begin(5);
        unsynced.begin(7);
        assert!(is_ready(unsynced.durable(4)));
        assert!(!is_ready(unsynced.durable(5)));
        unsynced.end(true);
        assert!(is_ready(unsynced.durable(6)));
        assert!(!is_ready(unsynced.durable(7)));
        unsynced.end(true);
        assert!(is_ready(unsynced.durable(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_takes_long_stalls_until_it_has_answered() {
        let (unsynced, limit) = (Unsynced::default(), Duration::from_millis(100));
        unsynced.begin(5);
        assert!(is_ready(unsynced.not_stalled(limit)));
        tokio::time::advance(limit * 2).await;
        assert!(!is_ready(unsynced.not_stalled(limit)));
        unsynced.end(true);
        assert!(is_ready(unsynced.not_stalled(limit)));
    }

    #[test]
    fn what_a_failed_disk_was_given_is_never_durable_wal_09() {
        let unsynced = Unsynced::default();
        unsynced.begin(5);
        unsynced.end(false);
        assert!(!is_ready(unsynced.durable(5)));
        assert!(is_ready(unsynced.failed()));
        assert!(is_ready(unsynced.durable(4)));
    }
}
