//! What can go wrong with a snapshot, and what an operator can do.

use crate::header::VersionError;
use crate::log::{IoFailure, REMEDY};
use crate::log_id::WalIdentity;
use std::path::PathBuf;

/// Why a snapshot was not written, read or chosen.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk refused. A full disk: free some space.
    #[error("the snapshot cannot be stored or read")]
    Io(#[from] IoFailure),
    /// The file is not what was written.
    #[error("snapshot {} is damaged at offset {offset}: {problem}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where its sound part ends.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// A newer program wrote it.
    #[error("snapshot {} cannot be read", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Versions, and what to start instead.
        source: VersionError,
    },
    /// It belongs to another member or cluster: a directory was copied or mounted wrongly.
    #[error("snapshot {} belongs to {found}, not to {expected}: mount the right disk", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: WalIdentity,
        /// Whose it should be.
        expected: WalIdentity,
    },
    /// No sound snapshot reaches up to where the log begins.
    #[error(
        "no sound snapshot covers the entries up to {purged} that the log has purged; nothing on disk was \
         changed: {REMEDY}"
    )]
    NoneCovers {
        /// Newest index that the log no longer has.
        purged: u64,
        /// What is wrong with the newest snapshot, if there is one.
        source: Option<Box<SnapshotError>>,
    },
    /// The metadata is larger than any may be. A fault of the caller.
    #[error("snapshot metadata of {bytes} bytes is over the limit of {limit}")]
    MetaTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// What was received is not what the sender had.
    #[error("the snapshot received does not have the digest announced: ask for it again")]
    WrongDigest,
}
