//! Why a file is no backup that can be used.

use std::io;

use quorate_raft_machine::SnapshotError;
use quorate_raft_machine::invariants::Violation;

use crate::keys::CustodyError;

/// Why a backup is refused. Nothing was changed; take another backup, or another key.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It does not begin as a backup does: another file, or one whose first bytes are damaged.
    #[error("this is no backup of Quorate, or its first bytes are damaged")]
    NotABackup,
    /// A newer program made it. Use that version, or a newer one.
    #[error(
        "the backup has format {found}, and this program reads up to {newest}: use the program version that made it"
    )]
    NewerFormat {
        /// The format of the file.
        found: u32,
        /// The newest that is known here.
        newest: u32,
    },
    /// The header is not what the member wrote.
    #[error("the header of the backup is damaged or was altered: {reason}")]
    Header {
        /// What is wrong with it.
        reason: String,
    },
    /// The file ends too early: it was not copied whole.
    #[error("the backup is cut off: it ends after {read} bytes, and {expected} belong to it")]
    Truncated {
        /// Bytes that are there.
        read: u64,
        /// Bytes that must be there, at least.
        expected: u64,
    },
    /// Something was added to the file.
    #[error("bytes follow the end of the backup: it was altered")]
    TrailingBytes,
    /// What follows the header is not what the member signed.
    #[error("the content of the backup is damaged or was altered: it is not what its member signed")]
    Altered,
    /// One chunk is not what was sealed, or not where it was sealed.
    #[error("chunk {chunk} of {chunks} of the backup does not open: it is damaged, was altered, or is out of place")]
    Chunk {
        /// Which, from 1.
        chunk: u64,
        /// Of how many.
        chunks: u64,
    },
    /// The recovery key is another one than the backup was sealed to.
    #[error("the backup is sealed to recovery key {sealed_to}, and the key that was given is {given}")]
    WrongKey {
        /// ID of the key that it is sealed to.
        sealed_to: String,
        /// ID of the key that was given.
        given: String,
    },
    /// It is the right key by name, and still does not open.
    #[error("the backup does not open with recovery key {id}: its header was made by somebody who altered it")]
    DoesNotOpen {
        /// ID of the key.
        id: String,
    },
    /// What was sealed is no state that this program reads.
    #[error("the backup opens, and holds no state that this program can read")]
    State(#[from] SnapshotError),
    /// What was sealed is another state than the header tells of.
    #[error("the backup opens, and its {what} is not what its header says: it was not made by a member")]
    OtherState {
        /// What disagrees.
        what: &'static str,
    },
    /// The state breaks a rule of every state. Keep the file, and report it.
    #[error("the state in the backup breaks a rule of every state: {0}")]
    Violation(Violation),
    /// The key of an authority cannot be opened by the recovery key, so a restored cluster could not sign.
    #[error("the private key of authority {authority} in the backup cannot be used")]
    AuthorityKey {
        /// Which authority.
        authority: String,
        /// Why not.
        source: CustodyError,
    },
    /// The key that is sealed for an authority is another one's.
    #[error("what is sealed for authority {authority} is the private key of another: the backup was forged")]
    OtherKey {
        /// Which authority.
        authority: String,
    },
    /// The file cannot be read.
    #[error("the backup cannot be read")]
    Io(#[from] io::Error),
}
