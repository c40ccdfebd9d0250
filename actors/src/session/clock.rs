//! When something is next due: the clock of a keeper, set by its groups.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use quorate_proto_identity::UnixMillis;
use ractor::ActorRef;

use super::{core::Core, keeper::KeeperMessage};
use crate::mailbox::Envelope;

/// The longest sleep of a keeper's clock. Due times are times of day, and the clock that is slept by stands still while
/// a machine is suspended, and does not see the time of day being set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The clock of the keeper that looks after a group: when the first of its groups is due.
#[derive(Debug)]
pub(crate) struct ShardClock {
    earliest: AtomicI64,
    pub(crate) lowered: tokio::sync::Notify,
}

impl Default for ShardClock {
    fn default() -> Self {
        Self { earliest: AtomicI64::new(i64::MAX), lowered: tokio::sync::Notify::new() }
    }
}

impl ShardClock {
    /// The earliest instant, in Unix milliseconds.
    pub(crate) fn earliest(&self) -> UnixMillis {
        UnixMillis(self.earliest.load(Ordering::Acquire))
    }

    /// Forgets it; what is still due is said anew.
    pub(crate) fn reset(&self) {
        self.earliest.store(i64::MAX, Ordering::Release);
    }

    /// Something is due at this instant. When that is the earliest one, the clock looks at the time of day again, even if
    /// it knew: that may have been set since it went to sleep.
    pub(crate) fn lower(&self, at: UnixMillis) {
        if at.0 < i64::MAX && self.earliest.fetch_min(at.0, Ordering::AcqRel) >= at.0 {
            self.lowered.notify_one();
        }
    }
}

/// Wakes the keeper when the first of its groups is due, and at times to let go of unused ones.
pub(crate) async fn run_clock(myself: ActorRef<Envelope<KeeperMessage>>, clock: Arc<ShardClock>, core: Arc<Core>) {
    loop {
        let left = clock.earliest().since(core.sources.now()).max(0);
        let sleep = Duration::from_millis(left.unsigned_abs()).min(LONGEST_SLEEP);
        tokio::select! {
            biased;
            () = clock.lowered.notified() => {}
            () = tokio::time::sleep(sleep) => {
                clock.reset();
                if myself.send_message(Envelope::own(KeeperMessage::Tick)).is_err() {
                    return;
                }
            }
        }
    }
}
