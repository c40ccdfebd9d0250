//! openraft's log storage traits over the write-ahead log.
//!
//! ```text
//!   append ──► Wal (readable at once) ──► writer: write, fdatasync, mark ──► callback ──► RaftCore goes on
//!     └─► fresh: batches that are still decoded, until they are applied
//! ```
//!
//! RaftCore waits for the callback, so one append is in flight; a leader with followers is called back at once, and what
//! it counts waits for the disk instead (`unsynced`). The first error of the log is for good (WAL-09): the
//! callback carries it, RaftCore ends, and [`StopCause`] keeps the words.

use std::{
    collections::VecDeque,
    error::Error,
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::Arc,
};

use openraft::{
    AnyError, LogState, OptionalSend, RaftLogReader,
    storage::{LogFlushed, RaftLogStorage},
};
use parking_lot::Mutex;
use quorate_raft_store::{
    Record,
    log::{Callback, Wal, WalError},
};
use tokio::sync::oneshot;

use crate::{
    batch::Batch,
    compaction::LogGrowth,
    entries::{EntryError, from_record, to_record},
    limits::APPEND_ENTRIES_BYTES_MAX,
    log_id::{from_raft, to_raft, vote_from_raft, vote_to_raft},
    sources::Sources,
    stop::{StopCause, with_causes},
    type_config::{Entry, EntryPayload, LogId, Membership, StorageError, StorageIoError, TypeConfig, Vote},
    unsynced::Unsynced,
};

/// The log as openraft sees it. Clones are readers of the same log.
#[derive(Debug, Clone)]
pub(crate) struct LogStorage {
    wal: Wal,
    member: u64,
    growth: Arc<LogGrowth>,
    /// Batches that are in the log and not yet applied, in the form in which the leader made them.
    fresh: Arc<Mutex<VecDeque<(LogId, Batch)>>>,
    sources: Sources,
    stop: StopCause,
    /// What is appended here and not durable yet, though Raft was told that it is.
    unsynced: Arc<Unsynced>,
    /// Whether this node needs others for a quorum, by the newest membership in its log; none when it does not know.
    needs_others: Arc<Mutex<Option<bool>>>,
}

impl LogStorage {
    /// The storage of the member with this number, right after its process has started.
    pub(crate) fn new(wal: Wal, member: u64, growth: Arc<LogGrowth>, sources: Sources, stop: StopCause) -> Self {
        Self {
            wal,
            member,
            growth,
            fresh: Arc::default(),
            sources,
            stop,
            unsynced: Arc::default(),
            needs_others: Arc::default(),
        }
    }

    /// What is appended here and not durable yet.
    pub(crate) fn unsynced(&self) -> Arc<Unsynced> {
        Arc::clone(&self.unsynced)
    }

    /// Takes note of the membership in force, if this log does not know of a newer one.
    pub(crate) fn learn_membership(&self, membership: &Membership) {
        let needs_others = needs_others(membership, self.member);
        self.needs_others.lock().get_or_insert(needs_others);
    }

    /// Whether Raft may be told at once that these entries are durable, because what is committed waits for the sync
    /// (`unsynced`).
    fn may_sync_meanwhile(&self, entries: &[Entry]) -> bool {
        let newest = entries.iter().rev().find_map(|entry| match &entry.payload {
            EntryPayload::Membership(membership) => Some(membership),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        });
        let mut needs = self.needs_others.lock();
        if let Some(newest) = newest {
            *needs = Some(needs_others(newest, self.member));
            return false;
        }
        if *needs != Some(true) {
            return false;
        }
        drop(needs);
        let vote = self.wal.recovered_now().vote;
        vote.is_some_and(|vote| {
            vote.committed
                && vote.node == self.member
                && entries.iter().all(|entry| {
                    entry.log_id.leader_id.term == vote.term && entry.log_id.leader_id.node_id == vote.node
                })
        })
    }

    /// Whether an own committed vote is given back as one that nobody granted (ELE-03). Raft is built once a process, so
    /// whenever it reads its vote, the process has just started.
    fn must_win_again() -> bool {
        // The planted bug lets a restarted leader go on where it was; simulation and chaos runs have to catch it.
        !cfg!(feature = "planted-kept-vote")
    }

    /// The entries of a range, as far as they are there: from memory, or from the disk by way of the Blocking seam.
    async fn entries(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        let records = match self.wal.read_cached(range.clone(), max_bytes) {
            Some(records) => records,
            None => self.read_from_disk(range, max_bytes).await?,
        };
        let entries: Result<_, EntryError> = records.into_iter().map(|record| self.entry(record)).collect();
        entries.map_err(|error| self.cannot_read(&error))
    }

    async fn read_from_disk(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Record>, StorageError> {
        let wal = self.wal.clone();
        match self.sources.run_blocking(move || wal.read(range, max_bytes)).await {
            Ok(Ok(records)) => Ok(records),
            Ok(Err(error)) => Err(self.cannot_read(&error)),
            Err(lost) => Err(self.cannot_read(&lost)),
        }
    }

    /// A record as an entry, with its commands still decoded where they are.
    fn entry(&self, record: Record) -> Result<Entry, EntryError> {
        let mut entry = from_record(record)?;
        if matches!(entry.payload, EntryPayload::Normal(_))
            && let Some(batch) = self.fresh(entry.log_id)
        {
            entry.payload = EntryPayload::Normal(batch);
        }
        Ok(entry)
    }

    fn fresh(&self, log_id: LogId) -> Option<Batch> {
        self.fresh.lock().iter().find(|(id, _)| *id == log_id).map(|(_, batch)| batch.clone())
    }

    /// Keeps the batches that are still to be applied.
    fn keep_fresh(&self, entries: &[Entry]) {
        let mut fresh = self.fresh.lock();
        fresh.retain(|(_, batch)| batch.is_decoded());
        for entry in entries {
            if let EntryPayload::Normal(batch) = &entry.payload
                && batch.is_decoded()
            {
                fresh.push_back((entry.log_id, batch.clone()));
            }
        }
    }

    fn cannot_read(&self, error: &(dyn Error + 'static)) -> StorageError {
        let reason = self.stop.record(format!("the log cannot be read: {}", with_causes(error)));
        StorageIoError::read_logs(AnyError::error(reason)).into()
    }

    fn cannot_write(&self, error: &WalError) -> StorageError {
        StorageIoError::write_logs(AnyError::error(record_failure(&self.stop, error))).into()
    }

    /// Asks something of the log and waits until it is durable.
    async fn durable(&self, ask: impl FnOnce(Callback) -> Result<(), WalError>) -> Result<(), StorageError> {
        let (sender, receiver) = oneshot::channel();
        let callback: Callback = Box::new(move |result| drop(sender.send(result)));
        // An error comes back twice, here and through the callback; once is enough.
        ask(callback).map_err(|error| self.cannot_write(&error))?;
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.cannot_write(&error)),
            Err(_dropped) => Err(self.cannot_write(&WalError::Closed)),
        }
    }
}

/// Whether a quorum of this membership takes more than this member.
fn needs_others(membership: &Membership, own: u64) -> bool {
    membership.get_joint_config().iter().any(|voters| voters.iter().any(|voter| *voter != own))
}

/// Keeps why the log failed.
fn record_failure(stop: &StopCause, error: &WalError) -> Arc<str> {
    stop.record(format!("the log cannot be written: {}", with_causes(error)))
}

/// The range as indexes, cut to what the log holds.
fn clipped(range: &impl RangeBounds<u64>, held: &Range<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start.max(held.start)..end.min(held.end)
}

impl RaftLogReader<TypeConfig> for LogStorage {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let range = clipped(&range, &self.wal.range());
        self.entries(range, usize::MAX).await
    }

    /// At least one entry, and no more than one AppendEntries may carry.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.entries(start..end, APPEND_ENTRIES_BYTES_MAX).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = self.wal.recovered_now();
        Ok(LogState { last_purged_log_id: state.purged.map(to_raft), last_log_id: state.last.map(to_raft) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = vote_from_raft(vote);
        self.durable(|callback| self.wal.save_vote(vote, callback)).await
    }

    /// openraft calls this once, from `Raft::new`. A leader whose process is started again must win again (ELE-03): its
    /// own committed vote comes back as one that nobody granted. It may have lost entries that it acknowledged (a disk
    /// that lied), and then another member holds the log that counts.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.wal.recovered_now().vote.map(|mut vote| {
            if vote.node == self.member && Self::must_win_again() {
                vote.committed = false;
            }
            vote_to_raft(vote)
        }))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        match committed {
            Some(committed) => {
                self.wal.save_committed(from_raft(&committed)).map_err(|error| self.cannot_write(&error))
            }
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.wal.recovered_now().committed.map(to_raft))
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let records = entries.iter().map(to_record).collect();
        self.keep_fresh(&entries);
        let stop = self.stop.clone();
        let first = entries.first().map(|entry| entry.log_id.index);
        let callback: Callback = match first.filter(|_| self.may_sync_meanwhile(&entries)) {
            Some(first) => {
                // Before the log has it: an answer to it must not be faster.
                self.unsynced.begin(first);
                flushed.log_io_completed(Ok(()));
                let unsynced = Arc::clone(&self.unsynced);
                Box::new(move |result: Result<(), WalError>| {
                    if let Err(error) = &result {
                        record_failure(&stop, error);
                    }
                    unsynced.end(result.is_ok());
                })
            }
            None => Box::new(move |result: Result<(), WalError>| {
                flushed.log_io_completed(
                    result.map_err(|error| io::Error::other(record_failure(&stop, &error).to_string())),
                );
            }),
        };
        self.wal.append(records, callback).map_err(|error| self.cannot_write(&error))?;
        self.growth.appended(&self.wal);
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        // A membership may have gone with it.
        *self.needs_others.lock() = None;
        self.fresh.lock().retain(|(id, _)| id.index < log_id.index);
        self.wal.truncate(from_raft(&log_id)).map_err(|error| self.cannot_write(&error))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        // A snapshot from a leader may bring a membership that this log never saw.
        if self.wal.recovered_now().last.is_none_or(|last| last.index <= log_id.index) {
            *self.needs_others.lock() = None;
        }
        self.durable(|callback| self.wal.purge(from_raft(&log_id), callback)).await
    }
}

#[cfg(test)]
mod tests;
