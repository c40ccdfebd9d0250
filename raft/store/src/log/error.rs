//! What can go wrong with the log, each with what an operator can do.

use crate::header::VersionError;
use crate::log_id::WalIdentity;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do about a damaged or lost log. In a cluster of several the data is on the other members, and the vote is
/// nowhere else. A node that is alone has the only copy of the authority: on an empty directory it would be another one
/// of the same name, which no workload trusts.
pub(crate) const REMEDY: &str = "in a cluster of several, remove this member and join it again with an empty data \
     directory; a node that is alone has the only copy of its authority: restore the data directory from a copy, never \
     start on an empty one";

/// What was being done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Listing a directory.
    List,
    /// Making a file or directory.
    Create,
    /// Opening a file.
    Open,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Making bytes or names durable.
    Sync,
    /// Cutting a file.
    Truncate,
    /// Renaming a file into place.
    Rename,
    /// Removing a file.
    Remove,
    /// Asking for the free space.
    Measure,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Truncate => "cut",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Measure => "measure the free space of",
        })
    }
}

/// A call to the disk that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}{}", path.display(), offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default())]
pub struct IoFailure {
    /// What was being done.
    pub action: Action,
    /// To what.
    pub path: PathBuf,
    /// Where in it, when that is known.
    pub offset: Option<u64>,
    /// What the system said.
    pub source: io::Error,
}

impl IoFailure {
    pub(crate) fn new(action: Action, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self { action, path: path.as_ref().to_path_buf(), offset: None, source }
    }

    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
}

/// Why a log was not opened. Except for [`OpenError::Io`], which may come after a torn tail was cut
/// off, nothing on disk was changed (WAL-11).
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the log open.
    #[error("the log in {} is in use", directory.display())]
    Locked {
        /// The log directory.
        directory: PathBuf,
        /// Who has it.
        source: crate::disk::LockError,
    },
    /// There is no log although this member was initialised (WAL-18): the disk was emptied or another
    /// one is mounted. A member that forgot its vote could vote twice, so it must not start.
    #[error(
        "there is no log in {}: mount the right disk; if it is lost, {REMEDY}", directory.display()
    )]
    Empty {
        /// The log directory.
        directory: PathBuf,
    },
    /// The log belongs to another member or cluster: a directory was copied or mounted wrongly.
    #[error("{} belongs to {found}, not to {expected}: mount the right disk", file.display())]
    Foreign {
        /// The segment that says so.
        file: PathBuf,
        /// Whose log it is.
        found: WalIdentity,
        /// Whose it should be.
        expected: WalIdentity,
    },
    /// A newer program wrote the log.
    #[error("{} cannot be read", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Versions, and what to start instead.
        source: VersionError,
    },
    /// Bytes that were synced are not what was written (WAL-11, WAL-13, WAL-14).
    #[error("{} is damaged at offset {offset}: {problem}; nothing on disk was changed: {REMEDY}", file.display())]
    Damaged {
        /// The damaged or missing file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The disk refused. A full disk: free some space and start again. EIO: replace the disk, then
    /// as for damage.
    #[error("the log cannot be opened")]
    Io(#[from] IoFailure),
}

/// Why the log does not take writes. The first failure is for good (WAL-09): restart the process, which
/// replays what is durable. Nothing is ever retried.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// A call to the disk failed. Look at the disk before restarting; on a full disk free some space.
    #[error("the log has failed and takes no more writes until a restart")]
    Failed(#[source] Arc<IoFailure>),
    /// The log was closed, or its writer has ended.
    #[error("the log is closed")]
    Closed,
    /// An entry does not follow the last one (WAL-14). A fault of the caller; nothing was written.
    #[error("entry {found} cannot be appended: the next index is {expected}")]
    OutOfOrder {
        /// The index the next entry must have.
        expected: u64,
        /// The index it has.
        found: u64,
    },
    /// An entry is larger than any may be. A fault of the caller; nothing was written.
    #[error("an entry of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Entries that are already purged cannot be cut off. A fault of the caller; nothing was written.
    #[error("the log cannot be cut at {index}, which is purged or beyond its end")]
    CannotTruncate {
        /// The index asked for.
        index: u64,
    },
    /// More waits to be written than may. The disk has stood still; nothing was taken.
    #[error("{bytes} bytes wait to be written, the limit is {limit}")]
    QueueFull {
        /// What waits.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why entries could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk refused.
    #[error("entries cannot be read")]
    Io(#[from] IoFailure),
    /// An entry on disk is not what was written: the disk rots. Stop, and do what the message says.
    #[error("entry {index} in {} is damaged at offset {offset}; nothing on disk was changed: {REMEDY}", file.display())]
    Damaged {
        /// The entry.
        index: u64,
        /// Its segment.
        file: PathBuf,
        /// Where its body starts.
        offset: u64,
    },
}
