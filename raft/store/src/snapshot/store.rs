//! The directory of snapshots.

use super::error::SnapshotError;
use super::format::SnapshotMeta;
use super::reader::Snapshot;
use super::writer::SnapshotWriter;
use crate::disk::{Disk, parent};
use crate::log::{Action, IoFailure};
use crate::log_id::{LogId, WalIdentity};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The snapshots of one member. Cheap to clone. One writer at a time is the caller's promise, kept by
/// the lock on the data directory and by consensus, which builds or installs one snapshot at a time.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    identity: WalIdentity,
}

/// The position in a file's name: what it contains, for people and for sorting; the head of the file
/// is what counts.
fn parse_name(name: &str) -> Option<Option<LogId>> {
    let position = name.strip_prefix("snap-")?.strip_suffix(".snapshot")?;
    if position == "empty" {
        return Some(None);
    }
    let mut numbers = position.split('-').map(|number| number.parse::<u64>().ok());
    let log_id = LogId { term: numbers.next()??, node: numbers.next()??, index: numbers.next()?? };
    numbers.next().is_none().then_some(Some(log_id))
}

fn name(last_log_id: Option<LogId>) -> String {
    last_log_id.map_or_else(|| "snap-empty".to_owned(), |log_id| format!("snap-{log_id}"))
}

impl SnapshotStore {
    /// Opens the directory, makes it if there is none, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn open(disk: Arc<dyn Disk>, directory: &Path, identity: WalIdentity) -> Result<Self, SnapshotError> {
        match disk.create_dir(directory) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(IoFailure::new(Action::Create, directory, source).into());
            }
            Ok(()) | Err(_) => {}
        }
        let parent = parent(directory);
        disk.sync_dir(parent).map_err(|source| IoFailure::new(Action::Sync, parent, source))?;
        let store = Self { disk, directory: directory.to_path_buf(), identity };
        for name in store.names()?.iter().filter(|name| name.ends_with(".tmp")) {
            store.remove(name)?;
        }
        Ok(store)
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let names = self.disk.list(&self.directory);
        Ok(names.map_err(|source| IoFailure::new(Action::List, &self.directory, source))?)
    }

    /// Names of snapshots, newest first.
    fn newest_first(&self) -> Result<Vec<(Option<LogId>, String)>, SnapshotError> {
        let mut found: Vec<_> =
            self.names()?.into_iter().filter_map(|name| parse_name(&name).map(|log_id| (log_id, name))).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    fn remove(&self, name: &str) -> Result<(), SnapshotError> {
        let path = self.directory.join(name);
        match self.disk.unlink(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(IoFailure::new(Action::Remove, &path, source).into())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Starts writing a snapshot. It takes the place of another of the same last log ID when it is
    /// finished.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] and [`SnapshotError::MetaTooLarge`].
    pub fn begin(&self, meta: &SnapshotMeta) -> Result<SnapshotWriter, SnapshotError> {
        let name = name(meta.order());
        SnapshotWriter::begin(Arc::clone(&self.disk), &self.directory, self.identity, meta, &name)
    }

    /// The newest snapshot, every byte checked; `None` when there is none.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when the newest is damaged; see [`SnapshotStore::choose`] for when
    /// that can be passed over.
    pub fn latest(&self) -> Result<Option<Snapshot>, SnapshotError> {
        let newest = self.newest_first()?.into_iter().next();
        newest.map(|(_, name)| self.verified(&name)).transpose()
    }

    fn verified(&self, name: &str) -> Result<Snapshot, SnapshotError> {
        let path = self.directory.join(name);
        let snapshot = Snapshot::open(self.disk.as_ref(), &path, self.identity)?;
        snapshot.verify()?;
        Ok(snapshot)
    }

    /// The snapshot to start from, beside a log that has purged its entries up to `purged`: the newest
    /// sound one, if the log holds everything after it. Damaged ones newer than that are named in a
    /// warning. `None`, when the log holds everything from its first entry.
    ///
    /// # Errors
    /// [`SnapshotError::NoneCovers`] when entries would be missing; [`SnapshotError::Version`],
    /// [`SnapshotError::Foreign`] and [`SnapshotError::Io`], which are no damage and never passed over.
    pub fn choose(&self, purged: Option<LogId>) -> Result<Option<Snapshot>, SnapshotError> {
        let mut newest_problem = None;
        for (_, name) in self.newest_first()? {
            match self.verified(&name) {
                Ok(snapshot) if snapshot.meta().order() >= purged => return Ok(Some(snapshot)),
                // Sound but too old, and every other one is older.
                Ok(_) => break,
                Err(problem @ SnapshotError::Damaged { .. }) => {
                    tracing::warn!(error = %problem, "a snapshot is damaged");
                    newest_problem.get_or_insert(problem);
                }
                Err(error) => return Err(error),
            }
        }
        match purged {
            None => Ok(None),
            Some(purged) => {
                Err(SnapshotError::NoneCovers { purged: purged.index, source: newest_problem.map(Box::new) })
            }
        }
    }

    /// Removes every snapshot but `keep` and newer ones. Call it with one that was just written or
    /// verified, so that what stays is known to be sound. Readers of a removed one go on.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; what was not removed is removed next time.
    pub fn prune(&self, keep: &Snapshot) -> Result<usize, SnapshotError> {
        let kept = keep.meta().order();
        let mut removed = 0;
        for (log_id, name) in self.newest_first()? {
            if log_id < kept {
                self.remove(&name)?;
                removed += 1;
            }
        }
        if removed > 0 {
            self.disk
                .sync_dir(&self.directory)
                .map_err(|source| IoFailure::new(Action::Sync, &self.directory, source))?;
        }
        Ok(removed)
    }
}
