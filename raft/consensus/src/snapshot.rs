//! Snapshots: the state written to the store in chunks, read back at a start, and taken over from a leader.
//!
//! ```text
//!   build:    read lock ─► view (cheap) ─► lock free again ─► chunks ─► store: written, synced, renamed ─► older ones go
//!   load:     store ─► chunks, each checked ─► state
//!   receive:  chunks from a leader ─► file and state at once, both checked ─► durable
//!   install:  a received file and its state ─► swapped for the one that is read, under one lock
//! ```
//!
//! What is written runs behind the Blocking seam, and no commit waits for it: the view shares what it shows with the
//! state, which copies what it changes meanwhile.

use std::{error::Error, io, path::Path, sync::Arc};

use openraft::{AnyError, RaftSnapshotBuilder};
use parking_lot::Mutex;
use quorate_raft_machine::{SnapshotReader, StateView};
use quorate_raft_store::{
    LogId as StoredLogId, WalIdentity,
    disk::Disk,
    snapshot::{Snapshot as StoredSnapshot, SnapshotError, SnapshotMeta as StoredMeta, SnapshotStore, SnapshotWriter},
};
use tokio::time::{Instant, timeout};

use crate::{
    adapter::Adapter,
    log_id::{from_raft, to_raft},
    membership::{MembershipError, decode_stored, encode_stored},
    reader::AppliedState,
    stop::with_causes,
    tap::TAP_SETTLE_LIMIT,
    telemetry,
    type_config::{LogId, Snapshot, SnapshotMeta, StorageError, StorageIoError, StoredMembership, TypeConfig},
};

/// A snapshot as openraft hands it around: a file of the store, open, or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct SnapshotData {
    stored: Option<StoredSnapshot>,
    /// What was read from it while it was received, until it is installed.
    read: Option<Arc<Mutex<Option<AppliedState>>>>,
}

impl SnapshotData {
    /// No snapshot at all.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// A file of the store that is whole and durable.
    pub(crate) fn stored(snapshot: StoredSnapshot) -> Self {
        Self { stored: Some(snapshot), read: None }
    }

    /// The file.
    pub(crate) fn file(&self) -> Option<&StoredSnapshot> {
        self.stored.as_ref()
    }
}

/// A snapshot that comes in, chunk by chunk: written and read at once, so that nothing that cannot be read ever gets the
/// name of a snapshot (ATK-28). Dropped before its end, it leaves nothing.
pub(crate) struct Receiving {
    writer: SnapshotWriter,
    reader: SnapshotReader,
    membership: StoredMembership,
    last: Option<LogId>,
    index: u64,
}

/// What was received is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// It cannot be stored, or is not what was announced.
    #[error(transparent)]
    Stored(#[from] SnapshotError),
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] LoadError),
}

impl ReceiveError {
    /// Whether the disk failed, and not for want of space: then nothing on it can be trusted to be durable any more.
    pub(crate) fn is_disk_failure(&self) -> bool {
        matches!(self, Self::Stored(error @ SnapshotError::Io(_)) if !is_full(error))
    }
}

impl Receiving {
    /// Takes a chunk. Blocks.
    pub(crate) fn take(&mut self, chunk: &[u8]) -> Result<(), ReceiveError> {
        let index = self.index;
        self.reader.push(chunk).map_err(|source| LoadError::State { index, source })?;
        self.writer.write(chunk)?;
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Everything is here: it becomes durable if it is whole and has the digest that was announced. Blocks.
    pub(crate) fn finish(self, digest: [u8; 32]) -> Result<SnapshotData, ReceiveError> {
        let index = self.index;
        let state = self.reader.finish().map_err(|source| LoadError::State { index, source })?;
        let stored = self.writer.finish(Some(digest))?;
        let read = AppliedState { state, last_applied: self.last, membership: self.membership };
        Ok(SnapshotData { stored: Some(stored), read: Some(Arc::new(Mutex::new(Some(read)))) })
    }
}

/// A snapshot could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing, damaged or unreadable; the cause says what to do.
    #[error(transparent)]
    Stored(#[from] SnapshotError),
    /// The file is sound and its content is no state that this version reads.
    #[error("the snapshot at log index {index} holds no state that this version can read")]
    State {
        /// The last entry in it.
        index: u64,
        /// What the machine says about it.
        source: quorate_raft_machine::SnapshotError,
    },
    /// The membership in it cannot be read.
    #[error("the membership in the snapshot at log index {index} cannot be read")]
    Membership {
        /// The last entry in it.
        index: u64,
        /// What is wrong with it.
        source: MembershipError,
    },
}

/// The snapshots of this node.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    store: SnapshotStore,
    newest: Arc<Mutex<Option<StoredSnapshot>>>,
}

impl Snapshots {
    /// Opens the directory and loads the snapshot to start from, beside a log that is purged up to `purged`. Blocks.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        identity: WalIdentity,
        purged: Option<StoredLogId>,
    ) -> Result<(Self, Option<AppliedState>), LoadError> {
        let store = SnapshotStore::open(disk, directory, identity)?;
        let newest = store.choose(purged)?;
        let loaded = newest.as_ref().map(load).transpose()?;
        Ok((Self { store, newest: Arc::new(Mutex::new(newest)) }, loaded))
    }

    /// Begins to take a snapshot from a leader. Blocks.
    pub(crate) fn receive(&self, meta: &StoredMeta) -> Result<Receiving, ReceiveError> {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let membership = decode_stored(&meta.membership).map_err(|source| LoadError::Membership { index, source })?;
        Ok(Receiving {
            writer: self.store.begin(meta)?,
            reader: SnapshotReader::new(),
            membership,
            last: meta.last_log_id.map(to_raft),
            index,
        })
    }

    /// The newest snapshot, as openraft wants it.
    pub(crate) fn current(&self) -> Result<Option<Snapshot>, MembershipError> {
        let newest = self.newest.lock().clone();
        let Some(stored) = newest else { return Ok(None) };
        let meta = meta_to_raft(stored.meta())?;
        Ok(Some(Snapshot { meta, snapshot: Box::new(SnapshotData::stored(stored)) }))
    }

    /// Another snapshot is durable: the newest is the one that counts, and older files go. It need not be this one: while
    /// it was being built, a leader may have sent one that reaches further, and the log may be purged up to there.
    fn take_over(&self, stored: StoredSnapshot) {
        let keep = {
            let mut newest = self.newest.lock();
            let reached = |snapshot: &StoredSnapshot| snapshot.meta().last_log_id;
            match newest.as_ref() {
                Some(known) if reached(known) > reached(&stored) => known.clone(),
                Some(_) | None => newest.insert(stored).clone(),
            }
        };
        if let Err(error) = self.store.prune(&keep) {
            tracing::warn!(error = %with_causes(&error), "older snapshots were not removed; the next one tries again");
        }
    }
}

#[cfg(test)]
impl Snapshots {
    /// Copies another member's snapshot into this store, as a transfer between members does.
    pub(crate) fn receive_for_test(&self, from: &Snapshot) -> SnapshotData {
        let sent = from.snapshot.stored.as_ref().unwrap();
        let mut writer = self.store.begin(sent.meta()).unwrap();
        for chunk in sent.read() {
            writer.write(&chunk.unwrap()).unwrap();
        }
        SnapshotData::stored(writer.finish(Some(sent.digest())).unwrap())
    }
}

/// Reads a snapshot into a state. Blocks.
fn load(stored: &StoredSnapshot) -> Result<AppliedState, LoadError> {
    let meta = stored.meta();
    let index = meta.last_log_id.map_or(0, |id| id.index);
    let mut reader = SnapshotReader::new();
    for chunk in stored.read() {
        reader.push(&chunk?).map_err(|source| LoadError::State { index, source })?;
    }
    let state = reader.finish().map_err(|source| LoadError::State { index, source })?;
    let membership = decode_stored(&meta.membership).map_err(|source| LoadError::Membership { index, source })?;
    Ok(AppliedState { state, last_applied: meta.last_log_id.map(to_raft), membership })
}

fn meta_to_raft(meta: &StoredMeta) -> Result<SnapshotMeta, MembershipError> {
    Ok(SnapshotMeta {
        last_log_id: meta.last_log_id.map(to_raft),
        last_membership: decode_stored(&meta.membership)?,
        snapshot_id: meta.id.clone(),
    })
}

/// Builds one snapshot, of the state as it was when the builder was made.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    adapter: Adapter,
    /// Taken by the first build.
    view: Option<StateView>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

impl SnapshotBuilder {
    /// Takes the view. The lock is held for the copy of some pointers.
    pub(crate) fn new(adapter: &Adapter) -> Self {
        let applied = adapter.shared.applied.read();
        Self {
            adapter: adapter.clone(),
            view: Some(applied.state.view()),
            last_applied: applied.last_applied,
            membership: applied.membership.clone(),
        }
    }

    fn meta(&self) -> SnapshotMeta {
        let position = self.last_applied.as_ref().map_or_else(|| "empty".to_owned(), ToString::to_string);
        SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            // Two snapshots at the same place may differ in bytes, so the place alone is no name.
            snapshot_id: format!("{position}-{:016x}", self.adapter.sources.random_u64()),
        }
    }

    /// Waits until the tap can lose nothing of what the snapshot holds: after a restart nobody is told of that again.
    async fn settle_tap(&self) {
        let index = self.last_applied.map_or(0, |id| id.index);
        if timeout(TAP_SETTLE_LIMIT, self.adapter.tap.settled(index)).await.is_err() {
            tracing::warn!(
                log_index = index,
                "the audit trail is behind, and a snapshot does not wait for it any longer"
            );
        }
    }

    /// The disk is full: consensus goes on with the log it has, and the compactor tries again later.
    fn give_up(&self, started: Instant, error: &SnapshotError) -> Snapshot {
        tracing::warn!(error = %with_causes(error), "no snapshot was written for want of space; the log grows on");
        telemetry::snapshot("given_up", started.elapsed().as_secs_f64(), 0);
        self.adapter.growth.tried(None);
        // openraft takes no notice of a snapshot that is older than the one it knows.
        Snapshot { meta: SnapshotMeta::default(), snapshot: Box::new(SnapshotData::none()) }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let started = Instant::now();
        let Some(view) = self.view.take() else {
            return Err(failed(&self.adapter, "written", "a builder builds one snapshot"));
        };
        let meta = self.meta();
        let stored_meta = StoredMeta {
            last_log_id: meta.last_log_id.as_ref().map(from_raft),
            id: meta.snapshot_id.clone(),
            membership: encode_stored(&meta.last_membership).into(),
        };
        self.settle_tap().await;
        let snapshots = self.adapter.snapshots.clone();
        let written = self
            .adapter
            .sources
            .run_blocking(move || {
                let mut writer = snapshots.store.begin(&stored_meta)?;
                for chunk in view.chunks() {
                    writer.write(&chunk)?;
                }
                let stored = writer.finish(None)?;
                snapshots.take_over(stored.clone());
                Ok(stored)
            })
            .await;
        let stored = match written {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) if is_full(&error) => return Ok(self.give_up(started, &error)),
            Ok(Err(error)) => return Err(failed(&self.adapter, "written", &with_causes(&error))),
            Err(lost) => return Err(failed(&self.adapter, "written", &lost.to_string())),
        };
        telemetry::snapshot("built", started.elapsed().as_secs_f64(), stored.bytes());
        tracing::info!(
            log_index = meta.last_log_id.map(|id| id.index),
            bytes = stored.bytes(),
            "a snapshot was written"
        );
        self.adapter.growth.tried(meta.last_log_id);
        self.adapter.sources.observer().snapshot(meta.last_log_id.map_or(0, |id| id.index));
        Ok(Snapshot { meta, snapshot: Box::new(SnapshotData::stored(stored)) })
    }
}

/// Replaces the state by a snapshot that was received and is durable: verified and read whole first, then swapped
/// together with the index it belongs to.
pub(crate) async fn install(adapter: &Adapter, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), StorageError> {
    let started = Instant::now();
    let Some(stored) = data.stored else {
        return Err(failed(adapter, "installed", "no snapshot was handed over"));
    };
    if stored.meta().last_log_id.map(to_raft) != meta.last_log_id {
        return Err(failed(adapter, "installed", "the file holds another log index than was announced"));
    }
    let read = data.read.and_then(|read| read.lock().take());
    let loaded = match read {
        Some(read) => read,
        None => {
            let reading = stored.clone();
            match adapter.sources.run_blocking(move || load(&reading)).await {
                Ok(Ok(loaded)) => loaded,
                Ok(Err(error)) => return Err(failed(adapter, "installed", &with_causes(&error))),
                Err(lost) => return Err(failed(adapter, "installed", &lost.to_string())),
            }
        }
    };
    let index = loaded.last_applied.map_or(0, |id| id.index);
    let old = std::mem::replace(&mut *adapter.shared.applied.write(), loaded);
    adapter.tap.replaced(index);
    adapter.shared.publish(index, Vec::new(), true);
    let (snapshots, keep) = (adapter.snapshots.clone(), stored.clone());
    // A million entries take a while to go: the old state is dropped when the lock is free, and not on this thread,
    // which heartbeats share.
    let settle = move || {
        drop(old);
        snapshots.take_over(keep);
    };
    if adapter.sources.run_blocking(settle).await.is_err() {
        tracing::warn!("older snapshots were not removed; the next one tries again");
    }
    telemetry::snapshot("installed", started.elapsed().as_secs_f64(), stored.bytes());
    adapter.growth.tried(meta.last_log_id);
    adapter.sources.observer().snapshot(index);
    Ok(())
}

/// Whether it failed for want of space, which ends nothing: the log still holds what the snapshot would have held.
fn is_full(error: &SnapshotError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        }
        cause = error.source();
    }
    false
}

/// Ends consensus here.
fn failed(adapter: &Adapter, deed: &str, problem: &str) -> StorageError {
    let reason = adapter.stop.record(format!("a snapshot could not be {deed}: {problem}"));
    StorageIoError::write_snapshot(None, AnyError::error(reason)).into()
}
