//! openraft's state machine trait over the replicated state: it calls `apply` and nothing more.
//!
//! ```text
//!   committed entries ──► decode ──► [write lock: one batch] ──► events out ──► applied index moves ──► outcomes back
//!                                             └──► tap               snapshots: see `snapshot`
//! ```
//!
//! The order matters to everyone outside: state first, then who may speak, then the events that tell of it, then the index, then the answer
//! to the proposer. So a proposer that was answered reads its write here, and a subscriber never hears of a change that
//! it cannot yet read.

use std::sync::Arc;

use openraft::{EntryPayload, storage::RaftStateMachine};
use quorate_raft_machine::{Event, Outcome};

use crate::{
    batch::{Batch, BatchOutcome},
    compaction::LogGrowth,
    events::AppliedEvents,
    reader::Shared,
    snapshot::{SnapshotBuilder, SnapshotData, Snapshots},
    sources::Sources,
    stop::{StopCause, with_causes},
    tap::{AppliedCommand, Tap},
    telemetry,
    type_config::{Entry, LogId, Snapshot, SnapshotMeta, StorageError, StorageIoError, StoredMembership, TypeConfig},
};

/// The state machine that openraft sees.
#[derive(Debug, Clone)]
pub(crate) struct Adapter {
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshots: Snapshots,
    pub(crate) growth: Arc<LogGrowth>,
    pub(crate) sources: Sources,
    pub(crate) stop: StopCause,
    pub(crate) tap: Arc<dyn Tap>,
}

impl Adapter {
    /// Applies one entry.
    fn apply_entry(&self, entry: Entry) -> Result<BatchOutcome, Box<StorageError>> {
        let log_id = entry.log_id;
        let mut events = Vec::new();
        let outcomes = match entry.payload {
            EntryPayload::Blank => {
                self.shared.applied.write().last_applied = Some(log_id);
                Vec::new()
            }
            EntryPayload::Membership(membership) => {
                let mut applied = self.shared.applied.write();
                applied.membership = StoredMembership::new(Some(log_id), membership);
                applied.last_applied = Some(log_id);
                Vec::new()
            }
            EntryPayload::Normal(batch) => self.apply_batch(log_id, &batch, &mut events)?,
        };
        self.shared.publish(log_id.index, events, false);
        telemetry::applied(log_id.index);
        self.sources.observer().applied(log_id.index, outcomes.len());
        Ok(BatchOutcome { outcomes })
    }

    /// Applies the commands of one entry under one hold of the lock, so that no reader sees half of it.
    fn apply_batch(
        &self,
        log_id: LogId,
        batch: &Batch,
        events: &mut Vec<Event>,
    ) -> Result<Vec<Outcome>, Box<StorageError>> {
        let commands = batch.take_commands().map_err(|error| self.cannot_apply(log_id, &error))?;
        let mut applied = self.shared.applied.write();
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut told = Vec::with_capacity(commands.len());
        for command in commands {
            let is_repeat = applied.state.is_repeat(&command);
            let outcome = applied.state.apply(log_id.index, &command, events);
            outcomes.push(outcome.clone());
            told.push(AppliedCommand { command, outcome, is_repeat });
        }
        applied.last_applied = Some(log_id);
        // One of them may have switched on what this program cannot do.
        applied.state.check_program().map_err(|error| self.cannot_apply(log_id, &error))?;
        drop(applied);
        self.tap.applied(log_id.index, batch.encoded().len(), told);
        Ok(outcomes)
    }

    /// Ends consensus here: a member that cannot apply what the others did must not go on as if it had.
    fn cannot_apply(&self, log_id: LogId, error: &(dyn std::error::Error + 'static)) -> Box<StorageError> {
        let reason = self.stop.record(format!(
            "the commands at log index {} cannot be applied by this version: {}",
            log_id.index,
            with_causes(error)
        ));
        Box::new(StorageIoError::apply(log_id, openraft::AnyError::error(reason)).into())
    }
}

impl Shared {
    /// Tells subscribers what an entry changed, and then that it is applied.
    pub(crate) fn publish(&self, index: u64, events: Vec<Event>, replaced: bool) {
        // Before anybody hears of it: a member that was removed may not speak any more (ATK-27).
        if replaced || events.iter().any(concerns_members) {
            self.roster.refresh(&self.applied.read().state);
        }
        if replaced || !events.is_empty() {
            // Nobody listening is no failure.
            drop(self.events.send(Arc::new(AppliedEvents { index, events, replaced })));
        }
        self.index.send_replace(index);
    }
}

/// Whether an event changes who may speak to whom.
fn concerns_members(event: &Event) -> bool {
    matches!(event, Event::Founded | Event::MemberChanged { .. } | Event::EpochRaised { .. })
}

impl RaftStateMachine<TypeConfig> for Adapter {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let applied = self.shared.applied.read();
        Ok((applied.last_applied, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<BatchOutcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let applied: Result<_, Box<StorageError>> = entries.into_iter().map(|entry| self.apply_entry(entry)).collect();
        applied.map_err(|error| *error)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder::new(self)
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        // Whoever receives a snapshot from a peer writes it into the store chunk by chunk and hands over the finished
        // file, so that openraft never asks for an empty one.
        Ok(Box::new(SnapshotData::none()))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<SnapshotData>) -> Result<(), StorageError> {
        crate::snapshot::install(self, meta, *snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        self.snapshots
            .current()
            .map_err(|error| StorageIoError::read_snapshot(None, openraft::AnyError::error(with_causes(&error))).into())
    }
}

#[cfg(test)]
mod tests;
