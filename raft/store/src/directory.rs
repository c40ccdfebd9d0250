//! The data directory of one member: who may use it, and how far this member's life has come.
//!
//! ```text
//!   data_dir/  LOCK            held while the process lives
//!              identity-stage  empty -> founding, joining or restoring -> member (WAL-18)
//!              first-peers     whom a newcomer talks to until it has applied the log
//!              log/            the Raft log
//!              snapshots/      the state machine's snapshots
//!              keys/           the member's own keys (custody is not ours)
//!              ledger/         what the member can afford to lose (not ours)
//! ```

mod peers;
mod stage;

pub use peers::FIRST_PEERS_BYTES_MAX;
pub use stage::Stage;

use crate::disk::{Disk, DiskLock, LockError, parent};
use crate::header::VersionError;
use crate::log::{Action, IoFailure, REMEDY};
use crate::log_id::WalIdentity;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK_NAME: &str = "LOCK";
const LOG_NAME: &str = "log";
const SNAPSHOTS_NAME: &str = "snapshots";
/// Any permission of others, by group or by anyone. A directory of ours never has one: who may only list it learns
/// names and sizes, and every file in it is safe from them by its own mode alone.
const OPEN_TO_OTHERS: u32 = 0o077;

/// A data directory that this process holds. The lock ends with this value.
#[derive(Debug)]
pub struct NodeDirectory {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    stage: Stage,
    _lock: Box<dyn DiskLock>,
}

/// Why a data directory was refused. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The path is something else, or a symbolic link.
    #[error("{} is not a directory: name the directory itself, not a file or a link", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Another user owns it, who could exchange its files.
    #[error("{} belongs to another user: run as its owner, or change the owner", path.display())]
    NotOurs {
        /// The path.
        path: PathBuf,
    },
    /// Others may list it or enter it, or even write to it, and so exchange keys and votes.
    #[error("{} can be entered or read by others (mode {mode:04o}): run chmod 0700 on it", path.display())]
    OpenToOthers {
        /// The path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A second node was started on the same directory.
    #[error("{} is in use: stop the other node, or give this one a data_dir of its own", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
        /// Who holds it, as far as is known.
        source: LockError,
    },
    /// There is a log or a snapshot, but the file that says whose is gone (WAL-18).
    #[error(
        "{} is missing although there is a log: restore it from where the directory was copied; if that is gone, \
         {REMEDY}", file.display()
    )]
    StageMissing {
        /// The stage file.
        file: PathBuf,
    },
    /// The stage file is not what was written.
    #[error("{} is damaged; nothing on disk was changed: {REMEDY}", file.display())]
    StageDamaged {
        /// The stage file.
        file: PathBuf,
    },
    /// The file that names the peers of a newcomer is not what was written. It only counts until the node has applied
    /// the log: a node that never did can be removed, emptied and invited again.
    #[error("{} is damaged: remove this member, empty its directory, and invite it again", file.display())]
    FirstPeersDamaged {
        /// The file.
        file: PathBuf,
    },
    /// A newer program wrote the stage file.
    #[error("{} cannot be read", file.display())]
    Version {
        /// The stage file.
        file: PathBuf,
        /// Versions, and what to start instead.
        source: VersionError,
    },
    /// The member's life does not go that way: a member never becomes another.
    #[error("this directory is {from} and cannot become {to}")]
    WrongStage {
        /// The stage it is in.
        from: Stage,
        /// The stage asked for.
        to: Stage,
    },
    /// The disk refused: read-only, full, or failing.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

impl NodeDirectory {
    /// Takes the directory for this process, and makes it if there is none (its parent must exist).
    ///
    /// # Errors
    /// [`DirectoryError`]; each says what to do.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, DirectoryError> {
        match disk.create_dir(path) {
            Ok(()) => {
                let parent = parent(path);
                disk.sync_dir(parent).map_err(|source| IoFailure::new(Action::Sync, parent, source))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // On a read-only file system an existing directory may be reported so.
            Err(source) if disk.inspect(path).is_err() => {
                return Err(IoFailure::new(Action::Create, path, source).into());
            }
            Err(_) => {}
        }
        check_owner(disk.as_ref(), path)?;
        let lock = take_lock(disk.as_ref(), path)?;
        let stage = match stage::read(disk.as_ref(), path)? {
            Some(Stage::Restoring(_)) => forget_restoring(disk.as_ref(), path)?,
            Some(stage) => stage,
            None => begin(disk.as_ref(), path)?,
        };
        Ok(Self { disk, path: path.to_path_buf(), stage, _lock: lock })
    }

    /// How far this member's life has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Goes on to another stage, durably. `Empty` may become `Founding`, `Joining` or `Restoring`; `Founding` may begin
    /// again as another or become `Member` of the same identity, as may `Restoring`; `Joining` may become `Member`; a
    /// member stays what it is.
    ///
    /// # Errors
    /// [`DirectoryError::WrongStage`] and [`DirectoryError::Io`].
    pub fn advance(&mut self, to: Stage) -> Result<(), DirectoryError> {
        if to == self.stage {
            return Ok(());
        }
        if !self.stage.may_become(to) {
            return Err(DirectoryError::WrongStage { from: self.stage, to });
        }
        stage::write(self.disk.as_ref(), &self.path, to)?;
        self.stage = to;
        Ok(())
    }

    /// The identity of the member that lives here, once it does or begins to.
    #[must_use]
    pub fn identity(&self) -> Option<WalIdentity> {
        match self.stage {
            Stage::Empty | Stage::Joining(_) => None,
            Stage::Founding(identity) | Stage::Restoring(identity) | Stage::Member(identity) => Some(identity),
        }
    }

    /// Writes down, durably, what a newcomer was told about its peers; consensus gives the bytes their meaning.
    ///
    /// # Errors
    /// [`DirectoryError::Io`], and when there are more bytes than [`FIRST_PEERS_BYTES_MAX`].
    pub fn save_first_peers(&mut self, peers: &[u8]) -> Result<(), DirectoryError> {
        peers::write(self.disk.as_ref(), &self.path, peers)
    }

    /// What [`save_first_peers`](Self::save_first_peers) wrote last, if it ever did.
    ///
    /// # Errors
    /// [`DirectoryError::FirstPeersDamaged`] and [`DirectoryError::Io`].
    pub fn first_peers(&self) -> Result<Option<Vec<u8>>, DirectoryError> {
        peers::read(self.disk.as_ref(), &self.path)
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the Raft log lives.
    #[must_use]
    pub fn log_directory(&self) -> PathBuf {
        self.path.join(LOG_NAME)
    }

    /// Where snapshots live.
    #[must_use]
    pub fn snapshot_directory(&self) -> PathBuf {
        self.path.join(SNAPSHOTS_NAME)
    }

    /// Where the member's own keys live.
    #[must_use]
    pub fn key_directory(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// Where what can be lost lives.
    #[must_use]
    pub fn ledger_directory(&self) -> PathBuf {
        self.path.join("ledger")
    }
}

fn check_owner(disk: &dyn Disk, path: &Path) -> Result<(), DirectoryError> {
    let info = disk.inspect(path).map_err(|source| IoFailure::new(Action::Open, path, source))?;
    let path = path.to_path_buf();
    if !info.is_directory {
        return Err(DirectoryError::NotADirectory { path });
    }
    if !info.is_ours {
        return Err(DirectoryError::NotOurs { path });
    }
    if info.mode & OPEN_TO_OTHERS != 0 {
        return Err(DirectoryError::OpenToOthers { path, mode: info.mode });
    }
    Ok(())
}

fn take_lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DiskLock>, DirectoryError> {
    let note = format!("process {}\n", std::process::id());
    let file = path.join(LOCK_NAME);
    disk.lock(&file, &note).map_err(|error| match error {
        LockError::Io(source) => IoFailure::new(Action::Create, &file, source).into(),
        source @ LockError::Held { .. } => DirectoryError::InUse { path: path.to_path_buf(), source },
    })
}

/// A directory without a stage file is a new one, unless something says otherwise.
fn begin(disk: &dyn Disk, path: &Path) -> Result<Stage, DirectoryError> {
    let names = disk.list(path).map_err(|source| IoFailure::new(Action::List, path, source))?;
    if names.iter().any(|name| name == LOG_NAME || name == SNAPSHOTS_NAME) {
        return Err(DirectoryError::StageMissing { file: path.join(stage::STAGE_NAME) });
    }
    stage::write(disk, path, Stage::Empty)?;
    Ok(Stage::Empty)
}

/// A restore was cut short: what it wrote goes, and the directory is as empty as it was. The stage is the last to change,
/// so that a crash here begins this again.
fn forget_restoring(disk: &dyn Disk, path: &Path) -> Result<Stage, DirectoryError> {
    for folder in [SNAPSHOTS_NAME, LOG_NAME].map(|name| path.join(name)) {
        let names = match disk.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            names => names.map_err(|source| IoFailure::new(Action::List, &folder, source))?,
        };
        for file in names.iter().map(|name| folder.join(name)) {
            disk.unlink(&file).map_err(|source| IoFailure::new(Action::Remove, &file, source))?;
        }
        disk.sync_dir(&folder).map_err(|source| IoFailure::new(Action::Sync, &folder, source))?;
    }
    stage::write(disk, path, Stage::Empty)?;
    tracing::info!(directory = %path.display(), "what a restore that was cut short had written is removed");
    Ok(Stage::Empty)
}
