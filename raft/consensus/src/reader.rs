//! The applied state of this node, and how others read it.
//!
//! Reads are local: a lock that the applier takes for one batch at a time (at most
//! [`BATCH_COMMANDS_MAX`](crate::limits::BATCH_COMMANDS_MAX) commands), no hop and no quorum (design property 2). They go on
//! after consensus has ended here.

use std::sync::Arc;

use parking_lot::RwLock;
use quorate_raft_machine::State;
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

use crate::{
    events::AppliedEvents,
    limits::EVENTS_KEPT,
    peer::roster::Roster,
    type_config::{LogId, StoredMembership},
};

/// The state, and how far in the log it is.
#[derive(Debug, Default)]
pub(crate) struct AppliedState {
    /// The replicated state.
    pub(crate) state: State,
    /// The last entry that is in it.
    pub(crate) last_applied: Option<LogId>,
    /// The last membership that was applied.
    pub(crate) membership: StoredMembership,
}

/// What the applier writes and everybody reads.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) applied: RwLock<AppliedState>,
    /// The index of the last applied entry, told after its events.
    pub(crate) index: watch::Sender<u64>,
    pub(crate) events: broadcast::Sender<Arc<AppliedEvents>>,
    /// Who the members are, by what is applied.
    pub(crate) roster: Arc<Roster>,
}

impl Shared {
    /// An empty state that nothing was applied to.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            applied: RwLock::new(AppliedState::default()),
            index: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS_KEPT),
            roster: Roster::new(),
        })
    }
}

/// A handle to read the applied state with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StateReader {
    shared: Arc<Shared>,
}

/// An index was not applied within the time given, or never will be: consensus has gone away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("log index {wanted} was not applied in time, the state is at {applied}")]
pub struct NotApplied {
    /// The index waited for.
    pub wanted: u64,
    /// The index reached.
    pub applied: u64,
}

impl StateReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Looks at the state as it is now. `look` holds the applier up, so it takes what it needs and goes. It must not look
    /// again from within: when the applier waits between the two looks, each of them waits for the other.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.applied.read().state)
    }

    /// Looks at the state together with the index of the last entry in it.
    pub fn read_at<T>(&self, look: impl FnOnce(u64, &State) -> T) -> T {
        let applied = self.shared.applied.read();
        look(applied.last_applied.map_or(0, |id| id.index), &applied.state)
    }

    /// The index of the last applied entry, 0 before there is one. Its events were sent before this moved.
    pub fn applied_index(&self) -> u64 {
        *self.shared.index.borrow()
    }

    /// Follows the index of the last applied entry.
    pub fn watch_applied_index(&self) -> watch::Receiver<u64> {
        self.shared.index.subscribe()
    }

    /// Waits until the entry at `index` is applied.
    ///
    /// # Errors
    ///
    /// [`NotApplied`] when that did not come about before `deadline`.
    pub async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), NotApplied> {
        let mut watch = self.shared.index.subscribe();
        let reached = tokio::time::timeout_at(deadline, watch.wait_for(|applied| *applied >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotApplied { wanted: index, applied: self.applied_index() }),
        }
    }
}
