//! What updates leave behind: each is answered with the entry as it made it.
//!
//! The state tells what an entry is now, which another caller, or a later item of the same batch, may have made it. An
//! outcome tells the revision alone, since outcomes are stored. The events carry the entry, and they are sent before the
//! proposer is answered: who listens from before its command on has heard them all by then.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_proto_identity::EntryId;
use quorate_raft_consensus::{AppliedEvents, Handle, StateReader};
use quorate_raft_machine::{Done, Entry, Event};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use crate::service::batch::Fate;

/// Which update: the log index of its command, the entry, and the revision that it made. The index tells it from an
/// update of an earlier or later entry with the same ID.
type Place = (u64, EntryId, u64);

/// Listens to what is applied.
pub(super) struct Updates {
    events: Receiver<Arc<AppliedEvents>>,
    state: StateReader,
}

/// Entries as updates left them.
pub(super) struct LeftBehind {
    entries: BTreeMap<Place, Option<Arc<Entry>>>,
    state: StateReader,
}

impl Updates {
    /// From now on.
    pub(super) fn new(consensus: &Handle) -> Self {
        Self { events: consensus.events(), state: consensus.state() }
    }

    /// Gathers what these left behind. All of them have been answered.
    pub(super) fn left_by<T>(mut self, fates: &[Fate<T>]) -> LeftBehind {
        let mut entries: BTreeMap<Place, Option<Arc<Entry>>> =
            fates.iter().filter_map(place).map(|at| (at, None)).collect();
        loop {
            let applied = match self.events.try_recv() {
                Ok(applied) => applied,
                Err(TryRecvError::Lagged(_)) => continue,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
            for event in &applied.events {
                if let Event::EntryChanged { id, after: Some(after), .. } = event
                    && let Some(left) = entries.get_mut(&(applied.index, id.clone(), after.revision_number))
                {
                    *left = Some(Arc::clone(after));
                }
            }
        }
        LeftBehind { entries, state: self.state }
    }
}

fn place<T>(fate: &Fate<T>) -> Option<Place> {
    match fate {
        Fate::Carried(Ok(Done::EntryUpdated { id, revision_number }), log_index, _) => {
            Some((*log_index, id.clone(), *revision_number))
        }
        Fate::Carried(..) | Fate::Finished(_) => None,
    }
}

impl LeftBehind {
    /// The entry as one update left it.
    ///
    /// None when its event was missed, because far more was applied meanwhile than is kept for listeners, and the entry
    /// is another by now: then nothing is said rather than something wrong.
    pub(super) fn take(&mut self, log_index: u64, id: &EntryId, revision: u64) -> Option<Arc<Entry>> {
        let heard = self.entries.remove(&(log_index, id.clone(), revision)).flatten();
        heard.or_else(|| {
            let now = self.state.read(|state| state.entry(id))?;
            (now.revision_number == revision).then_some(now)
        })
    }
}
